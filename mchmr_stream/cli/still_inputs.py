"""Inputs of `mchmr video`; a folder of single pictures is expanded to these pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.motion.output_paths import OutputPaths, output_paths

if TYPE_CHECKING:
    from mchmr_stream.config import Settings


@dataclass(frozen=True)
class Input:
    """One input, and the output folder of its files."""

    name: str
    out_dir: Path
    still: bool = False
    """a single picture, not a frame of a video"""

    @property
    def paths(self) -> OutputPaths:
        return output_paths(self.name, self.out_dir, still=self.still)


def expanded(names: Sequence[str], out_dir: Path, settings: Settings, report: Callable[[str], None]) -> list[Input]:
    """List all inputs. Outputs of a folder's pictures go to a folder of its name in `out_dir`; `report` is called with the reason."""
    from mchmr_stream.sources.stills import is_still, stills_in

    inputs: list[Input] = []
    for name in names:
        stills = stills_in(name, settings)
        if stills is None or not stills.why:
            inputs.append(Input(name, out_dir, still=stills is not None))
            continue
        count = f"{len(stills.paths)} picture{'s' if len(stills.paths) != 1 else ''}"
        report(f"{name}: {count}, each on its own, as {stills.why}; for the frames of one film: --set source.pictures=clip")
        folder = out_dir / output_paths(name, out_dir).stem
        inputs += [Input(str(path), folder, still=is_still(path, settings.source)) for path in stills.paths]
    return inputs

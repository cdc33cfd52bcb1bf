"""Body models of labels: SMPL or SMPL-X, female, male or neutral, from the user's files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import BodyModel
from mchmr_stream.datasets.known import BODIES_OBTAINED
from mchmr_stream.datasets.labels import BodyKind, Gender
from mchmr_stream.errors import MissingPart

_SHORT: dict[Gender, str] = {"female": "f", "male": "m", "neutral": "neutral"}


@dataclass(frozen=True, eq=False)
class LabelledBodies:
    """Bodies by kind and gender, loaded on first use. With `folder` None the free body replaces all of them."""

    folder: Path | None = None
    """holds SMPL_FEMALE.npz or .pkl and so on, SMPLX_FEMALE.npz and so on, or SMPL's files under their first names"""
    _loaded: dict[Path | None, BodyModel] = field(default_factory=dict, repr=False)

    @property
    def stand_in(self) -> bool:
        return self.folder is None

    def of(self, kind: BodyKind, gender: Gender) -> BodyModel:
        """Load a body.

        Raises:
            MissingPart: the folder has no file for it.
            InputError: the file is no body.
        """
        path = None if self.folder is None or kind == "free" else _find(self.folder, kind, gender)
        if path not in self._loaded:
            self._loaded[path] = load_body("free" if path is None else path)
        return self._loaded[path]


def _find(folder: Path, kind: BodyKind, gender: Gender) -> Path:
    name = f"{kind.upper()}_{gender.upper()}"
    patterns = [f"{name}.npz", f"{name}.pkl"]
    if kind == "smpl":
        patterns += [f"basic[mM]odel_{_SHORT[gender]}_lbs_10_207_0_v1*.pkl"]
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            return path
    raise MissingPart(f"there is no {name}.npz or .pkl in {folder}, which these labels need; {BODIES_OBTAINED}")

"""STEM.jpg or STEM.png: the bodies of one picture over it."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from mchmr_stream.datatypes import Scene
from mchmr_stream.errors import EncodingError
from mchmr_stream.files.atomic import check_folder, publish, temporary_beside, write_errors
from mchmr_stream.motion.motion import Motion
from mchmr_stream.sinks.overlay import draw_scene

_QUALITY = 92
"""Of a JPEG; one of 100 holds noise."""
_LONGEST_SIDE_PX = {"JPEG": 65_500, "PNG": 2**31 - 1}
"""libjpeg's and libpng's limits"""


class StillOverlaySink:
    """Writes the picture of one scene in the format that the ending of `path` says, upright and without metadata.

    Raises MchmrError when the disk refuses, EncodingError where the format holds no picture of that size.
    """

    def __init__(self, path: str | Path, *, device: torch.device | str = "cpu") -> None:
        """Raises UsageError when the folder of `path` is not there."""
        self.path = Path(path)
        check_folder(self.path)
        self._temporary, self._device = temporary_beside(self.path), device
        self._is_written = False

    def extend(self, motion: Motion) -> None:
        """An earlier run left its one picture; it stays where no scene comes."""

    def write(self, scene: Scene) -> None:
        kind = "JPEG" if self.path.suffix == ".jpg" else "PNG"
        height, width = scene.frame.rgb.shape[:2]
        if max(width, height) > _LONGEST_SIDE_PX[kind]:
            raise EncodingError(
                f"{self.path} cannot be encoded: {kind} holds pictures of up to {_LONGEST_SIDE_PX[kind]} px a side, "
                f"this one has {width}x{height}; the bodies are not concerned"
            )
        with write_errors(self.path):
            Image.fromarray(draw_scene(scene, device=self._device)).save(self._temporary, kind, quality=_QUALITY)
        self._is_written = True

    def close(self) -> None:
        """Publish."""
        try:
            if self._is_written:
                with write_errors(self.path):
                    publish(self._temporary, self.path)
        finally:
            self.discard()

    def give_up(self) -> None:
        """After an EncodingError: the file that was to be replaced goes, for it shows something else."""
        self.discard()
        self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Give up: nothing is published, nothing is left behind."""
        self._is_written = False
        self._temporary.unlink(missing_ok=True)

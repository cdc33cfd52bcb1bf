"""STEM.jpg or STEM.png: a single picture with its bodies drawn over it."""

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
"""Of a JPEG; at 100 it stores noise."""
_LONGEST_SIDE_PX = {"JPEG": 65_500, "PNG": 2**31 - 1}
"""libjpeg's and libpng's limits"""


class StillOverlaySink:
    """Write the picture of one scene in the format of `path`'s ending, upright and without metadata.

    Args:
        path: The file; its folder exists.
        device: Device on which bodies are drawn.

    Raises:
        MchmrError: The disk is full or not writable.
        EncodingError: The format does not support the picture's size.
    """

    def __init__(self, path: str | Path, *, device: torch.device | str = "cpu") -> None:
        """Check the folder; raises UsageError if it does not exist."""
        self.path = Path(path)
        check_folder(self.path)
        self._temporary, self._device = temporary_beside(self.path), device
        self._is_written = False

    def extend(self, motion: Motion) -> None:
        """Keep the picture of an earlier run if no scene follows."""

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
        """Publish the picture."""
        try:
            if self._is_written:
                with write_errors(self.path):
                    publish(self._temporary, self.path)
        finally:
            self.discard()

    def give_up(self) -> None:
        """After an EncodingError: remove the file that was to be replaced, because it shows something else."""
        self.discard()
        self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stop without publishing anything and remove the temporary file."""
        self._is_written = False
        self._temporary.unlink(missing_ok=True)

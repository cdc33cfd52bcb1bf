"""Scenes for the page: a small overlay as JPEG, and the bodies' surfaces as integers.

A message is, little-endian: the length L of the header as uint32; L bytes of JSON; `points` = int16 (n, 24 + V, 3), joints and then
vertices relative to each person's pelvis in units of 0.1 mm; the JPEG picture. The header is padded so that the points begin at a
multiple of four.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from mchmr_stream.datatypes import Float, Frame, Moment, Scene
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.rendering.colours import identity_colour
from mchmr_stream.sinks.overlay import draw_scene

UNIT_M = 1e-4
_LARGEST = 32767
JPEG_QUALITY = 4
"""libav's qscale: 2 is best, 31 is worst."""


class PagePictures:
    """Make the messages of one source; not thread-safe, because libav's state is reused for pictures of one size.

    Args:
        longest_px: Longest side of the picture.
    """

    def __init__(self, longest_px: int) -> None:
        self._longest_px = longest_px
        # One thread each, because the pipeline uses the other cores.
        self._scaling, self._colours = VideoReformatter(), VideoReformatter()

    def message(self, moment: Moment, in_view_s: Mapping[int, float]) -> bytes:
        """Encode a moment for the watchers.

        Args:
            moment: The moment.
            in_view_s: Seconds in view of each person.

        Returns:
            The message.
        """
        scene = moment.scene
        vertices_m = scene.vertices_m()
        small = replace(self.shrunk(scene), _vertices=lambda: vertices_m)  # posed once for both
        return packed(_header(moment, in_view_s), _points(scene, vertices_m).tobytes(), self.jpeg(draw_scene(small)))

    def shrunk(self, scene: Scene) -> Scene:
        """Scale a scene's picture down, with boxes, joints and camera. Pictures that are small enough stay."""
        frame = scene.frame
        share = self._longest_px / max(frame.width, frame.height)
        if share >= 1:
            return scene
        width, height = (max(2, round(side * share)) for side in (frame.width, frame.height))
        x, y = width / frame.width, height / frame.height
        picture = av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")
        small = self._scaling.reformat(picture, width, height, interpolation=Interpolation.AREA, threads=1)
        camera = scene.intrinsics
        # Pixel centres are at whole numbers: half a pixel is added before scaling and subtracted after.
        intrinsics = Intrinsics(camera.fx * x, camera.fy * y, (camera.cx + 0.5) * x - 0.5, (camera.cy + 0.5) * y - 0.5)
        scale = np.array([x, y, x, y], np.float32)
        bodies = replace(scene.bodies, boxes_xyxy_px=(scene.bodies.boxes_xyxy_px + 0.5) * scale - 0.5)
        joints_px = ((scene.joints_px + 0.5) * scale[:2] - 0.5).astype(np.float32)
        return replace(
            scene,
            frame=Frame(frame.index, frame.time_s, small.to_ndarray().astype(np.uint8, copy=False)),
            bodies=bodies,
            intrinsics=intrinsics,
            joints_px=joints_px,
        )

    def jpeg(self, rgb: NDArray[np.uint8]) -> bytes:
        """(height, width, 3) as a JPEG file."""
        encoder = av.CodecContext.create("mjpeg", "w")
        encoder.height, encoder.width = rgb.shape[:2]
        encoder.pix_fmt, encoder.time_base = "yuvj420p", Fraction(1)
        encoder.thread_count = 1  # more threads would delay the picture
        encoder.options = {"qmin": str(JPEG_QUALITY), "qmax": str(JPEG_QUALITY)}
        picture = self._colours.reformat(
            av.VideoFrame.from_ndarray(rgb, format="rgb24"),
            format="yuvj420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        return b"".join(bytes(packet) for packet in encoder.encode(picture))


def _points(scene: Scene, vertices_m: Float) -> NDArray[np.int16]:
    around_pelvis_m = np.concatenate([scene.joints_m, vertices_m], 1) - scene.joints_m[:, :1]
    return np.clip(np.nan_to_num(around_pelvis_m / UNIT_M), -_LARGEST, _LARGEST).round().astype("<i2")


def _header(moment: Moment, in_view_s: Mapping[int, float]) -> dict[str, Any]:
    scene, bodies, camera = moment.scene, moment.scene.bodies, moment.scene.intrinsics
    people = [
        {
            "id": int(bodies.track_id[row]),
            "confidence": round(float(bodies.confidence[row]), 3),
            "in_view_s": round(in_view_s[int(bodies.track_id[row])], 2),
            "interpolated": bool(bodies.interpolated[row]),
            "colour": [round(float(part), 3) for part in identity_colour(int(bodies.track_id[row]))],
            "pelvis_m": [round(float(value), 4) for value in np.nan_to_num(scene.joints_m[row, 0])],
        }
        for row in range(len(scene))
    ]
    return {
        "kind": "scene",
        "source": moment.source.name,
        "frame": scene.frame.index,
        "time_s": round(scene.frame.time_s, 3),
        "age_s": round(moment.age_s, 4),
        "width": scene.frame.width,
        "height": scene.frame.height,
        "camera": {name: round(getattr(camera, name), 2) for name in ("fx", "fy", "cx", "cy")},
        "unit_m": UNIT_M,
        "people": people,
    }


def body_message(faces: NDArray[np.int64], parents: tuple[int, ...], vertices: int) -> bytes:
    """Encode the constant part of the body model, which each watcher gets once.

    Args:
        faces: (F, 3), sent as uint32.
        parents: Parent of each joint.
        vertices: Number of vertices.

    Returns:
        The message.
    """
    header = {"kind": "body", "vertices": vertices, "parents": list(parents)}
    return packed(header, faces.astype("<u4").tobytes())


def packed(header: dict[str, Any], *parts: bytes) -> bytes:
    """Join header and parts to one message.

    Args:
        header: Plain values.
        *parts: Binary parts.

    Returns:
        The message.
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([len(text).to_bytes(4, "little"), text, *parts])

"""Conversion between the pixels of a GStreamer buffer and the pipeline's RGB."""

from __future__ import annotations

from typing import Any

import av
import gi
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

gi.require_version("Gst", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import Gst, GstVideo  # noqa: E402

from mchmr_stream.errors import InputError  # noqa: E402

FULL_RANGE = getattr(GstVideo.VideoColorRange, "0_255")  # a name that is no Python identifier
FORMATS = ("RGB", "RGBA", "BGR", "NV12")
_CHANNELS = {"RGB": (0, 1, 2), "RGBA": (0, 1, 2), "BGR": (2, 1, 0)}
"""Offsets of red, green and blue in a pixel."""
_MATRICES = {
    GstVideo.VideoColorMatrix.BT709: Colorspace.ITU709,
    GstVideo.VideoColorMatrix.BT601: Colorspace.ITU601,
    GstVideo.VideoColorMatrix.FCC: Colorspace.FCC,
    GstVideo.VideoColorMatrix.SMPTE240M: Colorspace.SMPTE240M,
}

Picture = NDArray[np.uint8]


class Pictures:
    """Read and paint buffers of fixed caps. Rows may be padded; a buffer's video meta takes precedence over the caps.

    Args:
        info: The caps.
    """

    def __init__(self, info: GstVideo.VideoInfo) -> None:
        self._info = info
        self.format: str = info.finfo.name
        self.width, self.height = info.width, info.height
        self._to_rgb, self._from_rgb = VideoReformatter(), VideoReformatter()
        self._matrix = _MATRICES.get(info.colorimetry.matrix, Colorspace.ITU709 if info.height >= 720 else Colorspace.ITU601)
        self._range = ColorRange.JPEG if info.colorimetry.range == FULL_RANGE else ColorRange.MPEG

    def read(self, buffer: Gst.Buffer) -> Picture:
        """(height, width, 3) RGB, a copy without alpha. Raises InputError for a buffer that is too short for its caps."""
        with buffer.map(Gst.MapFlags.READ) as mapped:
            planes = self._planes(buffer, mapped.data)
            if self.format != "NV12":
                return np.ascontiguousarray(planes[0][..., _CHANNELS[self.format]])
            picture = self._nv12()
            for plane, source in zip(picture.planes, planes, strict=True):
                _rows(plane)[:, : source.shape[1] * source.shape[2]] = source.reshape(len(source), -1)
        rgb = self._to_rgb.reformat(picture, format="rgb24", src_colorspace=self._matrix, src_color_range=self._range)
        return np.ascontiguousarray(rgb.to_ndarray())

    def paint(self, buffer: Gst.Buffer, before: Picture, after: Picture) -> None:
        """Write changed pixels into a writable buffer; all others keep their bytes.

        Args:
            buffer: The buffer.
            before: (height, width, 3), the result of `read`.
            after: (height, width, 3), painted.
        """
        changed = (before != after).any(-1)
        with buffer.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE) as mapped:
            planes = self._planes(buffer, mapped.data)
            if self.format != "NV12":
                for channel, offset in enumerate(_CHANNELS[self.format]):
                    np.copyto(planes[0][..., offset], after[..., channel], where=changed)
                return
            picture = av.VideoFrame.from_ndarray(after, format="rgb24")
            picture = self._from_rgb.reformat(picture, format="nv12", dst_colorspace=self._matrix, dst_color_range=self._range)
            even = np.pad(changed, ((0, self.height % 2), (0, self.width % 2)))
            blocks = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).any((1, 3))
            for plane, target, mask in zip(picture.planes, planes, (changed, blocks), strict=True):
                rows = _rows(plane)[:, : target.shape[1] * target.shape[2]].reshape(target.shape)
                np.copyto(target, rows, where=mask[..., None])

    def _nv12(self) -> av.VideoFrame:
        return av.VideoFrame(self.width, self.height, "nv12")

    def _planes(self, buffer: Gst.Buffer, data: memoryview) -> list[Picture]:
        """(rows, columns, bytes per column) of each plane, without padding; they share the buffer's memory."""
        meta = GstVideo.buffer_get_video_meta(buffer)
        layout: Any = self._info if meta is None else meta
        size = {"RGBA": (self.width, 4), "NV12": (self.width, 1)}.get(self.format, (self.width, 3))
        shapes = [(self.height, *size)]
        if self.format == "NV12":
            shapes.append(((self.height + 1) // 2, (self.width + 1) // 2, 2))
        array = np.frombuffer(data, np.uint8)
        planes = []
        for (rows, columns, step), offset, stride in zip(shapes, layout.offset, layout.stride, strict=False):
            needed = offset + stride * (rows - 1) + columns * step
            if stride < columns * step or needed > len(array):
                raise InputError(f"a {self.format} buffer of {self.width}x{self.height} has {len(array)} bytes, expected at least {needed}")
            planes.append(np.lib.stride_tricks.as_strided(array[offset:], (rows, columns, step), (stride, step, 1)))
        return planes


def _rows(plane: Any) -> Picture:
    """(rows, bytes) of a plane of libav, padding included."""
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]

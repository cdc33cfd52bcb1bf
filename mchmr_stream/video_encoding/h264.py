"""H.264 in yuv420p, BT.709, which all players and streaming servers support."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from mchmr_stream.errors import EncodingError, MissingPart

CLOCK = Fraction(1, 90_000)
"""Fine enough for any frame rate; frames keep their own times."""
ENCODER = "libx264"
LONGEST_SIDE_PX = 16_384
"""x264's limit"""
BT709 = 1
"""Its number for primaries and transfer curve in ITU-T H.273."""


def h264_stream(output: av.container.OutputContainer, size_wh: tuple[int, int], fps: float, options: Mapping[str, str]) -> av.VideoStream:
    """Add a video track to a container. Odd sizes grow by one pixel, because H.264 needs even ones.

    Args:
        output: The open container.
        size_wh: Width and height, px.
        fps: Nominal frame rate.
        options: x264's options.

    Returns:
        The track.

    Raises:
        MissingPart: PyAV was built without x264.
        EncodingError: x264 does not support the size.
    """
    width, height = size_wh
    if max(size_wh) > LONGEST_SIDE_PX:
        raise EncodingError(f"H.264 holds pictures of up to {LONGEST_SIDE_PX} px a side, these have {width}x{height}")
    try:
        video = output.add_stream(ENCODER, rate=Fraction(fps).limit_denominator(100_000))
    except ValueError as error:
        raise MissingPart(
            "this PyAV cannot encode H.264 (no libx264); install the one from PyPI: pip install --force-reinstall av"
        ) from error
    video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    # Without B-frames the file's duration is exact for unevenly spaced frames, and no frame waits for later ones.
    video.options = {"bf": "0", **options}
    video.codec_context.time_base = CLOCK
    video.codec_context.color_range = ColorRange.MPEG
    video.codec_context.colorspace = Colorspace.ITU709
    video.codec_context.color_primaries = video.codec_context.color_trc = BT709
    return video


class YuvPictures:
    """Convert RGB to pictures for such a track, all of one size. libav's state is kept, so it is not thread-safe.

    Args:
        size_wh: Width and height, px.
    """

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self._width, self._height = size_wh
        width, height = self._width + self._width % 2, self._height + self._height % 2
        self._source = av.VideoFrame(width, height, "rgb24")
        plane = self._source.planes[0]
        self._pixels = np.ndarray((height, width, 3), np.uint8, plane, strides=(plane.line_size, 3, 1))
        self._reformatter = VideoReformatter()

    def picture(self, rgb: NDArray[np.uint8], tick: int) -> av.VideoFrame:
        """Convert one picture.

        Args:
            rgb: (height, width, 3).
            tick: Its time in ticks of `CLOCK`.

        Returns:
            The picture; it is valid until the next call.
        """
        self._pixels[: self._height, : self._width] = rgb
        self._pixels[self._height :, : self._width] = rgb[-1]
        self._pixels[:, self._width :] = self._pixels[:, self._width - 1 : self._width]
        # One thread, because the pipeline uses the other cores.
        frame = self._reformatter.reformat(
            self._source, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
        )
        frame.pts, frame.time_base = tick, CLOCK
        return frame

"""STEM.mp4: the pictures with each person's body, box and number drawn over them, with the source's sound."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import av.error
import numpy as np
import torch
from av.video.frame import PictureType
from numpy.typing import NDArray

from mchmr_stream.datatypes import Scene, SourceInfo
from mchmr_stream.errors import EncodingError, InputError, MchmrError, MissingPart
from mchmr_stream.files.atomic import check_folder, publish, temporary_beside, write_errors
from mchmr_stream.motion.motion import Motion
from mchmr_stream.rendering.colours import identity_colour
from mchmr_stream.rendering.person_labels import paint_box, paint_number
from mchmr_stream.rendering.shading import paint_bodies
from mchmr_stream.video_encoding.audio import Sound, open_sound
from mchmr_stream.video_encoding.h264 import CLOCK, YuvPictures, h264_stream
from mchmr_stream.video_encoding.overlay_resume import EarlierOverlay, note, parameter_sets

log = logging.getLogger(__name__)

BODY_OPACITY = 0.75
_RECOVERABLE = {"movflags": "+hybrid_fragmented", "frag_duration": "200000", "flush_packets": "1"}
"""Fragments of 0.2 s during the run, so that a killed run leaves a playable file; an ordinary MP4 once it is closed."""
SEARCH = "me=dia:subme=1"
"""x264's motion search: a third less work than in the preset veryfast, files 6 to 8 % larger, 0.1 dB closer to the drawing."""


class OverlaySink:
    """Write STEM.mp4: H.264, yuv420p, BT.709, one frame per scene at the scene's time. The first frame is time 0.

    Odd sizes grow by one pixel, because H.264 needs even ones. A run without frames writes no file and logs a warning.

    Args:
        path: The file; its folder exists.
        info: The source.
        audio_from: The file whose first sound track is kept, cut to the pictures.
        video_stream: Index of its video stream that the pictures come from.
        quality: x264's CRF: lower is better and larger.
        preset: x264's preset.
        device: Device on which bodies are drawn.

    Raises:
        UsageError: The folder does not exist.
        MchmrError: The disk is full or not writable.
        EncodingError: The pictures cannot be encoded. Only the overlay is affected, see `give_up`.
    """

    def __init__(
        self,
        path: str | Path,
        info: SourceInfo,
        *,
        audio_from: str | None = None,
        video_stream: int = 0,
        quality: int = 20,
        preset: str = "veryfast",
        device: torch.device | str = "cpu",
    ) -> None:
        self.path = Path(path)
        check_folder(self.path)
        self._info, self._audio_from, self._video_stream = info, audio_from, video_stream
        self._quality, self._preset, self._device = quality, preset, device
        self._temporary = temporary_beside(self.path)
        self._movie: _OverlayVideo | None = None
        self._earlier: EarlierOverlay | None = None
        self._earlier_times_s: NDArray[np.float64] = np.zeros(0)
        self._closed = False

    def extend(self, motion: Motion) -> None:
        """Continue the overlay of an earlier run at `path`, on its clock, before the first `write`.

        If the file does not exist, a warning is logged and the overlay begins with the first new scene.

        Args:
            motion: The earlier run's content.

        Raises:
            InputError: The file is not the overlay of that run.
        """
        if not len(motion.frames):
            return
        if not self.path.exists():
            log.warning("%s is not there; it will begin where this run goes on, after %.3f s", self.path, motion.frames_time_s[-1])
            return
        earlier = EarlierOverlay(self.path)
        expected = (motion.width + motion.width % 2, motion.height + motion.height % 2)
        if earlier.size != expected:
            raise InputError(
                f"{self.path} is {earlier.size[0]}x{earlier.size[1]}, the earlier run's pictures are {expected[0]}x{expected[1]}"
            )
        self._earlier, self._earlier_times_s = earlier, motion.frames_time_s

    def write(self, scene: Scene) -> None:
        picture = draw_scene(scene, device=self._device)
        height, width = picture.shape[:2]
        with write_errors(self.path), self._encoding_errors():
            if self._movie is None:
                self._movie = self._begin(width, height, scene.frame.time_s)
            if (width, height) != self._movie.size:
                raise EncodingError(
                    f"the frame at {scene.frame.time_s:.3f} s is {width}x{height}, the video was begun with "
                    f"{self._movie.size[0]}x{self._movie.size[1]}; all frames of a video must have one size"
                )
            self._movie.add(picture, scene.frame.time_s)

    def close(self) -> None:
        """Finish and publish the file; after an early stop it holds the frames so far."""
        if self._movie is None and self._earlier is None and not self._closed:
            log.warning("%s was not written: no frame came", self.path)
        self._end(published=True)

    def give_up(self) -> None:
        """After an EncodingError: publish the frames before it. If there are none, remove the file that was to be replaced."""
        if self._movie is not None and not self._closed:
            with suppress(MchmrError):
                self.close()
                return
        self.discard()
        if self._earlier is None:
            self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Stop without publishing anything and remove the temporary file."""
        self._end(published=False)

    def _end(self, published: bool) -> None:
        if self._closed:
            return
        self._closed = True
        if self._movie is None:
            return
        try:
            with write_errors(self.path), self._encoding_errors():
                self._movie.finish(1 / self._info.fps)
                if published:
                    publish(self._temporary, self.path)
        finally:
            self._temporary.unlink(missing_ok=True)

    @contextmanager
    def _encoding_errors(self) -> Iterator[None]:
        """Turn the encoder's errors into one line that names the file. Errors of the disk pass."""
        try:
            yield
        except (EncodingError, MissingPart, av.error.FFmpegError) as error:
            if isinstance(error, OSError):
                raise
            raise EncodingError(f"{self.path} cannot be encoded: {error}; the bodies are not concerned") from error

    def _begin(self, width: int, height: int, time_s: float) -> _OverlayVideo:
        first_s = time_s if self._earlier is None else self._earlier.first_s
        output = av.open(str(self._temporary), "w", format="mp4", options=_RECOVERABLE)
        try:
            movie = self._movie_in(output, (width, height), first_s)
            if self._earlier is not None:
                copied = movie.continue_from(self._earlier, time_s)
                expected = np.count_nonzero(self._earlier_times_s >= first_s)
                if copied < expected:
                    log.warning("%s lacks %d of the %d pictures before %.3f s", self.path, expected - copied, expected, time_s)
        except BaseException:
            with suppress(OSError, av.error.FFmpegError):
                output.close()
            self._temporary.unlink(missing_ok=True)
            raise
        return movie

    def _movie_in(self, output: av.container.OutputContainer, size_wh: tuple[int, int], first_s: float) -> _OverlayVideo:
        threads = max(1, (os.cpu_count() or 1) // 2)  # the other cores compute
        options = {"crf": str(self._quality), "preset": self._preset, "x264-params": SEARCH, "threads": str(threads)}
        video = h264_stream(output, size_wh, self._info.fps, options)
        output.metadata["comment"] = note(first_s)
        sound = open_sound(self._audio_from, output, first_s, self._video_stream) if self._audio_from is not None else None
        return _OverlayVideo(output, video, sound, size_wh, first_s)


class _OverlayVideo:
    """An open MP4, to which pictures and sound are written in step."""

    def __init__(
        self, output: av.container.OutputContainer, video: av.VideoStream, sound: Sound | None, size: tuple[int, int], first_s: float
    ) -> None:
        self._output, self._video, self._sound = output, video, sound
        self.size = size
        self._pictures = YuvPictures(size)
        self._first_s = first_s
        self._last_tick = -1

    def continue_from(self, earlier: EarlierOverlay, time_s: float) -> int:
        """Copy the earlier pictures before `time_s`, the time of the next one; returns their number."""
        self._output.start_encoding()
        copied = 0
        if parameter_sets(bytes(self._video.codec_context.extradata or b"")) == earlier.parameter_sets:
            for shown_s, packet in earlier.packets():
                if self._is_before(shown_s, time_s):
                    packet.stream = self._video
                    packet.pts = packet.dts = self._advance(shown_s)
                    packet.time_base = CLOCK
                    self._output.mux(packet)
                    copied += 1
        else:
            log.warning("%s was encoded by another version of x264; its pictures are encoded once more", earlier.path)
            for shown_s, picture in earlier.pictures():
                if self._is_before(shown_s, time_s):
                    picture.pict_type = PictureType.NONE  # the encoder chooses keyframes
                    picture.pts, picture.time_base = self._advance(shown_s), CLOCK
                    self._output.mux(self._video.encode(picture))
                    copied += 1
        return copied

    def add(self, picture: NDArray[np.uint8], time_s: float) -> None:
        self._output.mux(self._video.encode(self._pictures.picture(picture, self._advance(time_s - self._first_s))))

    def _is_before(self, shown_s: float, time_s: float) -> bool:
        return round(shown_s / CLOCK) < round((time_s - self._first_s) / CLOCK)

    def _advance(self, shown_s: float) -> int:
        """The tick of the next picture. Writes the sound up to there, so that both are interleaved in the file."""
        # Two frames cannot share a tick; the times of a faulty source may not advance.
        self._last_tick = max(round(shown_s / CLOCK), self._last_tick + 1)
        if self._sound is not None:
            self._sound.play_until(float(self._last_tick * CLOCK))
        return self._last_tick

    def finish(self, last_frame_s: float) -> None:
        """Finish the file; the last picture is shown for `last_frame_s`."""
        try:
            self._output.mux(self._video.encode(None))
            if self._sound is not None:
                self._sound.play_until(float(self._last_tick * CLOCK) + last_frame_s)
        finally:
            self._output.close()
            if self._sound is not None:
                self._sound.close()


def draw_scene(scene: Scene, *, opacity: float = BODY_OPACITY, device: torch.device | str = "cpu") -> NDArray[np.uint8]:
    """Draw bodies, boxes and numbers over a scene's picture, in one colour per identity.

    Args:
        scene: The scene.
        opacity: Opacity of the bodies, 0 to 1.
        device: Device on which bodies are drawn.

    Returns:
        (height, width, 3), a copy of the picture.
    """
    picture = scene.frame.rgb.copy()
    if len(scene) == 0:
        return picture
    bodies = scene.bodies
    colours = np.stack([identity_colour(identity) for identity in bodies.track_id.tolist()])
    paint_bodies(picture, scene.vertices_m(), scene.faces, scene.intrinsics, colours, opacity=opacity, device=device)
    line_px = max(1, round(picture.shape[0] / 480))
    for identity, box, colour in zip(bodies.track_id.tolist(), bodies.boxes_xyxy_px, colours, strict=True):
        paint_box(picture, box, colour, line_px)
        paint_number(picture, identity, (box[0] - line_px // 2, box[1]), colour, max(11, line_px * 11))
    return picture

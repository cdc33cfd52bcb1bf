"""Cameras and streams: delivers the newest picture on demand, and reopens the source after a loss."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import av

from mchmr_stream.config import LiveSettings
from mchmr_stream.datatypes import Frame, SourceInfo
from mchmr_stream.errors import InputError, MissingPart
from mchmr_stream.runtime.backoff import Backoff, LossLog
from mchmr_stream.runtime.concurrency import Channel, RaisingThread
from mchmr_stream.sources.container import has_clock, reason, video_streams
from mchmr_stream.sources.live_address import Address, list_cameras
from mchmr_stream.sources.live_clock import LiveClock, MeasuredRate
from mchmr_stream.sources.picture_converter import Orientation, PictureConverter, square_pixel_size
from mchmr_stream.sources.timestamps import BestStamps

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.2
REMEMBERED_ARRIVALS = 1024
UNKNOWN_FPS = 30.0
"""For a source that does not declare its rate, before its second picture"""


@dataclass(frozen=True)
class Arrival:
    """Arrival of a frame."""

    arrived_s: float
    """`time.monotonic()` when it was decoded"""
    late_s: float
    """Delay relative to the fastest frame of its connection, by its own timestamp"""


@dataclass(frozen=True, eq=False)
class _Decoded:
    index: int
    time_s: float
    picture: av.VideoFrame
    sample_aspect: object


class LiveSource:
    """One camera or stream; implements `protocols.Source`.

    A separate thread reads and decodes all the time. `frames` yields the newest decoded picture and none twice; those in between are
    counted in `dropped`. Pictures are upright, with square pixels, all of the size of the first one. Frame.index counts decoded frames over
    all connections; times increase over them too (see `LiveClock`).

    A source that breaks off, is silent for `read_timeout_s` or ends unexpectedly is reopened with back-off, according to `restart`; the
    frames continue.
    """

    def __init__(self, address: Address, settings: LiveSettings, stop: threading.Event | None = None) -> None:
        """Open the source and wait for the first picture.

        Args:
            address: The source.
            settings: Section `live` of the configuration.
            stop: Setting this event ends the reading and the waiting.

        Raises:
            InputError: No picture arrives. With `restart` always the source is tried again instead.
        """
        self.name = address.name
        self.reconnects = 0
        self.connected = False
        self.warnings: list[str] = []
        self._address, self._settings = address, settings
        self._newest: Channel[_Decoded] = Channel(1, drop_oldest=True)
        self._arrivals: OrderedDict[int, Arrival] = OrderedDict()
        self._clock = LiveClock()
        self._rate: MeasuredRate | None = None
        """For a source that does not declare its rate"""
        self._stop = stop or threading.Event()
        self._closed = False
        self._first = threading.Event()
        self._trouble: InputError | None = None
        self._info: SourceInfo | None = None
        self._converter: PictureConverter | None = None
        self._decoded = 0
        self._reader = RaisingThread(self._read, name=f"read {address.name}")
        self._first.wait()
        if self._info is None:
            self._reader.join()
            raise self._trouble or InputError(f"{self.name} was closed before its first picture")

    @property
    def info(self) -> SourceInfo:
        """Properties of the source. An undeclared rate is measured again with every picture."""
        assert self._info is not None  # the constructor waited for it
        measured = None if self._rate is None else self._rate.fps
        return self._info if measured is None else replace(self._info, fps=measured)

    @property
    def dropped(self) -> int:
        """Number of pictures that were decoded but not delivered, because newer ones replaced them."""
        return self._newest.dropped

    @property
    def decoded(self) -> int:
        """Number of pictures decoded."""
        return self._decoded

    def arrival(self, index: int) -> Arrival:
        """Arrival of one of the last frames, by its index."""
        return self._arrivals[index]

    def frames(self) -> Iterator[Frame]:
        """Yield the newest picture each time. Raises InputError at the end of a source that is lost for good."""
        for decoded in self._newest:
            assert self._converter is not None
            orientation, aspect = Orientation.of_frame(decoded.picture), decoded.sample_aspect
            rgb = self._converter.rgb(decoded.picture, orientation, aspect)  # type: ignore[arg-type]
            if self._converter.fitted and not self.warnings:
                self.warnings.append(f"the picture size changed; all pictures are fitted into {self.info.width}x{self.info.height}")
                log.warning("%s: %s", self.name, self.warnings[0])
            yield Frame(decoded.index, decoded.time_s, rgb)

    def close(self) -> None:
        """Stop reading. A blocked read ends with its timeout, on its own thread."""
        self._closed = True
        self._newest.close()

    # ---- the reading thread ---------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            self._supervise()
        except BaseException as error:
            self._newest.end(error)
            raise
        else:
            self._newest.end(self._trouble)
        finally:
            self.connected = False
            self._first.set()

    def _supervise(self) -> None:
        """Open one connection after another, until none is needed."""
        backoff, losses = Backoff(FIRST_PAUSE_S, self._settings.longest_pause_s), LossLog(log)
        while not self._ended():
            before = self._decoded
            lost = self._connection()
            if self._ended():
                return
            if self._decoded > before:
                backoff.reset()
                losses.recovered()
            self._trouble = lost
            if not self._opens_again(lost):
                return
            losses.lost("%s; opening it again", lost or f"{self.name} has ended")
            self.connected = False
            backoff.wait(self._stop)

    def _ended(self) -> bool:
        return self._closed or self._stop.is_set()

    def _opens_again(self, lost: InputError | None) -> bool:
        if self._settings.restart == "always":
            return True
        return self._settings.restart == "on-error" and lost is not None and self._info is not None

    def _connection(self) -> InputError | None:
        """Open and read until the connection breaks off (returns the error) or ends (returns None)."""
        address = self._address
        timeouts_s = (max(5.0, self._settings.read_timeout_s), self._settings.read_timeout_s)
        try:
            with av.open(
                address.url, format=address.format, options=address.options, timeout=timeouts_s, metadata_errors="replace"
            ) as container:
                streams = video_streams(container)
                if not streams:
                    return InputError(f"{self.name} has no video, expected a stream with pictures")
                self._decode(container, streams[0])
        except av.error.ProtocolNotFoundError as error:
            raise MissingPart(
                f"{self.name}: this PyAV was built without that protocol; take the stream through GStreamer (docs/gstreamer.md), or "
                "by another protocol"
            ) from error
        except av.error.ExitError:
            return InputError(f"{self.name} gave no picture for {self._settings.read_timeout_s:g} s")
        except (av.error.FFmpegError, OSError) as error:
            cameras = f"; cameras here: {', '.join(list_cameras()) or 'none'}" if address.format == "v4l2" else ""
            return InputError(f"{self.name} cannot be read ({reason(error)}){cameras}")
        return None if address.ends else InputError(f"{self.name} stopped sending")

    def _decode(self, container: av.container.InputContainer, stream: av.VideoStream) -> None:
        stream.thread_type = "SLICE"  # frame threads would delay each picture until later ones have arrived
        if self._decoded:
            self.reconnects += 1
        self._clock.reconnected()
        if self._rate is not None:
            self._rate.reconnected()
        pace = _SourcePace() if self._address.paced else None
        stamps, trusted = BestStamps(), pace is not None or has_clock(container)
        for number, picture in enumerate(container.decode(stream)):
            if self._ended():
                return
            stamp = stamps.of(picture.pts, picture.dts) if trusted else None
            stamp_s = None if stamp is None else float(stamp * picture.time_base)
            if pace is not None:
                stamp_s = number / (_rate(stream, has_clock(container)) or UNKNOWN_FPS) if stamp_s is None else stamp_s
                pace.wait(stamp_s, self._stop.wait)
            self._deliver(picture, stream, stamp_s)

    def _deliver(self, picture: av.VideoFrame, stream: av.VideoStream, stamp_s: float | None) -> None:
        arrived_s = time.monotonic()
        time_s = self._clock.time_s(stamp_s, arrived_s)
        late_s = self._clock.late_s(stamp_s, arrived_s)
        if self._info is None:
            self._begin(picture, stream, has_times=stamp_s is not None)
        if self._rate is not None:
            self._rate.note(time_s)
        self.connected = True
        self._arrivals[self._decoded] = Arrival(arrived_s, late_s)
        if len(self._arrivals) > REMEMBERED_ARRIVALS:
            self._arrivals.popitem(last=False)
        self._newest.put(_Decoded(self._decoded, time_s, picture, stream.sample_aspect_ratio))
        self._decoded += 1
        self._first.set()

    def _begin(self, picture: av.VideoFrame, stream: av.VideoStream, *, has_times: bool) -> None:
        width, height = Orientation.of_frame(picture).size(*square_pixel_size(picture.width, picture.height, stream.sample_aspect_ratio))
        self._converter = PictureConverter(width, height)
        rate = _rate(stream, has_times)
        self._rate = MeasuredRate() if rate is None or not has_times else None
        self._info = SourceInfo(self.name, width, height, rate or UNKNOWN_FPS)


def _rate(stream: av.VideoStream, has_times: bool) -> float | None:
    """Pictures per second by libav, whose average is invented for streams without times."""
    rates = (stream.average_rate if has_times else None, stream.guessed_rate)
    return next((float(rate) for rate in rates if rate and 0 < rate <= 1000), None)


class _SourcePace:
    """Delays pictures until the time of their timestamps."""

    def __init__(self) -> None:
        self._begun: tuple[float, float] | None = None

    def wait(self, stamp_s: float, sleep: Callable[[float], object]) -> None:
        now_s = time.monotonic()
        if self._begun is None:
            self._begun = (now_s, stamp_s)
        begun_s, first_s = self._begun
        sleep(max(0.0, begun_s + stamp_s - first_s - now_s))

"""Cameras and streams in real time, with an age of results that does not grow.

Each source has a reading thread, which decodes all pictures, and a run of the pipeline that takes the newest picture whenever it is
ready for one. Nothing is dropped after that. Several sources share one detector and one network (estimators/shared.py); each has its
own tracker, smoother and times.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType

import numpy as np

from mchmr_stream.config import Settings
from mchmr_stream.datatypes import Moment, Scene, SourceInfo
from mchmr_stream.errors import MchmrError
from mchmr_stream.estimators.shared import SharedDetector, SharedEstimator
from mchmr_stream.live.load_shedding import LoadShedding
from mchmr_stream.pipeline.factory import with_camera
from mchmr_stream.pipeline.live_settings import AdjustableSettings
from mchmr_stream.pipeline.pipeline import Pipeline, log_scene
from mchmr_stream.protocols import LiveSink
from mchmr_stream.runtime.concurrency import RaisingThread, Stopwatch
from mchmr_stream.sources.live_address import Address, parse_address
from mchmr_stream.sources.live_source import LiveSource

log = logging.getLogger(__name__)

KEPT_RESULTS = 600
"""Number of last results from which rates and ages of a status are computed."""


@dataclass(frozen=True)
class SourceStatus:
    """The state of one source of a `LiveRun`."""

    name: str
    """Unique in the run."""
    connected: bool
    """Whether pictures arrive."""
    decoded: int
    """Pictures that arrived."""
    finished: int
    """Pictures that became results."""
    dropped: int
    """Pictures that were dropped for newer ones."""
    reconnects: int
    """Times the source was lost and found again."""
    fps: float
    """Recent results per second."""
    age_p50_s: float
    """Median age of recent results, seconds."""
    age_p99_s: float
    """99th percentile of the age of recent results, seconds."""
    late_s: float
    """Delay of the last picture by its own timestamp, seconds more than that of the fastest picture of the connection."""
    people: int
    """People in the last picture."""
    error: str | None
    """Why the source is not processed any more; None: no error."""


class LiveRun:
    """Cameras and streams in real time: the newest picture of each source is processed, older ones are dropped.

    A context manager: leaving it ends the run and closes the sinks. `adjust` holds the settings that can be changed while it runs; it and
    `status` may be used from any thread, also by sinks.
    """

    def __init__(self, sources: Sequence[str], settings: Settings) -> None:
        """Load the networks. No source is opened yet.

        Args:
            sources: Camera numbers ("0"), URLs (RTSP, HTTP, UDP), or files, which are read at their own speed.
            settings: All settings.

        Raises:
            UsageError: An address or settings that cannot be used.
            InputError: A file that is not there.
            MissingPart: A file or an optional package is missing.
        """
        self.settings = settings
        addresses = addresses_of(sources, settings)
        self.pipeline = Pipeline(settings)
        if len(addresses) > 1:
            self._share(len(addresses))
        self.adjust: AdjustableSettings = self.pipeline.adjustable()
        target_s = settings.live.target_age_s
        self._shedding = None if target_s is None else LoadShedding(self.adjust, target_s)
        self._sinks: list[LiveSink] = []
        self._stop = threading.Event()
        self._writing = threading.Lock()
        self._failure: BaseException | None = None
        self._followed = [_Followed(address) for address in addresses]

    def add_sink(self, sink: LiveSink) -> None:
        """Pass every result from now on to a sink.

        Args:
            sink: Closed with the run.
        """
        with self._writing:
            self._sinks.append(sink)

    def run(self) -> list[SourceStatus]:
        """Process every source until it ends, or until `stop`.

        A source that fails does not stop the others; its status has the error. An exception of a sink ends the run and is raised here.

        Returns:
            The final status of every source, in the order given.
        """
        tasks = [RaisingThread(partial(self._follow, followed), name=followed.address.name) for followed in self._followed]
        for task in tasks:
            task.join()
        if self._failure is not None:
            raise self._failure
        return self.status()

    def stop(self) -> None:
        """End the run from any thread; `run` returns soon after."""
        self._stop.set()
        for followed in self._followed:
            if followed.source is not None:
                followed.source.close()

    def status(self) -> list[SourceStatus]:
        """The state of every source: rates, ages, dropped pictures, errors.

        Returns:
            One status per source, in the order given.
        """
        return [followed.status() for followed in self._followed]

    def __enter__(self) -> LiveRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        with ExitStack() as at_end:
            at_end.callback(self.pipeline.close)
            for sink in self._sinks:
                at_end.callback(sink.close)

    def _share(self, members: int) -> None:
        detector, estimator = self.pipeline.components.detector, self.pipeline.components.estimator
        wait_s = self.settings.live.gather_s
        # A remote estimator takes the requests of all sources as they arrive and batches them itself.
        shared = estimator if estimator.info.in_flight > 1 else SharedEstimator(estimator, members, wait_s)
        self.pipeline = self.pipeline.with_components(detector=SharedDetector(detector, members, wait_s), estimator=shared)

    def _follow(self, followed: _Followed) -> None:
        try:
            source = LiveSource(followed.address, self.settings.live, self._stop)
            followed.source = source
            with closing(source):
                upright, intrinsics = with_camera(source, self.settings)
                scenes = self.pipeline.scenes(upright, intrinsics, stop=self._stop, watch=followed.watch, live=True, adjust=self.adjust)
                with closing(scenes):
                    for scene in scenes:
                        self._write(followed.moment(scene))
                        log_scene(followed.address.name, scene, followed.watch)
        except MchmrError as error:
            followed.error = str(error)
            log.error("%s", error)
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            self._failure = self._failure or error
            self.stop()

    def _write(self, moment: Moment) -> None:
        with self._writing:
            if self._shedding is not None:
                self._shedding.note(moment.age_s, time.monotonic())
            for sink in self._sinks:
                try:
                    sink.write(moment)
                except BaseException as error:
                    self._failure = self._failure or error
                    self.stop()
                    raise


class _Followed:
    """One source of a run and its statistics."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.source: LiveSource | None = None
        self.watch = Stopwatch(last=KEPT_RESULTS)
        self.error: str | None = None
        self._finished = 0
        self._people = 0
        self._late_s = 0.0
        self._results: deque[tuple[float, float]] = deque(maxlen=KEPT_RESULTS)
        """finishing time and age of each of the last results"""

    def moment(self, scene: Scene) -> Moment:
        """Wrap a scene with the source's times and counters."""
        source = self.source
        assert source is not None
        arrival, now_s = source.arrival(scene.frame.index), time.monotonic()
        age_s = now_s - arrival.arrived_s
        self._finished += 1
        self._people, self._late_s = len(scene), arrival.late_s
        self._results.append((now_s, age_s))
        info: SourceInfo = source.info
        return Moment(
            source=info,
            scene=scene,
            clock_s=time.time() - age_s,
            age_s=age_s,
            late_s=arrival.late_s,
            dropped=source.dropped,
            reconnects=source.reconnects,
            work_s=self.watch.latest,
        )

    def status(self) -> SourceStatus:
        """The state of the source."""
        results = list(self._results)
        source, now_s = self.source, time.monotonic()
        recent = [age_s for finished_s, age_s in results if now_s - finished_s < 5]
        span_s = min(5.0, now_s - results[0][0]) if results else 0.0
        p50, p99 = (float(value) for value in np.percentile(recent, [50, 99])) if recent else (0.0, 0.0)
        return SourceStatus(
            name=self.address.name,
            connected=source is not None and source.connected,
            decoded=0 if source is None else source.decoded,
            finished=self._finished,
            dropped=0 if source is None else source.dropped,
            reconnects=0 if source is None else source.reconnects,
            fps=len(recent) / span_s if span_s > 0 else 0.0,
            age_p50_s=p50,
            age_p99_s=p99,
            late_s=self._late_s,
            people=self._people,
            error=self.error,
        )


def addresses_of(sources: Sequence[str], settings: Settings) -> list[Address]:
    """Parse the addresses of sources and give each a unique name. Nothing is opened.

    Args:
        sources: Camera numbers, URLs or files.
        settings: All settings.

    Returns:
        The addresses.

    Raises:
        UsageError: An address is invalid.
        InputError: A file does not exist.
    """
    return _with_unique_names([parse_address(text, settings.live) for text in sources])


def _with_unique_names(addresses: list[Address]) -> list[Address]:
    """Number names that occur twice."""
    seen: dict[str, int] = {}
    result = []
    for address in addresses:
        seen[address.name] = number = seen.get(address.name, 0) + 1
        result.append(address if number == 1 else replace(address, name=f"{address.name} ({number})"))
    return result

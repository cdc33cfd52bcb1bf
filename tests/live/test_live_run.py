"""Live sources, real ones: newest picture first, lost and found again, several on one network."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import av
import media
import numpy as np
import pytest
from components import skip_without
from people import FPS, people_pictures
from PIL import Image
from waiting import wait_for

import mchmr_stream
from mchmr_stream.cli import main
from mchmr_stream.cli.print_config import settings_yaml
from mchmr_stream.config import LiveSettings, Settings, load_settings, settings_from
from mchmr_stream.datatypes import CropBatch, CropEstimates, Moment
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.estimators.base import SynchronousEstimator
from mchmr_stream.estimators.shared import SharedEstimator
from mchmr_stream.live.load_shedding import LoadShedding
from mchmr_stream.live.run import LiveRun
from mchmr_stream.pipeline.live_settings import AdjustableSettings
from mchmr_stream.runtime.concurrency import RequestBatcher
from mchmr_stream.sinks.json_tcp import JsonTcpSink
from mchmr_stream.sinks.npz_segments import NpzSegments
from mchmr_stream.sinks.video_recording import VideoRecordingSink
from mchmr_stream.sources.container import has_clock
from mchmr_stream.sources.live_address import parse_address
from mchmr_stream.sources.live_clock import LiveClock, MeasuredRate
from mchmr_stream.sources.live_source import LiveSource

LAVFI = "lavfi:testsrc2=size=160x120:rate=30"
GST_PYTHON = "/usr/bin/python3"
CLIP_FRAMES = 45
"""Three seconds: a busy machine sees some of it."""


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self, wanted: int | None = None, run: LiveRun | None = None) -> None:
        self.moments: list[Moment] = []
        self.finished_s: list[float] = []
        self.closed = False
        self._wanted, self._run = wanted, run

    def write(self, moment: Moment) -> None:
        self.moments.append(moment)
        self.finished_s.append(time.monotonic())
        if self._run is not None and len(self.moments) == self._wanted:
            self._run.stop()

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def live_settings(quick_settings: Settings) -> Settings:
    return settings_from({**quick_settings.model_dump(), "smoother": {"kind": "causal"}, "live": {"read_timeout_s": 1.0}})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = people_pictures(CLIP_FRAMES, [((-0.6, 0.3, 4.0), (0.0, 0.3, 4.0))])
    return media.write_video(tmp_path_factory.mktemp("clip") / "people.mp4", pictures, fps=FPS)


def follow(sources: list[str], settings: Settings, wanted: int) -> tuple[list[Moment], LiveRun]:
    with LiveRun(sources, settings) as run:
        kept = Kept(wanted, run)
        run.add_sink(kept)
        run.run()
    assert kept.closed
    return kept.moments, run


# ---- the source -------------------------------------------------------------------------------------------------------------


@pytest.mark.clock
def test_a_slow_reader_always_gets_the_newest_picture():
    source = LiveSource(parse_address(LAVFI, LiveSettings()), LiveSettings())
    frames, ages = [], []
    for frame in source.frames():
        ages.append(time.monotonic() - source.arrival(frame.index).arrived_s)
        frames.append(frame)
        if len(frames) == 12:
            break
        time.sleep(0.2)
    source.close()
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert np.median(np.diff(indices)) >= 3
    assert source.dropped >= indices[-1] + 1 - len(indices)
    assert np.median(ages) < 0.3  # every picture in turn would be two seconds late at the end
    np.testing.assert_allclose(np.diff([frame.time_s for frame in frames]), np.diff(indices) / 30, atol=1e-3)


def test_pictures_are_let_go_at_once(clip):
    """Not only when Python looks for cycles: a picture of a camera is megabytes."""
    source = LiveSource(parse_address(str(clip), LiveSettings()), LiveSettings())
    gc.collect()
    gc.disable()
    try:
        for _ in source.frames():
            pass
        assert sum(type(one) is av.VideoFrame for one in gc.get_objects()) <= 3
    finally:
        gc.enable()


@pytest.mark.clock
def test_a_file_is_played_in_its_own_time(clip):
    begun_s = time.monotonic()
    source = LiveSource(parse_address(str(clip), LiveSettings()), LiveSettings())
    assert len(list(source.frames())) + source.dropped == CLIP_FRAMES
    assert time.monotonic() - begun_s > CLIP_FRAMES / FPS - 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("99", "there is no camera /dev/video99; found: "),
        ("gopher://x", "begins with gopher://, expected one of"),
        ("/nowhere.mp4", "expected a camera's number, a URL, lavfi:GRAPH or a file"),
    ],
)
def test_a_source_that_cannot_be_is_refused_with_what_to_write(text, message):
    with pytest.raises((InputError, UsageError), match=message):
        parse_address(text, LiveSettings())


def test_a_source_that_is_not_there_at_the_start_is_an_error_but_not_for_always():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = parse_address(f"http://user:secret@127.0.0.1:{port}/cam", LiveSettings())
    with pytest.raises(InputError, match="cannot be read") as error:
        LiveSource(address, LiveSettings())
    assert "secret" not in str(error.value)
    with MjpegServer(port) as server:
        threading.Timer(0.5, server.begin).start()
        source = LiveSource(address, LiveSettings(restart="always"))
        assert next(iter(source.frames())).width == 64
        source.close()


def test_the_clock_of_a_source_never_runs_backwards():
    clock = LiveClock()
    assert clock.time_s(100.0, 10.0) == 0.0
    assert clock.time_s(100.1, 10.1) == pytest.approx(0.1)
    assert clock.time_s(100.2, 10.5) == pytest.approx(0.2)  # its own timestamps count, not when it came
    assert clock.late_s(100.2, 10.5) == pytest.approx(0.3)
    clock.reconnected()
    assert clock.time_s(3.0, 15.5) == pytest.approx(5.2)  # five seconds passed while it was away
    assert clock.time_s(3.1, 15.6) == pytest.approx(5.3)
    assert clock.time_s(0.0, 15.7) == pytest.approx(5.301)  # stamps that stand still or go back a little
    assert clock.time_s(900.0, 15.8) == pytest.approx(5.401)  # or jump: the clock on the wall is believed
    assert clock.time_s(900.1, 15.9) == pytest.approx(5.501)
    assert clock.time_s(None, 16.0) > 5.501


# ---- lost and found ---------------------------------------------------------------------------------------------------------


class MjpegServer:
    """A camera that sends JPEG pictures of `size` over HTTP with `pauses_s` between them in turn, and can be switched off."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self.size = (64, 48)
        self.pauses_s = [0.03]
        self._running = threading.Event()
        self._over = False
        self._listener: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/cam.mjpg"

    def begin(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), reuse_port=False)
        self._port = self._listener.getsockname()[1]
        self._running.set()
        threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def stop(self) -> None:
        self._running.clear()
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def __enter__(self) -> MjpegServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _serve(self, listener: socket.socket) -> None:
        while self._running.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._send, args=(connection,), daemon=True).start()

    def _send(self, connection: socket.socket) -> None:
        number = 0
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=frame\r\n\r\n")
                while self._running.is_set():
                    picture = BytesIO()
                    Image.fromarray(media.counter_picture(number % 256, *self.size)).save(picture, "jpeg")
                    body = picture.getvalue()
                    connection.sendall(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(body), body))
                    number += 1
                    time.sleep(self.pauses_s[number % len(self.pauses_s)])
            except OSError:
                return


@pytest.mark.clock
def test_a_lost_camera_is_found_again_twenty_times_and_nothing_is_left_behind():
    settings = LiveSettings(read_timeout_s=1.0, longest_pause_s=0.2)
    with MjpegServer() as server:
        server.begin()
        source = LiveSource(parse_address(server.url, settings), settings)
        frames: Iterator = source.frames()
        times_s, resumed_s = [next(frames).time_s], []
        files, threads = [], []
        for number in range(20):
            server.stop()
            time.sleep(0.25)
            if number == 10:
                server.size = (48, 64)
            server.begin()
            back_s = time.monotonic()
            while source.reconnects <= number:
                times_s.append(next(frames).time_s)
            frame = next(frames)
            times_s.append(frame.time_s)
            resumed_s.append(time.monotonic() - back_s)
            assert (frame.width, frame.height) == (64, 48)
            files.append(len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0)
            threads.append(threading.active_count())
        source.close()
    assert source.reconnects == 20
    assert times_s == sorted(set(times_s))
    assert np.median(resumed_s) < 3
    assert max(files[10:]) <= max(files[:10]) + 2
    assert max(threads[10:]) <= max(threads[:10]) + 2
    assert "fitted into 64x48" in source.warnings[0]


@pytest.mark.clock
def test_where_a_stream_has_no_clock_times_follow_arrival(live_settings, tmp_path):
    film, names = tmp_path / "film.mp4", {"body_model": "b", "body_model_sha256": "1", "weights": "w", "weights_sha256": "2"}
    with MjpegServer() as server:
        server.pauses_s = [0.05, 0.3, 0.1]
        server.begin()
        with LiveRun([server.url], live_settings) as run:
            kept, segments = Kept(12, run), NpzSegments(tmp_path / "npz", 600, names=names, settings={})
            for sink in (kept, segments, VideoRecordingSink(str(film), sources=1)):
                run.add_sink(sink)
            run.run()
    times_s = np.array([moment.scene.bodies.time_s for moment in kept.moments])
    clock_s = np.array([moment.clock_s for moment in kept.moments])
    np.testing.assert_allclose(times_s - times_s[0], clock_s - clock_s[0], atol=0.02)
    assert times_s[-1] > 1.0
    assert max(moment.late_s for moment in kept.moments) < 0.01
    motion = mchmr_stream.load(segments.written[0])
    np.testing.assert_array_equal(motion.frames_time_s, times_s)
    assert motion.fps == pytest.approx(1 / np.mean(server.pauses_s), rel=0.25)
    with av.open(str(film)) as container:
        shown_s = [frame.time for frame in container.decode(video=0)]
    np.testing.assert_allclose(np.subtract(shown_s, shown_s[0]), times_s - times_s[0], atol=0.002)


@pytest.mark.parametrize(
    ("name", "codec", "expected"),
    [("a.mjpeg", "mjpeg", False), ("a.h264", "libx264", False), ("a.y4m", "wrapped_avframe", False), ("a.mkv", "libx264", True),
     ("a.ts", "libx264", True), ("a.flv", "libx264", True)],
)  # fmt: skip
def test_which_streams_have_a_clock(tmp_path, name, codec, expected):
    path = media.write_video(tmp_path / name, media.noise_pictures(4), 30, codec, "yuvj420p" if codec == "mjpeg" else "yuv420p")
    with av.open(str(path)) as container:
        assert has_clock(container) == expected


@pytest.mark.clock
def test_a_file_without_times_is_played_at_its_rate(tmp_path):
    path = media.write_video(tmp_path / "a.h264", media.counter_pictures(30), 30)
    begun_s = time.monotonic()
    source = LiveSource(parse_address(str(path), LiveSettings()), LiveSettings())
    frames = list(source.frames())
    assert len(frames) + source.dropped == 30
    assert 0.9 < time.monotonic() - begun_s < 3
    assert frames[-1].time_s == pytest.approx(29 / 30, abs=0.1)


def test_a_rate_is_measured_over_what_was_connected():
    rate = MeasuredRate()
    assert rate.fps is None
    for start_s in (0.0, 100.0):
        rate.reconnected()
        for number in range(11):
            rate.note(start_s + number / 8)
    assert rate.fps == pytest.approx(8)


def test_silence_is_taken_for_loss():
    listener = socket.create_server(("127.0.0.1", 0))
    settings = LiveSettings(read_timeout_s=0.5, restart="never")
    with pytest.raises(InputError, match=r"gave no picture|cannot be read"):
        LiveSource(parse_address(f"http://127.0.0.1:{listener.getsockname()[1]}/", settings), settings)
    listener.close()


RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server, factory = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
factory.set_launch("( videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=120,framerate=30/1 ! "
                   "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 )")
factory.set_shared(True)
server.get_mount_points().add_factory("/cam", factory); server.attach(None)
print("up", flush=True); GLib.MainLoop().run()
"""


class RtspServer:
    """A real one on loopback, in a process that can be killed."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        command = [GST_PYTHON, "-c", RTSP_SERVER, str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if "up" not in self._process.stdout.readline():
            self._process.wait()
            skip_without(
                "gstreamer", "no GStreamer RTSP server here (apt: gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly python3-gst-1.0)"
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    if not Path(GST_PYTHON).exists():
        skip_without("gstreamer", "no system Python with GStreamer here")
    server = RtspServer()
    server.begin()
    yield server
    server.kill()


@pytest.mark.clock
@pytest.mark.slow
def test_rtsp_goes_on_soon_after_its_return(rtsp: RtspServer, live_settings: Settings):
    back_s: list[float] = []

    def away_for_five_seconds(run: LiveRun) -> None:
        rtsp.kill()
        time.sleep(5)
        rtsp.begin()
        back_s.append(time.monotonic())

    with LiveRun([rtsp.url], live_settings) as run:
        kept = Kept(None, run)
        run.add_sink(kept)
        runner = threading.Thread(target=run.run)
        runner.start()
        wait_for(lambda: len(kept.moments) > 15)
        away_for_five_seconds(run)
        wait_for(lambda: kept.moments[-1].reconnects == 1)
        before = len(kept.moments)
        wait_for(lambda: len(kept.moments) > before + 15)
        run.stop()
        runner.join()
    first_again = next(i for i, moment in enumerate(kept.moments) if moment.reconnects == 1)
    resumed_s = kept.finished_s[first_again] - back_s[0]
    print(f"results again {resumed_s:.2f} s after the server was back")
    assert resumed_s < 10  # three on a machine that does nothing else
    times_s = np.array([moment.scene.bodies.time_s for moment in kept.moments])
    assert (np.diff(times_s) > 0).all()
    gap_s = times_s[first_again] - times_s[first_again - 1]
    really_s = kept.moments[first_again].clock_s - kept.moments[first_again - 1].clock_s
    assert gap_s == pytest.approx(really_s, abs=1.0)


# ---- the run ----------------------------------------------------------------------------------------------------------------


@pytest.mark.clock
def test_results_come_in_order_each_once_and_are_not_old(live_settings):
    moments, run = follow([LAVFI], live_settings, 30)
    assert [moment.scene.frame.index for moment in moments] == sorted({moment.scene.frame.index for moment in moments})
    ages_s = [moment.age_s for moment in moments[1:]]
    between_s = np.median(np.diff([moment.clock_s for moment in moments]))
    assert np.median(ages_s) < 4 * between_s + 0.1  # no queue: only what is being worked on
    assert [moment.dropped for moment in moments] == sorted(moment.dropped for moment in moments)
    status = run.status()[0]
    assert status.finished in (30, 31)  # what was being worked on when it stopped may come to its end
    assert status.error is None


def test_two_sources_share_one_network_and_keep_their_own_people(live_settings, clip):
    moments, _ = follow([str(clip), str(clip), LAVFI], live_settings, 60)
    by_source = {name: [m for m in moments if m.source.name == name] for name in ("people.mp4", "people.mp4 (2)", LAVFI)}
    for name, mine in by_source.items():
        assert mine, name
        assert [m.scene.frame.index for m in mine] == sorted({m.scene.frame.index for m in mine})
    for name in ("people.mp4", "people.mp4 (2)"):
        # Each has its own identities; where a busy machine drops many pictures, one person may come to two of them.
        assert max(len(m.scene) for m in by_source[name]) == 1
        assert next(m.scene.bodies.track_id.tolist() for m in by_source[name] if len(m.scene)) == [1]
    assert not any(len(m.scene) for m in by_source[LAVFI])


@pytest.mark.clock
def test_what_is_asked_together_is_answered_as_if_asked_alone(quick_pipeline):
    import torch

    estimator = quick_pipeline.components.estimator
    rng = np.random.default_rng(0)

    def batch(people: int, views: int) -> CropBatch:
        views_px = rng.uniform(50, 100, (people, views, 3)).astype(np.float32)
        crops = torch.from_numpy(rng.integers(0, 256, (people, views, 3, 256, 256), dtype=np.uint8))
        keypoints = rng.uniform(0, 1, (people, 17, 3)).astype(np.float32)
        return CropBatch(crops, views_px, views_px[:, 0], keypoints, np.full(people, 400, np.float32), np.zeros(people, np.float32))

    batches = [batch(1, 1), batch(2, 1), batch(0, 1), batch(1, 2)]
    alone = [estimator.estimate(one) for one in batches]
    calls = []

    class Counting(SynchronousEstimator):
        info = estimator.info

        def estimate(self, batch: CropBatch) -> CropEstimates:
            calls.append(len(batch))
            return estimator.estimate(batch)

    shared = SharedEstimator(Counting(), len(batches), 0.5)
    answers: list = [None] * len(batches)
    threads = [threading.Thread(target=lambda i=i: answers.__setitem__(i, shared.estimate(batches[i]))) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(calls) == [1, 3], "people in a call: one call for each number of views"
    for together, single in zip(answers, alone, strict=True):
        np.testing.assert_allclose(together.rotations, single.rotations, atol=1e-4)
        np.testing.assert_allclose(together.views_cam, single.views_cam, atol=1e-4)


def test_keypoints_of_several_sources_at_the_same_time_are_those_of_each_alone():
    """Their threads use one network, also while it is still being compiled."""
    from concurrent.futures import ThreadPoolExecutor

    from mchmr_stream.datatypes import Frame, Tracks
    from mchmr_stream.geometry.camera import Intrinsics
    from mchmr_stream.keypoints.crop_keypoints import CropKeypoints
    from mchmr_stream.keypoints.thunder_keypoints import ThunderPoints

    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (120, 160, 3), np.uint8) for _ in range(3)]
    boxes = [np.array([[20, 10, 60, 110], [70, 5, 130, 115]][:people], np.float32) for people in (1, 2, 2)]
    keypoints = [np.full((len(box), 17, 3), np.nan, np.float32) for box in boxes]
    asked = [
        (Frame(0, 0.0, rgb), Tracks(np.arange(len(box)), box, np.ones(len(box), np.float32), nan, np.ones(len(box), np.bool_), nan))
        for rgb, box, nan in zip(pictures, boxes, keypoints, strict=True)
    ]
    camera = Intrinsics.assumed(160, 120)
    shared, alone = (CropKeypoints(ThunderPoints("cpu", "fp32")) for _ in range(2))
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda one: [shared.refine(*one, camera) for _ in range(3)], asked))
    for one, answers in zip(asked, together, strict=True):
        expected = alone.refine(*one, camera)
        for answer in answers:
            np.testing.assert_allclose(answer.keypoints_px, expected.keypoints_px, atol=1e-3)
            np.testing.assert_allclose(answer.keypoint_covariance_px2, expected.keypoint_covariance_px2, rtol=1e-3)


@pytest.mark.clock
def test_nobody_waits_longer_than_was_said_for_the_others():
    gathering: RequestBatcher[int, int] = RequestBatcher(lambda asked: [2 * one for one in asked], members=5, wait_s=0.05, name="doubling")
    begun_s = time.monotonic()
    assert gathering.request(21) == 42
    assert time.monotonic() - begun_s < 0.5
    gathering.close()

    def fail(asked: list[int]) -> list[int]:
        raise ValueError("no answer")

    gathering = RequestBatcher(fail, members=1, wait_s=0.0, name="failing")
    with pytest.raises(ValueError, match="no answer"):
        gathering.request(1)
    gathering.close()


def test_a_sink_that_fails_ends_the_run_with_its_error(live_settings):
    class Full:
        def write(self, moment: Moment) -> None:
            raise OSError("disk full")

        def close(self) -> None:
            """Nothing is open."""

    with LiveRun([LAVFI], live_settings) as run:
        run.add_sink(Full())
        with pytest.raises(OSError, match="disk full"):
            run.run()


@pytest.mark.clock
def test_views_and_smoothing_can_be_changed_while_it_runs(live_settings):
    with LiveRun([LAVFI], live_settings) as run:
        with pytest.raises(UsageError, match="cannot change while a run goes on"):
            run.adjust.change("body.model", "x")
        with pytest.raises(UsageError, match="less than or equal to 9"):
            run.adjust.change("crops.views", 12)

        class Changing(Kept):
            def write(self, moment: Moment) -> None:
                super().write(moment)
                if len(self.moments) == 5:
                    run.adjust.change("crops.views", 3)

        kept = Changing(20, run)
        run.add_sink(kept)
        run.run()
    views = [moment.scene.bodies.views_cam.shape[1] for moment in kept.moments]
    assert views[:5] == [1] * 5
    assert views[5:].count(1) <= 3  # those that were on their way
    assert views[-1] == 3


# ---- less work when late ----------------------------------------------------------------------------------------------------


def test_less_is_done_while_results_are_late_and_all_again_afterwards():
    adjust = AdjustableSettings(Settings())
    shedding = LoadShedding(adjust, target_s=0.1)
    now_s, seen = 0.0, []
    for cost_s in [0.03] * 40 + [0.08] * 200 + [0.03] * 2000:
        settings = adjust.now
        age_s = cost_s * (settings.crops.views / 5 + 1 / settings.detector.interval)
        now_s += 0.05
        shedding.note(age_s, now_s)
        seen.append((cost_s, age_s, adjust.relief))
    assert seen[39][2] == 0
    late = [age_s for cost_s, age_s, _ in seen if cost_s == 0.08]
    assert late[0] > 0.1
    assert np.median(late[60:]) <= 0.1
    assert adjust.relief == 0
    assert adjust.now == adjust.chosen == Settings()


def test_what_was_chosen_stays_chosen_while_less_is_done():
    five = load_settings(None, ["crops.views=5"])
    adjust = AdjustableSettings(five)
    assert adjust.relieve(2)
    assert (adjust.now.crops.views, adjust.now.detector.interval) == (3, 4)
    adjust.change("crops.views", 4)
    assert (adjust.now.crops.views, adjust.chosen.crops.views) == (2, 4)
    assert adjust.relieve(3)
    assert not adjust.relieve(4)
    assert adjust.relieve(0)
    assert adjust.now.crops.views == 4
    fixed = AdjustableSettings(five, fixed_views=5)
    assert fixed.relieve(1)
    assert fixed.now.crops.views == 5
    with pytest.raises(UsageError, match="made for 5 views"):
        fixed.change("crops.views", 3)


# ---- outputs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moments(live_settings: Settings, clip: Path) -> list[Moment]:
    return follow([str(clip)], live_settings, 1000)[0]


def test_segments_are_whole_files_of_the_length_asked_for(moments, tmp_path):
    names = {"body_model": "b", "body_model_sha256": "1", "weights": "w", "weights_sha256": "2"}
    segments = NpzSegments(tmp_path / "out", 0.5, names=names, settings={})
    fewer = [replace(m, scene=replace(m.scene, bodies=replace(m.scene.bodies, views_cam=m.scene.bodies.views_cam[:, :1]))) for m in moments]
    more = [
        replace(m, scene=replace(m.scene, bodies=replace(m.scene.bodies, views_cam=np.repeat(m.scene.bodies.views_cam, 2, 1))))
        for m in moments
    ]
    for number, moment in enumerate(more):
        segments.write(moment if number % 3 else fewer[number])
    segments.close()
    loaded = [mchmr_stream.load(path) for path in segments.written]
    assert len(loaded) >= 2
    assert sum(len(motion.frames) for motion in loaded) == len(moments)
    assert all(motion.frames_time_s[-1] - motion.frames_time_s[0] <= 0.5 for motion in loaded)
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".npz"] * len(loaded)


@pytest.mark.clock
def test_lines_go_to_whoever_listens_and_nobody_is_waited_for(moments):
    sink = JsonTcpSink("127.0.0.1", 0)
    sink.write(moments[0])
    with socket.create_connection(sink.address) as reader, socket.create_connection(sink.address):  # the second one never reads
        begun_s = time.monotonic()
        for moment in moments:
            sink.write(moment)
        assert time.monotonic() - begun_s < 5
        lines = reader.makefile().readline()
        assert json.loads(lines)["source"] == "people.mp4"
        sink.close()
    with pytest.raises(UsageError, match="cannot listen"), socket.create_server(("127.0.0.1", 0)) as taken:
        JsonTcpSink("127.0.0.1", taken.getsockname()[1])


def test_the_command_writes_lines_and_segments(live_settings, clip, tmp_path, capsys):
    (tmp_path / "quick.yaml").write_text(settings_yaml(live_settings))
    arguments = ["live", str(clip), "--config", str(tmp_path / "quick.yaml"), "--json", str(tmp_path / "out.jsonl"), "--json", "-"]
    assert main([*arguments, "--npz", str(tmp_path / "npz"), "--no-page"]) == 0
    said = capsys.readouterr()
    assert "page at" not in said.err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [json.loads(line) for line in said.out.splitlines()] == lines
    people = [line["people"] for line in lines if line["people"]]
    assert all(len(one) == 1 for one in people)  # where a busy machine drops many pictures, one person may come to two identities
    assert people[0][0]["id"] == 1
    assert all(0 <= line["age_s"] < 60 for line in lines)
    assert "dropped" in said.err
    files = list((tmp_path / "npz").iterdir())
    assert sum(len(mchmr_stream.load(path).frames) for path in files) == len(lines)
    assert main(["live", "/nowhere.mp4"]) == 1
    assert "/nowhere.mp4 is not there" in capsys.readouterr().err
    assert main(["live", str(clip), "--json", "tcp://nowhere", "--config", str(tmp_path / "quick.yaml")]) == 2


@pytest.mark.clock
def test_seconds_are_those_of_the_clock_however_long_each_look_at_the_run_takes(monkeypatch):
    from mchmr_stream.cli import live

    class SlowToAnswer:
        looks, stopped, adjust = 0, False, AdjustableSettings(Settings())

        def status(self):
            self.looks += 1
            time.sleep(0.3)
            return []

        def stop(self):
            self.stopped = True

    run = SlowToAnswer()
    monkeypatch.setattr(live, "STATUS_EVERY_S", 0.1)
    live.stop_when_due(run, threading.Event(), threading.Event(), 1.0, quiet=False)
    assert run.stopped
    assert run.looks <= 3, "each takes 0.4 s with the wait before it"


def test_live_runs_do_not_look_ahead_unless_told_to(tmp_path):
    from mchmr_stream.cli.live import DEFAULTS

    assert load_settings(None, [], defaults=DEFAULTS).smoother.kind == "causal"
    (tmp_path / "some.yaml").write_text("smoother: {strength: 2}\n")
    assert load_settings(tmp_path / "some.yaml", [], defaults=DEFAULTS).smoother.kind == "causal"
    (tmp_path / "other.yaml").write_text("smoother: {kind: two-sided}\n")
    assert load_settings(tmp_path / "other.yaml", [], defaults=DEFAULTS).smoother.kind == "two-sided"
    assert load_settings(None, ["smoother.kind=none"], defaults=DEFAULTS).smoother.kind == "none"

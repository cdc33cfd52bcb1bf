"""Outputs of live runs, read by somebody else: a real broker, OSC servers, players, streaming servers. None holds the pipeline up."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from certificates import certificate
from components import skip_without
from people import FPS, HEIGHT, STRIP_PX, WIDTH, people_pictures
from places import HELPERS
from scipy.spatial.transform import Rotation
from waiting import wait_for

from mchmr_stream.cli import main
from mchmr_stream.cli.print_config import settings_yaml
from mchmr_stream.config import MqttSettings, Settings
from mchmr_stream.datatypes import JOINT_NAMES, Frame, Moment, SourceInfo
from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.sinks.background import BackgroundSink
from mchmr_stream.sinks.json_lines import moment_line
from mchmr_stream.sinks.mqtt import PASSWORD, MqttSink
from mchmr_stream.sinks.osc import MOST_BYTES, OscSink
from mchmr_stream.sinks.video_recording import VideoRecordingSink

FRAMES = 16
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def moments(quick_pipeline: Pipeline) -> list[Moment]:
    """Two people; at uneven times, as a camera's are."""
    pictures = people_pictures(FRAMES, [((-0.6, 0.3, 4.0), (0.0, 0.3, 4.0)), ((0.9, 0.3, 4.5), (0.9, 0.3, 4.5))])
    info = SourceInfo("cam 1", WIDTH, HEIGHT, float(FPS))

    class Source:
        warnings: list[str] = []

        def __init__(self) -> None:
            self.info = info

        def frames(self) -> Iterator[Frame]:
            for number, picture in enumerate(pictures):
                yield Frame(number, 5.0 + number / FPS + 0.01 * (number % 3), picture)

        def close(self) -> None:
            """Nothing is open."""

    scenes = quick_pipeline.scenes(Source(), Intrinsics.assumed(WIDTH, HEIGHT))
    return [Moment(info, scene, 1e9 + scene.frame.time_s, 0.05, 0.0, 0, 0) for scene in scenes]


def at(moment: Moment, time_s: float, index: int) -> Moment:
    """The same people at another time."""
    scene = moment.scene
    frame = Frame(index, time_s, scene.frame.rgb)
    return replace(moment, scene=replace(scene, frame=frame, bodies=replace(scene.bodies, frame=index, time_s=time_s)))


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# ---- nobody is waited for ---------------------------------------------------------------------------------------------------


class Slow:
    """A sink that can be held up."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.frames: list[int] = []
        self.closed = False

    def write(self, moment: Moment) -> None:
        self.go_on.wait()
        self.frames.append(moment.scene.frame.index)

    def close(self) -> None:
        self.closed = True


@pytest.mark.clock
def test_a_stuck_output_holds_nobody_up_and_gets_the_newest(moments, caplog):
    slow = Slow()
    sink = BackgroundSink(slow, "slow", size=3)
    begun_s = time.monotonic()
    for moment in moments:
        sink.write(moment)
    assert time.monotonic() - begun_s < 0.5
    slow.go_on.set()
    sink.close()
    assert slow.closed
    assert slow.frames[-3:] == [FRAMES - 3, FRAMES - 2, FRAMES - 1]
    assert len(slow.frames) + sink.dropped == FRAMES
    assert sum("slow does not keep up" in record.getMessage() for record in caplog.records) == 1
    assert f"slow: {sink.dropped} results were left out" in caplog.text


@pytest.mark.clock
def test_an_output_that_never_comes_back_is_left_behind_at_the_end(moments, caplog):
    slow = Slow()
    sink = BackgroundSink(slow, "stuck", size=2, patience_s=0.2)
    sink.write(moments[0])
    begun_s = time.monotonic()
    sink.close()
    assert time.monotonic() - begun_s < 2
    assert "stuck did not end within" in caplog.text
    slow.go_on.set()


@pytest.mark.clock
def test_what_an_output_raises_is_raised_to_the_run(moments):
    class Full(Slow):
        def write(self, moment: Moment) -> None:
            raise MchmrError("disk full")

    full = Full()
    sink = BackgroundSink(full, "full", size=2)
    sink.write(moments[0])
    wait_for(lambda: full.closed)
    time.sleep(0.05)
    with pytest.raises(MchmrError, match="disk full"):
        sink.write(moments[0])


# ---- MQTT -------------------------------------------------------------------------------------------------------------------


class Broker:
    """Mosquitto on loopback, with a configuration and a port of its own; can be killed and started again."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._command = ["mosquitto", "-c", str(folder / "broker.conf")]
        (folder / "broker.conf").write_text("\n".join([f"listener {self.port} 127.0.0.1", *lines]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self._listens, 20)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It stays connected and takes nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[..., Broker]]:
    if shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") is None:
        skip_without("mosquitto", "no MQTT broker here (apt: mosquitto)")
    started: list[Broker] = []

    def start(*lines: str) -> Broker:
        started.append(Broker(tmp_path, *lines))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.kill()


class Subscriber:
    """Somebody else who listens to everything."""

    def __init__(self, broker: Broker, prepare: Callable[[Any], None] = lambda _: None) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.heard: list[tuple[str, bytes, bool]] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        prepare(self._client)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_message = lambda _client, _data, message: self.heard.append((message.topic, message.payload, message.retain))
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def on(self, topic: str) -> list[bytes]:
        return [payload for heard, payload, _ in list(self.heard) if heard == topic]

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_broker_gets_every_line_and_whether_we_are_there(broker, moments):
    running = broker("allow_anonymous true")
    subscriber = Subscriber(running)
    sink = MqttSink(f"mqtt://127.0.0.1:{running.port}/studio/a", MqttSettings(qos=1, retain=True))
    for moment in moments:
        sink.write(moment)
    wait_for(lambda: len(subscriber.on("studio/a/bodies/cam-1")) == FRAMES, 20)
    assert [line.decode() for line in subscriber.on("studio/a/bodies/cam-1")] == [moment_line(moment) for moment in moments]
    sink.close()
    wait_for(lambda: subscriber.on("studio/a/status") == [b"online", b"offline"], 20)
    subscriber.stop()
    later = Subscriber(running)
    wait_for(lambda: len(later.heard) == 2, 20)
    assert sorted(later.heard) == [
        ("studio/a/bodies/cam-1", moment_line(moments[-1]).encode(), True),
        ("studio/a/status", b"offline", True),
    ]
    later.stop()


@pytest.mark.clock
def test_a_broker_that_goes_away_holds_nobody_up_and_is_found_again(broker, moments, caplog):
    running = broker("allow_anonymous true")
    subscriber = Subscriber(running)
    inner = MqttSink(f"mqtt://127.0.0.1:{running.port}", MqttSettings(longest_pause_s=1))
    sink = BackgroundSink(inner, "broker", size=2)
    longest_s, index = 0.0, 0

    def send(until: Callable[[], object]) -> None:
        nonlocal longest_s, index
        give_up_s = time.monotonic() + 40
        while not until():
            assert time.monotonic() < give_up_s, "waited in vain"
            begun_s = time.monotonic()
            sink.write(at(moments[0], index / 30, index))
            longest_s, index = max(longest_s, time.monotonic() - begun_s), index + 1
            time.sleep(0.02)

    send(lambda: len(subscriber.on("mchmr/bodies/cam-1")) > 5)
    running.kill()
    stopped = index
    send(lambda: index > stopped + 60)
    running.start()
    send(lambda: json.loads(subscriber.on("mchmr/bodies/cam-1")[-1])["frame"] > stopped + 60)
    running.freeze()
    frozen = index
    send(lambda: index > frozen + 200)
    running.thaw()
    send(lambda: json.loads(subscriber.on("mchmr/bodies/cam-1")[-1])["frame"] > frozen + 200)
    assert longest_s < 0.5
    assert sink.dropped > 30
    sink.close()
    subscriber.stop()
    assert sum("trying again" in record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING) == 1


@pytest.mark.clock
def test_a_killed_program_is_reported_offline_by_the_broker(broker):
    running = broker("allow_anonymous true")
    subscriber = Subscriber(running)
    program = (
        "import sys, time; from mchmr_stream.sinks.mqtt import MqttSink; from mchmr_stream.config import MqttSettings\n"
        "sink = MqttSink(sys.argv[1], MqttSettings()); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, f"mqtt://127.0.0.1:{running.port}"])
    wait_for(lambda: subscriber.on("mchmr/status") == [b"online"], 30)
    process.kill()
    process.wait()
    wait_for(lambda: subscriber.on("mchmr/status") == [b"online", b"offline"], 30)
    subscriber.stop()


def test_tls_and_a_password_that_is_never_said(broker, moments, tmp_path, monkeypatch, caplog):
    if shutil.which("openssl") is None or shutil.which("mosquitto_passwd") is None:
        skip_without("mosquitto", "openssl and mosquitto_passwd make certificates and passwords")
    caplog.set_level(logging.DEBUG)
    authority, server, client = (certificate(tmp_path, name, "authority") for name in ("authority", "server", "client"))
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(tmp_path / "users"), "me", "s3cret"], check=True)
    for file in (server[1], tmp_path / "users"):
        file.chmod(0o644)  # the broker gives up root's rights
    tmp_path.chmod(0o755)
    running = broker(
        "allow_anonymous false", f"password_file {tmp_path / 'users'}", f"cafile {authority[0]}", f"certfile {server[0]}",
        f"keyfile {server[1]}", "require_certificate true", f"user {os.environ.get('USER', 'root')}",
    )  # fmt: skip
    trusted = {"ca_file": authority[0], "cert_file": client[0], "key_file": client[1]}

    def prepare(other: Any) -> None:
        other.tls_set(*(str(path) for path in (authority[0], *client)))
        other.username_pw_set("me", "s3cret")

    subscriber = Subscriber(running, prepare)
    where = f"mqtts://127.0.0.1:{running.port}"
    (tmp_path / "password").write_text("s3cret\n")
    sink = MqttSink(where, MqttSettings(username="me", password_file=tmp_path / "password", **trusted))
    wait_for(lambda: subscriber.on("mchmr/status"), 20)
    sink.write(moments[0])
    wait_for(lambda: subscriber.on("mchmr/bodies/cam-1"), 20)
    sink.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    monkeypatch.setenv(PASSWORD, "wr0ng")
    sink = MqttSink(where, MqttSettings(username="me", **trusted))
    wait_for(lambda: "the broker refuses" in caplog.text, 20)
    sink.write(moments[0])
    sink.close()
    assert sink.lost == 1
    sink = MqttSink(where, MqttSettings(username="me"))  # nobody vouches for this broker, as far as the system knows
    wait_for(lambda: "certificate verify failed" in caplog.text, 20)
    sink.close()
    subscriber.stop()
    assert "s3cret" not in caplog.text
    assert "wr0ng" not in caplog.text


@pytest.mark.parametrize("where", ["127.0.0.1", "http://x", "mqtt://me:s3cret@host", "mqtt://host:port", "mqtt://host/a/#"])
def test_an_address_that_is_no_brokers_is_refused_without_its_password(where):
    with pytest.raises(UsageError, match="expected mqtt://HOST") as error:
        MqttSink(where, MqttSettings())
    assert "s3cret" not in str(error.value)


# ---- OSC --------------------------------------------------------------------------------------------------------------------


@pytest.mark.clock
def test_osc_messages_say_what_the_scene_says(moments):
    from pythonosc.dispatcher import Dispatcher
    from pythonosc.osc_server import ThreadingOSCUDPServer

    heard: dict[str, tuple[Any, ...]] = {}
    dispatcher = Dispatcher()
    dispatcher.set_default_handler(lambda address, *values: heard.__setitem__(address, values))
    with ThreadingOSCUDPServer(("127.0.0.1", 0), dispatcher) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sink = OscSink(f"127.0.0.1:{server.server_address[1]}")
        moment = moments[-1]
        sink.write(moment)
        scene = moment.scene
        expected = 1 + len(scene) * (2 + 2 * len(JOINT_NAMES))
        wait_for(lambda: len(heard) == expected, 10)
        sink.close()
        wait_for(lambda: "/mchmr/cam-1/gone" in heard, 10)
        server.shutdown()
    assert len(scene) == 2
    assert heard["/mchmr/cam-1/frame"] == (FRAMES - 1, pytest.approx(scene.bodies.time_s), 2)
    for row, identity in enumerate(scene.bodies.track_id.tolist()):
        person = f"/mchmr/cam-1/person/{identity}"
        np.testing.assert_allclose(heard[f"{person}/box"], scene.bodies.boxes_xyxy_px[row], rtol=1e-6)
        joints_m = np.array([heard[f"{person}/joint/{name}"] for name in JOINT_NAMES])
        np.testing.assert_allclose(joints_m, scene.joints_m[row], atol=1e-5)
        turns = Rotation.from_quat([heard[f"{person}/rotation/{name}"] for name in JOINT_NAMES]).as_matrix()
        np.testing.assert_allclose(turns[0], scene.bodies.global_orient[row], atol=1e-5)
        np.testing.assert_allclose(turns[1:], scene.bodies.body_pose[row], atol=1e-5)


@pytest.mark.clock
def test_osc_datagrams_are_bundles_that_fit_and_people_who_leave_are_named(moments):
    """Read by hand, from the OSC 1.0 specification: a second reader."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("127.0.0.1", 0))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        reader.settimeout(5)
        sink = OscSink(f"127.0.0.1:{reader.getsockname()[1]}")
        sink.write(moments[-1])
        scene = moments[-1].scene
        only = replace(scene.bodies, **{name: getattr(scene.bodies, name)[:1] for name in ROWS})
        sink.write(replace(moments[-1], scene=replace(scene, bodies=only, joints_m=scene.joints_m[:1], joints_px=scene.joints_px[:1])))
        sink.close()
        heard: list[tuple[str, list[float]]] = []
        while sum(address == "/mchmr/cam-1/gone" for address, _ in heard) < 2:
            datagram = reader.recv(65536)
            assert len(datagram) <= MOST_BYTES
            heard += parsed(datagram)
    identities = scene.bodies.track_id.tolist()
    assert [values for address, values in heard if address.endswith("/gone")] == [[identities[1]], [identities[0]]]
    assert [values[2] for address, values in heard if address.endswith("/frame")] == [2, 1]
    wrists = [values for address, values in heard if address == f"/mchmr/cam-1/person/{identities[0]}/joint/left_wrist"]
    np.testing.assert_allclose(wrists, [scene.joints_m[0, JOINT_NAMES.index("left_wrist")]] * 2, atol=1e-5)


ROWS = (
    "track_id", "boxes_xyxy_px", "scores", "keypoints_px", "global_orient", "body_pose", "betas", "transl", "views_cam", "confidence",
    "interpolated",
)  # fmt: skip


def parsed(bundle: bytes) -> list[tuple[str, list[float]]]:
    assert bundle[:8] == b"#bundle\0"
    assert bundle[8:16] == bytes(7) + b"\1"  # at once
    found, place = [], 16
    while place < len(bundle):
        (size,) = struct.unpack_from(">i", bundle, place)
        content = bundle[place + 4 : place + 4 + size]
        address = content[: content.index(b"\0")].decode()
        tags_at = len(address) // 4 * 4 + 4
        tags = content[tags_at : content.index(b"\0", tags_at)].decode()
        values_at = tags_at + len(tags) // 4 * 4 + 4
        found.append((address, list(struct.unpack_from(">" + tags[1:], content, values_at))))
        place += 4 + size
    return found


def test_osc_to_nobody_is_no_trouble_and_a_bad_address_is(moments):
    sink = OscSink(f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}")
    for moment in moments:
        sink.write(moment)
    sink.close()
    assert sink.lost == 0
    for where in ("127.0.0.1", "127.0.0.1:70000", "127.0.0.1:0", ":9000", "::1:9000", "no.such.host.invalid:9000"):
        with pytest.raises(UsageError, match="--osc"):
            OscSink(where)


# ---- recording --------------------------------------------------------------------------------------------------------------


def numbers(container: av.container.InputContainer) -> list[tuple[float, int]]:
    """Time and number of every picture."""
    pictures = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    return [(time_s, media.read_counter(picture[:STRIP_PX])) for time_s, picture in pictures]


def test_a_recording_keeps_the_times_and_shows_the_bodies(moments, tmp_path):
    sink = VideoRecordingSink(str(tmp_path / "{source}_{time}.mp4"), sources=2)
    for moment in moments:
        sink.write(moment)
        sink.write(replace(moment, source=replace(moment.source, name="cam 2")))
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cam-1_20010909T014645Z.mp4", "cam-2_20010909T014645Z.mp4"]
    with av.open(str(tmp_path / "cam-1_20010909T014645Z.mp4")) as written:
        seen = numbers(written)
    first_s = moments[0].scene.frame.time_s
    assert [number for _, number in seen] == list(range(FRAMES))
    np.testing.assert_allclose([time_s for time_s, _ in seen], [moment.scene.frame.time_s - first_s for moment in moments], atol=1e-3)
    with av.open(str(tmp_path / "cam-1_20010909T014645Z.mp4")) as written:
        *_, last = written.decode(video=0)
    changed = np.abs(last.to_ndarray(format="rgb24").astype(int) - moments[-1].scene.frame.rgb)[STRIP_PX:].max(-1) > 40
    assert changed.mean() > 0.02
    with pytest.raises(UsageError, match="a name for each"):
        VideoRecordingSink("out.mp4", sources=2)
    with pytest.raises(UsageError, match="expected FILE.mp4"):
        VideoRecordingSink("out.avi", sources=1)
    (tmp_path / "there.mp4").touch()
    with pytest.raises(UsageError, match="exists; choose another name"):
        VideoRecordingSink(str(tmp_path / "there.mp4"), sources=1)


def test_a_recording_can_be_played_after_its_writer_was_killed(live_yaml, tmp_path):
    where = tmp_path / "killed.mp4"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    source = "lavfi:testsrc2=size=160x120:rate=30"
    command = [sys.executable, "-m", "mchmr_stream", "live", source, "--no-page", "--config", str(live_yaml), "--record", str(where)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    wait_for(lambda: where.exists() and where.stat().st_size > 8_000)
    process.kill()
    process.wait()
    with av.open(str(where)) as written:
        pictures = list(written.decode(video=0))
    assert len(pictures) > 5


@pytest.fixture(scope="module")
def live_yaml(quick_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "quick.yaml"
    path.write_text(settings_yaml(quick_settings))
    return path


RTMP_SERVER = """
import sys, av
sys.path.insert(0, sys.argv[2])
import media
with av.open(sys.argv[1], options={"listen": "1"}, timeout=(60, 20)) as container:
    for frame in container.decode(video=0):
        print(frame.time, media.read_counter(frame.to_ndarray(format="rgb24")[:16]), flush=True)
"""


class RtmpServer:
    """libav, as the server that a publisher connects to; prints what it gets. Every start takes one publisher."""

    def __init__(self) -> None:
        self.url = f"rtmp://127.0.0.1:{free_port()}/live/s3cretkey"
        self.got: list[tuple[float, int]] = []
        self.ends: list[int] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", RTMP_SERVER, self.url, str(HELPERS)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def signal(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self.ends.append(len(self.got))

    def _read(self, lines: Any) -> None:
        for line in lines:
            time_s, number = line.split()
            self.got.append((float(time_s), int(number)))


@pytest.mark.clock
def test_a_streaming_server_that_goes_away_or_stalls_is_found_again(moments, caplog, monkeypatch):
    from mchmr_stream.sinks import video_recording
    from mchmr_stream.video_encoding import push

    monkeypatch.setattr(push, "STALL_S", 1.0)
    monkeypatch.setattr(video_recording, "LONGEST_PAUSE_S", 0.5)
    caplog.set_level(logging.INFO, logger="mchmr_stream")  # a loss soon after the one before is not warned of again
    server = RtmpServer()
    noise = np.random.default_rng(0)
    sink = BackgroundSink(VideoRecordingSink(server.url, sources=1), "server", size=8, patience_s=10)
    begun_s, longest_s, index = time.monotonic(), 0.0, 0

    def send(until: Callable[[], object]) -> None:
        nonlocal longest_s, index
        give_up_s = time.monotonic() + 180
        while not until():
            assert time.monotonic() < give_up_s, "waited in vain"
            before_s = time.monotonic()
            # (noise, so that what the kernel holds for a stalled server is soon full)
            rgb = noise.integers(0, 256, (480, 640, 3), dtype=np.uint8)
            rgb[:STRIP_PX] = media.counter_picture(index % 256, 640, STRIP_PX)
            empty = at(moments[0], before_s - begun_s, index)
            nobody = replace(empty.scene.bodies, **{name: getattr(empty.scene.bodies, name)[:0] for name in ROWS})
            frame = Frame(index, before_s - begun_s, rgb)
            none = np.zeros((0, 24, 3), np.float32)
            scene = replace(empty.scene, bodies=nobody, frame=frame, joints_m=none, joints_px=none[..., :2])
            before_s = time.monotonic()
            sink.write(replace(empty, scene=scene))
            longest_s, index = max(longest_s, time.monotonic() - before_s), index + 1
            time.sleep(0.03)

    send(lambda: index > 20)  # nobody is there yet
    server.start()
    send(lambda: len(server.got) > 10)
    server.signal(signal.SIGSTOP)
    frozen = index
    send(lambda: index > frozen + 10 and sum("takes nothing" in record.getMessage() for record in caplog.records))
    server.stop()
    server.start()
    send(lambda: len(server.got) > server.ends[-1] + 10)
    server.stop()
    sink.close()
    assert longest_s < 0.5
    before, after = server.got[: server.ends[0]], server.got[server.ends[0] :]
    assert after[0][0] > before[-1][0] + 1  # the clock went on while it was away
    assert all(later >= earlier for (earlier, _), (later, _) in pairwise(after))
    assert "s3cretkey" not in caplog.text
    assert sink.dropped == 0 or "does not keep up" in caplog.text


@pytest.mark.clock
def test_rtsp_takes_the_pictures(moments, caplog):
    if not Path(SYSTEM_PYTHON).exists():
        skip_without("gstreamer", "no system Python with GStreamer here")
    port = free_port()
    server = subprocess.Popen([SYSTEM_PYTHON, "-c", RTSP_TAKER, str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    if server.stdout.readline().strip() != "up":
        server.wait()
        skip_without("gstreamer", "no GStreamer RTSP server here (apt: gir1.2-gst-rtsp-server-1.0)")
    frames = 0

    def count() -> None:
        nonlocal frames
        for _ in server.stdout or ():
            frames += 1

    threading.Thread(target=count, daemon=True).start()
    sink = VideoRecordingSink(f"rtsp://127.0.0.1:{port}/bodies", sources=1)
    try:
        for index in range(600):
            sink.write(at(moments[0], index / 30, index))
            time.sleep(0.03)
            if frames > 10:
                break
    finally:
        sink.close()
        server.kill()
        server.wait()
    assert frames > 10, caplog.text


RTSP_TAKER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server, taker = GstRtspServer.RTSPServer(), GstRtspServer.RTSPMediaFactory()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
taker.set_launch("( rtph264depay name=depay0 ! h264parse ! avdec_h264 ! fakesink name=end signal-handoffs=true sync=false )")
taker.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
taker.connect("media-configure", lambda _, media: media.get_element().get_by_name("end").connect(
    "handoff", lambda *_: print("frame", flush=True)))
server.get_mount_points().add_factory("/bodies", taker)
server.attach(None); print("up", flush=True); GLib.MainLoop().run()
"""


def test_the_command_takes_them_all_together(live_yaml, tmp_path, capsys):
    record = tmp_path / "out.mp4"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader:
        reader.bind(("127.0.0.1", 0))
        reader.settimeout(5)
        arguments = [
            "live",
            "lavfi:testsrc2=size=160x120:rate=30:duration=4",
            "--config",
            str(live_yaml),
            "--restart",
            "never",
            "--no-page",
        ]
        arguments += ["--mqtt", f"mqtt://127.0.0.1:{free_port()}", "--osc", f"127.0.0.1:{reader.getsockname()[1]}", "--record", str(record)]
        assert main(arguments) == 0
        assert parsed(reader.recv(65536))[0][0].endswith("/frame")
    with av.open(str(record)) as written:
        assert len(list(written.decode(video=0))) > 1
    assert "cannot be reached" in capsys.readouterr().err
    assert main(["live", "lavfi:testsrc2", "--no-page", "--config", str(live_yaml), "--record", str(record)]) == 2

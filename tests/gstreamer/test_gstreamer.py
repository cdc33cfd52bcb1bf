"""The element in real GStreamer: its own loader, gst-launch-1.0, and applications (tests/helpers/gst_app.py)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import av
import media
import numpy as np
import pytest
from components import import_or_skip, skip_without
from people import FPS, HEIGHT, WIDTH, people_pictures
from places import HELPERS, ROOT

import mchmr_stream
from mchmr_stream.cli import main
from mchmr_stream.cli.print_config import settings_yaml
from mchmr_stream.config import Settings, settings_from
from mchmr_stream.errors import MissingPart

FRAMES = 24
SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What docs/gstreamer.md says for a virtual environment: one of the system's Python, first on PATH, and GST_PLUGIN_PATH."""
    if shutil.which("gst-launch-1.0") is None:
        skip_without("gstreamer", "GStreamer's tools are not installed (docs/gstreamer.md names the packages)")
    probe = 'import sys, gi; gi.require_version("Gst", "1.0"); from gi.repository import Gst; print(*sys.version_info[:2])'
    found = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, text=True, check=False)
    if found.returncode:
        skip_without("gstreamer", f"{SYSTEM_PYTHON} has no GStreamer bindings (see docs/gstreamer.md): {found.stderr[-200:]}")
    if found.stdout.split() != [str(number) for number in sys.version_info[:2]]:
        skip_without(
            "gstreamer",
            f"GStreamer's Python is {found.stdout.split()}, these tests run on {sys.version_info[:2]}: it cannot use their packages",
        )
    folder = tmp_path_factory.mktemp("gstreamer")
    subprocess.run([SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", "--without-pip", folder / "venv"], check=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    packages.joinpath("installed.pth").write_text(sysconfig.get_path("purelib") + "\n")  # in place of `pip install mchmr-stream`
    package = Path(mchmr_stream.__file__).parents[1]
    return {
        **os.environ,
        "PATH": f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": f"{package}{os.pathsep}{HELPERS}",
        "GST_PLUGIN_PATH": str(package / "mchmr_stream" / "gstreamer" / "plugins"),
        "GST_REGISTRY": str(folder / "registry.bin"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = people_pictures(FRAMES, [((-0.6, 0.3, 4.0), (0.0, 0.3, 4.0)), ((0.9, 0.3, 4.5), (0.9, 0.3, 4.5))])
    return media.write_video(tmp_path_factory.mktemp("clip") / "people.mp4", pictures, fps=FPS)


@pytest.fixture(scope="module")
def config(quick_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network of the other tests; `.causal` beside it has the smoother without look-ahead."""
    path = tmp_path_factory.mktemp("config") / "quick.yaml"
    path.write_text(settings_yaml(quick_settings))
    causal = settings_from({**quick_settings.model_dump(), "smoother": {"kind": "causal"}})
    path.with_name("quick.yaml.causal").write_text(settings_yaml(causal))
    return path


def launch(environment: dict[str, str], line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["gst-launch-1.0", "-e", *line.split()], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def app(environment: dict[str, str], clip: Path, config: Path) -> Any:
    """Run one case of gst_app.py and return what it printed."""

    def run(case: str) -> dict[str, Any]:
        command = [
            str(Path(environment["PATH"].split(os.pathsep)[0]) / "python3"),
            str(HELPERS / "gst_app.py"),
            case,
            str(clip),
            str(config),
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_the_path_that_is_printed_holds_the_loader_shim(capsys: pytest.CaptureFixture[str]):
    assert main(["gst-path"]) == 0
    assert (Path(capsys.readouterr().out.strip()) / "python" / "mchmr.py").is_file()


def test_file_to_file_keeps_count_and_times_draws_bodies_and_finishes_the_mp4(environment, clip, config, tmp_path):
    done = launch(
        environment,
        f"filesrc location={clip} ! decodebin ! videoconvert ! mchmr name=m config={config} ! queue ! videoconvert ! "
        f"x264enc speed-preset=ultrafast qp-min=1 qp-max=8 ! mp4mux ! filesink location={tmp_path}/out.mp4 "
        f"m.json ! queue ! filesink location={tmp_path}/out.jsonl",
    )
    assert done.returncode == 0, done.stderr
    with av.open(str(clip)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in before.decode(video=0)]
        drawn = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in after.decode(video=0)]
    assert len(drawn) == len(frames) == FRAMES
    np.testing.assert_allclose([time_s for time_s, _ in drawn], [time_s for time_s, _ in frames], atol=1e-3)
    differences = [np.abs(a[1].astype(int) - b[1]).mean() for a, b in zip(frames, drawn, strict=True)]
    assert np.median(differences) > 2
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["time_s"] for line in lines], [time_s for time_s, _ in frames], atol=1e-3)
    assert [line["frame"] for line in lines] == list(range(FRAMES))
    assert all((line["width"], line["height"]) == (WIDTH, HEIGHT) for line in lines)
    assert sorted({person["id"] for line in lines for person in line["people"]}) == [1, 2]
    assert len(lines[-1]["people"]) == 2
    assert np.shape(lines[-1]["people"][0]["body_pose"]) == (23, 3)


@pytest.mark.parametrize("text", ["crops: {vews: 3}", "not: [yaml"])
def test_a_bad_config_is_an_error_on_the_bus_and_a_failure_of_gst_launch(environment, tmp_path, text):
    (tmp_path / "bad.yaml").write_text(text)
    done = launch(environment, f"videotestsrc num-buffers=5 ! videoconvert ! mchmr config={tmp_path}/bad.yaml ! fakesink")
    assert done.returncode != 0
    assert "ERROR" in done.stderr
    assert ("did you mean crops.views" in done.stderr) == text.startswith("crops")


def test_metadata_survives_conversion_and_is_read_by_another_element(app):
    outcome = app("metadata")
    assert outcome["error"] is None
    assert len(outcome["read"]) == FRAMES
    assert [result["pts_ns"] for _, result in outcome["read"]] == [pts for pts, _ in outcome["read"]]
    assert len(outcome["read"][-1][1]["people"]) == 2
    assert all(result["unique_id"] == 0 for _, result in outcome["read"])
    assert all(result["unique_id"] == 7 and len(result["people"]) <= 1 for result in outcome["second"])
    assert outcome["second"][-1]["people"]
    assert [pts for pts, _ in outcome["posted"]] == [pts for pts, _ in outcome["read"]]
    assert [line for _, line in outcome["posted"]] == [result for _, result in outcome["read"]]


def test_every_format_is_painted_where_people_are_and_nowhere_else(app):
    outcome = app("formats")
    assert len(outcome) == 5
    for name, seen in outcome.items():
        assert seen["error"] is None, name
        assert seen["frames"] == FRAMES, name
        assert f"format=(string){name.split()[0]}" in seen["caps"]
        assert min(seen["changed"][-10:]) > 1000, name
        assert seen["outside"] == 0, name
        # The same colour whatever the format: channels are not swapped, and the matrix is the right one.
        np.testing.assert_allclose(seen["colour"], outcome["RGB 322"]["colour"], atol=20)


def test_seeking_flushes_and_begins_anew(app):
    outcome = app("seek")
    assert outcome["error"] is None
    assert [result["frame"] for result in outcome["first"]] == list(range(12))
    times = [result["time_s"] for result in outcome["second"]]
    assert times == sorted(times)
    assert times[0] == pytest.approx(0.4, abs=1 / FPS)
    assert len(times) == FRAMES - round(times[0] * FPS)
    before = {person["id"] for result in outcome["first"] for person in result["people"]}
    after = {person["id"] for result in outcome["second"] for person in result["people"]}
    assert before
    assert after
    assert not before & after
    assert len(outcome["reverse"]) > 5
    assert outcome["reverse"] == sorted(outcome["reverse"], reverse=True)


def test_it_can_be_started_again_and_every_branch_is_told_anew_what_comes(app):
    outcome = app("restarts")
    stream = ["stream-start", "caps", "segment", *["line"] * 4, "eos"]
    for name in ("first", "from null", "from ready"):
        error, said = outcome[name]
        assert error is None, name
        assert said == stream, name
    assert outcome["without stopping"] == 2 * ["stream-start", "caps", "segment", "line", "line", "eos"]


def test_caps_changes_and_events_keep_their_place(app):
    outcome = app("changes")
    pts = [number * 100_000_000 for number in range(9)]
    assert outcome["order"] == ["caps", "segment", *pts[:3], "custom-downstream", "segment", *pts[3:6], "caps", *pts[6:], "eos"]
    assert outcome["sizes"] == [[64, 48]] * 6 + [[48, 64]] * 3


@pytest.mark.clock
def test_latency_is_declared_and_late_frames_are_dropped_when_a_sink_says_so(app):
    outcome = app("live")
    assert outcome["two-sided"] - outcome["causal"] == pytest.approx(0.5 + 1 / 30, abs=0.15)
    assert outcome["two-sided"] >= 0.5 + 1 / 30
    assert outcome["two-sided end"] == outcome["causal end"] == "eos"
    # The sink was 0.25 s late at 0.5 s: go on from 1 s. One or two frames may have been in before it said so.
    assert outcome["qos messages"] + len(outcome["left"]) == 40
    assert outcome["left"][-10:] == [number * 1_000_000_000 // 30 for number in range(30, 40)]
    assert 27 <= outcome["qos messages"] <= 30


def test_errors_arrive_on_the_bus(app):
    outcome = app("failures")
    assert "the detector broke" in outcome["broken"]
    assert "Traceback" in outcome["debug"]
    assert outcome["threads"] == []
    assert "meta is 'everything'" in outcome["unknown meta"][1]
    assert "/nowhere.yaml" in outcome["no config"][1]
    assert outcome["unknown meta"][0] == outcome["no config"][0] == "failure"
    assert outcome["views"] == ["async", None]


def test_analytics_say_the_same_as_the_lines(app):
    outcome = app("analytics")
    if outcome is None:
        pytest.skip("this GStreamer has no analytics metadata: 1.24 is needed")
    assert outcome["error"] is None
    assert outcome["tracks"] == [person["id"] for person in outcome["people"]]
    for (kind, x, y, width, height), person in zip(outcome["boxes"], outcome["people"], strict=True):
        assert kind == "person"
        np.testing.assert_allclose([x, y, x + width, y + height], person["box_xyxy_px"], atol=1)


def test_pixels_that_are_not_square_are_made_so(app):
    outcome = app("square")
    assert outcome["error"] is None
    width, height = (int(outcome["caps"].split(f"{side}=(int)")[1].split(",")[0]) for side in ("width", "height"))
    assert width / height == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    assert outcome["width"] == width


def test_views_change_while_it_plays(app):
    outcome = app("adjusting")
    assert outcome["frames"] == FRAMES
    assert outcome["views"][0] == 1
    assert outcome["views"][-1] == 2
    assert outcome["views"] == sorted(outcome["views"])


def test_the_network_on_a_triton_server_gives_what_it_gives_here(environment, clip, config, quick_settings, tmp_path):
    import_or_skip("tritonclient.grpc")
    from mchmr_stream.network.weights import load_network
    from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
    from mchmr_stream.serving.server_metrics import prometheus_metrics
    from mchmr_stream.serving.tritonserver import TritonServer
    from mchmr_stream.serving.tritonserver_binary import find_tritonserver

    try:
        binary = find_tritonserver()
    except MissingPart as error:
        skip_without("tritonserver", str(error))
    weights = quick_settings.network.weights
    options = ModelOptions(device="cpu", precision="fp32", threads=1, prepared_views=1)
    write_python_repository(tmp_path / "models", load_network(weights), weights, options)
    line = f"filesrc location={clip} ! decodebin ! videoconvert ! mchmr name=m config={config} draw=false"
    with TritonServer(binary, tmp_path / "models") as server:
        server.wait()
        for name, triton in (("here", ""), ("there", f"triton={server.grpc_address}")):
            done = launch(environment, f"{line} {triton} ! queue ! fakesink m.json ! queue ! filesink location={tmp_path}/{name}.jsonl")
            assert done.returncode == 0, done.stderr
        requests = prometheus_metrics(server.metrics_url)['nv_inference_request_success{model="mchmr",version="1"}']
    here, there = ([json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()] for name in ("here", "there"))
    assert len(here) == len(there) == FRAMES
    assert requests >= sum(bool(line["people"]) for line in there)
    for one, other in zip(here, there, strict=True):
        assert [person["id"] for person in one["people"]] == [person["id"] for person in other["people"]]
        for a, b in zip(one["people"], other["people"], strict=True):
            np.testing.assert_allclose(a["joints_m"], b["joints_m"], atol=2e-3)


# ---- the lines of docs/gstreamer.md ---------------------------------------------------------------------------------------

DOCUMENT = ROOT / "docs" / "gstreamer.md"
DOCUMENTED = [
    line
    for block in DOCUMENT.read_text().split("```sh\n")[1:]
    for line in block.split("```")[0].replace("\\\n", " ").splitlines()
    if line.startswith("gst-launch-1.0")
]


def documented(what: str, config: Path, folder: Path, clip: Path) -> list[str]:
    """The line that holds `what`, with what this machine has in the place of cameras, windows and files."""
    (line,) = [line for line in DOCUMENTED if what in line]
    replacements = {
        "clip.mp4": str(clip),
        "=out.": f"={folder}/out.",
        "config=live.yaml": f"config={config}.causal",
        "! mchmr !": f"! mchmr config={config} !",
        "mchmr name=m": f"mchmr name=m config={config}",
        "v4l2src": "videotestsrc is-live=true num-buffers=40",
        "device=/dev/video0": "! video/x-raw,framerate=30/1",
        "device=/dev/video1": "! video/x-raw,framerate=30/1",
        "autovideosink": "fakesink sync=true",
    }
    for old, new in replacements.items():
        line = line.replace(old, new)
    return shlex.split(line)


def test_every_documented_line_is_run_here():
    assert len(DOCUMENTED) == 5


@pytest.mark.parametrize("what", ["mp4mux", "m.json", "views=3", "unique-id=2"])
def test_documented_lines_work(what, environment, config, clip, tmp_path):
    command = documented(what, config, tmp_path, clip)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    if what == "mp4mux":
        with av.open(str(tmp_path / "out.mp4")) as written:
            assert len(list(written.decode(video=0))) == FRAMES
    if what == "m.json":
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == FRAMES


RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gst, GstRtspServer, GLib
Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1"); server.set_service(sys.argv[1])
camera, taker = GstRtspServer.RTSPMediaFactory(), GstRtspServer.RTSPMediaFactory()
camera.set_launch("( videotestsrc is-live=true ! video/x-raw,width=160,height=120,framerate=15/1 ! "
                  "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 )")
taker.set_launch("( rtph264depay name=depay0 ! h264parse ! avdec_h264 ! fakesink name=end signal-handoffs=true sync=false )")
taker.set_transport_mode(GstRtspServer.RTSPTransportMode.RECORD)
for factory in (camera, taker):
    factory.set_shared(True)
def count(_, media):
    media.get_element().get_by_name("end").connect("handoff", lambda *_: print("frame", flush=True))
taker.connect("media-configure", count)
mounts = server.get_mount_points(); mounts.add_factory("/cam", camera); mounts.add_factory("/bodies", taker)
server.attach(None); print("up", flush=True); GLib.MainLoop().run()
"""


@pytest.fixture
def rtsp_server(environment: dict[str, str]) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A camera at /cam, and at /bodies somebody who takes a stream and prints a line for every picture of it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([SYSTEM_PYTHON, "-c", RTSP_SERVER, str(port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    if server.stdout.readline().strip() != "up":
        server.wait()
        skip_without("gstreamer", "no GStreamer RTSP server here (apt: gir1.2-gst-rtsp-server-1.0)")
    yield port, server
    server.kill()
    server.communicate()


@pytest.mark.slow
def test_the_documented_rtsp_line_works(environment, config, clip, tmp_path, rtsp_server):
    if (
        shutil.which("gst-inspect-1.0")
        and subprocess.run(["gst-inspect-1.0", "rtspclientsink"], capture_output=True, check=False).returncode
    ):
        skip_without("gstreamer", "no rtspclientsink here (apt: gstreamer1.0-rtsp)")
    port, server = rtsp_server
    command = [part.replace(":8554", f":{port}") for part in documented("rtspclientsink", config, tmp_path, clip)]
    launched = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        watchdog = threading.Timer(120, server.kill)  # ends the reading of lines, should none come
        watchdog.start()
        pictures = len(list(islice(server.stdout, 20)))
        watchdog.cancel()
    finally:
        launched.send_signal(signal.SIGINT)
        _, said = launched.communicate(timeout=60)
    assert pictures == 20, said
    assert "ERROR" not in said

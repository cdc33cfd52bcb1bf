"""The page of `mchmr live`: real server, real run, and a real Chromium where there is one."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import av
import media
import numpy as np
import pytest
from components import skip_without
from page_watchers import Watcher, points_and_picture
from people import FPS, people_pictures
from PIL import Image
from waiting import wait_for
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import mchmr_stream
from mchmr_stream.cli import main
from mchmr_stream.cli.print_config import settings_yaml
from mchmr_stream.config import LiveSettings, Settings, settings_from
from mchmr_stream.datatypes import Moment
from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.geometry.camera import project
from mchmr_stream.live.run import LiveRun
from mchmr_stream.sinks.overlay import draw_scene
from mchmr_stream.sinks.recording_session import RecordingSession
from mchmr_stream.web.access import PageAccess
from mchmr_stream.web.live_page import LivePage
from mchmr_stream.web.page_pictures import PagePictures

LOCAL = PageAccess("127.0.0.1", 0, None)
NAMES = {"body_model": "b", "body_model_sha256": "1", "weights": "w", "weights_sha256": "2"}
CHROMIUM = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
CHROMIUM_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP rebound.example 127.0.0.1",
]  # fmt: skip


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []

    def write(self, moment: Moment) -> None:
        self.moments.append(moment)

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Served:
    """A run that goes on, and its page."""

    run: LiveRun
    page: LivePage
    kept: Kept

    def moment(self, source: str, frame: int) -> Moment:
        """The one that was finished, or is about to be."""
        found: list[Moment] = []

        def there() -> bool:
            found.extend(m for m in self.kept.moments if (m.source.name, m.scene.frame.index) == (source, frame))
            return bool(found)

        wait_for(there)
        return found[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = people_pictures(45, [((-0.6, 0.3, 4.0), (0.0, 0.3, 4.0))])
    return media.write_video(tmp_path_factory.mktemp("clip") / "people.mp4", pictures, fps=FPS)


@pytest.fixture(scope="module")
def served(quick_settings: Settings, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    record_to = tmp_path_factory.mktemp("recordings") / "made"
    live = {"page_fps": 8, "page_px": 240, "record_to": str(record_to), "restart": "always"}
    settings = settings_from({**quick_settings.model_dump(), "smoother": {"kind": "causal"}, "live": live})
    with LiveRun([str(clip), "lavfi:testsrc2=size=160x120:rate=5"], settings) as run:
        page, kept = LivePage(run, LOCAL), Kept()
        run.add_sink(page)
        run.add_sink(kept)
        running = threading.Thread(target=run.run)
        running.start()
        wait_for(lambda: any(len(moment.scene) for moment in kept.moments))
        yield Served(run, page, kept)
        run.stop()
        running.join()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    watchers: list[Watcher] = []

    def open_one(url: str, **options: object) -> Watcher:
        watchers.append(Watcher(url, **options))
        return watchers[-1]

    yield open_one
    for watcher in watchers:
        watcher.close()


def get(url: str, path: str = "", **headers: str) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    connection.putrequest("GET", parts.path + path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


# ---- who may come -----------------------------------------------------------------------------------------------------------


def test_all_that_the_page_names_is_served_from_here(served):
    status, headers, page = get(served.page.url)
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert b"//" not in page  # no other host
    for name in ("page.js", "page.css", "vendor/three.min.js", "icon.svg"):
        assert get(served.page.url, name)[0] == 200
    _, headers, packed = get(served.page.url, "vendor/three.min.js", **{"Accept-Encoding": "gzip, br"})
    assert headers["Content-Encoding"] == "gzip"
    assert b"Three.js Authors" in gzip.decompress(packed)
    assert get(served.page.url, "../server.py")[0] == 404
    assert get(served.page.url, "watch")[0] == 426


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:9000"}, 200),  # through a tunnel
        ({"Host": "[::1]"}, 200),
        ({"Host": "rebound.example:8765"}, 403),
        ({"Host": "127.0.0.1.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "localhost", "Origin": "http://localhost"}, 200),
        ({"Host": "localhost", "Origin": "http://localhost:3000"}, 403),
        ({"Host": "localhost", "Origin": "https://elsewhere.example"}, 403),
        ({"Host": "localhost", "Origin": "null"}, 403),
    ],
)
def test_other_pages_cannot_read_it(served, headers, status):
    assert get(served.page.url, **headers)[0] == status


@pytest.mark.parametrize("path", ["watch", "json"])
def test_other_pages_cannot_open_a_socket(served, path):
    url = served.page.url.replace("http", "ws", 1) + path
    for wrong in ({"origin": "https://elsewhere.example"}, {"additional_headers": {"Host": "rebound.example"}}):
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, **wrong)
    with connect(url, origin=served.page.url.rstrip("/")):
        pass


def test_elsewhere_the_address_holds_a_token_without_which_nothing_is_given(served):
    assert PageAccess.of(LiveSettings()) == PageAccess("127.0.0.1", 8765, None)
    assert PageAccess.of(LiveSettings(page=None)) is None
    assert PageAccess.of(LiveSettings(page="[::1]:80")) == PageAccess("::1", 80, None)
    access = PageAccess.of(LiveSettings(page="0.0.0.0:0"))
    assert access is not None
    assert access.token is not None
    assert access.token != PageAccess.of(LiveSettings(page="0.0.0.0:0")).token
    page = LivePage(served.run, access)
    try:
        address = f"http://127.0.0.1:{urlsplit(page.url).port}/"
        assert urlsplit(page.url).path == f"/{access.token}/"
        right = f"{address}{access.token}/"
        assert get(right)[0] == get(right, "page.js")[0] == 200
        assert get(right, Host="camera.example")[0] == 200  # by whatever name it is reached
        wrong = f"{address}{'x' * len(access.token)}/"
        for path in (address, wrong, f"{address}?token={access.token}"):
            assert get(path)[0] == 403
        for path in ("page.js", "watch", "json"):
            assert get(address, path)[0] == get(wrong, path)[0] == 403
        for path in ("watch", "json"):
            with connect(right.replace("http", "ws") + path):
                pass
            for base in (address, wrong):
                with pytest.raises(InvalidStatus, match="403"):
                    connect(base.replace("http", "ws") + path)
    finally:
        page.close()


def test_a_token_of_ones_own_must_be_long_and_fit_an_address():
    kept = LiveSettings(page_token="0123456789abcdef", page="0.0.0.0:1")
    assert PageAccess.of(kept).token == "0123456789abcdef"
    assert "0123456789abcdef" not in str(kept.model_dump(mode="json"))
    for wrong in ("short", "0123456789/abcdef?"):
        with pytest.raises(ValueError, match="page_token"):
            LiveSettings(page_token=wrong)


# ---- what watchers see ------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_what_was_found(served, watch):
    watcher = watch(served.page.url)
    body = served.run.pipeline.components.body
    np.testing.assert_array_equal(np.frombuffer(watcher.faces, "<u4").reshape(-1, 3), body.faces)
    message = watcher.scene()
    while not points_and_picture(message, watcher.body["vertices"])[0]["people"]:
        message = watcher.scene()
    header, points_m, jpeg = points_and_picture(message, watcher.body["vertices"])
    scene = served.moment(header["source"], header["frame"]).scene
    assert [person["id"] for person in header["people"]] == scene.bodies.track_id.tolist()
    np.testing.assert_allclose(points_m[:, :24], scene.joints_m, atol=2e-4)
    np.testing.assert_allclose(points_m[:, 24:], scene.vertices_m(), atol=2e-4)
    picture = np.asarray(Image.open(BytesIO(jpeg)), np.float64)
    assert picture.shape == (180, 240, 3)
    small = PagePictures(240).shrunk(scene)
    np.testing.assert_allclose(project(scene.joints_m, small.intrinsics), small.joints_px, atol=0.01)
    with_bodies, without = draw_scene(small).astype(float), small.frame.rgb.astype(float)
    assert np.abs(picture - with_bodies).mean() < 3  # JPEG
    drawn = np.abs(with_bodies - without).max(-1) > 20
    assert drawn.sum() > 200
    off = lambda other: np.abs(picture - other)[drawn].mean()
    assert off(without) > 1.5 * off(with_bodies), "the bodies are not there"  # (JPEG pales the colours of thin things)
    whole = np.asarray(Image.fromarray(scene.frame.rgb).resize((240, 180), Image.Resampling.BOX), float)
    assert np.abs(without - whole).mean() < 1


def test_a_source_is_chosen_by_each_watcher(served, watch):
    one, other = watch(served.page.url), watch(served.page.url)
    assert one.hello["sources"] == ["people.mp4", "lavfi:testsrc2=size=160x120:rate=5"]
    other.send(kind="watch", source=one.hello["sources"][1])
    # (what was on its way already may come first)
    names = [[points_and_picture(watcher.scene(), watcher.body["vertices"])[0]["source"] for _ in range(5)][2:] for watcher in (one, other)]
    assert names == [["people.mp4"] * 3, [one.hello["sources"][1]] * 3]
    told = one.hear("status")
    assert [status["name"] for status in told["sources"]] == one.hello["sources"]
    assert told["ages"]["people.mp4"]


@pytest.mark.clock
def test_settings_act_at_once_and_nonsense_is_refused(served, watch):
    watcher = watch(served.page.url)
    adjust = served.run.adjust
    try:
        watcher.send(kind="change", name="smoother.strength", value=2.5)
        watcher.send(kind="change", name="detector.interval", value=3)
        wait_for(lambda: (adjust.now.smoother.strength, adjust.now.detector.interval) == (2.5, 3), 10)
        for wrong in (
            {"kind": "change", "name": "crops.views", "value": 99},
            {"kind": "change", "name": "body.model", "value": 1},
            {"kind": "change", "name": "smoother.strength", "value": "1 # x"},
            {"kind": "record", "npz": False, "overlay": False},
            {"kind": "run", "what": "rm"},
            ["kind"],
        ):
            watcher.socket.send(json.dumps(wrong))
            assert watcher.hear("refused")["text"]
        assert adjust.now.crops.views == 1
        assert watcher.scene()  # and goes on
    finally:
        adjust.change("smoother.strength", 1.0)
        adjust.change("detector.interval", 1)


@pytest.mark.clock
def test_nothing_is_drawn_unless_somebody_looks_and_then_once_for_all(served, watch, monkeypatch):
    drawn: list[int] = []
    message = PagePictures.message

    def counting(self: PagePictures, moment: Moment, in_view_s: dict[int, float]) -> bytes:
        drawn.append(moment.scene.frame.index)
        return message(self, moment, in_view_s)

    monkeypatch.setattr(PagePictures, "message", counting)
    wait_for(lambda: not served.page.server.ready_sources)
    time.sleep(0.3)
    drawn.clear()
    time.sleep(1)
    assert drawn == []
    watchers = [watch(served.page.url) for _ in range(3)]
    seen: list[list[bytes]] = [[] for _ in watchers]
    threads = [threading.Thread(target=lambda i=i: seen[i].extend(watchers[i].scenes_for(3))) for i in range(len(watchers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(map(len, seen)) >= 3
    assert len(set().union(*seen)) <= len(drawn) <= 8 * 3 + 3  # live.page_fps
    assert len(drawn) == len(set(drawn))
    assert len(set(seen[0]) & set(seen[1])) >= 3  # the very same bytes


@pytest.mark.clock
def test_a_watcher_that_stalls_holds_nobody_up(served, watch):
    stalled, quick = watch(served.page.url), watch(served.page.url)
    before = len(served.kept.moments)
    scenes = quick.scenes_for(4)
    assert len(scenes) >= 6
    assert len(served.kept.moments) - before >= 6
    server = served.page.server
    assert max(watcher.in_flight for watcher in server.watchers) == 2  # that is all that waits for it
    came = [message for message in iter(lambda: receive_now(stalled), None) if isinstance(message, bytes)]
    assert len(came) == 2
    stalled.send(kind="shown")
    assert stalled.scene() not in came  # and it goes on with the newest
    newest = points_and_picture(scenes[-1], quick.body["vertices"])[0]["frame"]
    assert points_and_picture(stalled.scene(), quick.body["vertices"])[0]["frame"] >= newest


def receive_now(watcher: Watcher) -> str | bytes | None:
    try:
        return watcher.socket.recv(timeout=0.2)
    except TimeoutError:
        return None


# ---- lines for programs -----------------------------------------------------------------------------------------------------


def test_lines_come_by_websocket(served):
    lines = []
    with connect(served.page.url.replace("http", "ws") + "json") as lines_of_json:
        for line in lines_of_json:
            lines.append(json.loads(line))
            if len(lines) == 8:
                break
    assert all(line["schema"] == 1 for line in lines)
    assert {line["source"] for line in lines} <= {status.name for status in served.run.status()}
    for line in lines:
        moment = served.moment(line["source"], line["frame"])
        assert [person["id"] for person in line["people"]] == moment.scene.bodies.track_id.tolist()
    wait_for(lambda: not served.page.server.has_readers)


@pytest.mark.clock
def test_a_program_that_does_not_read_is_cut_off(served, monkeypatch, caplog):
    monkeypatch.setattr("mchmr_stream.web.page_server.MOST_WAITING", 1 << 20)
    server = served.page.server
    with connect(served.page.url.replace("http", "ws") + "json", max_queue=1):
        wait_for(lambda: server.has_readers)
        for _ in range(64):
            server.send_line("x" * (1 << 18))
        wait_for(lambda: not server.has_readers, 10)
    assert "takes the lines too slowly" in caplog.text


# ---- recording --------------------------------------------------------------------------------------------------------------


@pytest.mark.clock
def test_what_is_recorded_from_the_page_are_whole_files(served, watch):
    watcher = watch(served.page.url)
    folder = Path(watcher.hello["record_to"])
    watcher.send(kind="record", npz=True, overlay=True)
    wait_for(lambda: served.page.recorder.status().active, 10)
    before = len([m for m in served.kept.moments if m.source.name == "people.mp4"])
    wait_for(lambda: len([m for m in served.kept.moments if m.source.name == "people.mp4"]) > before + 6)
    watcher.send(kind="record", npz=True, overlay=False)
    assert "goes on already" in watcher.hear("refused")["text"]
    watcher.send(kind="stop")
    wait_for(lambda: not served.page.recorder.status().active and served.page.recorder.status().files, 20)
    told = served.page.recorder.status()
    assert told.error is None
    assert {path.suffix for path in told.files} == {".npz", ".mp4"}
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in told.files)  # nothing half done
    npz, movie_path = (
        next(path for path in told.files if path.name.startswith("people") and path.suffix == kind) for kind in (".npz", ".mp4")
    )
    motion = mchmr_stream.load(npz)
    assert len(motion.frames) >= 6
    with av.open(str(movie_path)) as movie:
        times_s = [frame.time for frame in movie.decode(video=0)]
    assert len(times_s) + told.left_out >= len(motion.frames)
    assert times_s[-1] <= motion.frames_time_s[-1] - motion.frames_time_s[0] + 1e-3


@pytest.mark.clock
def test_a_recording_that_fails_ends_and_nothing_else(served, tmp_path, caplog):
    moment = next(m for m in served.kept.moments if len(m.scene))
    (tmp_path / "file").write_text("")
    with pytest.raises(MchmrError, match="cannot write"):
        RecordingSession(tmp_path / "file" / "x", 1, names=NAMES, settings={}).start(npz=True, overlay=False)
    recorder = RecordingSession(tmp_path / "made", 1, names=NAMES, settings={})
    with pytest.raises(UsageError, match="nothing was chosen"):
        recorder.start(npz=False, overlay=False)
    recorder.start(npz=False, overlay=True)
    shutil.rmtree(tmp_path / "made")
    with caplog.at_level(logging.ERROR):

        def over() -> bool:
            recorder.write(moment)
            return not recorder.status().active

        wait_for(over, 10)
    assert "recording ended: cannot write" in caplog.text
    assert "cannot write" in str(recorder.status().error)
    recorder.start(npz=True, overlay=False)
    recorder.write(moment)
    recorder.close()
    assert len(mchmr_stream.load(recorder.status().files[0]).frames) == 1


# ---- the command ------------------------------------------------------------------------------------------------------------


def test_the_command_serves_it_and_says_where(quick_settings, tmp_path, capsys):
    short = media.write_video(tmp_path / "short.mp4", media.counter_pictures(6), fps=30)
    (tmp_path / "quick.yaml").write_text(settings_yaml(quick_settings))
    command = ["live", str(short), "--config", str(tmp_path / "quick.yaml")]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([*command, "--page", f"127.0.0.1:{port}"]) == 2
        assert f"the page cannot be at 127.0.0.1:{port}" in capsys.readouterr().err
    assert main([*command, "--page", "0.0.0.0:0", "--quiet"]) == 0
    said = capsys.readouterr().err
    assert len(urlsplit(said.split("page at ")[1].strip()).path) > 24  # nobody could guess the token
    assert main([*command, "--page", "8765"]) == 2
    assert "expected HOST:PORT" in capsys.readouterr().err


def test_the_default_port_may_be_taken(served, caplog):
    from mchmr_stream.cli.live import open_page

    with ExitStack() as held:
        with suppress(OSError):  # then somebody else holds it
            held.enter_context(socket.create_server(("127.0.0.1", 8765)))
        page = open_page(served.run, quiet=False)
    assert page is not None
    assert urlsplit(page.url).port != 8765
    assert get(page.url)[0] == 200
    assert "cannot be at 127.0.0.1:8765" in caplog.text
    page.close()


# ---- Chromium ---------------------------------------------------------------------------------------------------------------


@pytest.mark.clock
@pytest.mark.slow
def test_in_chromium(served, tmp_path):
    """One session for all: starting it is what takes long."""
    if CHROMIUM is None:
        skip_without("chromium", "no Chromium here (Debian: apt install chromium)")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)
    access = PageAccess("127.0.0.1", free_port(), None)
    page = LivePage(served.run, access)
    served.run.add_sink(page)
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_OPTIONS) as chromium:
        tab = chromium.new_page(viewport={"width": 1366, "height": 768})
        complaints: list[str] = []
        asked: list[str] = []
        tab.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("websocket", lambda socket: asked.append(socket.url))
        tab.goto(page.url)

        # It loads, from here alone, and shows the picture and the body.
        expect(tab.locator("#state")).to_have_text("Live")
        shown = lambda: tab.evaluate("Number(document.documentElement.dataset.shown)")
        wait_for(lambda: shown() >= 3 and tab.evaluate("document.querySelectorAll('.tag').length"))
        assert {urlsplit(url).netloc for url in asked} == {f"127.0.0.1:{access.port}"}
        assert any(url.startswith("ws://") for url in asked)
        assert complaints == []
        pixels = tab.evaluate("[...document.querySelector('#picture').getContext('2d').getImageData(0, 0, 240, 180).data]")
        assert np.reshape(pixels, (-1, 4))[:, :3].std() > 10
        expect(tab.locator("#people tbody tr")).not_to_have_count(0)
        wait_for(lambda: shows_a_shaded_body(tab.locator("#stage canvas").screenshot()))

        # Controls act on the run.
        tab.focus("#views")
        tab.keyboard.press("ArrowRight")
        wait_for(lambda: served.run.adjust.now.crops.views == 2, 10)
        tab.locator("#strength").fill("0.5")
        wait_for(lambda: served.run.adjust.now.smoother.strength == 3.2, 10)
        served.run.adjust.change("crops.views", 1)  # by somebody else
        expect(tab.locator("output[for=views]")).to_have_text("1")
        tab.locator("input[name=source]").nth(1).press("Space")
        expect(tab.locator("#size")).to_have_text("160 × 120")
        expect(tab.locator("#people tbody tr")).to_have_count(0)
        tab.locator("input[name=source]").nth(0).press("Space")
        expect(tab.locator("#size")).to_have_text("320 × 240")
        tab.locator("#record-overlay").press("Space")
        tab.locator("#record").press("Enter")
        wait_for(lambda: page.recorder.status().active, 10)
        expect(tab.locator("#record-text")).to_contain_text("Stop")
        before = len(served.kept.moments)
        wait_for(lambda: len(served.kept.moments) > before + 2)
        tab.locator("#record").press("Enter")
        wait_for(lambda: not page.recorder.status().active, 10)
        expect(tab.locator("#recorded")).to_contain_text(".npz")
        for control in ("[value=bones]", "[value=both]", "#from-camera", "#reset-view", "#theme"):
            tab.locator(control).press("Space")
        tab.set_viewport_size({"width": 800, "height": 1000})
        before = shown()
        wait_for(lambda: shown() > before + 1)
        assert tab.evaluate("document.querySelector('#chart').clientHeight") < 800  # what is in it does not stretch it
        assert complaints == []

        # The server goes and comes back.
        page.close()
        expect(tab.locator("#state")).to_have_text("Connection lost, trying again…")
        page = LivePage(served.run, access)
        served.run.add_sink(page)
        expect(tab.locator("#state")).to_have_text("Live")
        before = shown()
        wait_for(lambda: shown() > before + 2)
        assert all("WebSocket" in text for text in complaints)  # what the browser itself says of the loss

        # A page from elsewhere gets nothing, whatever it calls this machine.
        answer = tab.goto(f"http://rebound.example:{access.port}/")
        assert answer is not None
        assert answer.status == 403
        tab.goto(f"http://localhost:{access.port}/icon.svg")
        tries = f"""async () => [
            await fetch("http://127.0.0.1:{access.port}/").then(() => "read", () => "refused"),
            await new Promise((done) => {{
                const socket = new WebSocket("ws://127.0.0.1:{access.port}/watch");
                socket.onopen = () => done("open"); socket.onerror = () => done("refused");
            }}),
        ]"""
        other = chromium.new_page()
        other.route("http://elsewhere.example/", lambda route: route.fulfill(body="<p>other</p>", content_type="text/html"))
        other.goto("http://elsewhere.example/")
        assert other.evaluate(tries) == ["refused", "refused"]
    page.close()


def shows_a_shaded_body(png: bytes) -> bool:
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB"), np.int64)
    in_colour = np.ptp(pixels, axis=2) > 60  # the ground and the lines are nearly grey
    return in_colour.mean() > 0.005 and len(np.unique(pixels[in_colour], axis=0)) > 100


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]

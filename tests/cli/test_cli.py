"""The command line: exit codes, one-line messages, option mapping, stopping. The main job itself is replaced here."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from places import ROOT

from mchmr_stream import cli
from mchmr_stream.cli import demo, doctor, main
from mchmr_stream.cli.progress import ProgressLines
from mchmr_stream.config import LiveSettings, Settings
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.motion.output_paths import output_paths
from mchmr_stream.sources.live_address import parse_address

HEAVY = ("torch", "numpy", "av", "pydantic", "kornia", "scipy", "rich", "yaml")


class FakeJob:
    """Stands in for `process_video`: remembers its calls, writes nothing but a bodies file."""

    def __init__(self) -> None:
        self.calls: list[types.SimpleNamespace] = []
        self.pipelines: list[object] = []
        self.fail: dict[str, Exception] = {}
        self.result: dict[str, object] = {}

    def __call__(
        self,
        input: str,
        out_dir: Path,
        settings: Settings,
        *,
        resume: bool,
        overwrite: bool,
        progress: Callable[[int, int | None], None] | None,
        stop: threading.Event,
        pipeline: object,
    ) -> types.SimpleNamespace:
        self.pipelines.append(pipeline)
        self.calls.append(
            types.SimpleNamespace(input=input, out_dir=out_dir, settings=settings, resume=resume, overwrite=overwrite, progress=progress)
        )
        if input in self.fail:
            raise self.fail[input]
        stem = Path(input).stem
        npz = Path(out_dir) / f"{stem}.npz"
        npz.parent.mkdir(exist_ok=True)
        npz.write_bytes(b"bodies")
        values = {"stem": stem, "npz": npz, "overlay": None, "report": Path(out_dir) / f"{stem}.json", "frames": 12, "people": 2}
        values |= {"complete": True, "message": None, "warnings": [], "world": None}
        return types.SimpleNamespace(**(values | self.result))


class FakePipeline:
    """Stands in for loaded networks."""

    def __init__(self, settings: Settings) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> FakeJob:
    fake = FakeJob()
    monkeypatch.setitem(sys.modules, "mchmr_stream.jobs.video_job", types.SimpleNamespace(process_video=fake))  # type: ignore[misc]
    monkeypatch.setitem(sys.modules, "mchmr_stream.pipeline.pipeline", types.SimpleNamespace(Pipeline=FakePipeline))  # type: ignore[misc]
    return fake


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> tuple[int, str, str]:
    code = main([str(arg) for arg in argv])
    out, err = capsys.readouterr()
    return code, out, err


def only_line(text: str) -> str:
    """The one line that a user should see."""
    assert text.count("\n") == 1, text
    assert text.startswith("mchmr: "), text
    return text


# --- help, version, wrong requests


@pytest.mark.parametrize("argv", [["--help"], ["video", "--help"], ["evaluate", "real3d", "--help"], ["--version"], ["nonsense"]])
def test_help_comes_without_loading_anything_heavy(argv: list[str]) -> None:
    program = (
        f"import sys; from mchmr_stream.cli import main; code = main({argv}); "
        f"print('HEAVY', [m for m in {HEAVY} if m in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert "HEAVY []" in done.stdout
    assert done.returncode == (2 if argv == ["nonsense"] else 0)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for name in ("video", "demo", "config", "doctor", "evaluate", "synth", "train", "import-weights"):
        assert re.search(rf"^    {name}\s", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["vidoe"], "vidoe"),
        (["video", "a.mp4"], "-o/--out"),
        (["video", "-o", "out"], "INPUT"),
        (["video", "a.mp4", "-o", "out", "--views", "many"], "--views"),
        (["video", "a.mp4", "-o", "out", "--focal", "900", "--fov", "60"], "--fov"),
        (["video", "a.mp4", "-o", "out", "--resume", "--overwrite"], "--overwrite"),
        (["video", "a.mp4", "-o", "out", "--set", "crops.view=1"], "did you mean crops.views?"),
        (["video", "a.mp4", "-o", "out", "--views", "0"], "crops.views: got 0"),
        (["config", "--config", "nothing-here.yaml"], "nothing-here.yaml"),
        (["train"], "--packed"),
        (["train", "t.yaml", "--data", "d"], "--shards"),
        (["synth", "-o", "x"], "-n/--count"),
        (["evaluate"], "KIND"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *argv)
    assert code == 2
    assert expected in only_line(err)
    assert out == ""
    assert not list(tmp_path.iterdir()), "a refused request leaves nothing behind"


# --- video


def test_options_become_settings(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    options = "--views 3 --device cpu --detector boxes --max-people 4 --every 2 --start 1.5 --end 9 --stream 1 --fov 60 --no-overlay"
    code, *_ = run(capsys, "video", "a.mp4", "-o", tmp_path / "out", *options.split(), "--set", "smoother.kind=none")
    assert code == 0
    settings = job.calls[0].settings
    assert settings.crops.views == 3
    assert settings.runtime.device == "cpu"
    assert settings.detector.kind == "boxes"
    assert settings.tracker.max_people == 4
    assert (settings.source.every, settings.source.start_s, settings.source.end_s, settings.source.stream) == (2, 1.5, 9, 1)
    assert settings.camera.fov_deg == 60
    assert settings.output.overlay is False
    assert settings.smoother.kind == "none"
    assert (job.calls[0].resume, job.calls[0].overwrite) == (False, False)


def test_without_options_the_defaults_run(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    run(capsys, "video", "a.mp4", "-o", tmp_path)
    assert job.calls[0].settings == Settings()
    assert isinstance(job.calls[0].progress, ProgressLines), "no progress bar where stderr is no terminal"


def test_a_camera_option_replaces_the_camera_of_the_file(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("camera: {fov_deg: 60}\ncrops: {views: 2}\n")
    lens = tmp_path / "lens: 1.json"  # a name that YAML would read as a mapping
    assert run(capsys, "video", "a.mp4", "-o", tmp_path / "x", "--config", file, "--intrinsics", lens)[0] == 0
    camera = job.calls[0].settings.camera
    assert (camera.intrinsics, camera.fov_deg, job.calls[0].settings.crops.views) == (lens, None, 2)


def test_the_stand_in_is_called_like_the_real_job() -> None:
    from mchmr_stream.jobs.video_job import process_video

    fake, real = (list(inspect.signature(function).parameters.values()) for function in (FakeJob().__call__, process_video))
    assert [(p.name, p.kind) for p in fake[1:]] == [(p.name, p.kind) for p in real[1:]]


def test_networks_are_loaded_once_for_several_inputs(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    run(capsys, "video", "a.mp4", "b.mp4", "-o", tmp_path)
    first, second = job.pipelines
    assert isinstance(first, FakePipeline)
    assert first is second
    assert first.closed, "and released at the end"


def test_results_are_named_on_stdout_and_quiet_is_quiet(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    job.result = {"warnings": ["two timestamps were out of order"]}
    code, out, err = run(capsys, "video", "a.mp4", "-o", tmp_path)
    assert code == 0
    assert f"12 frames, 2 people -> {tmp_path / 'a.npz'}" in out
    assert "two timestamps were out of order" in only_line(err)
    assert run(capsys, "video", "a.mp4", "-o", tmp_path, "--overwrite", "-q") == (0, "", "")


def _parsers(parser: argparse.ArgumentParser, name: str = "mchmr") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, below in action.choices.items():
                yield from _parsers(below, f"{name} {command}")


@pytest.mark.parametrize(("name", "parser"), [pytest.param(*one, id=one[0]) for one in _parsers(cli.build_parser())])
def test_every_help_has_examples_that_parse(name: str, parser: argparse.ArgumentParser, tmp_path: Path) -> None:
    _, head, listed = parser.format_help().partition("\nexamples:\n")
    assert head, f"{name} --help ends without an example"
    examples = [line.strip() for line in listed.splitlines()]
    assert all(example.removeprefix('export GST_PLUGIN_PATH="$(').startswith("mchmr ") for example in examples)
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])
        if words[0] == "mchmr" and "--help" not in words:
            cli.build_parser().parse_args(words[1:])


@pytest.mark.parametrize("argv", [(), ("--help",)])
def test_the_command_alone_prints_help(capsys: pytest.CaptureFixture[str], argv: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *argv)
    assert (code, err) == (0, "")
    assert "turn videos into bodies" in out


def test_live_help_names_what_its_options_take(capsys: pytest.CaptureFixture[str]) -> None:
    out = run(capsys, "live", "--help")[1]
    assert "VALUE" not in out.replace("SECTION.NAME=VALUE", "")
    assert all(f"{option} " in out for option in ("--size WxH", "--page HOST:PORT", "--fov DEG", "--target-age S"))


def test_inputs_are_what_their_names_stand_for(
    capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (
        "clips/b10.mp4",
        "clips/b2.MOV",
        "clips/.hidden.mp4",
        "clips/notes.txt",
        "shots/1.jpg",
        "shots/2.jpg",
        "both/x.png",
        "both/y.avi",
    ):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    for given, expected in (
        ("clips", ["clips/b2.MOV", "clips/b10.mp4"]),
        ("clips/*.*4", ["clips/b10.mp4"]),
        ("clips/*.[mM]*", ["clips/b2.MOV", "clips/b10.mp4"]),
        ("shots", ["shots"]),
        ("shots/*.jpg", ["shots/*.jpg"]),
        ("*/y.*", ["both/y.avi"]),
        ("both", ["both/x.png"]),
    ):
        job.calls.clear()
        code, _, err = run(capsys, "video", given, "-o", f"out-{len(given)}", "--overwrite")
        assert (code, [call.input for call in job.calls]) == (0, expected), given
        assert ("both/*.avi" in err) == (given == "both")
    for given, said in (
        ("clips/*.mkv", "no file matches clips/*.mkv"),
        ("https://example.org/clip.mp4", "https://example.org/clip.mp4 is a URL"),
        ("rtsp://camera/1", "mchmr live rtsp://camera/1"),
    ):
        code, _, err = run(capsys, "video", given, "-o", "out")
        assert code == 2
        assert said in only_line(err)
    assert "is a folder without .npz files" in only_line(run(capsys, "export", "clips", "--to", "glb")[2])
    assert "https://x/y.npz is a URL" in only_line(run(capsys, "export", "https://x/y.npz", "--to", "glb")[2])


def test_live_names_folders_and_patterns_for_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is a folder, expected files one by one; `mchmr video"):
        parse_address(str(tmp_path), LiveSettings())
    with pytest.raises(UsageError, match=r"is a pattern, expected files one by one"):
        parse_address(str(tmp_path / "*.mp4"), LiveSettings())


def test_messages_options_work_before_and_after_the_command(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    assert run(capsys, "-q", "video", "a.mp4", "-o", tmp_path) == (0, "", "")
    job.fail["b.mp4"] = InputError("broken")
    assert "Traceback" in run(capsys, "--debug", "video", "b.mp4", "-o", tmp_path)[2]
    assert "Traceback" not in run(capsys, "video", "b.mp4", "-o", tmp_path)[2]


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("no video stream\nin it"), 1), (UsageError("bad stream"), 2), (OSError(28, "No space left"), 1)]
)
def test_one_input_that_fails_gives_its_own_exit_code(
    capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path, error: Exception, code: int
) -> None:
    job.fail["a.mp4"] = error
    got, _, err = run(capsys, "video", "a.mp4", "-o", tmp_path)
    assert got == code
    assert (getattr(error, "strerror", None) or " ".join(str(error).split())) in only_line(err)


def test_a_failing_input_does_not_stop_the_others(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    job.fail["b.mp4"] = InputError("b is no video")
    code, out, err = run(capsys, "video", "a.mp4", "b.mp4", "c.mp4", "-o", tmp_path)
    assert code == 1
    assert [call.input for call in job.calls] == ["a.mp4", "b.mp4", "c.mp4"]
    assert "a.mp4: 12 frames" in out
    assert "c.mp4: 12 frames" in out
    assert "b.mp4: failed: b is no video" in err
    assert "1 of 3 inputs failed" in err


def test_an_input_that_breaks_off_is_said_and_fails(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    job.result = {"complete": False, "message": "the file ends after 12 frames"}
    code, out, err = run(capsys, "video", "a.mp4", "-o", tmp_path)
    assert (code, out) == (1, "")
    assert "the file ends after 12 frames" in only_line(err)
    assert str(tmp_path / "a.npz") in err


@pytest.mark.parametrize("existing", ["a.npz", "a.mp4", "a.json"])
def test_existing_results_are_kept_unless_told(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_bytes(b"precious")
    code, _, err = run(capsys, "video", "a.mkv", "-o", tmp_path)
    assert code == 2
    assert str(tmp_path / existing) in only_line(err)
    assert not job.calls
    for option in ("--overwrite", "--resume"):
        assert run(capsys, "video", "a.mkv", "-o", tmp_path, option)[0] == 0
    assert [(call.overwrite, call.resume) for call in job.calls] == [(True, False), (False, True)]


def test_an_output_never_replaces_an_input(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    clip.write_bytes(b"a film")
    code, _, err = run(capsys, "video", clip, "-o", tmp_path, "--overwrite")
    assert code == 2
    assert "would replace the input; choose another folder" in only_line(err)
    assert not job.calls
    assert run(capsys, "video", clip, "-o", tmp_path, "--no-overlay")[0] == 0, "without an overlay nothing collides"


def test_two_inputs_of_one_name_are_refused(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    code, _, err = run(capsys, "video", "x/a.mp4", "y/a.mkv", "-o", tmp_path)
    assert code == 2
    assert "x/a.mp4 and y/a.mkv" in only_line(err)
    assert not job.calls


def test_out_must_not_be_a_file(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, "video", "a.mp4", "-o", tmp_path / "file")
    assert code == 2
    assert "is a file" in only_line(err)


@pytest.mark.parametrize(("name", "stem"), [("x/clip.final.MOV", "clip.final"), ("shots/cam1_*.png", "cam1"), ("shots/*.png", "shots")])
def test_outputs_are_called_after_the_input(tmp_path: Path, name: str, stem: str) -> None:
    paths = output_paths(name, tmp_path)
    assert (paths.bodies, paths.overlay, paths.report) == tuple(tmp_path / f"{stem}{suffix}" for suffix in (".npz", ".mp4", ".json"))


def test_brackets_in_the_name_of_a_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "take [1].mp4").write_bytes(b"")
    assert output_paths(tmp_path / "take [1].mp4", "out").stem == "take [1]"


def test_outputs_of_a_folder_carry_its_whole_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "take.1").mkdir()
    monkeypatch.chdir(tmp_path / "take.1")
    assert output_paths(".", "out").stem == output_paths(tmp_path / "take.1/", "out").stem == "take.1"


# --- stopping

STOPPABLE = """
import sys, time, types
from pathlib import Path

def process_video(input, out_dir, settings, *, resume, overwrite, progress, stop, pipeline):
    print("running", flush=True)
    while not (stop.is_set() and {polite}):
        time.sleep(0.01)
    return types.SimpleNamespace(stem="a", npz=Path("a.npz"), overlay=None, report=Path("a.json"), frames=3, people=1,
                                 complete=False, message=None, warnings=[], world=None)

sys.modules["mchmr_stream.jobs.video_job"] = types.SimpleNamespace(process_video=process_video)
sys.modules["mchmr_stream.pipeline.pipeline"] = types.SimpleNamespace(Pipeline=lambda settings: types.SimpleNamespace(close=lambda: None))
from mchmr_stream.cli import main
sys.exit(main(["video", "a.mp4", "b.mp4", "-o", sys.argv[1]]))
"""


def start_stoppable(tmp_path: Path, *, polite: bool) -> subprocess.Popen[str]:
    program = STOPPABLE.replace("{polite}", str(polite))
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "running\n"
    return child


@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a POSIX matter")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_politely(tmp_path: Path, number: signal.Signals, code: int) -> None:
    child = start_stoppable(tmp_path, polite=True)
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == code
    assert "stopped early" in err
    assert "stopped before 1 of 2 inputs: b.mp4" in err
    assert "Traceback" not in err


@pytest.mark.clock
@pytest.mark.skipif(os.name == "nt", reason="signals between processes are a POSIX matter")
def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    child = start_stoppable(tmp_path, polite=False)
    child.send_signal(signal.SIGINT)
    time.sleep(0.3)  # two signals of one kind that wait together are delivered as one
    assert child.poll() is None
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGINT


# --- doctor


def test_doctor_finds_what_this_installation_has(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    findings = {(row["area"], row["part"]): row for row in json.loads(out)}
    import torch

    assert findings["packages", "torch"]["found"] == torch.__version__
    assert findings["files", "body"]["state"] == "ok"
    assert findings["files", "movenet thunder weights"]["found"].endswith("movenet_thunder.safetensors")
    assert findings["files", "fit calibration"]["found"].endswith("fit_calibration.safetensors")
    assert findings["codecs", "H.264 encoding"]["found"] == "libx264"
    assert code == any(row["state"] == "broken" for row in findings.values())


def test_doctor_says_what_is_broken_and_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CODECS", (("Betamax decoding", ("betamax",), "r", True),))
    code, out, _ = run(capsys, "doctor", "--json", "--set", f"network.weights={tmp_path / 'mine.safetensors'}")
    broken = {row["part"]: row for row in json.loads(out) if row["state"] == "broken"}
    assert code == 1
    assert str(tmp_path / "mine.safetensors") in broken["network weights"]["found"]
    assert "betamax" in broken["Betamax decoding"]["found"]
    assert all(row["advice"] for row in broken.values())


def test_doctor_names_the_files_that_a_broken_installation_lacks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mchmr_stream.fitting.noise_constants import load_calibration

    load_calibration.cache_clear()
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    code, out, _ = run(capsys, "doctor", "--json")
    broken = {row["part"]: row for row in json.loads(out) if row["state"] == "broken"}
    assert code == 1
    for part, name in (("movenet thunder weights", "movenet_thunder"), ("fit calibration", "fit_calibration")):
        assert str(tmp_path / f"{name}.safetensors") in broken[part]["found"]
        assert "reinstall" in broken[part]["advice"]


def test_doctor_survives_a_core_package_that_does_not_import(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)  # what `import kornia` then raises is ImportError
    code, out, _ = run(capsys, "doctor")
    assert code == 1
    assert "--force-reinstall kornia" in " ".join(out.split())


def test_doctor_checks_every_dependency_of_the_project() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {requirement.split(">=")[0] for requirement in project["dependencies"]} == set(doctor.CORE_PACKAGES)


# --- demo


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel in the form of the real one, known by its hash in place of it."""
    path = tmp_path / "sports2d.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(demo.CLIP_IN_WHEEL, b"the clip")
        archive.writestr(demo.LICENCE_IN_WHEEL, b"the licence")
    monkeypatch.setattr(demo, "WHEEL_SHA256", sha256_of_file(path))
    monkeypatch.setattr(demo, "CLIP_SHA256", hashlib.sha256(b"the clip").hexdigest())
    return path


def test_demo_fetches_once_runs_twice_and_says_where(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path, wheel: Path) -> None:
    out_dir = tmp_path / "demo"
    code, out, _ = run(capsys, "demo", "-o", out_dir, "--wheel", wheel)
    assert code == 0
    clip = Path(job.calls[0].input)
    assert clip.read_bytes() == b"the clip"
    assert (clip.parent / f"{clip.stem}_LICENSE").read_bytes() == b"the licence"
    assert str(out_dir / f"{clip.stem}.mp4") in out
    assert "mchmr_stream.load(" in out
    wheel.unlink()
    assert run(capsys, "demo", "-o", out_dir, "--wheel", wheel)[0] == 0, "the clip that is there is used again"
    clip.write_bytes(b"damaged")
    assert run(capsys, "demo", "-o", out_dir, "--wheel", wheel)[0] == 1, "and a damaged one is not"


def test_demo_refuses_another_wheel(capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path, wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"!")
    code, _, err = run(capsys, "demo", "-o", tmp_path / "demo", "--wheel", wheel)
    assert code == 1
    assert "is not the wheel of sports2d==0.8.34" in only_line(err)
    assert not job.calls


def test_demo_checks_sizes_before_unpacking(job: FakeJob, tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "MAX_MEMBER_BYTES", 3)
    with pytest.raises(InputError, match="expected at most 3"):
        demo.get_clip(tmp_path / "clip", wheel)
    assert not (tmp_path / "clip" / demo.CLIP_NAME).exists()


def test_demo_without_a_registry_says_what_to_do(
    capsys: pytest.CaptureFixture[str], job: FakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    code, _, err = run(capsys, "demo", "-o", tmp_path / "demo")
    assert code == 1
    assert "--wheel" in only_line(err)
    assert not job.calls

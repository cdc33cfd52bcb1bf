"""Who may write an output: one process at a time, however the one before it ended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from motions import write_motion
from places import ROOT

from mchmr_stream import cli
from mchmr_stream.config import Settings
from mchmr_stream.errors import MchmrError
from mchmr_stream.files.atomic import hidden_mark, temporary_beside
from mchmr_stream.files.output_lock import claimed, claimed_folder, remove_abandoned

HOLD = """
import sys, time
from pathlib import Path
from mchmr_stream.files.output_lock import claimed
with claimed([Path(sys.argv[1])]):
    print("held", flush=True)
    time.sleep(60)
"""
TAKE_TURNS = """
import sys, time
from pathlib import Path
from mchmr_stream.files.output_lock import claimed
from mchmr_stream.errors import MchmrError
output, done, until_s = Path(sys.argv[1]), 0, time.monotonic() + 2
while time.monotonic() < until_s:
    try:
        with claimed([output]):
            output.touch(exist_ok=False)
            time.sleep(0.0005)
            output.unlink()
            done += 1
    except MchmrError:
        time.sleep(0.0002)
print(done)
"""


def started(program: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def holder(path: Path) -> subprocess.Popen[str]:
    child = started(HOLD, path)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n", child.communicate()
    return child


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_second_process_is_refused_and_the_line_says_who_writes(tmp_path: Path) -> None:
    child = holder(tmp_path / "clip.npz")
    try:
        for _ in range(2):  # whoever was refused takes nothing away
            with pytest.raises(MchmrError) as refused, claimed([tmp_path / "clip.npz"]):
                pass
        assert refused.value.exit_code == 1
        assert re.fullmatch(rf"\S+clip\.npz is being written by another run \(process {child.pid} on .+\); wait .*", str(refused.value))
        with claimed([tmp_path / "other.npz"]):
            assert len(names(tmp_path)) == 2
    finally:
        child.kill()
        child.communicate()


def test_what_a_killed_one_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    output, mark = tmp_path / "clip.npz", hidden_mark(tmp_path / "clip.npz")
    child = holder(output)
    child.kill()
    child.communicate()
    (tmp_path / f"{mark}abc").mkdir()
    (tmp_path / f"{mark}abc" / "column").write_bytes(b"rows")
    temporary_beside(output).write_text("part")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (tmp_path / f"{mark}link").symlink_to(tmp_path / "elsewhere")
    foreign = [".mchmr-notours.part", temporary_beside(tmp_path / "other.npz").name, "clip.npz", "elsewhere"]
    for name in foreign[:-1]:
        (tmp_path / name).touch()
    with claimed([output]):
        assert names(tmp_path) == sorted([*foreign, f"{mark}lock"])
    assert names(tmp_path) == sorted(foreign)
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_processes_take_turns(tmp_path: Path) -> None:
    """The lock's file comes and goes; still nobody ever has the output together with somebody else."""
    children = [started(TAKE_TURNS, tmp_path / "clip.npz") for _ in range(4)]
    ended = [child.communicate(timeout=60) for child in children]
    assert [error for _, error in ended] == [""] * 4
    assert min(int(done) for done, _ in ended) > 0
    assert names(tmp_path) == []


def test_one_of_several_that_is_taken_gives_the_others_back(tmp_path: Path) -> None:
    with claimed([tmp_path / "b"]):
        with pytest.raises(MchmrError), claimed([tmp_path / "a", tmp_path / "b"]):
            pass
        with claimed([tmp_path / "a", tmp_path / "a"]):
            assert len(names(tmp_path)) == 2
    assert names(tmp_path) == []


def test_outputs_of_dead_writers_are_cleared_by_another_run_but_not_what_can_be_resumed(tmp_path: Path) -> None:
    """Segments of a live run have a new name every time: nobody would come back to them."""
    alive, resumable, dead = (tmp_path / f"{name}.npz" for name in ("alive", "resumable", "dead"))
    children = [holder(path) for path in (alive, resumable, dead)]
    for path in (alive, resumable, dead):
        (tmp_path / f"{hidden_mark(path)}rows").mkdir()
    (tmp_path / f"{hidden_mark(resumable)}rows" / "checkpoint.npz").touch()
    (tmp_path / ".mchmr-0123456789ab.lock").write_text("process 1 on here\nsomething.npz")
    for child in children[1:]:
        child.kill()
        child.communicate()
    try:
        remove_abandoned(tmp_path, ".npz", unless="checkpoint.npz")
        kept = [f"{hidden_mark(path)}{end}" for path in (alive, resumable) for end in ("lock", "rows")]
        assert names(tmp_path) == sorted([*kept, ".mchmr-0123456789ab.lock"])
    finally:
        children[0].kill()
        children[0].communicate()


def test_the_folder_that_one_is_in_can_be_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    with claimed([Path(".")]), pytest.raises(MchmrError), claimed([tmp_path / "run"]):
        pass
    with claimed([Path("/")]):
        pass


def test_a_folder_that_is_not_there_yet_is_held_and_leaves_nothing(tmp_path: Path) -> None:
    with claimed_folder(tmp_path / "runs" / "one" / "two"):
        assert names(tmp_path) == ["runs"]
        with pytest.raises(MchmrError), claimed_folder(tmp_path / "runs" / "one" / "two"):
            pass
    assert names(tmp_path) == []
    with claimed_folder(tmp_path / "runs" / "one"):
        (tmp_path / "runs" / "one").mkdir()
    assert names(tmp_path / "runs") == ["one"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_where_no_lock_can_be_the_writer_says_what_is_wrong(tmp_path: Path) -> None:
    with claimed([tmp_path / "nowhere" / "clip.npz"]):
        assert names(tmp_path) == []


COMMANDS = {
    "tracks": "tracks {folder}/clip.npz --rename 1=7 -o {folder}/out.npz",
    "smooth": "smooth {folder}/clip.npz -o {folder}/out.npz",
    "export": "export {folder}/clip.npz --to csv -o {folder}/tables",
    "average": "average {weights} {weights} -o {folder}/out.safetensors",
    "synth": "synth -n 1 --data {folder} -o {folder}/people",
    "live": "live lavfi:testsrc --json {folder}/out.jsonl --no-page",
    "train": "train --data {folder} --shards {folder} -o {folder}/runs/one",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_writes_keeps_off(
    tmp_path: Path, quick_settings: Settings, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_motion(tmp_path / "clip.npz", {1: range(3)}, [0.0, 0.04, 0.08])
    line = COMMANDS[command].format(folder=tmp_path, weights=quick_settings.network.weights)
    written = next(part for option, part in pairwise(line.split()) if option in ("-o", "--json"))
    output = Path(written) / "clip.csv" if command == "export" else Path(written)
    output.parent.mkdir(parents=True, exist_ok=True)
    with claimed([output]):
        before = names(output.parent)
        assert cli.main(line.split()) == 1
    assert re.fullmatch(r"mchmr: .*\S+ is being written by another run \(process \d+ on .*\); wait .*\n", capsys.readouterr().err)
    assert [name for name in before if name not in names(output.parent)] == [name for name in before if name.endswith(".lock")]

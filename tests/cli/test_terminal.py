"""What the shell hands over: names that no terminal can show, closed and full streams, disks without room, odd numbers and devices."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from components import import_or_skip
from motions import write_motion

from mchmr_stream import load
from mchmr_stream.cli import main
from mchmr_stream.errors import MchmrError
from mchmr_stream.network.weights import pick_device

UNSHOWABLE = os.fsdecode(b"caf\xe9-\xc5\xbc\xc3\xb3\xc5\x82w")
"""No UTF-8, and nothing that cp1252 has, both in one name."""
full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
posix = pytest.mark.skipif(os.name != "posix", reason="names of bytes, and streams closed by the shell, are POSIX's")


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    write_motion(tmp_path / "clip.npz", {1: range(6)}, [index / 25 for index in range(6)])
    return tmp_path / "clip.npz"


@posix
@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "ascii"])
@pytest.mark.parametrize(
    "command",
    [
        ["tracks", "FILE"],
        ["export", "FILE", "--to", "csv", "-o", "OUT"],
        ["smooth", "FILE", "-o", "OUT/smooth.npz"],
        ["evaluate", "consistency", "FILE"],
        ["config", "--set", "body.model=FILE"],
    ],
    ids=lambda command: command[0],
)
def test_a_name_that_the_terminal_lacks_is_escaped(
    bodies: Path, command: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bodies.rename(bodies.with_name(f"{UNSHOWABLE}.npz"))
    out = bodies.with_name(UNSHOWABLE)
    out.mkdir()
    printed = io.BytesIO()
    terminal = io.TextIOWrapper(printed, encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main([part.replace("FILE", str(file)).replace("OUT", str(out)) for part in command]) == 0
    assert b"caf\\udce9-" in printed.getvalue()


@posix
def test_a_library_that_takes_only_utf8_names_is_not_handed_others(bodies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import_or_skip("pxr")
    file = bodies.rename(bodies.with_name(f"{UNSHOWABLE}.npz"))
    assert main(["export", str(file), "--to", "usd"]) == 0
    assert file.with_suffix(".usd").stat().st_size > 1000
    folder = bodies.with_name(UNSHOWABLE)
    folder.mkdir()
    assert main(["export", str(file), "--to", "usd", "-o", str(folder)]) == 1
    assert "takes names in UTF-8 only" in capsys.readouterr().err
    assert not list(folder.iterdir())


@posix
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_what_would_have_been_printed_and_nothing_else(bodies: Path, closed: str) -> None:
    command = f'"$0" -m mchmr_stream tracks "$1" --rename 1=7 -o "$2" {closed}'
    out = bodies.with_name("out.npz")
    done = subprocess.run(["bash", "-c", command, sys.executable, str(bodies), str(out)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert 7 in load(out).tracks


@full_device
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_standard_output_is_one_line(bodies: Path, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mchmr_stream", "tracks", str(bodies)],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for names and next to nothing else."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False).returncode
    ):
        pytest.skip("a small disk can be mounted by root on Linux only")
    try:
        with suppress(OSError), open(folder / "filler", "wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("to", ["glb", "usd", "bvh", "amass", "smpl", "trc", "csv", "pkl"])
def test_export_to_a_full_disk_names_the_file_and_leaves_nothing(
    bodies: Path, full_disk: Path, to: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if to in ("usd", "smpl"):
        import_or_skip({"usd": "pxr", "smpl": "smplcodec"}[to])
    assert main(["export", str(bodies), "--to", to, "-o", str(full_disk)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"mchmr: {bodies}: cannot write {full_disk / 'clip'}")
    assert said.count("\n") == 1
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_other_writers_on_a_full_disk_too(bodies: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = "mchmr_stream/assets/mchmr_default.safetensors"
    for command in (
        ["smooth", str(bodies), "-o", "OUT/new.npz"],
        ["tracks", str(bodies), "--rename", "1=7", "-o", "OUT/new.npz"],
        ["average", weights, weights, "-o", "OUT/new.safetensors"],
        ["export-model", "--to", "torchscript", "-o", "OUT/model"],
    ):
        assert main([part.replace("OUT", str(full_disk)) for part in command]) == 1, command
        said = capsys.readouterr().err
        assert said.startswith(f"mchmr: cannot write {full_disk}"), command
        assert said.count("\n") == 1
        assert not list(full_disk.glob("**/new*")), command
        assert not list(full_disk.glob(".*")), command


@pytest.mark.parametrize("number", ["99999999999999999999", str(2**31), "0", "-1", "nan", "1e3", "9" * 5000])
def test_numbers_of_people_have_a_range(bodies: Path, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = bodies.with_name("out.npz")
    assert main(["tracks", str(bodies), f"--rename=1={number}", "-o", str(out)]) == 2
    assert "expected" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("number", ["99999999999999999999", "nan", "inf", "-1", "1e400", "9" * 5000, ""])
@pytest.mark.parametrize(
    "command",
    [
        ["config", "--set", "camera.focal_px=N"],
        ["config", "--set", "smoother.strength=N"],
        ["config", "--set", "source.every=N"],
        ["video", "no.mp4", "-o", "OUT", "--focal=N"],
        ["video", "no.mp4", "-o", "OUT", "--views=N"],
        ["live", "no.mp4", "--no-page", "--seconds=N"],
        ["live", "no.mp4", "--no-page", "--segment=N"],
        ["bench", "--frames=N"],
        ["bench", "--views=N"],
        ["bench", "--size=Nx64"],
        ["serve", "--port=N"],
        ["export-model", "--to", "python", "-o", "OUT", "--instances=N"],
        ["synth", "-o", "OUT", "--data", "no", "-nN"],
        ["train", "no.yaml", "--seed=N"],
        ["ablate", "no.yaml", "--packed", "no", "-o", "OUT", "--steps=N"],
        ["evaluate", "synthetic", "--shards", "no", "--views=N"],
    ],
    ids=lambda command: f"{command[0]} {command[-1]}",
)
def test_numbers_out_of_range_are_a_wrong_request(
    tmp_path: Path, command: list[str], number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if number == "" and "camera.focal_px=N" in command:
        pytest.skip("no value is null, which this setting may be")
    given = [part.replace("OUT", str(tmp_path / "out")).replace("N", number) if not part.startswith("-o") else part for part in command]
    assert main(given) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("device", ["mps", "xpu", "meta", "hpu", "mtia:0", "cpu:3", "gpu", "cuda:99999999999", "cuda:-1", ""])
def test_devices_that_nothing_here_is_made_for_are_refused_alike(device: str) -> None:
    with pytest.raises(MchmrError) as refused:
        pick_device(device)
    assert str(refused.value) == f"device is {device!r}, expected auto, cpu, cuda or cuda:N"
    assert refused.value.exit_code == 2


def test_a_name_that_fills_the_disks_limit_is_written_like_any_other(bodies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    motion, tmp_path = load(bodies), bodies.parent
    bodies.unlink()
    longest = tmp_path / ("n" * 251 + ".npz")
    motion.save(longest)
    assert np.array_equal(load(longest).frames, motion.frames)
    assert main(["export", str(longest), "--to", "csv"]) == 0
    assert (tmp_path / ("n" * 251 + ".csv")).is_file()
    capsys.readouterr()
    assert main(["export", str(longest), "--to", "bvh", "-o", str(tmp_path / "bvh")]) == 2
    assert "File name too long; give the input a shorter name" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == sorted([longest.name, longest.stem + ".csv"])

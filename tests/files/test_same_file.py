"""What is read is never replaced by what is written, whatever the names: links, and disks on which case does not count."""

from __future__ import annotations

import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from case_insensitive import mounted
from media import counter_pictures, write_video
from motions import write_motion
from places import ROOT

from mchmr_stream.cli import main
from mchmr_stream.config import settings_from
from mchmr_stream.errors import UsageError
from mchmr_stream.files.same_file import colliding, is_same_file
from mchmr_stream.jobs.video_job import process_video

CONFIGS = ROOT / "configs"

COMMANDS: dict[str, tuple[str, Callable[[Path, Path, Path], list[str]]]] = {
    "video": ("clip.mp4", lambda i, o, f: ["video", f"{i}", "-o", f"{f}", "--overwrite"]),
    "video --resume": ("clip.mp4", lambda i, o, f: ["video", f"{i}", "-o", f"{f}", "--resume"]),
    "video --intrinsics": ("x.json", lambda i, o, f: ["video", "x.mkv", "--intrinsics", f"{i}", "-o", f"{f}", "--overwrite"]),
    "video --config": ("x.json", lambda i, o, f: ["video", "x.mkv", "--config", f"{i}", "-o", f"{f}", "--overwrite"]),
    "live --json": ("clip.mp4", lambda i, o, f: ["live", f"{i}", "--json", f"{o}", "--no-page"]),
    "live --record": ("clip.mp4", lambda i, o, f: ["live", f"{i}", "--record", f"{o}", "--no-page"]),
    "average": ("w.safetensors", lambda i, o, f: ["average", f"{i}", "other", "-o", f"{o}"]),
    "import-weights": ("w.safetensors", lambda i, o, f: ["import-weights", f"{i}", "--from", "cliff", "-o", f"{o}"]),
    "export-model": (
        "mchmr/1/weights.safetensors",
        lambda i, o, f: ["export-model", "--to", "python", "--weights", f"{i}", "-o", f"{f}"],
    ),
    "train --start": (
        "paper_resnet50.safetensors",
        lambda i, o, f: ["train", f"{CONFIGS / 'paper_resnet50.yaml'}", "--sets", f"{f}", "--start", f"{i}", "-o", f"{f}"],
    ),
    "train --pack": (
        "settings.json",
        lambda i, o, f: ["train", f"{i}", "--data", "nothing", "--shards", "nothing", "--pack", f"{f}"],
    ),
    "ablate": ("base.md", lambda i, o, f: ["ablate", f"{i}", "--packed", "nothing", "-o", f"{f}", "--table", f"{o}"]),
    "synth": ("contact.png", lambda i, o, f: ["synth", "--data", "nothing", "--poses", f"{i}", "-n", "1", "-o", f"{f}"]),
    "synth --clips": ("clip_0000.npz", lambda i, o, f: ["synth", "--clips", "--data", "x", "--poses", f"{i}", "-n", "1", "-o", f"{f}"]),
    "evaluate": ("seen.npz", lambda i, o, f: ["evaluate", "synthetic", "--observed", f"{i}", "--predictions", f"{o}"]),
    "bench": ("shot.png", lambda i, o, f: ["bench", f"{i}", "--plot", f"{o}"]),
}
"""Command -> a file that it writes in the folder f, and its arguments for the input i that is this file by another name."""


@pytest.fixture(params=[False, True], ids=["one number", "numbers by name"])
def no_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder in which `A` and `a` are one name."""
    (tmp_path / "a").touch()
    if (tmp_path / "A").exists():
        yield tmp_path
        return
    folder = tmp_path / "disk"
    folder.mkdir()
    with mounted(folder, by_name=request.param) as is_there:
        if not is_there:
            pytest.skip("a disk without case needs root and /dev/fuse")
        yield folder


def assert_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], read: Path) -> None:
    before = read.read_bytes()
    code = main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2, lines
    assert len(lines) == 1
    assert "would replace" in lines[0]
    assert read.read_bytes() == before


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symlink", "hard link"])
@pytest.mark.parametrize("command", COMMANDS)
def test_an_input_is_not_replaced_by_another_name_of_it(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, link) -> None:
    name, arguments = COMMANDS[command]
    read, written = tmp_path / "elsewhere" / Path(name).name, tmp_path / "out" / name
    read.parent.mkdir()
    written.parent.mkdir(parents=True)
    read.write_bytes(b"{}")
    link(read, written)
    assert_refused(capsys, arguments(read, written, tmp_path / "out"), read)


def test_an_input_is_not_replaced_where_case_does_not_count(capsys: pytest.CaptureFixture[str], no_case: Path) -> None:
    for name, arguments in COMMANDS.values():
        written = no_case / name
        read = written.with_name(written.name.upper())
        written.parent.mkdir(parents=True, exist_ok=True)
        read.write_bytes(b"{}")
        assert_refused(capsys, arguments(read, written, no_case), read)
        read.unlink()


def test_a_film_is_kept_where_case_does_not_count(no_case: Path) -> None:
    """The library, without the command: the whole film is still there."""
    made = write_video(no_case / "made.mkv", counter_pictures(4))
    film = no_case / "GX010001.MP4"
    made.rename(film)
    before = film.read_bytes()
    with pytest.raises(UsageError, match="would replace the input"):
        process_video(film, no_case, overwrite=True)
    assert film.read_bytes() == before
    assert sorted(os.listdir(no_case)) == ["GX010001.MP4"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("clip.m3u8", "#EXTM3U\n#EXTINF:1,\nclip.mp4\n#EXT-X-ENDLIST\n"),
        ("clip.m3u8", '#EXTM3U\n#EXT-X-MAP:URI="clip.mp4"\n#EXTINF:1,\nrest.m4s\n#EXT-X-ENDLIST\n'),
        ("clip.ffconcat", "ffconcat version 1.0\n# both\nfile 'one.mp4'\nfile file:clip.mp4\n"),
        ("clip.m3u8", "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n"),
    ],
    ids=["hls", "hls in fragments", "concatenation", "hls of several rates"],
)
def test_what_a_playlist_plays_is_not_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "low.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nclip.mp4\n")
    (tmp_path / "clip.mp4").write_bytes(b"film")
    assert_refused(capsys, ["video", f"{tmp_path / name}", "-o", f"{tmp_path}", "--overwrite"], tmp_path / "clip.mp4")
    with pytest.raises(UsageError, match="would replace the input"):
        process_video(tmp_path / name, tmp_path, overwrite=True)


def test_unicode_forms_of_a_name_are_one_where_the_disk_says_so(no_case: Path) -> None:
    composed, decomposed = (no_case / unicodedata.normalize(form, "Zoë.mp4") for form in ("NFC", "NFD"))
    assert composed.name != decomposed.name
    assert colliding([composed, decomposed]) == (0, 1)
    composed.write_bytes(b"film")
    assert is_same_file(composed, decomposed)


def test_results_of_two_inputs_do_not_fall_together_where_case_does_not_count(
    capsys: pytest.CaptureFixture[str], no_case: Path, tmp_path: Path
) -> None:
    for folder in ("x", "y"):
        (no_case / folder).mkdir()
    first, second = no_case / "x" / "Clip.mp4", no_case / "y" / "clip.mp4"
    for film in (first, second):
        film.write_bytes(b"film")
    assert main(["video", f"{first}", f"{second}", "-o", f"{no_case / 'out' / 'new'}"]) == 2
    assert f"{first} and {second} would both be written" in capsys.readouterr().err
    assert sorted(os.listdir(no_case)) == ["x", "y"]


def test_where_case_counts_names_that_differ_in_it_are_two(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    if (tmp_path / "A").exists():
        pytest.skip("case does not count here")
    assert colliding([tmp_path / "Clip.npz", tmp_path / "clip.npz"]) is None
    (tmp_path / "A").touch()
    assert not is_same_file(tmp_path / "a", tmp_path / "A")
    assert colliding([tmp_path / "new" / "x", tmp_path / "b", tmp_path / "." / "new" / "x"]) == (0, 2)
    assert sorted(os.listdir(tmp_path)) == ["A", "a"], "what was tried out is gone"


def test_smoothing_does_not_replace_the_body_that_it_reads(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    motion = write_motion(tmp_path / "clip.npz", {1: range(3)}, [0.0, 0.04, 0.08])
    body = tmp_path / "body.npz"
    body.write_bytes(b"a body")
    assert_refused(capsys, ["smooth", f"{motion}", "-o", f"{body}", "--overwrite", "--set", f"body.model={body}"], body)


def test_export_replaces_neither_an_input_nor_what_it_writes_for_another(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    motion = write_motion(tmp_path / "clip.npz", {1: range(3)}, [0.0, 0.04, 0.08])
    shutil.copy(motion, tmp_path / "x" / "clip.npz")
    os.link(motion, tmp_path / "clip_person1_frame0_amass.npz")
    assert_refused(capsys, ["export", f"{motion}", "--to", "amass", "--overwrite"], motion)
    assert main(["export", f"{motion}", f"{tmp_path / 'x' / 'clip.npz'}", "--to", "csv", "-o", f"{tmp_path / 'o'}", "--overwrite"]) == 2
    assert "would both be written to" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_json_lines_go_to_no_file_that_holds_something_else(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source, film = tmp_path / "clip.mkv", tmp_path / "other.mp4"
    write_video(source, counter_pictures(4))
    film.write_bytes(b"\0\0\0\x18ftypisom")
    assert main(["live", f"lavfi:movie={source}", "--json", f"{film}", "--no-page"]) == 2
    assert "holds no JSON lines" in capsys.readouterr().err
    assert film.read_bytes() == b"\0\0\0\x18ftypisom"


def test_two_outputs_of_a_live_run_are_two_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = write_video(tmp_path / "clip.mkv", counter_pictures(4))
    both = f"{tmp_path / 'o.mp4'}"
    assert main(["live", f"{source}", "--json", both, "--record", both, "--no-page"]) == 2
    assert f"{both} would be written twice" in capsys.readouterr().err
    assert not Path(both).exists()


def test_the_demo_keeps_a_film_of_its_name_that_is_not_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    own, overlay = tmp_path / "clip" / "two_people.mp4", tmp_path / "two_people.mp4"
    own.write_bytes(b"a film")
    assert main(["demo", "-o", f"{tmp_path}", "--wheel", "nothing"]) == 1
    assert "is not the demo's clip" in capsys.readouterr().err
    overlay.write_bytes(b"another film")
    assert main(["demo", "-o", f"{tmp_path}", "--wheel", "nothing"]) == 2
    assert "not of an earlier demo" in capsys.readouterr().err
    assert (own.read_bytes(), overlay.read_bytes()) == (b"a film", b"another film")


def test_settings_that_name_no_file_are_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mchmr_stream.config import files_named

    (tmp_path / "body.npz").touch()
    monkeypatch.chdir(tmp_path)
    assert files_named(settings_from({"body": {"model": "body.npz"}, "network": {"weights": "nothing\0"}})) == [Path("body.npz")]

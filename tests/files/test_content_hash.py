"""What a run is made of: files are the same by size and content, whatever they are called and wherever they lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import media
import numpy as np
import pytest

from mchmr_stream.config import Settings, settings_from
from mchmr_stream.errors import InputError
from mchmr_stream.files.content_hash import Content, content_of
from mchmr_stream.sources.made_of import made_of

LONG_BYTES = 40 << 20


def of(path: Path) -> Content | None:
    return made_of(path, Settings()).content


def with_byte(path: Path, at: int, source: Path) -> Path:
    data = bytearray(source.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    return path


def test_a_copy_is_the_same_and_one_byte_makes_another(tmp_path: Path) -> None:
    film = tmp_path / "clip.mp4"
    film.write_bytes(np.random.default_rng(0).bytes(300_000))
    copy = Path(shutil.copy(film, tmp_path / "other.mov"))
    os.utime(copy, (1, 1))
    assert of(copy) == of(film)
    assert of(film).bytes == 300_000
    for at in (0, 150_000, 299_999):
        assert of(with_byte(tmp_path / "b.mp4", at, film)) != of(film)


def test_of_a_long_file_little_is_read_and_head_and_tail_count(tmp_path: Path) -> None:
    film = tmp_path / "long.mp4"
    with film.open("wb") as file:
        file.truncate(64 << 30)  # sparse: reading all of it would take minutes
    whole = of(film)
    assert whole.bytes == 64 << 30
    for at in (0, (64 << 30) - 1):
        with film.open("r+b") as file:
            file.seek(at)
            file.write(b"x")
        assert of(film) != whole
        with film.open("r+b") as file:
            file.seek(at)
            file.write(b"\0")
    assert of(film) == whole


def test_a_file_that_has_grown_begins_with_what_it_was(tmp_path: Path) -> None:
    film = tmp_path / "clip.mkv"
    data = np.random.default_rng(1).bytes(LONG_BYTES)
    film.write_bytes(data[: LONG_BYTES // 2])
    half = of(film)
    film.write_bytes(data)
    assert half.begins(film)
    assert not of(film).begins(film), "it is the same, no more"
    assert not half.begins(with_byte(tmp_path / "other.mkv", LONG_BYTES // 2 - 1, film))


def test_every_picture_of_a_folder_counts(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(40):
        media.write_image(folder / f"{number}.bmp", np.full((40, 64, 3), number, np.uint8))
    before = of(folder)
    assert before.files == 40
    (folder / "notes.txt").write_text("no picture")
    assert of(folder) == before
    media.write_image(folder / "17.bmp", np.full((40, 64, 3), 99, np.uint8))  # as many bytes
    assert of(folder) != before
    media.write_image(folder / "17.bmp", np.full((40, 64, 3), 17, np.uint8))
    assert of(folder) == before
    media.write_image(folder / "40.bmp", np.full((40, 64, 3), 40, np.uint8))
    pictures = [folder / f"{number}.bmp" for number in range(41)]
    assert of(folder) == content_of(pictures)
    assert before.begins(pictures)
    (folder / "3.bmp").rename(folder / "2b.bmp")
    assert not before.begins(made_of(folder, Settings()).files)


def test_what_a_playlist_lists_counts(tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(b"first")
    (tmp_path / "list.ffconcat").write_text("ffconcat version 1.0\nfile a.ts\n")
    before = of(tmp_path / "list.ffconcat")
    (tmp_path / "a.ts").write_bytes(b"other")
    assert of(tmp_path / "list.ffconcat") != before


def test_files_that_settings_name_count_but_not_what_says_where_to_run(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"film")
    (tmp_path / "camera.json").write_text("{}")
    (tmp_path / "password").write_text("secret")
    settings = settings_from(
        {"camera": {"intrinsics": str(tmp_path / "camera.json")}, "mqtt": {"password_file": str(tmp_path / "password")}}
    )
    assert dict(made_of(tmp_path / "clip.mp4", settings).setting_files) == {"camera.intrinsics": content_of(tmp_path / "camera.json")}


@pytest.mark.skipif(os.name == "nt", reason="no FIFOs there")
def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ts")
    assert of(tmp_path / "pipe.ts") is None


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.mp4 does not exist"):
        of(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="is a URL"):
        of(Path("https://example.org/clip.mp4"))

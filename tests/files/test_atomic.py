import os
from pathlib import Path

import pytest

from mchmr_stream.files.atomic import atomic_file


def test_file_replaces_the_old_one_at_the_end(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with atomic_file(path, ".part.csv") as part:
        assert part.suffix == ".csv"
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_after_an_exception_nothing_is_left_and_the_old_file_stays(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        half_written(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def half_written(path: Path) -> None:
    with atomic_file(path) as part:
        part.write_text("half")
        raise ZeroDivisionError

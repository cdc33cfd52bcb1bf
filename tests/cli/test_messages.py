"""What is said while a command runs and after it: progress, stages, tables, wherever they are printed to."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import media
import numpy as np
import pytest
from motions import write_motion
from rich.table import Column, Table

from mchmr_stream.cli import main, progress
from mchmr_stream.cli.tables import TableConsole
from mchmr_stream.config import Settings
from mchmr_stream.jobs.video_job import process_video
from mchmr_stream.pipeline.pipeline import Pipeline


def test_without_a_terminal_progress_is_lines_from_time_to_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now_s)
    with progress.progress_bar("clip.mp4", shown=True) as update:
        assert update is not None
        for done in range(40, 1041):  # 40 frames are of an earlier run
            update(done, 10_840)
            now_s += 0.1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6, "every 15 of 100 s"
    assert re.fullmatch(r"mchmr: clip.mp4: (\d+) of 10840, 10 fps, (\d+) min left", lines[0])
    assert re.fullmatch(r"mchmr: clip.mp4: 9\d\d of 10840, 10 fps, 1[67] min left", lines[-1])
    with progress.progress_bar("stream", shown=True, unit="people/s") as update:
        assert update is not None
        update(0, None)
        now_s += 20
        update(30, None)
    assert capsys.readouterr().err == "mchmr: stream: 30, 1.5 people/s\n"


def test_short_and_quiet_runs_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar("clip.mp4", shown=True) as update:
        assert update is not None
        update(1, 2)
    with progress.progress_bar("clip.mp4", shown=False) as update:
        assert update is None
    assert capsys.readouterr().err == ""


def test_a_table_in_a_file_is_as_wide_as_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    file = write_motion(tmp_path / "clip.npz", {1: range(20)}, [1000 + index / 25 for index in range(20)])
    assert main(["tracks", str(file)]) == 0
    out = capsys.readouterr().out
    assert [len(line.split("│")) for line in out.splitlines() if "1000.760" in line] == [12]
    assert str(file) in out, "the title is on one line"
    assert main(["evaluate", "consistency", str(file)]) == 0
    assert "…" not in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert "�" not in (out := capsys.readouterr().out)
    assert any("python -m pip" in line or "ok" in line for line in out.splitlines())


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_table_on_a_narrow_terminal_keeps_its_numbers(width: int) -> None:
    printed = io.StringIO()
    console = TableConsole(file=printed, force_terminal=True, width=width, color_system=None)
    table = Table(Column("what is measured", overflow="fold"), "first of the metrics", Column("second", no_wrap=True), "third metric")
    numbers = ["123456.789", "0.000012345", "98765432.1"]
    table.add_row("a-very-long-name-of-something-without-any-blanks-in-it", *numbers)
    console.print(table)
    assert all(number in printed.getvalue() for number in numbers)
    assert "…" not in printed.getvalue()
    assert console.width == width


def test_v_names_devices_sizes_and_stages_and_vv_every_frame(
    tmp_path: Path, quick_settings: Settings, quick_pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    clip = media.write_video(tmp_path / "clip.mp4", [np.full((90, 160, 3), 120, np.uint8)] * 4, fps=10)
    caplog.set_level(logging.DEBUG, "mchmr_stream")
    Pipeline(quick_settings).close()
    assert re.search(r"device cpu: torch \S+, 1 threads", caplog.text)
    assert re.search(r"detector MoveNetDetector; keypoints thunder; network untrained in process, 1 views of \d+x\d+ px", caplog.text)
    assert process_video(clip, tmp_path / "out", quick_settings, pipeline=quick_pipeline).complete
    said = {level: [record.getMessage() for record in caplog.records if record.levelno == level] for level in (logging.INFO, logging.DEBUG)}
    assert any(line.startswith("clip.mp4: 160x90 px, 10 frames per second, 4 frames expected") for line in said[logging.INFO])
    assert any(re.match(r"clip.mp4: decode: 4 times, \S+ ms each", line) for line in said[logging.INFO])
    assert [line.partition(";")[0] for line in said[logging.DEBUG] if "frame" in line] == [
        f"clip.mp4: frame {index} at {index / 10:.3f} s: nobody" for index in range(4)
    ]

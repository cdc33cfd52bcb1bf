"""`mchmr bench`: its clip, its figures and how they hang together, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from mchmr_stream.cli import main
from mchmr_stream.config import Settings, SourceSettings
from mchmr_stream.datatypes import Frame
from mchmr_stream.detection.movenet_detector import MoveNetDetector
from mchmr_stream.sources import open_source
from mchmr_stream.speed.drawn_clip import write_clip
from mchmr_stream.speed.drawn_people import drawn_people


@pytest.fixture
def quick(quick_settings: Settings) -> Iterator[list[str]]:
    """Arguments for short runs, on one core where the system can: teams of threads would wait for whatever else runs here."""
    may_use = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set()
    if may_use:
        os.sched_setaffinity(0, {min(may_use)})
    yield [
        "bench", "--device", "cpu", "--repeats", "1", "--frames", "4", "--set", f"network.weights={quick_settings.network.weights}",
        "--set", "detector.input_px=256", "--set", "network.precision=fp32", "--set", "runtime.threads=1",
    ]  # fmt: skip
    if may_use:
        os.sched_setaffinity(0, may_use)


@pytest.mark.parametrize("people", [1, 6])
def test_the_detector_finds_everyone_who_was_drawn(people):
    detector = MoveNetDetector(device=torch.device("cpu"))
    pictures = islice(drawn_people(people, 1280, 720), 0, None, 12)
    for found in detector.detect([Frame(index, index / 25, picture) for index, picture in enumerate(pictures)]):
        assert (found.scores > 0.5).sum() == people
        assert (found.scores > 0.15).sum() == people


def test_the_clip_is_the_same_each_time_and_as_long_as_was_asked(tmp_path):
    first, second = (write_clip(tmp_path / name, 2, frames=30, size_wh=(320, 180)) for name in ("a.mp4", "b.mp4"))
    assert first.read_bytes() == second.read_bytes()
    pictures = [frame.rgb for frame in open_source(first, SourceSettings()).frames()]
    assert len(pictures) == 30
    assert np.abs(pictures[0].astype(int) - pictures[25]).mean() < 2 < np.abs(pictures[0].astype(int) - pictures[12]).max()


def test_an_empty_room_stays_empty():
    empty, full = (next(drawn_people(people, 320, 180, places=2)) for people in (0, 2))
    assert (empty != full).any(-1).mean() > 0.02
    assert not MoveNetDetector(device=torch.device("cpu")).detect([Frame(0, 0.0, empty)])[0].scores.size


def test_every_stage_is_measured_and_the_figures_agree(quick, capsys):
    assert main([*quick, "--people", "2", "--size", "480x270", "--views", "1,2", "--batch", "1,3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == 1
    assert said["clip"] == {"name": "drawn, 2 people", "width": 480, "height": 270, "fps": 25.0, "drawn_people": 2}
    assert said["machine"]["cores"] >= 1
    assert said["versions"]["torch"] == torch.__version__
    assert [run["views"] for run in said["runs"]] == [1, 2]
    for run in said["runs"]:
        assert list(run["stages"]) == ["decode", "detect", "keypoints", "crop", "network", "fit", "align", "render", "encode"]
        for stage in run["stages"].values():
            assert stage["frames"] == 4
            ms = stage["call_ms"]
            assert 0 < ms["p50"] <= ms["p95"] <= ms["p99"]
            assert stage["frames_per_s"] > 0
            assert stage["people_per_s"] == pytest.approx(stage["frames_per_s"] * run["people_per_frame"], rel=0.2)
            assert stage["cpu_s_per_frame"] > 0
        # Calls of one stage follow each other: their times add up to the whole's.
        detect = run["stages"]["detect"]
        assert detect["calls"] == 2, "the first frame and the last: between them nobody moves much"
        assert detect["call_ms"]["p99"] >= 1000 / detect["frames_per_s"] * 0.5
        assert all(
            run["stages"][name]["call_ms_in_pipeline"] is not None for name in ("detect", "keypoints", "crop", "network", "fit", "align")
        )
        whole, written = run["whole"], run["whole with overlay"]
        assert whole["people_per_s"] == pytest.approx(whole["frames_per_s"] * run["people_per_frame"], rel=0.01)
        assert whole["overlap"]["stages_cpu_s_per_frame"] == pytest.approx(
            sum(own["cpu_s_per_frame"] for name, own in run["stages"].items() if name not in ("render", "encode")), rel=0.01
        )
        assert written["overlap"]["stages_cpu_s_per_frame"] > whole["overlap"]["stages_cpu_s_per_frame"]
        assert whole["overlap"]["of_nearer_bound"] == pytest.approx(
            max(whole["overlap"]["of_slowest_stage"], whole["overlap"]["of_cpu_bound"]), abs=0.002
        )
        assert 50 < whole["peak_memory_mib"] < 20_000
        assert set(run["network by batch"]) == {"1", "3"}
        assert run["triton"] is None


def test_stages_that_settings_leave_out_are_not_measured(quick, capsys):
    leave_out = ["--set", "keypoints.kind=detector", "--set", "fit.kind=none"]
    assert main([*quick, *leave_out, "--people", "1", "--size", "320x180", "--views", "1", "--no-overlay", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert list(run["stages"]) == ["decode", "detect", "crop", "network"]


def test_a_clip_of_ones_own_without_people(quick, tmp_path, capsys):
    clip = write_clip(tmp_path / "empty.mp4", 0, frames=6, size_wh=(320, 180))
    assert main([*quick, str(clip), "--no-overlay", "--views", "1", "--plot", str(tmp_path / "where.png")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^empty.mp4, 320x180$", said, re.M)
    assert re.search(r"^1 views, 0.0 people a frame$", said, re.M)
    for stage in ("keypoints", "network", "fit", "align"):
        assert re.search(rf"^{stage} +\d", said, re.M)
    assert "encode" not in said
    assert (tmp_path / "where.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["nothing-here.mp4"], 1, "nothing-here.mp4"),
        (["--views", "1,12"], 2, "--views got '1,12', expected whole numbers from 1 to 9"),
        (["--people", "40"], 2, "40 people"),
        (["--size", "big"], 2, "--size got 'big'"),
        (["--frames", "0"], 2, "--frames: got 0, expected a whole number from 1"),
        (["--plot", "no/such/folder/a.png"], 2, "there is no folder"),
        (["--plot", "a.jpg"], 2, "ends in .png"),
        (["--set", "detector.kindd=x"], 2, "detector.kind"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(arguments, code, complaint, capsys):
    assert main(["bench", *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert complaint in error
    assert error.count("\n") == 0
    assert Path("a.jpg").exists() is False

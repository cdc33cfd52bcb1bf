"""`mchmr tracks`: identities put right in a finished file, read back with numpy alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from motions import write_motion

from mchmr_stream.cli import main
from mchmr_stream.datatypes import SourceInfo
from mchmr_stream.motion.motion import COLUMNS, load
from mchmr_stream.sinks.run_report import ReportSink

TIMES_S = [number / 25 for number in range(40)]
THERE = {1: range(20), 2: range(10, 40), 3: [*range(25, 30), *range(33, 38)]}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_motion(tmp_path / "clip.npz", THERE, TIMES_S)


def edit(clip: Path, *options: str) -> dict[str, np.ndarray]:
    out = clip.with_name("out.npz")
    assert main(["-q", "tracks", str(clip), *options, "-o", str(out)]) == 0
    with np.load(out, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def frames_of(arrays: dict[str, np.ndarray], identity: int) -> list[int]:
    return arrays["frame"][arrays["track_id"] == identity].tolist()


def test_list_says_who_is_there_when(clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    assert main(["tracks", str(clip)]) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[:6] for row in rows] == [
        ["1", "0.000", "0.760", "20", "0", "0"],
        ["2", "0.400", "1.560", "30", "0", "0"],
        ["3", "1.000", "1.480", "10", "3", "0"],
    ]


def test_edits_in_order_change_identities_and_nothing_else(clip: Path) -> None:
    with np.load(clip) as file:
        before = {name: file[name] for name in file.files}
    after = edit(clip, "--split", "2@0.8", "--merge", "1+4", "--rename", "3=7", "--rename", "2=3")
    assert frames_of(after, 1) == list(range(40))
    assert frames_of(after, 3) == list(range(10, 20))
    assert frames_of(after, 7) == THERE[3]
    assert set(after) == set(before)
    row_of = lambda arrays: np.lexsort((arrays["transl"][:, 0], arrays["frame"]))
    for name in before:
        if name in COLUMNS and name != "track_id":
            np.testing.assert_array_equal(after[name][row_of(after)], before[name][row_of(before)], name)
        elif name != "track_id":
            np.testing.assert_array_equal(after[name], before[name], name)
    assert np.lexsort((after["track_id"], after["frame"])).tolist() == list(range(len(after["frame"])))


def test_select_keeps_frames_that_are_now_empty(clip: Path) -> None:
    after = edit(clip, "--select", "3")
    assert after["track_id"].tolist() == [3] * 10
    assert after["frames"].tolist() == list(range(40))
    np.testing.assert_array_equal(load(clip.with_name("out.npz")).tracks[3].joints_m, load(clip).tracks[3].joints_m)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--merge", "1+2"], "people 1 and 2 are both there in 10 frames, the first at 0.400 s"),
        (["--merge", "1+1"], "cannot be merged with themselves"),
        (["--merge", "1"], "--merge got 1, expected A+B"),
        (["--split", "1@9"], "person 1 is there from 0.000 to 0.760 s, expected a time between to split at, got 9"),
        (["--split", "1@soon"], "--split got 1@soon, expected A@S"),
        (["--rename", "1=2"], "there is a person 2 already"),
        (["--rename", "1=0"], "expected 1 to 2147483647"),
        (["--select", "1,9"], "person 9 is not in the file; there: 1, 2, 3"),
    ],
)
def test_edits_that_make_no_sense_are_refused(clip: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str) -> None:
    assert main(["tracks", str(clip), *options, "-o", str(clip.with_name("out.npz"))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in clip.parent.iterdir()] == ["clip.npz"]


def test_a_file_is_replaced_only_when_asked(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = clip.read_bytes()
    assert main(["tracks", str(clip), "--select", "1", "-o", str(clip)]) == 2
    assert "is there already; use --overwrite" in capsys.readouterr().err
    assert main(["tracks", str(clip), "--select", "1"]) == 2
    assert "edits need -o OUT.npz" in capsys.readouterr().err
    assert clip.read_bytes() == before
    assert main(["-q", "tracks", str(clip), "--select", "1", "-o", str(clip), "--overwrite"]) == 0
    assert list(load(clip).tracks) == [1]


def test_list_and_report_say_when_an_identity_may_have_changed(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs of doubt, told apart by a second without; edits keep them."""
    monkeypatch.setenv("COLUMNS", "200")
    with np.load(clip) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["identity_doubt"] = (arrays["track_id"] == 2) & np.isin(arrays["frame"], (12, 13, 14, 39))
    np.savez(clip, **arrays)
    assert main(["tracks", str(clip)]) == 0
    rows = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [row[9:] for row in rows] == [[], ["0.480", "1.560"], []]
    assert edit(clip, "--rename", "2=5")["identity_doubt"].sum() == 4

    report = ReportSink(clip.with_suffix(".json"), SourceInfo("clip", 64, 48, 25.0), settings={}, names={})
    report.extend(load(clip))
    report.close()
    people = json.loads(clip.with_suffix(".json").read_text())["people"]
    assert [person["identity_may_have_changed_at_s"] for person in people] == [[], [0.48, 1.56], []]


def test_a_file_from_before_there_was_doubt_has_none(clip: Path) -> None:
    with np.load(clip) as file:
        arrays = {name: file[name] for name in file.files if name != "identity_doubt"}
    np.savez(clip, **arrays)
    assert not any(track.identity_doubt.any() for track in load(clip).tracks.values())

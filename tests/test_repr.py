"""What people see who print a record, or look at it in a notebook: three lines, whatever is in it."""

from __future__ import annotations

import html.parser
from pathlib import Path

import numpy as np
from motions import write_motion

from mchmr_stream import load
from mchmr_stream._repr import Described
from mchmr_stream.datatypes import Bodies, Frame, Scene
from mchmr_stream.geometry.camera import Intrinsics


def shown(record: Described) -> list[str]:
    """The lines that are printed. The HTML has to say the same."""
    text = str(record)
    assert text == repr(record)

    class Cells(html.parser.HTMLParser):
        cells: list[str] = []

        def handle_data(self, data: str) -> None:
            self.cells.append(data)

    parser = Cells()
    parser.cells = []
    parser.feed(record._repr_html_())
    assert parser.cells == [line.strip() for line in text.splitlines()]
    return text.splitlines()


def test_motion_and_tracks_print_as_three_lines(tmp_path: Path) -> None:
    times_s = np.arange(2000) / 25
    people = {identity: range(10 * identity, 1990) for identity in range(1, 8)}
    motion = load(write_motion(tmp_path / "clip.npz", {k: v for k, v in people.items() if k < 3}, times_s[:60]))
    head, tracks, made = shown(motion)
    assert head == "Motion of 2 people in 60 frames, 0.000 to 2.360 s, 640x360 px, 25 fps"
    assert tracks == "  tracks: 1 (50 frames), 2 (40 frames)"
    assert "body free" in made
    assert "without world" in made
    head, sure, columns = shown(motion.tracks[2])
    assert head == "Track 2: 40 frames, 0.800 to 2.360 s"
    assert "0 rows interpolated" in sure
    assert "body_pose (40, 23, 3, 3)" in columns


def test_many_people_and_nobody_are_three_lines_too(tmp_path: Path) -> None:
    crowd = load(write_motion(tmp_path / "crowd.npz", {identity: [0] for identity in range(1, 8)}, [0.0]))
    assert shown(crowd)[1] == "  tracks: 1 (1 frame), 2 (1 frame), 3 (1 frame), 4 (1 frame), and 3 more"
    nobody = load(write_motion(tmp_path / "nobody.npz", {}, [0.0]))
    assert shown(nobody)[:2] == ["Motion of 0 people in 1 frame, 0.000 to 0.000 s, 640x360 px, 25 fps", "  tracks: none"]
    assert len(str(crowd.tracks[1].only(np.zeros(0, int))).splitlines()) <= 3


def test_a_scene_prints_as_three_lines() -> None:
    frame = Frame(7, 0.28, np.zeros((36, 64, 3), np.uint8))
    nobody = Bodies.empty(7, 0.28, 2)
    none = np.zeros((0, 24, 3), np.float32)
    scene = Scene(frame, nobody, Intrinsics.assumed(64, 36), none, none[..., :2], np.zeros((0, 3), np.int64), lambda: none)
    assert shown(scene)[:2] == ["Scene of 0 people in frame 7 at 0.280 s, 64x36 px", "  people: none"]

"""`mchmr smooth`: a finished file, smoothed again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from motions import write_motion

from mchmr_stream.cli import main
from mchmr_stream.motion.motion import load


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Person 1 is missing in five frames, person 2 in none."""
    gone = [i for i in range(40) if not 15 <= i < 20]
    return write_motion(tmp_path / "clip.npz", {1: gone, 2: range(40)}, np.arange(40) / 25)


def test_a_file_is_smoothed_and_its_gaps_filled(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smooth", str(clip), "-o", str(tmp_path / "new.npz")]) == 0
    assert "2 people, 75 rows, 5 filled in" in capsys.readouterr().out
    before, after = load(clip), load(tmp_path / "new.npz")
    assert after.tracks[1].frame.tolist() == list(range(40))
    assert np.flatnonzero(after.tracks[1].interpolated).tolist() == list(range(15, 20))
    assert not after.tracks[2].interpolated.any()
    assert np.ptp(after.tracks[1].betas, axis=0).max() < 1e-6
    np.testing.assert_allclose(after.tracks[2].joints_m, before.tracks[2].joints_m, atol=0.15)
    for track in after.tracks.values():
        np.testing.assert_allclose(track.joints_px, after.reproject(track), atol=0.01)


def test_deviations_stay_with_their_rows(clip: Path, tmp_path: Path) -> None:
    assert main(["smooth", str(clip), "-o", str(tmp_path / "new.npz"), "-q"]) == 0
    before, after = load(clip), load(tmp_path / "new.npz")
    seen = ~after.tracks[1].interpolated
    np.testing.assert_array_equal(after.tracks[1].joint_sd_m[seen], before.tracks[1].joint_sd_m)
    assert np.isnan(after.tracks[1].joint_sd_m[~seen]).all(), "filled rows have none"
    np.testing.assert_array_equal(after.tracks[2].joint_sd_m, before.tracks[2].joint_sd_m)


def test_a_file_of_an_earlier_version_has_no_deviations_and_is_smoothed_as_well(clip: Path, tmp_path: Path) -> None:
    with np.load(clip) as file:
        np.savez(tmp_path / "earlier.npz", **{name: file[name] for name in file.files if name != "joint_sd_m"})
    earlier = load(tmp_path / "earlier.npz")
    assert all(np.isnan(track.joint_sd_m).all() and len(track.joint_sd_m) == len(track) for track in earlier.tracks.values())
    assert main(["smooth", str(tmp_path / "earlier.npz"), "-o", str(tmp_path / "new.npz"), "-q"]) == 0
    smoothed = load(tmp_path / "new.npz").tracks
    assert smoothed[1].frame.tolist() == list(range(40))
    assert np.isnan(smoothed[1].joint_sd_m).all()


def test_presets_and_settings_change_how_much(clip: Path, tmp_path: Path) -> None:
    assert main(["smooth", str(clip), "-o", str(tmp_path / "a.npz"), "--set", "smoother.kind=none", "-q"]) == 0
    kept, before = load(tmp_path / "a.npz").tracks[2], load(clip).tracks[2]
    np.testing.assert_array_equal(kept.body_pose, before.body_pose)
    assert main(["smooth", str(clip), "-o", str(tmp_path / "b.npz"), "--preset", "gentle", "-q"]) == 0
    assert main(["smooth", str(clip), "-o", str(tmp_path / "c.npz"), "--preset", "strong", "-q"]) == 0
    moved = [np.abs(load(tmp_path / name).tracks[2].joints_m - before.joints_m).mean() for name in ("b.npz", "c.npz")]
    assert moved[0] < moved[1]


def test_wrong_requests_are_told(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smooth", str(clip), "-o", str(clip)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["smooth", str(clip), "-o", str(clip), "--overwrite", "--set", "crops.views=2"]) == 2
    assert "expected a setting of the smoother" in capsys.readouterr().err

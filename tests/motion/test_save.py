from pathlib import Path

import numpy as np
import pytest
from walking import Way, camera_pose, walking

import mchmr_stream
from mchmr_stream.datatypes import Bodies
from mchmr_stream.errors import UsageError
from mchmr_stream.motion.motion import BODIES_FIELDS, COLUMNS


def test_saved_motion_reads_the_same(tmp_path: Path):
    motion, _ = walking([Way((-1.8, -5.0), 75)], camera_pose(), seconds=1)
    motion.save(str(tmp_path / "edited.npz"))
    read = mchmr_stream.load(tmp_path / "edited.npz")
    assert read.tracks.keys() == motion.tracks.keys()
    for identity, track in motion.tracks.items():
        for name in set(COLUMNS) - {"track_id"}:
            np.testing.assert_array_equal(getattr(read.tracks[identity], name), getattr(track, name))
    with pytest.raises(UsageError, match="is not a folder"):
        motion.save(tmp_path / "nowhere" / "edited.npz")


def test_every_column_is_of_bodies_or_computed():
    bodies = Bodies.empty(0, 0.0, 5)
    assert all(len(getattr(bodies, field)) == 0 for field in BODIES_FIELDS.values())
    assert set(COLUMNS) - set(BODIES_FIELDS) == {"frame", "time_s", "track_id", "joints_m", "joints_px", "transl_mean_body"}

"""The landmark tables agree with each other and with their names."""

from __future__ import annotations

import pytest

from mchmr_stream.datatypes import KEYPOINT_NAMES
from mchmr_stream.network import landmarks
from mchmr_stream.network.landmarks import BLAZEPOSE_NAMES, COCO_FROM_BLAZEPOSE

TABLES = {"BLAZEPOSE": BLAZEPOSE_NAMES, "COCO": KEYPOINT_NAMES}


def test_blazepose_has_33_names_and_the_well_known_numbers() -> None:
    assert len(BLAZEPOSE_NAMES) == len(set(BLAZEPOSE_NAMES)) == 33
    assert [BLAZEPOSE_NAMES[index] for index in (0, 11, 16, 23, 28, 32)] == [
        "nose", "left_shoulder", "right_wrist", "left_hip", "right_ankle", "right_foot_index",
    ]  # fmt: skip


def test_coco_keypoints_keep_their_names() -> None:
    assert tuple(BLAZEPOSE_NAMES[index] for index in COCO_FROM_BLAZEPOSE) == KEYPOINT_NAMES


@pytest.mark.parametrize("table", TABLES)
def test_mirroring_twice_is_nothing_and_once_swaps_sides(table: str) -> None:
    names, mirror = TABLES[table], getattr(landmarks, f"{table}_MIRROR")
    assert [mirror[other] for other in mirror] == list(range(len(names)))
    for name, other in zip(names, mirror, strict=True):
        sided = "left" in name or "right" in name
        assert (names[other] != name) == sided
        assert names[other].replace("left", "right") == name.replace("left", "right")


@pytest.mark.parametrize("table", TABLES)
def test_drawn_lines_mirror_onto_each_other(table: str) -> None:
    mirror = getattr(landmarks, f"{table}_MIRROR")
    for edges in (getattr(landmarks, f"{table}_LIMBS"), getattr(landmarks, f"{table}_EDGES")):
        drawn = {frozenset(edge) for edge in edges}
        assert len(drawn) == len(edges)
        assert {frozenset(mirror[end] for end in edge) for edge in drawn} == drawn


@pytest.mark.parametrize("table", TABLES)
def test_limbs_stay_on_one_side_and_run_outwards(table: str) -> None:
    names, limbs = TABLES[table], getattr(landmarks, f"{table}_LIMBS")
    for upper, lower in zip(limbs[::2], limbs[1::2], strict=True):
        assert upper[1] == lower[0]
        assert len({names[index].split("_")[0] for index in (*upper, *lower)}) == 1

"""`mchmr data check`: whole sets pass, and each way of being broken is found, counted and named."""

from __future__ import annotations

import labelled_sets as sets
import numpy as np
import pytest
from PIL import Image

from mchmr_stream.cli import main
from mchmr_stream.datasets.checking import check_set, require_sound
from mchmr_stream.datasets.contact_sheet import TILE_PX, contact_sheet
from mchmr_stream.datasets.labelled_bodies import LabelledBodies
from mchmr_stream.datasets.opening import open_set
from mchmr_stream.errors import MchmrError
from mchmr_stream.geometry.camera import project
from mchmr_stream.training.end_to_end.crop_sampling import open_people


@pytest.fixture(scope="module")
def bodies_folder(tmp_path_factory):
    return sets.write_bodies(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def truth(bodies_folder):
    return sets.make_truth(bodies_folder)


def _changed(path, **changes):
    with np.load(path, allow_pickle=False) as archive:
        np.savez(path, **dict(archive) | changes)


def _faults(root, name):
    return [finding.text for finding in check_set(root, name).findings if finding.fault]


def test_whole_sets_pass_and_what_is_not_there_is_named_with_its_source(truth, bodies_folder, tmp_path, capsys):
    sets.write_spin(tmp_path, truth, "h36m", "h36m_valid_protocol1.npz")
    sets.write_cliff(tmp_path, truth)
    sets.write_bedlam(tmp_path, truth)
    sets.write_3dpw(tmp_path, truth)
    sets.write_humandata(tmp_path, truth, compressed=True)
    for name in ("h36m", "coco", "bedlam", "3dpw", "agora"):
        report = check_set(tmp_path, name)
        assert report.sound, report.findings
        assert (report.counts["people"], report.counts["pictures"], report.counts["with body"]) == (6, 3, 6)
        require_sound([report], force=False)
    assert main(["data", "check", str(tmp_path), "--bodies", str(bodies_folder), "--sheets", str(tmp_path / "sheets")]) == 0
    said = capsys.readouterr().out
    assert said.count("sound") == 5
    assert "not there: mpii (MPII Human Pose)" in said
    assert "human-pose.mpi-inf.mpg.de" in said
    assert "not there: h36m" not in said
    for name in ("h36m", "coco", "bedlam", "3dpw", "agora"):
        with Image.open(tmp_path / "sheets" / f"check_{name}.jpg") as sheet:
            assert sheet.size == (5 * TILE_PX, 2 * TILE_PX)


def test_the_sheet_shows_labels_on_the_people(truth, bodies_folder, tmp_path):
    """Where a left arm is labelled the sheet is orange, and nothing is where no label is."""
    sets.write_bedlam(tmp_path, truth)
    reader = open_set(tmp_path, "bedlam")
    sheet = np.array(contact_sheet(reader, LabelledBodies(bodies_folder), count=1)).astype(int)
    label = reader.label(0)
    side = label.side_px * 1.4
    place = lambda joint: (label.points_px[joint, :2] - (label.centre_px - side / 2)) * TILE_PX / side
    for a, b, colour in ((16, 18, (255, 90, 60)), (17, 19, (60, 150, 255))):
        x, y = ((place(a) + place(b)) / 2).round().astype(int)
        patch = sheet[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert (abs(patch - colour).sum(1) < 60).any()
    # The projected body lies under the 2D points: both come from the same joints.
    body = project(truth.points_m[0, :24], label.camera(sets.WIDTH, sets.HEIGHT))
    assert body == pytest.approx(label.points_px[:24, :2], abs=1e-3)


def test_missing_and_unreadable_pictures_fail_with_counts_and_names(truth, tmp_path, capsys):
    sets.write_3dpw(tmp_path, truth)
    pictures = tmp_path / "3dpw" / "imageFiles" / "downtown_test_00"
    (pictures / "image_00001.jpg").unlink()
    (pictures / "image_00002.jpg").write_bytes(b"not a picture")
    faults = _faults(tmp_path, "3dpw")
    assert any("1 of 3 pictures are not there (2 people)" in text and "image_00001.jpg" in text for text in faults)
    assert any("2 of 4 sampled pictures cannot be read" in text and "image_00002.jpg" in text for text in faults)
    assert main(["data", "check", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "FAILS" in said
    with pytest.raises(MchmrError, match="1 data sets fail the check: 3dpw: 1 of 3 pictures"):
        require_sound([check_set(tmp_path, "3dpw")], force=False)
    require_sound([check_set(tmp_path, "3dpw")], force=True)


def test_training_refuses_a_set_that_fails_unless_told_so(truth, tmp_path):
    sets.write_spin(tmp_path, truth, "h36m", "h36m_train.npz")
    people = open_people({"h36m": 1.0}, 0, [], tmp_path)
    assert sorted({people.at(place)[1] for place in range(6)}) == list(range(6))
    (tmp_path / "h36m" / "images" / "S9_Walking.54138969_000001.png").unlink()
    with pytest.raises(MchmrError, match="h36m: 1 of 3 pictures are not there"):
        open_people({"h36m": 1.0}, 0, [], tmp_path)
    assert open_people({"h36m": 1.0}, 0, [], tmp_path, unchecked=True).at(0)[0].name == "h36m"


def test_cameras_and_pictures_of_another_size_fail(truth, tmp_path):
    path = sets.write_bedlam(tmp_path, truth)
    _changed(path, cam_int=np.tile(sets.K * [[2], [2], [1]], (6, 1, 1)))
    faults = _faults(tmp_path, "bedlam")
    assert any("of 6 people are not where K projects them" in text for text in faults)
    assert any("pictures do not fit their camera" in text and "320 x 240" in text for text in faults)
    _changed(path, cam_int=np.tile(np.diag([300.0, -300.0, 1.0]), (6, 1, 1)))
    assert any("K that is no camera matrix" in text for text in _faults(tmp_path, "bedlam"))
    _changed(path, cam_int=np.tile(sets.K, (6, 1, 1)))
    assert not _faults(tmp_path, "bedlam")
    small = tmp_path / "bedlam" / path.stem / "png" / "seq_000000" / "seq_000000_0000.png"
    Image.fromarray(sets.paint(truth, 0)[::3, ::3]).save(small)
    assert any("fit their camera" in text and "107 x 80" in text for text in _faults(tmp_path, "bedlam"))


def test_labels_of_another_size_of_picture_fail(truth, tmp_path):
    arrays = sets.spin_arrays(truth)
    sets.write_spin(tmp_path, truth, "h36m", "h36m_train.npz", center=arrays["center"] * 3, scale=arrays["scale"] * 3)
    faults = _faults(tmp_path, "h36m")
    assert any("boxes lie outside of the picture" in text for text in faults)
    arrays["part"][..., :2] *= 8
    sets.write_spin(tmp_path, truth, "h36m", "h36m_train.npz", part=arrays["part"])
    assert any("2D points far outside of their box" in text for text in _faults(tmp_path, "h36m"))


def test_single_labels_that_are_not_finite_are_remarks_and_a_broken_file_is_a_fault(truth, tmp_path):
    arrays = sets.spin_arrays(truth)
    arrays["pose"][1, 5] = np.nan
    sets.write_spin(tmp_path, truth, "h36m", "a_train.npz", pose=arrays["pose"])
    report = check_set(tmp_path, "h36m")
    assert report.sound
    assert report.counts["with body"] == 5
    assert ["pose that is not finite" in finding.text for finding in report.findings] == [True]
    (tmp_path / "h36m" / "labels" / "b_train.npz").write_bytes(b"PK nothing")
    report = check_set(tmp_path, "h36m")
    assert not report.sound
    assert report.counts["people"] == 6
    assert "b_train.npz" in report.findings[0].text


def test_a_folder_without_data_sets_says_so(tmp_path, capsys):
    assert main(["data", "check", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "no labels of any data set" in said.err
    assert said.out.count("not there:") == 7
    assert main(["data", "check", str(tmp_path / "nothing")]) == 1
    assert "is no folder" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path), "--set", "h36m"]) == 2

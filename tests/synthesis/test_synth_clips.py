"""Synthetic clips: people keep who they are, move as bodies do, and the labels fit the video frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from components import import_or_skip

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import skin
from mchmr_stream.cli import main
from mchmr_stream.errors import UsageError
from mchmr_stream.geometry.rotation import geodesic_rad, matrix_from_axis_angle
from mchmr_stream.synthesis.captured_motion import draw_motion, gets_on, ground_path, resampled
from mchmr_stream.synthesis.clip_files import ClipLabels, read_labels, run_clips
from mchmr_stream.synthesis.clips import ClipGenerator, ClipSettings
from mchmr_stream.synthesis.generator import SynthSettings

FEET, TOES = [7, 8], [10, 11]
SMALL = ClipSettings(
    seconds=0.4, fps=25, long_side_px=(256, 256), people_probability=(0, 1.0), camera="moving", noise_probability=0, walking_probability=1
)


@pytest.fixture(scope="module")
def generator(shared: Path) -> ClipGenerator:
    return ClipGenerator(SynthSettings(shared / "data"), SMALL)


@pytest.fixture(scope="module")
def clips(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of two people, ten frames each, the camera moving."""
    out = tmp_path_factory.mktemp("clips")
    run_clips(shared / "data", out, 2, seed=3, settings=SMALL)
    return out


def labels_of(clips: Path) -> list[ClipLabels]:
    return [read_labels(path) for path in sorted(clips.glob("*.npz"))]


def in_world(labels: ClipLabels, points_m: np.ndarray) -> np.ndarray:
    turned = np.einsum("fij,fp...j->fp...i", labels.world_from_camera[:, :3, :3], points_m)
    return turned + labels.world_from_camera[:, None, None, :3, 3]


def test_joints_project_onto_the_labelled_pixels(clips):
    for labels in labels_of(clips):
        projected = np.einsum("fij,fpkj->fpki", labels.K, labels.joints_m)
        np.testing.assert_allclose(projected[..., :2] / projected[..., 2:], labels.joints_px, atol=0.02)


def test_the_free_body_with_the_labelled_pose_has_the_labelled_joints(clips):
    body = load_body("free")
    for labels in labels_of(clips):
        for person in range(len(labels.identity)):
            frames = len(labels.time_s)
            betas = torch.from_numpy(labels.betas[person]).expand(frames, 10)
            transl = torch.from_numpy(labels.transl[:, person])
            _, joints = skin(body, torch.from_numpy(labels.rotations[:, person]), betas, transl)
            np.testing.assert_allclose(joints.numpy(), labels.joints_m[:, person], atol=1e-3)


def test_people_stay_who_they_are_and_move_without_jumps(clips):
    both = labels_of(clips)
    identities = [number for labels in both for number in labels.identity.tolist()]
    assert len(identities) == len(set(identities)) == 4
    bones = {}
    for labels in both:
        joints = in_world(labels, labels.joints_m)
        assert np.linalg.norm(np.diff(joints, axis=0), axis=-1).max() < 0.3
        length = np.linalg.norm(joints[:, :, 4] - joints[:, :, 1], axis=-1)
        assert np.ptp(length, axis=0).max() < 1e-3
        bones |= dict(zip(labels.identity.tolist(), length[0].tolist(), strict=True))
        # The camera moves, the ground does not: the standing foot stays down.
        assert np.abs(joints[:, :, TOES + FEET, 1].min(-1)).max() < 0.12
        assert np.abs(np.diff(labels.world_from_camera, axis=0)).max() > 1e-5
    assert len({round(length, 4) for length in bones.values()}) == 4


def test_the_video_shows_the_frames_that_the_labels_describe(clips, generator):
    av = import_or_skip("av")
    for index, labels in enumerate(labels_of(clips)):
        with av.open(str(clips / f"clip_{index:04d}.mp4")) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, float(stream.average_rate)) == ("h264", float(labels.fps))
            shown = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(stream)]
        assert len(shown) == len(labels.time_s) == 10
        assert shown[0].shape[1::-1] == tuple(labels.size_wh)
        made = [frame.rgb.astype(float) for frame in generator.render(generator.compose(3, index))]
        difference = np.array([[np.abs(a - b).mean() for b in made] for a in shown])
        assert (difference.argmin(1) == np.arange(10)).all()
        assert difference.diagonal().max() < 12


def test_hidden_and_absent_people_are_told(clips):
    for labels in labels_of(clips):
        assert ((labels.visible_fraction >= 0) & (labels.visible_fraction <= 1)).all()
        absent = np.isnan(labels.box_xyxy_px).any(-1)
        assert (labels.visible_fraction[absent] == 0).all()
        inside = ((labels.joints_px > 0) & (labels.joints_px < labels.size_wh - 1)).all((-1, -2))
        assert not absent[inside].any()
        low, high = labels.joints_px[inside].min(1), labels.joints_px[inside].max(1)
        boxes = labels.box_xyxy_px[inside]
        assert (boxes[:, :2] < low + 1).all()
        assert (boxes[:, 2:] > high - 1).all()


def test_the_same_seed_composes_the_same_clip_and_another_does_not(generator):
    one, again, other = generator.compose(5, 1), generator.compose(5, 1), generator.compose(6, 1)
    for a, b in zip(one.actors, again.actors, strict=True):
        np.testing.assert_array_equal(a.joints_m(), b.joints_m())
        np.testing.assert_array_equal(a.identity.build.betas, b.identity.build.betas)
        assert a.identity.outfit == b.identity.outfit
    assert torch.equal(one.cameras[3].translation_m, again.cameras[3].translation_m)
    assert one.actors[0].motion.clip != other.actors[0].motion.clip or one.backdrop_seed != other.backdrop_seed


def test_a_foot_that_stands_takes_the_pelvis_along():
    frames, fps = 40, 50.0
    way = np.stack([np.linspace(0, 0.8, frames), np.linspace(0, -0.3, frames)], -1)
    joints = np.full((frames, 24, 3), 0.0)
    joints[..., 1] = 0.5
    joints[:, 0, 1] = 0
    joints[:, [7, 10], 1] = [-0.80, -0.86]
    joints[:, [8, 11], 1] = [-0.70, -0.76]
    joints[:, [7, 10]] -= np.stack([way[:, 0], np.zeros(frames), way[:, 1]], -1)[:, None]
    np.testing.assert_allclose(ground_path(joints, fps), way, atol=1e-3)


def test_walking_clips_walk_at_the_speed_of_their_legs(generator):
    library, body = generator.scenes.poses, generator.scenes.body
    rest = body.rest_joints(torch.zeros(1, 10))[0]
    rng = np.random.default_rng(0)
    speeds = []
    for _ in range(12):
        motion = draw_motion(rng, library, rest, 30.0, np.arange(61) / 30, lambda one: gets_on(one, 2.0))
        joints = motion.joints_m
        standing = joints[:, FEET, 1].argmin(1)[1:]
        slide = np.linalg.norm(np.diff(joints[:, TOES][..., [0, 2]], axis=0), axis=-1)[np.arange(60), standing] * 30
        speed = np.linalg.norm(np.diff(motion.path_m, axis=0), axis=-1) * 30
        if "walking" in motion.clip:
            speeds.append(np.median(speed))
            assert np.median(slide) < 0.35 * np.median(speed), motion.clip
    assert len(speeds) >= 3
    assert 0.6 < np.median(speeds) < 1.7


def test_resampling_keeps_frames_and_goes_halfway_between_them(generator):
    name = generator.scenes.poses.clip_names[0]
    poses = generator.scenes.poses.clip(name)[:20]
    rate = generator.scenes.poses.clip_fps(name)
    matrix = lambda angles: matrix_from_axis_angle(angles.astype(np.float64))
    same = resampled(poses, rate, np.arange(20) / rate)
    assert geodesic_rad(matrix(same), matrix(poses)).max() < 1e-5
    half = matrix(resampled(poses, rate, (np.arange(19) + 0.5) / rate))
    before, after = geodesic_rad(matrix(poses[:-1]), half), geodesic_rad(half, matrix(poses[1:]))
    np.testing.assert_allclose(before, after, atol=1e-5)
    np.testing.assert_allclose(before + after, geodesic_rad(matrix(poses[:-1]), matrix(poses[1:])), atol=1e-5)
    with pytest.raises(UsageError, match=r"requested from a clip of"):
        resampled(poses, rate, np.array([0.0, 20 / rate]))


def test_requests_that_make_no_sense_are_refused(shared, tmp_path, capsys):
    with pytest.raises(UsageError, match="at least 1"):
        run_clips(shared / "data", tmp_path, 0)
    with pytest.raises(UsageError, match="60 s"):
        ClipSettings(seconds=100)
    (tmp_path / "clip_0000.mp4").touch()
    with pytest.raises(UsageError, match="already holds clips"):
        run_clips(shared / "data", tmp_path, 1)
    assert main(["synth", "-o", str(tmp_path), "-n", "1", "--data", str(shared / "data"), "--fps", "30"]) == 2
    assert "add --clips" in capsys.readouterr().err


@pytest.mark.parametrize("staging", ["crossing", "entering", "sitting"])
def test_what_a_staging_asks_for_happens(generator, staging):
    settings = ClipSettings(seconds=5, fps=10, long_side_px=(256, 256), aspects=(16 / 9,), camera="still", staging=staging)
    stage = ClipGenerator.__new__(ClipGenerator)
    stage.settings, stage.scenes = settings, generator.scenes
    clip = stage.compose(0, 0)
    width = clip.cameras[0].width
    pelvis_px = []
    for actor in clip.actors:
        points = [
            camera.camera_points(torch.as_tensor(joints, dtype=torch.float32))
            for joints, camera in zip(actor.joints_m(), clip.cameras, strict=True)
        ]
        seen = torch.stack(points)[:, 0].numpy()
        pelvis_px.append(clip.cameras[0].intrinsics.fx * seen[:, 0] / seen[:, 2] + width / 2)
    if staging == "crossing":
        before = pelvis_px[0] < pelvis_px[1]
        assert before[0]
        assert not before[-1], "they change sides"
    elif staging == "entering":
        inside = [(px > 0) & (px < width) for px in pelvis_px]
        assert not inside[0][0]
        assert not inside[1][0]
        assert not inside[2][-1], "the third one leaves"
        assert all(one.any() for one in inside)
    else:
        heights = [actor.motion.joints_m[:, 0, 1] for actor in clip.actors]
        assert all(np.ptp(height) > 0.25 for height in heights[:2])
        assert all(abs(height[0] - height[-1]) < 0.3 for height in heights[:2])


def test_a_staging_that_nobody_knows_is_refused():
    with pytest.raises(UsageError, match="expected one of crossing, hiding"):
        ClipSettings(staging="dancing")

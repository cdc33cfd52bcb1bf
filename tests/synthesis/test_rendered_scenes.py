"""Synthetic people: labels are exact, pictures obey the laws of mirrors and cameras, files come back as they were written."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from components import import_or_skip
from PIL import Image

import mchmr_stream
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.synthesis.backgrounds import Backdrop, BackgroundBank
from mchmr_stream.synthesis.generator import Composition, SceneGenerator, SynthSettings
from mchmr_stream.synthesis.lighting import drawn_light, light_of_panorama
from mchmr_stream.synthesis.people import Identity, PosedPerson, pose_person
from mchmr_stream.synthesis.poses import Pose, PoseLibrary, PoseSettings, mirrored
from mchmr_stream.synthesis.random_cameras import RandomCameraSettings, SceneCamera, frame_subject
from mchmr_stream.synthesis.random_shapes import BodyShape, arm_to_leg_ratio
from mchmr_stream.synthesis.render import Drawing, draw_people
from mchmr_stream.synthesis.rig import BETAS
from mchmr_stream.synthesis.shards import contact_sheet, read_shard, read_shards, run_synth, write_shard
from mchmr_stream.synthesis.textured_rasterizer import Triangles, rasterise

_FACING = torch.tensor([[1.0, 0, 0], [0, -1.0, 0], [0, 0, -1.0]])
_SIZE = 360


@pytest.fixture(scope="module")
def generator(shared: Path) -> SceneGenerator:
    return SceneGenerator(SynthSettings(shared / "data", cameras=RandomCameraSettings(long_side_px=(320, 400))))


def _camera(distance_m: float = 3.2) -> SceneCamera:
    """Level, looking at the world's z axis from in front, a metre above the ground."""
    return SceneCamera(_SIZE, _SIZE, Intrinsics.from_focal(_SIZE, _SIZE, 500.0), _FACING, torch.tensor([0.0, 1.0, distance_m]))


def _naked(generator: SceneGenerator, axis_angle: np.ndarray, shape: np.ndarray | None = None) -> PosedPerson:
    build = BodyShape("male", np.zeros(BETAS, np.float32) if shape is None else shape)
    outfit = generator.wardrobe.naked()
    return pose_person(
        generator.body, Identity(build, outfit), generator.wardrobe.dress(outfit), Pose(axis_angle, "test/pose", "upright"), 0.0
    )


def _draw(generator: SceneGenerator, people: list[PosedPerson], camera: SceneCamera) -> Drawing:
    size = camera.height, camera.width
    nothing = Backdrop(torch.zeros(*size, 3), torch.full(size, torch.inf), drawn_light(np.random.default_rng(0), np.ones(3)), "none")
    return draw_people(people, camera, nothing, generator.wardrobe.textures, generator.wardrobe.patterns, 0.9)


def _standing_pose() -> np.ndarray:
    """Arms half down, one knee bent, trunk turned: nothing symmetric."""
    pose = np.zeros((24, 3), np.float32)
    pose[16, 2], pose[17, 2], pose[18, 1], pose[1, 0], pose[4, 0], pose[3, 1], pose[15, 1] = -0.7, 0.4, -0.6, -0.5, 0.8, 0.3, 0.4
    return pose


@pytest.mark.filterwarnings("ignore")
def test_labels_give_the_drawn_skin_through_another_body_model(generator: SceneGenerator) -> None:
    """`smplx` on the shipped body, fed with our labels only, puts every vertex and joint where we drew it."""
    smplx = import_or_skip("smplx")
    shipped = Path(mchmr_stream.__file__).with_name("assets") / "free_body.npz"
    with np.load(shipped, allow_pickle=False) as archive:
        fields = {name: archive[name] for name in archive.files if not name.startswith("sample")}
    fields["posedirs"] = fields["posedirs"].astype(np.float32)
    fields["shapedirs"] = fields["shapedirs"].astype(np.float32)
    model = smplx.SMPL("", data_struct=smplx.utils.Struct(**fields), create_transl=False)
    checked = 0
    for index in range(5):
        composition = generator.compose(np.random.default_rng([5, index]))
        scene = generator.render(composition)
        for label, person in zip(scene.people, composition.people, strict=True):
            with torch.no_grad():
                output = model(
                    betas=torch.as_tensor(label.betas)[None], global_orient=torch.as_tensor(label.rotations[None, :1]),
                    body_pose=torch.as_tensor(label.rotations[None, 1:]), transl=torch.as_tensor(label.transl)[None], pose2rot=False,
                )  # fmt: skip
            drawn = composition.camera.camera_points(person.skin_m[generator.body.subset])
            assert float((output.vertices[0] - drawn).norm(dim=-1).max()) < 1e-3
            np.testing.assert_allclose(output.joints[0, :24].numpy(), label.joints_m, atol=3e-4)
            checked += 1
    assert checked >= 3


def test_joints_land_in_the_silhouette(generator: SceneGenerator) -> None:
    poses = [np.zeros((24, 3), np.float32), _standing_pose()]
    rng = np.random.default_rng(3)
    poses += [generator.poses.draw(rng).axis_angle for _ in range(6)]
    for axis_angle in poses:
        person = _naked(generator, axis_angle)
        camera = _camera(4.0)
        drawing = _draw(generator, [person], camera)
        inside = (drawing.owner == 0).numpy()
        # The toe and hand joints lie in thin parts: one pixel of slack.
        grown = np.stack([np.roll(inside, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]).any(0)
        px = project(camera.camera_points(person.joints_m), camera.intrinsics).numpy().round().astype(int)
        assert ((px >= 0) & (px < _SIZE)).all()
        assert grown[px[:, 1], px[:, 0]].mean() > 0.99
        box = drawing.boxes_xyxy_px[0].numpy()
        rows, columns = np.nonzero(inside)
        np.testing.assert_allclose(box, [columns.min(), rows.min(), columns.max(), rows.max()], atol=1.6)


def test_a_mirrored_pose_gives_a_mirrored_picture(generator: SceneGenerator) -> None:
    pose = _standing_pose()
    one, other = _naked(generator, pose), _naked(generator, mirrored(pose))
    flipped = torch.as_tensor(project(_camera().camera_points(one.joints_m), _camera().intrinsics))
    flipped[:, 0] = _SIZE - 1 - flipped[:, 0]
    swap = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
    seen = project(_camera().camera_points(other.joints_m), _camera().intrinsics)
    assert float((flipped[swap] - seen).abs().max()) < 0.5
    mask, mirror = (_draw(generator, [person], _camera()).owner == 0 for person in (one, other))
    mask = mask.flip(1)
    assert float((mask & mirror).sum() / (mask | mirror).sum()) > 0.985
    assert float((mask.flip(1) & mirror).sum() / (mask.flip(1) | mirror).sum()) < 0.9


def test_the_nearer_person_hides_the_farther(generator: SceneGenerator) -> None:
    front = _naked(generator, _standing_pose())
    behind = front.moved_by(torch.tensor([0.1, 0.0, -1.0]))
    drawing = _draw(generator, [behind, front], _camera())
    assert float(drawing.visible_fraction[1]) == 1.0
    assert float(drawing.visible_fraction[0]) < 0.6
    alone = _draw(generator, [behind], _camera())
    assert float(alone.visible_fraction[0]) == 1.0
    # What is hidden lies where the nearer one stands, but for the border (the two pictures are drawn at different fineness).
    hidden = (alone.owner == 0) & (drawing.owner != 0)
    assert float((drawing.owner[hidden] == 1).float().mean()) > 0.95


def test_truncation_is_measured_and_can_be_chosen(generator: SceneGenerator) -> None:
    person = _naked(generator, _standing_pose())
    rng = np.random.default_rng(0)
    label = {}
    for shot in ("full", "waist", "head"):
        camera = frame_subject(rng, _camera(), person, shot, 0)
        label[shot] = generator.render(Composition(camera, (person,), shot, 1, 2)).people[0]
    assert label["full"].truncated_fraction < 0.05
    assert label["waist"].truncated_fraction > 0.25
    assert (label["waist"].keypoints_px[15:, 2] == 0).all()
    assert 0.4 < label["head"].truncated_fraction <= 1
    hidden_face = generator.render(Composition(_camera(), (_naked(generator, _turned_away()),), "full", 1, 2)).people[0]
    assert hidden_face.keypoints_px[0, 2] == 0
    assert label["full"].keypoints_px[0, 2] == 1


def _turned_away() -> np.ndarray:
    pose = np.zeros((24, 3), np.float32)
    pose[0, 1] = np.pi
    return pose


def test_same_seed_same_scene_other_seed_another(generator: SceneGenerator) -> None:
    first = generator.scene(3, 1)
    generator.scene(4, 0)
    again = generator.scene(3, 1)
    assert first.jpeg == again.jpeg
    for one, two in zip(first.people, again.people, strict=True):
        for field in dataclasses.fields(one):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))
    assert generator.scene(4, 1).jpeg != first.jpeg


def test_builds_are_balanced_and_arms_are_long_enough(generator: SceneGenerator) -> None:
    rng = np.random.default_rng(0)
    stature, ratio = {}, {}
    for sex in ("female", "male"):
        shape = torch.as_tensor(np.stack([generator.shapes.draw(rng, sex).betas for _ in range(300)]))
        joints = generator.body.rest_joints(shape)
        stature[sex] = float((joints[:, 15, 1] - joints[:, 10, 1]).mean())
        ratio[sex] = arm_to_leg_ratio(joints)
    assert stature["male"] - stature["female"] > 0.08
    for values in ratio.values():
        assert 0.63 < float(values.mean()) < 0.69
        assert float((values > 0.669).float().mean()) > 0.1


def test_no_clip_is_in_both_splits(generator: SceneGenerator, shared: Path) -> None:
    test = PoseLibrary(shared / "data", generator.body, PoseSettings(split="test"))
    assert test.clip_names
    assert not set(test.clip_names) & set(generator.poses.clip_names)
    rng = np.random.default_rng(0)
    drawn = [generator.poses.draw(rng) for _ in range(400)]
    assert not {pose.clip for pose in drawn if pose.source != "procedural"} & set(test.clip_names)
    share = np.mean([pose.family in ("seated", "kneeling", "lying", "bent") for pose in drawn])
    assert 0.25 < share < 0.6
    assert 0.35 < np.mean([pose.mirrored for pose in drawn]) < 0.65
    with pytest.raises(UsageError, match="'train' or 'test'"):
        PoseLibrary(shared / "data", generator.body, PoseSettings(split="all"))  # type: ignore[arg-type]


def test_shards_come_back(generator: SceneGenerator, tmp_path: Path) -> None:
    scenes = [generator.scene(1, index) for index in range(3)]
    path = write_shard(tmp_path / "shard_0000.npz", scenes)
    for one, two in zip(scenes, read_shard(path), strict=True):
        assert one.jpeg == two.jpeg
        assert (one.intrinsics, one.width, one.height, one.background) == (two.intrinsics, two.width, two.height, two.background)
        assert two.rgb().shape == (one.height, one.width, 3)
        for a, b in zip(one.people, two.people, strict=True):
            for field in dataclasses.fields(a):
                np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))
    assert sum(1 for _ in read_shards(tmp_path)) == 3
    assert contact_sheet(scenes, 64, 2).size == (128, 128)
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(InputError, match="synthetic shard"):
        read_shard(tmp_path / "bad.npz")


def test_run_synth_refuses_what_it_cannot_do(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        run_synth(shared / "data", tmp_path, 0)
    (tmp_path / "shard_0000.npz").touch()
    with pytest.raises(UsageError, match="already holds shards"):
        run_synth(shared / "data", tmp_path, 1)
    with pytest.raises(InputError, match=r"render_body\.npz"):
        run_synth(tmp_path, tmp_path / "out", 1)
    with pytest.raises(InputError, match="does not exist"):
        BackgroundBank(tmp_path / "nowhere")


def test_rasteriser_against_a_slow_one() -> None:
    """Random triangles, every pixel tested against every triangle by the textbook rule."""
    rng = np.random.default_rng(0)
    height, width, count = 24, 30, 40
    vertices = np.c_[rng.uniform(-6, 36, (3 * count, 2)), rng.uniform(0.5, 4, 3 * count)].astype(np.float32)
    # Edges that run along pixel rows and columns are where a rasteriser goes wrong.
    vertices[:6, :2] = [[2, 5], [20, 5], [11, 15], [4, 20], [4, 8], [20, 20]]
    faces = np.arange(3 * count).reshape(-1, 3)
    double_sided = np.arange(count) % 3 != 0
    expected = np.full((height, width), np.inf)
    for face, both in zip(faces, double_sided, strict=True):
        (xa, ya, za), (xb, yb, zb), (xc, yc, zc) = vertices[face].astype(np.float64)
        area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya)
        if not both and area > 0:
            continue
        for row in range(height):
            for column in range(width):
                a = ((xb - column) * (yc - row) - (xc - column) * (yb - row)) / area
                b = ((xc - column) * (ya - row) - (xa - column) * (yc - row)) / area
                c = 1 - a - b
                if min(a, b, c) >= -1e-9:
                    expected[row, column] = min(expected[row, column], 1 / (a / za + b / zb + c / zc))
    uv = torch.zeros(count, 3, 2)
    triangles = Triangles(
        torch.as_tensor(vertices), torch.as_tensor(faces), uv, torch.zeros(count, dtype=torch.int64), torch.arange(count) % 4,
        torch.zeros(count, dtype=torch.int64), torch.as_tensor(double_sided),
    )  # fmt: skip
    solid = torch.full((1, 4, 4, 4), 255, dtype=torch.uint8)
    found = rasterise(triangles, solid, torch.zeros(1, dtype=torch.bool), (height, width), 1, 4)
    depth = np.full(height * width, np.inf)
    depth[found.pixel.numpy()] = found.depth_m.numpy()
    depth = depth.reshape(height, width)
    same = np.isclose(depth, expected, rtol=1e-3) | (np.isinf(depth) & np.isinf(expected))
    assert (~same).sum() <= 2, "only pixels exactly on an edge may differ"
    np.testing.assert_allclose(found.barycentric.sum(1).numpy(), 1, atol=1e-3)
    holes = rasterise(triangles, solid * 0, torch.ones(1, dtype=torch.bool), (height, width), 1, 4)
    assert len(holes.pixel) == 0
    assert int(holes.alone_px.sum()) == 0


def test_uniform_light_is_uniform_and_a_sky_lights_from_above() -> None:
    normals = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    uniform = light_of_panorama(np.ones((64, 128, 3)), 0.3)
    np.testing.assert_allclose(uniform.irradiance(normals).numpy(), 1, atol=0.01)
    side = np.ones((64, 128, 3)) * 0.1
    side[20:40, 60:68] = 5.0
    lit = light_of_panorama(side, 0.0).irradiance(torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 1, 0]]))[:, 0]
    # The middle column of a panorama is straight ahead, +z.
    assert float(lit[0]) > 2 * float(lit[1])


def test_background_folders_may_be_put_together_from_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    Image.new("RGB", (64, 48), (10, 200, 30)).save(tmp_path / "elsewhere" / "meadow.png")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "linked").symlink_to(tmp_path / "elsewhere")
    BackgroundBank(tmp_path / "pictures")  # refuses a folder in which it finds nothing
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        BackgroundBank(tmp_path / "empty")

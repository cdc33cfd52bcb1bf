"""Motion of the user's own: files written from known rotations come back as those rotations, others are refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import forward_kinematics
from mchmr_stream.cli import main
from mchmr_stream.datatypes import JOINT_NAMES
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.synthesis.bvh_reader import read_bvh
from mchmr_stream.synthesis.bvh_retarget import find_joints, smallest_rotation
from mchmr_stream.synthesis.pose_files import read_pose_file, read_pose_files
from mchmr_stream.synthesis.poses import PoseLibrary, PoseSettings, clip_split
from mchmr_stream.synthesis.rig import load_render_body
from mchmr_stream.synthesis.shards import read_shards
from mchmr_stream.synthesis.source_body import PARENTS
from mchmr_stream.training.common.train_settings import TrainSettings
from mchmr_stream.training.observations.training_data import gather, pose_pool

Z_UP_FROM_Y_UP = Rotation.from_euler("X", 90, degrees=True)
HEAD, LEFT_FOOT, RIGHT_FOOT = 15, 10, 11


@pytest.fixture(scope="module")
def rest() -> np.ndarray:
    """(24, 3) the free body's T-pose."""
    joints, _ = forward_kinematics(load_body("free"), torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))
    return joints[0].double().numpy()


def placed(axis_angle: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """(T, 24, 3) -> joints (T, 24, 3) around the pelvis, one joint and frame after the other."""
    out = np.zeros((len(axis_angle), 24, 3))
    for frame, pose in enumerate(axis_angle):
        turned: list[Rotation] = []
        for joint, parent in enumerate(PARENTS):
            local = Rotation.from_rotvec(pose[joint])
            turned.append(local if parent < 0 else turned[parent] * local)
            if parent >= 0:
                out[frame, joint] = out[frame, parent] + turned[parent].apply(rest[joint] - rest[parent])
    return out


def movement(frames: int = 6, seed: int = 0) -> np.ndarray:
    """(T, 24, 3) anything a body can do and more; hands straight."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(0, 0.5, (frames, 24, 3))
    poses[:, 0] = rng.normal(0, 1.2, (frames, 3))
    poses[:, 22:] = 0
    return poses


def amass(poses: np.ndarray, width: int) -> dict[str, np.ndarray]:
    """What an AMASS file holds of them: z up, and hands that are not straight."""
    numbers = np.random.default_rng(1).normal(0, 0.3, (len(poses), width))
    numbers[:, :66] = poses[:, :22].reshape(-1, 66)
    numbers[:, :3] = (Z_UP_FROM_Y_UP * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    rate = "mocap_frame_rate" if width == 165 else "mocap_framerate"
    return {"poses": numbers, "trans": np.zeros((len(poses), 3)), rate: np.array(30.0), "gender": np.array("male")}


@pytest.mark.parametrize("width", [72, 156, 165])
def test_amass_comes_back_y_up_with_straight_hands(tmp_path, rest, width):
    poses = movement()
    np.savez(tmp_path / "walk.npz", **amass(poses, width))
    clip = read_pose_file(tmp_path / "walk.npz", "user/walk", rest)
    np.testing.assert_allclose(placed(clip.axis_angle, rest), placed(poses, rest), atol=1e-3)
    assert not clip.axis_angle[:, 22:].any()
    assert clip.fps == 30


def test_someone_who_stands_in_a_z_up_file_stands(tmp_path, rest):
    numbers = np.zeros((3, 156))
    numbers[:, 0] = np.pi / 2
    np.savez(tmp_path / "stand.npz", poses=numbers, mocap_framerate=120.0)
    (pose,) = read_pose_file(tmp_path / "stand.npz", "user/stand", rest).axis_angle[:1]
    joints = placed(pose[None], rest)[0]
    assert joints[HEAD, 1] > 0.4
    assert max(joints[LEFT_FOOT, 1], joints[RIGHT_FOOT, 1]) < -0.7


def _as_vectors(poses: np.ndarray) -> dict[str, np.ndarray]:
    return {"global_orient": poses[:, 0], "body_pose": poses[:, 1:].reshape(-1, 69)}


def _as_21_joints(poses: np.ndarray) -> dict[str, np.ndarray]:
    return {"global_orient": poses[:, :1], "body_pose": poses[:, 1:22]}


def _as_matrices(poses: np.ndarray) -> dict[str, np.ndarray]:
    matrices = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, 24, 3, 3)
    return {"global_orient": matrices[:, 0], "body_pose": matrices[:, 1:]}


@pytest.mark.parametrize("written", [_as_vectors, _as_21_joints, _as_matrices])
def test_smpl_files_of_every_shape_come_back(tmp_path, rest, written: Callable[[np.ndarray], dict[str, np.ndarray]]):
    poses = movement()
    np.savez(tmp_path / "smpl.npz", **written(poses), fps=30)
    clip = read_pose_file(tmp_path / "smpl.npz", "user/smpl", rest)
    np.testing.assert_allclose(placed(clip.axis_angle, rest), placed(poses, rest), atol=1e-3)


def test_dense_files_are_thinned_by_whole_frames_and_a_missing_rate_is_said(tmp_path, rest, caplog):
    poses = movement(240)
    np.savez(tmp_path / "dense.npz", **_as_vectors(poses), fps=100)
    clip = read_pose_file(tmp_path / "dense.npz", "user/dense", rest)
    assert (len(clip.axis_angle), clip.fps) == (80, pytest.approx(100 / 3))
    np.testing.assert_allclose(placed(clip.axis_angle[:3], rest), placed(poses[:9:3], rest), atol=1e-3)
    np.savez(tmp_path / "timeless.npz", **_as_vectors(poses))
    assert read_pose_file(tmp_path / "timeless.npz", "user/timeless", rest).fps == 30
    assert "does not say its frame rate" in caplog.text


MIXAMO = {
    "pelvis": "Hips", "spine1": "Spine", "spine2": "Spine1", "spine3": "Spine2", "neck": "Neck", "head": "Head",
    **{f"{side.lower()}_{joint}": f"{side}{name}" for side in ("Left", "Right") for joint, name in {
        "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "ToeBase",
        "collar": "Shoulder", "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand", "hand": "HandMiddle1",
    }.items()},
}  # fmt: skip
MAX = MIXAMO | {
    "spine1": "LowerBack", "spine2": "Chest", "spine3": "Chest2",
    **{f"{side.lower()}_{joint}": f"{side}{joint.capitalize()}" for side in ("Left", "Right") for joint in (
        "hip", "knee", "ankle", "collar", "shoulder", "elbow", "wrist")},
    **{f"{side.lower()}_foot": f"{side}Toe" for side in ("Left", "Right")},
}  # fmt: skip
BLENDER = MIXAMO | {
    f"{side}_{joint}": f"{name}.{side[0].upper()}" for side in ("left", "right") for joint, name in {
        "hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "toe",
        "collar": "shoulder", "shoulder": "upper_arm", "elbow": "forearm", "wrist": "hand"}.items()
}  # fmt: skip
SMPL = {name: name for name in JOINT_NAMES}


def bvh_text(
    poses: np.ndarray,
    rest: np.ndarray,
    names: dict[str, str] = MIXAMO,
    *,
    order: str = "ZXY",
    zero_pose: np.ndarray | None = None,
    axes: Rotation | None = None,
    frame_time: float = 1 / 30,
    ending_at: Sequence[str] = (),
) -> str:
    """A BVH file of known rotations, in centimetres.

    `zero_pose` (24, 3): the pose of SMPL that the file's zero rotations mean; `axes`: the file's axes from ours; `ending_at`: joints that
    are end sites, without their descendants.
    """
    axes = axes or Rotation.identity()
    stance = np.zeros((24, 3)) if zero_pose is None else zero_pose
    offsets = axes.apply(np.array([p - q for p, q in zip(placed(stance[None], rest)[0], _parent_places(stance, rest), strict=True)]) * 100)
    zero_world = _in_world(stance)
    text = ["HIERARCHY"]

    def write(joint: int, depth: int) -> None:
        pad = "\t" * depth
        text.append(f"{pad}{'ROOT' if joint == 0 else 'JOINT'} {names[JOINT_NAMES[joint]]}")
        text.append(f"{pad}{{")
        text.append(f"{pad}\tOFFSET {' '.join(f'{value:.6f}' for value in offsets[joint])}")
        rotations = [f"{axis}rotation" for axis in order]
        channels = ["Xposition", "Yposition", "Zposition", *rotations] if joint == 0 else rotations
        text.append(f"{pad}\tCHANNELS {len(channels)} {' '.join(channels)}")
        children = [child for child in range(24) if PARENTS[child] == joint]
        for child in children:
            if JOINT_NAMES[child] in ending_at:
                offset = " ".join(f"{value:.6f}" for value in offsets[child])
                text.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET {offset}", f"{pad}\t}}"])
            else:
                write(child, depth + 1)
        if not children:
            text.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET 0 5 0", f"{pad}\t}}"])
        text.append(f"{pad}}}")

    write(0, 0)
    depth_first = _depth_first(ending_at=ending_at)
    text += ["MOTION", f"Frames: {len(poses)}", f"Frame Time: {frame_time:.7f}"]
    for pose in poses:
        world = _in_world(pose)
        # The file's joint has turned by what SMPL's has since SMPL's took the zero pose.
        turned = [axes * world[joint] * zero_world[joint].inv() * axes.inv() for joint in range(24)]
        local = [turned[joint] if PARENTS[joint] < 0 else turned[PARENTS[joint]].inv() * turned[joint] for joint in range(24)]
        numbers = [1.0, 90.0, 2.0]
        for joint in depth_first:
            numbers += local[joint].as_euler(order, degrees=True).tolist()
        text.append(" ".join(f"{number:.6f}" for number in numbers))
    return "\n".join(text) + "\n"


def _parent_places(pose: np.ndarray, rest: np.ndarray) -> np.ndarray:
    places = placed(pose[None], rest)[0]
    return np.array([places[max(parent, 0)] for parent in PARENTS])


def _in_world(pose: np.ndarray) -> list[Rotation]:
    turned: list[Rotation] = []
    for joint, parent in enumerate(PARENTS):
        local = Rotation.from_rotvec(pose[joint])
        turned.append(local if parent < 0 else turned[parent] * local)
    return turned


def _depth_first(joint: int = 0, ending_at: Sequence[str] = ()) -> list[int]:
    children = [child for child in range(24) if PARENTS[child] == joint and JOINT_NAMES[child] not in ending_at]
    return [joint, *(each for child in children for each in _depth_first(child, ending_at))]


def arms_down() -> np.ndarray:
    """The zero pose of many files: arms half lowered, legs a little apart."""
    pose = np.zeros((24, 3))
    for joint, angle in ((16, -1.2), (17, 1.2), (1, 0.15), (2, -0.15)):
        pose[joint, 2] = angle
    return pose


@pytest.mark.filterwarnings("ignore:Gimbal lock")
@pytest.mark.parametrize(
    ("ending_at", "renamed"),
    [
        (("left_wrist", "right_wrist"), {}),
        (("left_wrist", "right_wrist", "left_ankle", "right_ankle"), {"left_ankle": "x", "right_ankle": "y"}),
        ((), {"head": "face"}),
        ((), {"left_wrist": "LeftGrip", "right_wrist": "RightGrip", "left_hand": "Tip1", "right_hand": "Tip2", "head": "Skull"}),
        (("left_foot", "right_foot", "left_hand", "right_hand"), {}),
    ],
)
def test_bvh_whose_limbs_end_early_or_go_by_other_names(tmp_path, rest, ending_at, renamed):
    poses, bent = movement(3), arms_down()
    bent[18, 1], bent[19, 1] = -0.8, 0.8  # so that a forearm has a direction of its own without rotations
    (tmp_path / "short.bvh").write_text(bvh_text(poses, rest, MIXAMO | renamed, ending_at=ending_at, zero_pose=bent))
    if "left_ankle" in ending_at:
        with pytest.raises(InputError, match="no joint is called like left_ankle"):
            read_pose_file(tmp_path / "short.bvh", "user/short", rest)
        return
    clip = read_pose_file(tmp_path / "short.bvh", "user/short", rest)
    kept = [joint for joint, name in enumerate(JOINT_NAMES) if "hand" not in name and "foot" not in name]
    np.testing.assert_allclose(placed(clip.axis_angle, rest)[:, kept], placed(poses, rest)[:, kept], atol=2e-3)


@pytest.mark.filterwarnings("ignore:Gimbal lock")
@pytest.mark.parametrize(
    ("names", "order", "zero_pose", "axes"),
    [
        (MIXAMO, "ZXY", None, None),
        (SMPL, "ZYX", None, None),
        (MAX, "XYZ", arms_down(), None),
        (BLENDER, "YXZ", None, Z_UP_FROM_Y_UP),
        (MIXAMO, "ZYX", arms_down(), Z_UP_FROM_Y_UP * Rotation.from_euler("Y", 90, degrees=True)),
    ],
)
def test_bvh_puts_every_joint_where_the_file_has_it(tmp_path, rest, names, order, zero_pose, axes):
    poses = movement()
    (tmp_path / "dance.bvh").write_text(bvh_text(poses, rest, names, order=order, zero_pose=zero_pose, axes=axes))
    clip = read_pose_file(tmp_path / "dance.bvh", "user/dance", rest)
    got, want = placed(clip.axis_angle, rest)[:, :22], placed(poses, rest)[:, :22]
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert clip.fps == pytest.approx(30, rel=1e-4)
    assert not clip.axis_angle[:, 22:].any()
    if zero_pose is None:
        np.testing.assert_allclose(clip.axis_angle[:, :22], poses_shortest(poses)[:, :22], atol=1e-3)


def poses_shortest(poses: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(poses.reshape(-1, 3)).as_rotvec().reshape(poses.shape)


def test_a_skeleton_that_stands_only_in_its_first_frame_says_so(tmp_path, rest, caplog):
    """As if its bones had been made along one axis: what zero rotations mean is no person."""
    curled = movement(1, seed=3)[0] * 3
    curled[0] = [2.0, 0, 0]
    poses = np.concatenate([np.zeros((1, 24, 3)), movement(4)])
    (tmp_path / "first.bvh").write_text(bvh_text(poses, rest, zero_pose=curled))
    clip = read_pose_file(tmp_path / "first.bvh", "user/first", rest)
    assert "first frame" in caplog.text
    np.testing.assert_allclose(placed(clip.axis_angle, rest)[:, :22], placed(poses, rest)[:, :22], atol=2e-3)
    (tmp_path / "never.bvh").write_text(bvh_text(poses[:1] + curled, rest, zero_pose=curled))
    with pytest.raises(InputError, match="T-pose into the first frame"):
        read_pose_file(tmp_path / "never.bvh", "user/never", rest)


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        (["Hips", "LHipJoint", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase"], "LeftUpLeg LeftLeg LeftFoot LeftToeBase"),
        (["hip", "pelvis", "lThigh", "lShin", "lFoot", "lToe"], "lThigh lShin lFoot lToe"),
        (["CC_Base_Hip", "x", "CC_Base_L_Thigh", "CC_Base_L_Calf", "CC_Base_L_Foot", "CC_Base_L_ToeBase"],
         "CC_Base_L_Thigh CC_Base_L_Calf CC_Base_L_Foot CC_Base_L_ToeBase"),
        (["a:mixamorig:Hips", "x", "mixamorig:LeftUpLeg", "mixamorig:LeftLeg", "mixamorig:LeftFoot", "mixamorig:LeftToeBase"],
         "mixamorig:LeftUpLeg mixamorig:LeftLeg mixamorig:LeftFoot mixamorig:LeftToeBase"),
        (["Bip01", "Bip01 Pelvis", "Bip01 L Thigh", "Bip01 L Calf", "Bip01 L Foot", "Bip01 L Toe"],
         "Bip01 L Thigh|Bip01 L Calf|Bip01 L Foot|Bip01 L Toe"),
    ],
)  # fmt: skip
def test_legs_are_found_by_the_names_that_files_use(tmp_path, spelling: Sequence[str], expected):
    root, between, *leg = spelling
    right = [name.replace("Left", "Right").replace(" L ", " R ").replace("_L_", "_R_") for name in leg]
    right = [f"r{name[1:]}" if name[0] == "l" else name for name in right]
    chains = [[f"{between} {side}" if between == "x" else f"{between}{number}", *chain]
              for number, (side, chain) in enumerate((("one", leg), ("two", right)))]  # fmt: skip
    arms = [["Chest", "LeftArm", "LeftForeArm"], ["RightArm", "RightForeArm"], ["Head"]]
    text = f"HIERARCHY\nROOT {root}\n{{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\n"
    for chain in chains:
        text += _nested(chain)
    text += _nested(["Spine"], inside=_nested(["Chest"], inside="".join(_nested(arm[arm[0] == "Chest" :]) for arm in arms)))
    (tmp_path / "named.bvh").write_text(text + "}\nMOTION\nFrames: 1\nFrame Time: 0.1\n" + "0\n")
    bvh = read_bvh(tmp_path / "named.bvh")
    joints = find_joints(bvh, tmp_path / "named.bvh")
    found = [bvh.names[joints[f"left_{part}"]] for part in ("hip", "knee", "ankle", "foot")]
    assert found == (expected.split("|") if "|" in expected else expected.split())
    assert bvh.names[joints["pelvis"]] == root
    assert all(bvh.names[joints[f"right_{part}"]] in right for part in ("hip", "knee", "ankle", "foot"))


def _nested(chain: Sequence[str], inside: str = "End Site\n{\nOFFSET 0 1 0\n}\n") -> str:
    for name in reversed(chain):
        inside = f"JOINT {name}\n{{\nOFFSET 0 1 0\nCHANNELS 0\n{inside}}}\n"
    return inside


def test_the_smallest_rotation_turns_one_direction_into_another():
    rng = np.random.default_rng(0)
    pairs = [*rng.normal(size=(20, 2, 3)), np.array([[1.0, 0, 0], [-2.0, 0, 0]]), np.array([[0, 3.0, 0], [0, 1.0, 0]])]
    for start, end in pairs:
        turned = smallest_rotation(start, end)
        np.testing.assert_allclose(turned @ start / np.linalg.norm(start), end / np.linalg.norm(end), atol=1e-9)
        between = np.arccos(np.clip(start @ end / np.linalg.norm(start) / np.linalg.norm(end), -1, 1))
        assert Rotation.from_matrix(turned).magnitude() == pytest.approx(between, abs=1e-6)


def _without(text: str, what: str, by: str = "") -> str:
    assert what in text
    return text.replace(what, by, 1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: "", "no HIERARCHY"),
        (lambda text: text[: text.index("LeftUpLeg")] + "MOTION\nFrames: 1\nFrame Time: 0.1\n", "cut off"),
        (lambda text: _without(text, "Frames: 2", "Frames: 900000000"), "claims 9e"),
        (lambda text: _without(text, "Frames: 2", "Frames: 3"), "there are 2"),
        (lambda text: text.rstrip()[:-9] + "\n", "numbers"),
        (lambda text: text.rstrip()[:-9] + " nan\n", "not finite"),
        (lambda text: _without(text, "Zrotation", "Wrotation"), "Wrotation"),
        (lambda text: _without(text, "CHANNELS 6", "CHANNELS 9"), "expected 0 to 6"),
        (lambda text: _without(text, "Frame Time: 0.0333333", "Frame Time: 0"), "a frame takes 0"),
        (lambda text: text.replace("ForeArm", "Tentacle"), "left_elbow"),
        (lambda text: _without(text, "OFFSET", "OFSET"), "OFSET"),
    ],
)
def test_damaged_bvh_is_refused_in_one_line(tmp_path, rest, damage: Callable[[str], str], said: str):
    path = tmp_path / "bad.bvh"
    path.write_text(damage(bvh_text(movement(2), rest)))
    with pytest.raises(InputError, match=said) as caught:
        read_pose_file(path, "user/bad", rest)
    assert "\n" not in str(caught.value)
    assert "bad.bvh" in str(caught.value)


def _video_file() -> dict[str, np.ndarray]:
    return {"schema": np.array(1), "track_id": np.zeros(2, np.int64), **_as_matrices(movement(2))}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (_video_file(), "written by `mchmr video`"),
        ({"poses": np.zeros((4, 99)), "fps": 30}, "expected one of"),
        ({"poses": np.full((4, 72), np.nan), "fps": 30}, "not finite"),
        ({"poses": np.full((4, 72), 90.0), "fps": 30}, "radians"),
        ({"poses": np.zeros((0, 72)), "fps": 30}, "no frames"),
        ({"poses": np.zeros((4, 72)), "fps": 0}, "fps is 0"),
        ({"poses": np.array([{}], object), "fps": 30}, "pickled"),
        ({"global_orient": np.zeros((4, 3)), "body_pose": np.zeros((3, 69)), "fps": 30}, "as many of both"),
        ({"global_orient": np.zeros((4, 3)), "body_pose": np.zeros((4, 60)), "fps": 30}, "21 or 23 joints"),
        ({"global_orient": np.ones((4, 3, 3)), "body_pose": np.zeros((4, 69)), "fps": 30}, "no rotations"),
        ({"betas": np.zeros(10)}, "holds betas"),
    ],
)  # fmt: skip
def test_npz_that_is_no_motion_is_refused_in_one_line(tmp_path, rest, arrays, said):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=said) as caught:
        read_pose_file(tmp_path / "bad.npz", "user/bad", rest)
    assert "\n" not in str(caught.value)


def test_what_is_no_npz_at_all_is_refused(tmp_path, rest):
    (tmp_path / "bad.npz").write_bytes(b"hello")
    with pytest.raises(InputError, match="cannot read"):
        read_pose_file(tmp_path / "bad.npz", "user/bad", rest)


def test_someone_upside_down_all_the_time_is_mentioned(tmp_path, rest, caplog):
    poses = np.zeros((4, 24, 3))
    poses[:, 0, 0] = np.pi
    np.savez(tmp_path / "camera_axes.npz", **_as_vectors(poses), fps=30)
    read_pose_file(tmp_path / "camera_axes.npz", "user/camera_axes", rest)
    assert "upside down" in caplog.text


def test_folders_are_searched_and_clips_named_after_their_files(tmp_path, rest):
    (tmp_path / "set" / "one").mkdir(parents=True)
    np.savez(tmp_path / "set" / "one" / "walk.npz", **amass(movement(2), 156))
    np.savez(tmp_path / "set" / "one" / "shape.npz", betas=np.zeros(16))
    (tmp_path / "set" / "jump.bvh").write_text(bvh_text(movement(2), rest))
    (tmp_path / "set" / "notes.txt").write_text("")
    np.savez(tmp_path / "walk.npz", **amass(movement(2), 156))
    names = [clip.name for clip in read_pose_files([tmp_path / "set", tmp_path / "walk.npz"], rest)]
    assert names == ["user/jump", "user/one/walk", "user/walk"]
    with pytest.raises(UsageError, match="both be called user/walk"):
        read_pose_files([tmp_path / "set" / "one", tmp_path / "walk.npz"], rest)
    with pytest.raises(UsageError, match="unknown kind"):
        read_pose_files([tmp_path / "set" / "notes.txt"], rest)
    with pytest.raises(UsageError, match="not there"):
        read_pose_files([tmp_path / "nowhere"], rest)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no"):
        read_pose_files([tmp_path / "empty"], rest)


def own_files(folder: Path, count: int = 20) -> Path:
    folder.mkdir()
    for number in range(count):
        np.savez(folder / f"take{number}.npz", **_as_vectors(movement(120, seed=number) * 0.3), fps=30)
    return folder


def test_the_library_takes_its_share_of_poses_from_the_users_files(shared, tmp_path):
    body = load_render_body(shared / "data")
    settings = PoseSettings(files=(own_files(tmp_path / "mine"),), files_share=0.4)
    library = PoseLibrary(shared / "data", body, settings)
    rng = np.random.default_rng(0)
    drawn = [library.draw(rng) for _ in range(1000)]
    assert np.mean([pose.source == "user" for pose in drawn]) == pytest.approx(0.4, abs=0.06)
    mine = [name for name in library.clip_names if name.startswith("user/")]
    assert 10 <= len(mine) < 20
    assert all(clip_split(name) == "train" for name in mine)
    assert (library.clip_fps(mine[0]), library.clip_frames(mine[0])) == (30, 120)
    assert any(pose.mirrored for pose in drawn if pose.source == "user")
    weights = library.clip_weights(library.clip_names)
    of_mine = np.array([name.startswith("user/") for name in library.clip_names])
    assert weights[of_mine].sum() / weights.sum() == pytest.approx(0.4)


def test_the_commands_take_own_poses_and_refuse_them_where_they_would_not_be_used(shared, tmp_path, capsys):
    mine = own_files(tmp_path / "mine", 6)
    command = [
        "synth",
        "-n",
        "3",
        "--data",
        str(shared / "data"),
        "--quiet",
        "--long-side",
        "160",
        "--poses",
        str(mine),
        "--poses-share",
        "0.99",
    ]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    assert any(person.pose_clip.startswith("user/") for scene in read_shards(tmp_path / "out") for person in scene.people)
    assert main([*command[:-3], str(tmp_path / "out" / "shard_0000.npz"), "-o", str(tmp_path / "other")]) == 1
    assert not (tmp_path / "other").exists()
    assert main(["train", "--packed", str(tmp_path), "--poses", str(mine), "-o", str(tmp_path / "run")]) == 2
    assert "leave --data, --shards, --test-shards and --poses out" in capsys.readouterr().err
    with pytest.raises(UsageError, match="landmark_people is 0"):
        gather(TrainSettings(landmark_people=0), shared / "data", [tmp_path / "out"], None, tmp_path, own_poses=[mine])
    pool = pose_pool(shared / "data", TrainSettings(pose_pool=100, own_poses_share=0.9), [mine])
    assert not torch.equal(pool, pose_pool(shared / "data", TrainSettings(pose_pool=100)))


def test_the_users_files_alone_are_enough(shared, tmp_path):
    body = load_render_body(shared / "data")
    files = (own_files(tmp_path / "mine"),)
    library = PoseLibrary(tmp_path, body, PoseSettings(files=files))
    # 120 frames at 30 per second are thinned to every second one, 15 per second.
    assert len(library) == 60 * len(library.clip_names)
    rng = np.random.default_rng(0)
    assert {library.draw(rng).source for _ in range(50)} == {"user"}
    with pytest.raises(InputError, match="poses"):
        PoseLibrary(tmp_path, body, PoseSettings())
    alone = next((tmp_path / "mine").glob("take0.npz"))
    other = "test" if clip_split("user/take0") == "train" else "train"
    with pytest.raises(UsageError, match=f"no clip is in the {other} split"):
        PoseLibrary(tmp_path, body, PoseSettings(split=other, files=(alone,)))

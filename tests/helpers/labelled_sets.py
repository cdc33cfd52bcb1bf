"""Small labelled data sets in every layout, written from painted people whose bodies are known exactly.

Three pictures of two people each, women and men with bodies of their own: the free body, with its template changed a little for each
gender, under SMPL's file names.
"""

from __future__ import annotations

import functools
import io
import pickle
import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.spatial.transform import Rotation

from mchmr_stream.body.files import load_body
from mchmr_stream.body.model import PARENTS, skin
from mchmr_stream.datasets.points import ANNOTATED_POINTS, POINT_NAMES, LabelledPoints
from mchmr_stream.geometry.camera import Intrinsics, project
from mchmr_stream.rendering.shading import paint_bodies

WIDTH, HEIGHT = 320, 240
PEOPLE, PER_PICTURE = 6, 2
K = np.array([[300.0, 0, 165.0], [0, 310.0, 118.0], [0, 0, 1]])
_GROWN = {"FEMALE": 0.95, "MALE": 1.04, "NEUTRAL": 1.0}
_OPENPOSE18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
    "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Truth:
    """Six people."""

    pose: NDArray[np.float64]
    """(6, 24, 3), root in camera axes"""
    betas: NDArray[np.float64]
    transl: NDArray[np.float64]
    gender: NDArray[np.str_]
    points_m: NDArray[np.float64]
    """(6, 48, 3) in the camera"""
    points_px: NDArray[np.float64]
    vertices_m: NDArray[np.float64]
    names: tuple[str, ...]
    """picture of each person"""

    @property
    def centre(self) -> NDArray[np.float64]:
        return (self.points_px[:, :24].min(1) + self.points_px[:, :24].max(1)) / 2

    @property
    def scale(self) -> NDArray[np.float64]:
        return 1.2 * (self.points_px[:, :24].max(1) - self.points_px[:, :24].min(1)).max(1) / 200


def write_bodies(folder: Path) -> Path:
    """SMPL_FEMALE.npz and so on: the free body grown or shrunk."""
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(str(resources.files("mchmr_stream.assets") / "free_body.npz"), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if not name.startswith("sample")}
    for name, factor in _GROWN.items():
        np.savez_compressed(folder / f"SMPL_{name}.npz", **arrays | {"v_template": arrays["v_template"] * np.float32(factor)})
    return folder


def write_smplx_bodies(folder: Path) -> Path:
    """SMPLX_FEMALE.npz and SMPLX_MALE.npz: SMPL's of `write_bodies` with 55 joints, and ten vertices more."""
    parents = [*PARENTS[:22], 15, 15, 15]
    for finger in range(10):
        parents += [20 if finger < 5 else 21, len(parents), len(parents) + 1]
    for name in ("FEMALE", "MALE"):
        with np.load(folder / f"SMPL_{name}.npz", allow_pickle=False) as archive:
            arrays = dict(archive)
        longer = lambda array: np.concatenate([array, array[:10]])
        weights, regressor = np.zeros((6900, 55)), np.zeros((55, 6900))
        weights[:, :22] = longer(arrays["weights"])[:, :22]
        weights[:, 20:22] += longer(arrays["weights"])[:, 22:]
        regressor[:22, :6890] = arrays["J_regressor"][:22]
        regressor[[28, 43], :6890] = arrays["J_regressor"][22:]
        np.savez_compressed(
            folder / f"SMPLX_{name}.npz", v_template=longer(arrays["v_template"]), shapedirs=longer(arrays["shapedirs"]), weights=weights,
            f=arrays["f"], kintree_table=np.array([parents, range(55)]), J_regressor=regressor,
        )  # fmt: skip
    return folder


def make_truth(bodies: Path) -> Truth:
    rng = np.random.default_rng(0)
    pose = 0.25 * rng.standard_normal((PEOPLE, 24, 3))
    pose[:, 0] = (Rotation.from_rotvec(0.3 * rng.standard_normal((PEOPLE, 3))) * Rotation.from_rotvec([np.pi, 0, 0])).as_rotvec()
    betas = np.tile(0.5 * rng.standard_normal((PER_PICTURE, 10)), (PEOPLE // PER_PICTURE, 1))  # two people, three pictures of them
    transl = np.stack([np.resize([-0.6, 0.6], PEOPLE), np.full(PEOPLE, 0.1), rng.uniform(3.0, 3.5, PEOPLE)], 1)
    gender = np.resize(np.array(["f", "m"]), PEOPLE)
    points, vertices = np.zeros((PEOPLE, 48, 3)), []
    for person in range(PEOPLE):
        body = load_body(bodies / f"SMPL_{'FEMALE' if gender[person] == 'f' else 'MALE'}.npz")
        rotations = torch.from_numpy(Rotation.from_rotvec(pose[person]).as_matrix()).float()[None]
        skinned, joints = skin(
            body, rotations, torch.from_numpy(betas[person : person + 1]), torch.from_numpy(transl[person : person + 1]).float()
        )
        points[person] = LabelledPoints.of(body).place(joints, skinned)[0].numpy()
        vertices.append(skinned[0].numpy())
    pixels = project(points, Intrinsics.from_matrix(K))
    names = tuple(f"frame_{person // PER_PICTURE:06d}.png" for person in range(PEOPLE))
    return Truth(pose, betas, transl, gender, points, pixels, np.stack(vertices), names)


@functools.cache
def paint(truth: Truth, picture: int) -> NDArray[np.uint8]:
    rgb = np.full((HEIGHT, WIDTH, 3), 150, np.uint8)
    people = slice(picture * PER_PICTURE, (picture + 1) * PER_PICTURE)
    colours = np.tile(np.array([0.85, 0.65, 0.55], np.float32), (PER_PICTURE, 1))
    camera = Intrinsics.from_matrix(K)
    paint_bodies(rgb, truth.vertices_m[people].astype(np.float32), load_body().faces, camera, colours, opacity=1.0)
    return rgb


def _save_pictures(truth: Truth, root: Path, paths: list[str]) -> None:
    for path in sorted(set(paths)):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(paint(truth, paths.index(path) // PER_PICTURE)).save(target, "PNG")  # lossless under any name


def _confident(points: NDArray, confidence: float = 1.0) -> NDArray[np.float64]:
    return np.concatenate([points, np.full((*points.shape[:-1], 1), confidence)], -1)


def spin_arrays(truth: Truth, prefix: str = "images/S9_Walking.54138969_") -> dict[str, NDArray]:
    """Everything SPIN's layout knows."""
    S = truth.points_m - truth.points_m[:, [POINT_NAMES.index("pelvis")]]
    return {
        "imgname": np.array([f"{prefix}{name[6:]}" for name in truth.names]),
        "center": truth.centre,
        "scale": truth.scale,
        "part": _confident(truth.points_px[:, ANNOTATED_POINTS]),
        "openpose": np.zeros((PEOPLE, 25, 3)),
        "S": _confident(S[:, ANNOTATED_POINTS]),
        "pose": truth.pose.reshape(PEOPLE, 72),
        "shape": truth.betas,
        "has_smpl": np.ones(PEOPLE),
        "gender": truth.gender,
    }


def write_spin(root: Path, truth: Truth, name: str, file: str, **changes: NDArray) -> Path:
    arrays = spin_arrays(truth) | changes
    (root / name / "labels").mkdir(parents=True, exist_ok=True)
    np.savez(root / name / "labels" / file, **arrays)
    _save_pictures(truth, root / name, arrays["imgname"].tolist())
    return root / name / "labels" / file


def write_cliff(root: Path, truth: Truth) -> Path:
    """CLIFF's pseudo ground truth: no gender, a camera and a place."""
    arrays = spin_arrays(truth, "train2014/COCO_train2014_")
    kept = {name: arrays[name] for name in ("imgname", "center", "scale", "part", "pose", "shape")}
    (root / "coco" / "labels").mkdir(parents=True)
    np.savez(
        root / "coco" / "labels" / "coco_train2014_cliffGT.npz",
        **kept, global_t=truth.transl, focal_l=np.full(PEOPLE, 305.0),
    )  # fmt: skip
    _save_pictures(truth, root / "coco", arrays["imgname"].tolist())
    return root / "coco" / "labels" / "coco_train2014_cliffGT.npz"


def write_bedlam(root: Path, truth: Truth, name: str = "bedlam", file: str = "20221010_3_1000_6fps_val.npz") -> Path:
    shift = np.array([0.1, -0.2, 0.5])
    outer = np.tile(np.eye(4), (PEOPLE, 1, 1))
    outer[:, :3, 3] = shift
    images = [f"seq_000000/seq_000000_{name[8:]}" for name in truth.names]
    (root / name / "labels").mkdir(parents=True)
    np.savez(
        root / name / "labels" / file,
        imgname=np.array(images), center=truth.centre, scale=truth.scale, pose_cam=truth.pose.reshape(PEOPLE, 72), shape=truth.betas,
        gtkps=truth.points_px[:, :24], cam_int=np.tile(K, (PEOPLE, 1, 1)), trans_cam=truth.transl - shift, cam_ext=outer,
        gender=np.where(truth.gender == "f", "female", "male"), motion_info=np.array(["walk"] * PEOPLE),
    )  # fmt: skip
    _save_pictures(truth, root / name / Path(file).stem / "png", images)
    return root / name / "labels" / file


class _Python2Pickler(pickle._Pickler):
    """As Python 2 wrote them, 3DPW's files among them: text and the bytes of arrays are one kind of string."""

    dispatch = dict(pickle._Pickler.dispatch)

    def _save_string(self, value: bytes | str) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = _save_string


def _python2(content: object) -> bytes:
    file = io.BytesIO()
    _Python2Pickler(file, protocol=2).dump(content)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_3dpw(root: Path, truth: Truth, protocol: int | None = None) -> Path:
    """One sequence of three frames and two people, in world axes, with a camera that moves."""
    frames = PEOPLE // PER_PICTURE
    rng = np.random.default_rng(1)
    turn = Rotation.from_rotvec(rng.standard_normal((frames, 3)))
    shift = rng.standard_normal((frames, 3))
    camera = np.tile(np.eye(4), (frames, 1, 1))
    camera[:, :3, :3], camera[:, :3, 3] = turn.as_matrix(), shift
    poses, joints, points = [], [], []
    for person in range(PER_PICTURE):
        own = np.arange(frames) * PER_PICTURE + person
        pose = truth.pose[own].copy()
        pose[:, 0] = (turn.inv() * Rotation.from_rotvec(pose[:, 0])).as_rotvec()
        poses.append(pose.reshape(frames, 72))
        world = np.stack([turn[k].inv().apply(truth.points_m[own[k], :24] - shift[k]) for k in range(frames)])
        joints.append(world.reshape(frames, 72))
        openpose = truth.points_px[own][:, [POINT_NAMES.index(name) for name in _OPENPOSE18]]
        points.append(_confident(openpose, 0.9).transpose(0, 2, 1))
    content = {
        "sequence": "downtown_test_00",
        "poses": poses,
        "betas": [np.pad(truth.betas[person], (0, 290)) for person in range(PER_PICTURE)],
        "genders": ["f", "m"],
        "trans": [np.zeros((frames, 3))] * PER_PICTURE,
        "poses2d": points,
        "jointPositions": joints,
        "cam_poses": camera,
        "cam_intrinsics": K,
        "campose_valid": [np.ones(frames, np.int64)] * PER_PICTURE,
        "img_frame_ids": np.arange(frames),
        "texture_maps": [],
    }
    folder = root / "3dpw" / "sequenceFiles" / "test"
    folder.mkdir(parents=True)
    written = _python2(content) if protocol is None else pickle.dumps(content, protocol=protocol)
    (folder / "downtown_test_00.pkl").write_bytes(written)
    _save_pictures(truth, root / "3dpw", [f"imageFiles/downtown_test_00/image_{int(name[6:12]):05d}.jpg" for name in truth.names])
    return folder / "downtown_test_00.pkl"


def write_humandata(root: Path, truth: Truth, *, compressed: bool) -> Path:
    """HumanData of AGORA; `compressed` leaves out the points that the mask says are not there."""
    points_px, points_m, mask = np.zeros((PEOPLE, 190, 3)), np.zeros((PEOPLE, 190, 4)), np.zeros(190, np.uint8)
    places = [*range(22), 188, 189]
    mask[places] = 1
    points_px[:, places], points_m[:, places] = _confident(truth.points_px[:, :24]), _confident(truth.points_m[:, :24])
    if compressed:
        points_px, points_m = points_px[:, mask > 0], points_m[:, mask > 0]
    low = truth.centre - truth.scale[:, None] * 100
    images = [f"train_0/ag_{name}" for name in truth.names]
    (root / "agora" / "labels").mkdir(parents=True)
    smpl = {
        "global_orient": truth.pose[:, 0].astype(np.float32), "body_pose": truth.pose[:, 1:].astype(np.float32),
        "betas": truth.betas.astype(np.float32), "transl": truth.transl.astype(np.float32),
    }  # fmt: skip
    np.savez_compressed(
        root / "agora" / "labels" / "agora_validation.npz",
        image_path=images, bbox_xywh=np.concatenate([low, np.repeat(truth.scale[:, None] * 200, 2, 1), np.ones((PEOPLE, 1))], 1),
        config="agora", keypoints2d=points_px, keypoints2d_mask=mask, keypoints3d=points_m, keypoints3d_mask=mask,
        smpl=smpl, meta={"gender": [str(gender) for gender in truth.gender]}, __keypoints_compressed__=compressed, __key_strict__=False,
    )  # fmt: skip
    _save_pictures(truth, root / "agora", images)
    return root / "agora" / "labels" / "agora_validation.npz"

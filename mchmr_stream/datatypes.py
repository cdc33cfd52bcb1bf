"""The data types that flow through the pipeline: frozen records, one per interface between two stages.

Conventions that hold everywhere
--------------------------------
Picture coordinates are in pixels, x right, y down; the centre of the top-left pixel is (0, 0) (OpenCV).
Camera axes are OpenCV's: x right, y down, z forward, metres.
The *plane* is the picture relative to its principal point, scaled to one focal length:
``plane = ((x - cx), (y - cy) * fx / fy)`` in pixels, focal ``fx``. The *rolled plane* of a person is the plane rotated
so that the person's trunk points up: ``plane = R(roll) @ rolled``, with ``R(a) = [[cos a, -sin a], [sin a, cos a]]``.
Rotating the plane about the principal point is the same as rolling the camera about its optical axis. So the network's
output in the rolled plane is exact, and ``Rz(roll)`` transforms it back to the camera.
Times are seconds. Rows ``n`` are people of one frame, ``V`` views (crops) of each.

Records are frozen, and compare by identity: ``==`` on arrays would be ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mchmr_stream._repr import Described, how_many, listed
from mchmr_stream.geometry.camera import Intrinsics

if TYPE_CHECKING:
    from torch import Tensor

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

KEYPOINT_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
"""The 17 COCO keypoints, in COCO's order."""

EXTREMITY_NAMES = (
    "left_pinky", "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
"""Ten points of hands and feet, as BlazePose names them: they determine the orientation of hands and feet."""
LANDMARK_NAMES = KEYPOINT_NAMES + EXTREMITY_NAMES
"""The 27 points that the network finds in the crops."""

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
"""The 24 SMPL joints, in SMPL's order."""


def _check(name: str, array: NDArray, *shape: int | None) -> None:
    """Refuse an array whose shape is not `shape`; None stands for any length."""
    ok = array.ndim == len(shape) and all(want is None or got == want for got, want in zip(array.shape, shape, strict=True))
    if not ok:
        wanted = "(" + ", ".join("any" if want is None else str(want) for want in shape) + ")"
        raise ValueError(f"{name} has shape {array.shape}, expected {wanted}")


@dataclass(frozen=True, eq=False)
class SourceInfo:
    """Properties of a source that are known before its first frame."""

    name: str
    """Name in messages."""
    width: int
    """Of the upright picture with square pixels, pixels."""
    height: int
    """Of the upright picture with square pixels, pixels."""
    fps: float
    """Nominal frames per second; frames have their own times, which need not follow it."""
    frame_count: int | None = None
    """Number of expected frames; None if unknown."""
    path: str | None = None
    """The file that it reads, if it is one file: the overlay takes the sound from there."""
    still: bool = False
    """Whether it is a single picture that stands alone, and not a clip of one frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One decoded picture of a source."""

    index: int
    """Counts decoded frames of the source from 0, including skipped ones."""
    time_s: float
    """Seconds from the first frame of the source."""
    rgb: NDArray[np.uint8]
    """(height, width, 3), upright, square pixels. Each row is contiguous; there may be padding between rows, which saves a copy."""

    def __post_init__(self) -> None:
        _check("rgb", self.rgb, None, None, 3)

    @property
    def width(self) -> int:
        """Pixels."""
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        """Pixels."""
        return self.rgb.shape[0]


@dataclass(frozen=True, eq=False)
class Detections:
    """The people that a detector finds in one frame, in any order."""

    boxes_xyxy_px: Float
    """(n, 4): left, top, right, bottom"""
    scores: Float
    """(n,) in [0, 1]"""
    keypoints_px: Float
    """(n, 17, 3): x, y, score in COCO's order. A keypoint that the detector does not give is NaN with score 0."""
    up_rad: float = 0.0
    """Direction of up in the picture, as a roll: R(up_rad) @ (0, -1). 0 for an upright camera. -pi/2 for a picture that must be
    rotated by 90 degrees clockwise, in which heads point left."""

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy_px)
        _check("boxes_xyxy_px", self.boxes_xyxy_px, n, 4)
        _check("scores", self.scores, n)
        _check("keypoints_px", self.keypoints_px, n, 17, 3)

    def __len__(self) -> int:
        return len(self.boxes_xyxy_px)

    @staticmethod
    def empty() -> Detections:
        """No people."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 17, 3), np.float32))

    @staticmethod
    def from_boxes(boxes_xyxy_px: Float, scores: Float) -> Detections:
        """Detections of a detector that gives no keypoints.

        Args:
            boxes_xyxy_px: (n, 4): left, top, right, bottom.
            scores: (n,) in [0, 1].
        """
        keypoints = np.full((len(boxes_xyxy_px), 17, 3), np.nan, np.float32)
        keypoints[..., 2] = 0
        return Detections(np.asarray(boxes_xyxy_px, np.float32), np.asarray(scores, np.float32), keypoints)


@dataclass(frozen=True, eq=False)
class Tracks:
    """The people of one frame with identities, including those whom the detector misses and the tracker carries."""

    track_id: Int
    """(n,) from 1, never used twice in one run"""
    boxes_xyxy_px: Float
    """(n, 4): left, top, right, bottom"""
    scores: Float
    """(n,) in [0, 1]: of the detection; for a carried person the last one, or the network's presence"""
    keypoints_px: Float
    """(n, 17, 3): x, y, score as detected in this frame. NaN with score 0 without a detection, until `CropKeypoints` finds them."""
    observed: Bool
    """(n,) False where the box was carried without a detection in this frame"""
    landmarks_px: Float
    """(n, 17, 3): the best estimate of the keypoints; without a detection those of the previous frame, moved"""
    up_rad: float = 0.0
    """Direction of up in the picture, as in `Detections`."""
    keypoint_covariance_px2: Float = field(default_factory=lambda: np.zeros((0, 17, 2, 2), np.float32))
    """(n, 17, 2, 2): covariance of `keypoints_px`; NaN where unknown. Default: unknown."""
    identity_doubt: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) True where the track may have changed over to another person in this frame. Default: False."""

    def __post_init__(self) -> None:
        n = len(self.track_id)
        if len(self.identity_doubt) != n:
            object.__setattr__(self, "identity_doubt", np.zeros(n, np.bool_))
        if len(self.keypoint_covariance_px2) != n:
            object.__setattr__(self, "keypoint_covariance_px2", np.full((n, 17, 2, 2), np.nan, np.float32))
        _check("boxes_xyxy_px", self.boxes_xyxy_px, n, 4)
        _check("scores", self.scores, n)
        _check("keypoints_px", self.keypoints_px, n, 17, 3)
        _check("observed", self.observed, n)
        _check("landmarks_px", self.landmarks_px, n, 17, 3)
        _check("keypoint_covariance_px2", self.keypoint_covariance_px2, n, 17, 2, 2)

    def __len__(self) -> int:
        return len(self.track_id)

    def rows(self, which: Int) -> Tracks:
        """The same frame with some of its people.

        Args:
            which: Indices of rows, or a mask (n,).
        """
        columns = {one.name: getattr(self, one.name)[which] for one in fields(self) if one.name != "up_rad"}
        return replace(self, **columns)


@dataclass(frozen=True, eq=False)
class CropBatch:
    """The input of a `MeshEstimator`: V crops of each of n people, and where they were cut.

    Coordinates are in each person's rolled plane: pixels relative to the principal point, rotated so that the trunk points up.
    """

    crops: Tensor
    """(n, V, 3, h, w) uint8 RGB, on the device that the estimator runs on"""
    views_px: Float
    """(n, V, 3): centre x, centre y and side (the crop's height) of every view"""
    base_px: Float
    """(n, 3): the same for the base box, from which the views were laid out"""
    keypoints_px: Float
    """(n, 17, 3): x, y, score as detected in this frame; score 0 where there is none"""
    focal_px: Float
    """(n,): focal length of the full picture's camera"""
    roll_rad: Float
    """(n,): angle of the rolled plane; plane = R(roll) @ rolled"""

    def __post_init__(self) -> None:
        n, views = self.crops.shape[:2]
        _check("views_px", self.views_px, n, views, 3)
        _check("base_px", self.base_px, n, 3)
        _check("keypoints_px", self.keypoints_px, n, 17, 3)
        _check("focal_px", self.focal_px, n)
        _check("roll_rad", self.roll_rad, n)

    def __len__(self) -> int:
        return len(self.base_px)

    @staticmethod
    def concat(batches: Sequence[CropBatch]) -> CropBatch:
        """Join the people of several batches. `CropEstimates.split` separates their estimates again.

        Args:
            batches: At least one; all have the same number of views.

        Returns:
            The people in order. Crops stay channels-last in memory.
        """
        import torch

        if len(batches) == 1:
            return batches[0]
        # Joined in their memory layout, channels last: `cat` alone would give planes, which the network would convert back.
        crops = torch.cat([batch.crops.movedim(2, -1) for batch in batches]).movedim(-1, 2)
        rest = [np.concatenate([getattr(batch, field.name) for batch in batches]) for field in fields(CropBatch)[1:]]
        return CropBatch(crops, *rest)

    def only(self, rows: Sequence[int]) -> CropBatch:
        """Select people.

        Args:
            rows: Indices; one may occur several times.

        Returns:
            These people, in this order.
        """
        take = list(rows)
        return CropBatch(
            self.crops.movedim(2, -1)[take].movedim(-1, 2), *(getattr(self, field.name)[take] for field in fields(CropBatch)[1:])
        )


@dataclass(frozen=True)
class EstimatorInfo:
    """What a `MeshEstimator` computes with."""

    name: str
    """Name of the weights, as written to files and messages."""
    weights_sha256: str
    """Hash of the weights, as written to files."""
    crop_size_hw: tuple[int, int]
    """Height and width of its crops, pixels; `crops.layout` must cut crops of this size."""
    fixed_views: int | None = None
    """The only number of views that it supports; None: any number."""
    body_sha256: str | None = None
    """Hash of the free body that the weights were trained on; None: unknown."""
    trained_on_smpl: bool = False
    """True if its betas are those of SMPL, which do not apply to the free body."""
    in_flight: int = 1
    """Maximum number of concurrent batches; 1 if `submit` blocks until the result is ready."""


@dataclass(frozen=True, eq=False)
class CropEstimates:
    """The output of a `MeshEstimator`: one SMPL body and V crop cameras per person, in each person's rolled camera.

    A crop camera (s, tx, ty) projects a point X of the body, in metres relative to the pelvis, to `cx + (b / 2) s (X + tx)`, where
    cx is the view's centre and b its side; y likewise.
    """

    rotations: Float
    """(n, 24, 3, 3): the root in camera axes, then each joint relative to its parent"""
    betas: Float
    """(n, 10): SMPL shape coefficients"""
    views_cam: Float
    """(n, V, 3): weak-perspective scale s (1/m) and shift tx, ty (m) of every view"""
    confidence: Float
    """(n,) in [0, 1]: confidence in the body"""
    presence: Float
    """(n,) in [0, 1]: probability that the crops show a person; the tracker ends tracks without a detection by it"""
    landmarks_px: Float
    """(n, 27, 3): x, y (rolled plane) and visibility of `LANDMARK_NAMES`; visibility 0 where the network sees none"""

    def __post_init__(self) -> None:
        n = len(self.rotations)
        _check("rotations", self.rotations, n, 24, 3, 3)
        _check("betas", self.betas, n, 10)
        _check("views_cam", self.views_cam, n, None, 3)
        _check("confidence", self.confidence, n)
        _check("presence", self.presence, n)
        _check("landmarks_px", self.landmarks_px, n, len(LANDMARK_NAMES), 3)

    def __len__(self) -> int:
        return len(self.rotations)

    @staticmethod
    def concat(parts: Sequence[CropEstimates]) -> CropEstimates:
        """Join the estimates of several batches.

        Args:
            parts: At least one; all have the same number of views.

        Returns:
            The people in order.
        """
        if len(parts) == 1:
            return parts[0]
        return CropEstimates(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(CropEstimates)))

    def split(self, counts: Sequence[int]) -> list[CropEstimates]:
        """Split the estimates of joined batches.

        Args:
            counts: Number of people of each batch; together those of these estimates.

        Returns:
            The estimates of each batch.
        """
        ends = np.cumsum(counts)[:-1]
        columns = [np.split(getattr(self, field.name), ends) for field in fields(CropEstimates)]
        return [CropEstimates(*rows) for rows in zip(*columns, strict=True)]


@dataclass(frozen=True, eq=False)
class Bodies:
    """The SMPL bodies of all people in one frame, in the full picture's camera (x right, y down, z forward, metres)."""

    frame: int
    """Index of the frame in the source."""
    time_s: float
    """Seconds from the first frame of the source."""
    track_id: Int
    """(n,) from 1, never used twice in one run"""
    boxes_xyxy_px: Float
    """(n, 4): left, top, right, bottom"""
    scores: Float
    """(n,) of the detector, in [0, 1]"""
    keypoints_px: Float
    """(n, 17, 3): x, y, score as detected, COCO's order"""
    global_orient: Float
    """(n, 3, 3): rotation of the root, camera axes from body axes"""
    body_pose: Float
    """(n, 23, 3, 3): rotation of joints 1 to 23, each relative to its parent"""
    betas: Float
    """(n, 10): shape coefficients"""
    transl: Float
    """(n, 3) m, as in SMPL: posed pelvis = rest pelvis(betas) + transl"""
    views_cam: Float
    """(n, V, 3): scale, tx, ty of every crop's camera, as the network returned them"""
    confidence: Float
    """(n,) in [0, 1]"""
    interpolated: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) True where the row is not based on the picture. Default: False."""
    betas_frame: Float = field(default_factory=lambda: np.zeros((0, 10), np.float32))
    """(n, 10): betas that the network returned for this frame alone; NaN in interpolated rows. Default: `betas`."""
    joint_sd_rad: Float = field(default_factory=lambda: np.zeros((0, 24), np.float32))
    """(n, 24): standard deviation of each joint's rotation in camera axes about one axis, radians; NaN where unknown"""
    joint_sd_m: Float = field(default_factory=lambda: np.zeros((0, 24), np.float32))
    """(n, 24): standard deviation of each joint's position relative to the pelvis, metres: root of the summed variances of x, y and z;
    NaN where unknown"""
    identity_doubt: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) True where the track may have changed over to another person in this frame. Default: False."""

    def __post_init__(self) -> None:
        n = len(self.track_id)
        if len(self.identity_doubt) != n:
            object.__setattr__(self, "identity_doubt", np.zeros(n, np.bool_))
        for name in ("joint_sd_rad", "joint_sd_m"):
            if len(getattr(self, name)) != n:
                object.__setattr__(self, name, np.full((n, 24), np.nan, np.float32))
        if len(self.betas_frame) != n:
            object.__setattr__(self, "betas_frame", self.betas)
        if len(self.interpolated) != n:
            object.__setattr__(self, "interpolated", np.zeros(n, np.bool_))
        _check("boxes_xyxy_px", self.boxes_xyxy_px, n, 4)
        _check("scores", self.scores, n)
        _check("keypoints_px", self.keypoints_px, n, 17, 3)
        _check("global_orient", self.global_orient, n, 3, 3)
        _check("body_pose", self.body_pose, n, 23, 3, 3)
        _check("betas", self.betas, n, 10)
        _check("betas_frame", self.betas_frame, n, 10)
        _check("transl", self.transl, n, 3)
        _check("views_cam", self.views_cam, n, None, 3)
        _check("confidence", self.confidence, n)
        _check("joint_sd_rad", self.joint_sd_rad, n, 24)
        _check("joint_sd_m", self.joint_sd_m, n, 24)

    def __len__(self) -> int:
        return len(self.track_id)

    @property
    def rotations(self) -> Float:
        """(n, 24, 3, 3): the root's, then each joint's relative to its parent."""
        return np.concatenate([self.global_orient[:, None], self.body_pose], 1)

    def usable(self) -> Bool:
        """Rows that hold a body.

        Returns:
            (n,) True where all numbers are finite and the body is in front of the camera.
        """
        pose = np.isfinite(self.body_pose).all((-3, -2, -1)) & np.isfinite(self.global_orient).all((-2, -1))
        finite = pose & np.isfinite(self.transl).all(-1) & np.isfinite(self.betas).all(-1)
        return np.asarray(finite & (np.where(finite, self.transl[:, 2], 0) > 0))

    def rows(self, which: Int) -> Bodies:
        """The same frame with some of its people.

        Args:
            which: Indices of rows, or a mask (n,).
        """
        columns = {one.name: getattr(self, one.name)[which] for one in fields(self) if one.name not in ("frame", "time_s")}
        return replace(self, **columns)

    @staticmethod
    def empty(frame: int, time_s: float, views: int) -> Bodies:
        """A frame without people.

        Args:
            frame: Index of the frame in the source.
            time_s: Seconds from the first frame of the source.
            views: Number of crops per person that the run uses.
        """
        z = lambda *shape: np.zeros(shape, np.float32)
        return Bodies(
            frame, time_s, np.zeros(0, np.int64), z(0, 4), z(0), z(0, 17, 3), z(0, 3, 3), z(0, 23, 3, 3), z(0, 10),
            z(0, 3), z(0, views, 3), z(0),
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Scene(Described):
    """One finished frame: the picture, its bodies and their joints. `stream` yields these."""

    frame: Frame
    """The picture."""
    bodies: Bodies
    """Pose, shape, position and identity of all people; rows n."""
    intrinsics: Intrinsics
    """Camera of the picture."""
    joints_m: Float
    """(n, 24, 3): SMPL's joints, camera axes (x right, y down, z forward), metres"""
    joints_px: Float
    """(n, 24, 2): the same in the picture"""
    faces: NDArray[np.int64]
    """(F, 3): triangles of the body's mesh, indices of vertices"""
    _vertices: Callable[[], Float]

    def __post_init__(self) -> None:
        n = len(self.bodies)
        _check("joints_m", self.joints_m, n, 24, 3)
        _check("joints_px", self.joints_px, n, 24, 2)

    def _lines(self) -> tuple[str, str, str]:
        height, width = self.frame.rgb.shape[:2]
        away_m = np.linalg.norm(self.joints_m[:, 0], axis=-1).tolist()
        people = (f"{identity} ({m:.2f} m away)" for identity, m in zip(self.bodies.track_id.tolist(), away_m, strict=True))
        return (
            f"of {how_many(len(self), 'person', 'people')} in frame {self.frame.index} at {self.frame.time_s:.3f} s, {width}x{height} px",
            f"people: {listed(people, len(self)) or 'none'}",
            f"joints_m {self.joints_m.shape}, joints_px {self.joints_px.shape}, vertices_m(), bodies, intrinsics (docs/output.md)",
        )

    def vertices_m(self) -> Float:
        """Vertices of the posed meshes. They are computed on each call, because most users need joints only.

        Returns:
            (n, vertices, 3), camera axes, metres.
        """
        return self._vertices()

    def __len__(self) -> int:
        return len(self.bodies)


@dataclass(frozen=True, eq=False)
class Moment:
    """A finished scene of a live source, with its age."""

    source: SourceInfo
    """The source; its `name` is unique in the run."""
    scene: Scene
    """The finished frame."""
    clock_s: float
    """Arrival of the picture, seconds since 1970."""
    age_s: float
    """Seconds from the arrival of the picture until the scene was finished."""
    late_s: float
    """Delay of the picture by its own timestamp, seconds more than that of the fastest picture of the connection."""
    dropped: int
    """Pictures of this source so far that were dropped for newer ones."""
    reconnects: int
    """Times this source was lost and found again."""
    work_s: Mapping[str, float] = field(default_factory=dict)
    """Last duration of each stage of the pipeline, seconds."""

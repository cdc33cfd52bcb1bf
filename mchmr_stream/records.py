"""What flows through the pipeline: frozen records, one per seam.

Conventions that hold everywhere
--------------------------------
Picture coordinates are in pixels, x right, y down; the centre of the top-left pixel is (0, 0) (OpenCV).
Camera axes are OpenCV's: x right, y down, z forward, metres.
The *plane* is the picture seen from its principal point with one focal length:
``plane = ((x - cx), (y - cy) * fx / fy)`` in pixels, focal ``fx``. The *rolled plane* of a person is the plane turned
so that the person's trunk points up: ``plane = R(roll) @ rolled``, with ``R(a) = [[cos a, -sin a], [sin a, cos a]]``.
Turning the plane about the principal point is the same as rolling the camera about its optical axis, so everything the
network says in the rolled plane is exact and ``Rz(roll)`` takes it back to the camera.
Times are seconds. Rows ``n`` are people of one frame, ``V`` views (crops) of each.

Records are frozen, and compare by identity: ``==`` on arrays would be ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mchmr_stream.described import Described, how_many, listed
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
"""Ten points of hands and feet, as BlazePose names them: they show how hands and feet are turned."""
LANDMARK_NAMES = KEYPOINT_NAMES + EXTREMITY_NAMES
"""What the network sees in the crops: 27 points."""

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
    """What is known of a source before its first frame. Sizes are of upright, square-pixel pictures."""

    name: str
    width: int
    height: int
    fps: float
    """Nominal rate; frames carry their own times, which need not follow it."""
    frame_count: int | None = None
    """How many frames are expected, for progress bars; None when unknown."""
    path: str | None = None
    """The file it reads, when it is one file: the overlay takes the sound from there."""
    still: bool = False
    """One picture that stands alone, no clip of one frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture. `index` counts decoded frames of the source from 0, also those that were skipped."""

    index: int
    time_s: float
    rgb: NDArray[np.uint8]
    """(height, width, 3), upright, square pixels. Each row is contiguous; between rows there may be padding, which saves a copy."""

    def __post_init__(self) -> None:
        _check("rgb", self.rgb, None, None, 3)

    @property
    def width(self) -> int:
        return self.rgb.shape[1]

    @property
    def height(self) -> int:
        return self.rgb.shape[0]


@dataclass(frozen=True, eq=False)
class Detections:
    """People found in one frame, in no order."""

    boxes_xyxy_px: Float
    """(n, 4)"""
    scores: Float
    """(n,) in [0, 1]"""
    keypoints_px: Float
    """(n, 17, 3): x, y, score in COCO's order; NaN positions with score 0 where the detector gives none."""
    up_rad: float = 0.0
    """Where up is in the picture, as a roll: the direction R(up_rad) @ (0, -1). 0 for an upright camera; minus a quarter turn for a
    picture that has to be turned a quarter clockwise, in which people's heads point left."""

    def __post_init__(self) -> None:
        n = len(self.boxes_xyxy_px)
        _check("boxes_xyxy_px", self.boxes_xyxy_px, n, 4)
        _check("scores", self.scores, n)
        _check("keypoints_px", self.keypoints_px, n, 17, 3)

    def __len__(self) -> int:
        return len(self.boxes_xyxy_px)

    @staticmethod
    def empty() -> Detections:
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 17, 3), np.float32))

    @staticmethod
    def from_boxes(boxes_xyxy_px: Float, scores: Float) -> Detections:
        """Boxes from something that knows no keypoints."""
        keypoints = np.full((len(boxes_xyxy_px), 17, 3), np.nan, np.float32)
        keypoints[..., 2] = 0
        return Detections(np.asarray(boxes_xyxy_px, np.float32), np.asarray(scores, np.float32), keypoints)


@dataclass(frozen=True, eq=False)
class Tracks:
    """People of one frame with identities; those the detector missed are carried."""

    track_id: Int
    """(n,) from 1, never used twice in one run"""
    boxes_xyxy_px: Float
    scores: Float
    keypoints_px: Float
    """(n, 17, 3) as seen in this frame; NaN with score 0 for a carried person, until `CropKeypoints` finds them in a crop."""
    observed: Bool
    """(n,) False where the box was carried without a detection in this frame."""
    landmarks_px: Float
    """(n, 17, 3): the best guess of the keypoints, also for a carried person (there: from the previous frame, moved)."""
    up_rad: float = 0.0
    """Where up is in the picture, as in `Detections`."""
    keypoint_covariance_px2: Float = field(default_factory=lambda: np.zeros((0, 17, 2, 2), np.float32))
    """(n, 17, 2, 2) of `keypoints_px`, as the network that found them shows it; NaN where it is not known. Left out: not known"""
    identity_doubt: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) True where the person may have become somebody else in this frame. Left out: nobody"""

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
        """Some of them."""
        columns = {one.name: getattr(self, one.name)[which] for one in fields(self) if one.name != "up_rad"}
        return replace(self, **columns)


@dataclass(frozen=True, eq=False)
class CropBatch:
    """The network's input: exactly what goes to an estimator, in process or served."""

    crops: Tensor
    """(n, V, 3, h, w) uint8 RGB, on the device the estimator runs on"""
    views_px: Float
    """(n, V, 3): centre x, centre y and side (the crop's height) of every view, rolled plane"""
    base_px: Float
    """(n, 3): the same for the box that the views were laid out from"""
    keypoints_px: Float
    """(n, 17, 3): x, y in the rolled plane and score, as detected in this frame; score 0 where there is none"""
    focal_px: Float
    """(n,)"""
    roll_rad: Float
    """(n,): plane = R(roll) @ rolled"""

    def __post_init__(self) -> None:
        n, views = self.crops.shape[:2]
        _check("views_px", self.views_px, n, views, 3)
        _check("base_px", self.base_px, n, 3)
        _check("keypoints_px", self.keypoints_px, n, 17, 3)
        _check("focal_px", self.focal_px, n)
        _check("roll_rad", self.roll_rad, n)

    def __len__(self) -> int:
        return len(self.base_px)


@dataclass(frozen=True, eq=False)
class CropEstimates:
    """The network's output: one body and V local cameras per person, in each person's rolled camera."""

    rotations: Float
    """(n, 24, 3, 3): root first, each joint relative to its parent"""
    betas: Float
    """(n, 10)"""
    views_cam: Float
    """(n, V, 3): weak-perspective scale, tx, ty of every view"""
    confidence: Float
    """(n,) in [0, 1]: how much to trust the body"""
    presence: Float
    """(n,) in [0, 1]: whether there is a person in the crops at all"""
    landmarks_px: Float
    """(n, 27, 3): where the network saw the points of `LANDMARK_NAMES` (rolled plane) and how visible they are"""

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


@dataclass(frozen=True, eq=False)
class Bodies:
    """Everyone in one frame as SMPL-format bodies in the full picture's camera."""

    frame: int
    time_s: float
    track_id: Int
    boxes_xyxy_px: Float
    scores: Float
    keypoints_px: Float
    """(n, 17, 3) as detected"""
    global_orient: Float
    """(n, 3, 3)"""
    body_pose: Float
    """(n, 23, 3, 3)"""
    betas: Float
    """(n, 10)"""
    transl: Float
    """(n, 3) m, SMPL's: posed pelvis = rest pelvis(betas) + transl"""
    views_cam: Float
    """(n, V, 3) as the network gave them (each in its own crop)"""
    confidence: Float
    """(n,)"""
    interpolated: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) True where no picture evidence stands behind the row"""
    betas_frame: Float = field(default_factory=lambda: np.zeros((0, 10), np.float32))
    """(n, 10) as the network gave them in this frame, whatever `betas` were made of; NaN where nobody looked. Left out: `betas`"""
    joint_sd_rad: Float = field(default_factory=lambda: np.zeros((0, 24), np.float32))
    """(n, 24) standard deviation of each joint's rotation in camera axes about one axis, radians; NaN: not known"""
    joint_sd_m: Float = field(default_factory=lambda: np.zeros((0, 24), np.float32))
    """(n, 24) standard deviation of each joint's place about the pelvis, metres: root of the summed variances of x, y, z; NaN: not known"""
    identity_doubt: Bool = field(default_factory=lambda: np.zeros(0, np.bool_))
    """(n,) as in `Tracks`. Left out: nobody"""

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

    def usable(self) -> Bool:
        """(n,) rows that hold a body: all numbers finite, and before the camera."""
        pose = np.isfinite(self.body_pose).all((-3, -2, -1)) & np.isfinite(self.global_orient).all((-2, -1))
        finite = pose & np.isfinite(self.transl).all(-1) & np.isfinite(self.betas).all(-1)
        return np.asarray(finite & (np.where(finite, self.transl[:, 2], 0) > 0))

    def rows(self, which: Int) -> Bodies:
        """Some of them."""
        columns = {one.name: getattr(self, one.name)[which] for one in fields(self) if one.name not in ("frame", "time_s")}
        return replace(self, **columns)

    @staticmethod
    def empty(frame: int, time_s: float, views: int) -> Bodies:
        """A frame without people."""
        z = lambda *shape: np.zeros(shape, np.float32)
        return Bodies(
            frame, time_s, np.zeros(0, np.int64), z(0, 4), z(0), z(0, 17, 3), z(0, 3, 3), z(0, 23, 3, 3), z(0, 10),
            z(0, 3), z(0, views, 3), z(0),
        )  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Scene(Described):
    """One frame, finished: what every sink gets and what `mchmr_stream.stream` yields."""

    frame: Frame
    bodies: Bodies
    intrinsics: Intrinsics
    joints_m: Float
    """(n, 24, 3) camera axes, metres"""
    joints_px: Float
    """(n, 24, 2)"""
    faces: NDArray[np.int64]
    """(F, 3) triangles of the body's mesh"""
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
        """(n, vertices, 3) camera axes, metres. Posed when asked for: most users need joints only."""
        return self._vertices()

    def __len__(self) -> int:
        return len(self.bodies)


@dataclass(frozen=True, eq=False)
class Moment:
    """A finished scene of a live source, and what is known of its way here."""

    source: SourceInfo
    """its `name` is unlike that of any other source of the run"""
    scene: Scene
    clock_s: float
    """seconds since 1970 when the picture came"""
    age_s: float
    """from then until the scene was finished"""
    late_s: float
    """by the picture's own timestamp, how much later than the soonest one of the connection it came"""
    dropped: int
    """pictures of this source so far that gave way to newer ones"""
    reconnects: int
    """how many times this source was lost and found again"""
    work_s: Mapping[str, float] = field(default_factory=dict)
    """how long each stage of the pipeline last worked, seconds"""

"""Files of synthetic clips: clip_0000.mp4 (H.264), clip_0000.npz (labels of all frames), and a contact sheet.

The npz has F frames and P people; nothing is pickled. A person outside of the picture keeps its labels, has a box of NaN
and a visible fraction of 0. Arrays are those of `ClipLabels`, under its names.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mchmr_stream.datatypes import Float
from mchmr_stream.errors import UsageError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.safe_npz import read_npz
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.synthesis.clips import ClipFrame, ClipGenerator, ClipSettings
from mchmr_stream.synthesis.generator import SynthSettings
from mchmr_stream.synthesis.poses import PoseSettings
from mchmr_stream.synthesis.random_cameras import SceneCamera

_QUALITY = "20"
_SHEET_FRAMES = 6
_TILE_PX = 320
_COLOURS = ("#ff595e", "#1982c4", "#8ac926", "#ffca3a")


@dataclass(frozen=True, eq=False)
class ClipLabels:
    """Ground truth of a clip. Camera axes and pixels as in `mchmr_stream.datatypes`; metres."""

    identity: np.ndarray
    """(P,) int64: numbers that are unique in a series"""
    rotations: Float
    """(F, P, 24, 3, 3): root in camera axes"""
    betas: Float
    """(P, 10)"""
    transl: Float
    """(F, P, 3) SMPL's, camera axes"""
    joints_m: Float
    """(F, P, 24, 3) camera axes"""
    joints_px: Float
    """(F, P, 24, 2)"""
    keypoints_px: Float
    """(F, P, 17, 3): COCO's; third number 1 where visible"""
    box_xyxy_px: Float
    """(F, P, 4) of all drawn parts inside the picture, occluded or not"""
    visible_fraction: Float
    """(F, P) share of the silhouette inside the picture that is not occluded"""
    truncated_fraction: Float
    """(F, P) share of the skin's area outside of the picture"""
    K: NDArray[np.float64]
    """(F, 3, 3)"""
    world_from_camera: NDArray[np.float64]
    """(F, 4, 4); world: y up, ground at y = 0"""
    time_s: NDArray[np.float64]
    """(F,)"""
    fps: np.ndarray
    size_wh: np.ndarray
    """(2,) px"""
    sex: np.ndarray
    """(P,) text"""
    skin_tone: np.ndarray
    """(P,)"""
    pose_clip: np.ndarray
    """(P,) text: `source/clip` of the pose library"""


def run_clips(
    data: Path,
    out: Path,
    count: int,
    seed: int = 0,
    backgrounds: Path | None = None,
    poses: PoseSettings | None = None,
    settings: ClipSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write `count` clips to the folder `out`, and `contact.png` with some frames of the first ones and their boxes.

    Equal arguments give equal labels.

    Args:
        data: the developers' data folder.
        out: output folder.
        count: number of clips.
        seed: seed of the series.
        backgrounds: see `backgrounds`.
        poses: settings of the poses.
        settings: settings of the clips.
        progress: called with the frames done and all frames.

    Returns:
        The mp4 files.

    Raises:
        UsageError: `count` is not positive, or `out` already holds clips.
        InputError: the data are invalid.
    """
    if count < 1:
        raise UsageError(f"count is {count}, expected at least 1 clip")
    if any(out.glob("clip_*.mp4")):
        raise UsageError(f"{out} already holds clips; choose an empty folder, or delete them")
    poses = poses or PoseSettings()
    labels = [out / f"clip_{index:04d}.npz" for index in range(count)]
    refuse_to_replace([data, backgrounds, *poses.files], [*labels, out / "contact.png"])
    generator = ClipGenerator(SynthSettings(data, backgrounds, poses=poses), settings)
    out.mkdir(parents=True, exist_ok=True)
    frames = generator.settings.frames
    movies: list[Path] = []
    rows: list[list[Image.Image]] = []
    for index in range(count):
        clip = generator.compose(seed, index)
        shown = set(np.linspace(0, frames - 1, _SHEET_FRAMES).astype(int).tolist())
        drawn: list[ClipFrame] = []
        row: list[Image.Image] = []
        movie = out / f"clip_{index:04d}.mp4"
        with _ClipVideo(movie, clip.cameras[0], clip.fps) as stream:
            for number, frame in enumerate(generator.render(clip)):
                stream.write(frame.rgb)
                if index < 8 and number in shown:
                    row.append(_marked(frame))
                drawn.append(ClipFrame(np.zeros((0, 0, 3), np.uint8), frame.camera, frame.people))
                if progress is not None:
                    progress(index * frames + number + 1, count * frames)
        write_labels(movie.with_suffix(".npz"), drawn, clip.fps, index)
        movies.append(movie)
        rows.append(row)
    _contact_sheet([row for row in rows if row]).save(out / "contact.png")
    return movies


def write_labels(path: Path, frames: list[ClipFrame], fps: float, index: int) -> Path:
    """Write the labels of one clip, the `index`-th of its series, as npz."""
    first = frames[0]
    each = lambda name: np.stack([[np.asarray(getattr(person, name)) for person in frame.people] for frame in frames]).astype(np.float32)
    once = lambda name: np.array([getattr(person, name) for person in first.people])
    people = len(first.people)
    labels = ClipLabels(
        identity=index * 100 + np.arange(people),
        rotations=each("rotations"), betas=each("betas")[0], transl=each("transl"), joints_m=each("joints_m"),
        joints_px=each("joints_px"), keypoints_px=each("keypoints_px"), box_xyxy_px=each("box_xyxy_px"),
        visible_fraction=each("visible_fraction"), truncated_fraction=each("truncated_fraction"),
        K=np.stack([frame.camera.intrinsics.matrix for frame in frames]),
        world_from_camera=np.stack([_world_from_camera(frame.camera) for frame in frames]),
        time_s=np.arange(len(frames)) / fps, fps=np.array(fps), size_wh=np.array([first.camera.width, first.camera.height]),
        sex=once("sex").astype(np.str_), skin_tone=once("skin_tone"), pose_clip=once("pose_clip").astype(np.str_),
    )  # fmt: skip
    with atomic_file(path) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **{each.name: getattr(labels, each.name) for each in fields(ClipLabels)})
    return path


def read_labels(path: Path) -> ClipLabels:
    """Read labels.

    Raises:
        InputError: the file was not written by `write_labels`.
    """
    return ClipLabels(**read_npz(path, [each.name for each in fields(ClipLabels)], what="labels written by `mchmr synth --clips`"))


class _ClipVideo:
    """H.264 with constant frame rate; the file is written atomically."""

    def __init__(self, path: Path, camera: SceneCamera, fps: float) -> None:
        import av  # imported here because it is heavy and only clips need it

        self._whole = ExitStack()
        self._container = av.open(str(self._whole.enter_context(atomic_file(path))), "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        self._stream.width, self._stream.height, self._stream.pix_fmt = camera.width, camera.height, "yuv420p"
        self._stream.options = {"crf": _QUALITY, "preset": "medium"}
        self._stream.codec_context.thread_count = 1  # with more threads the bytes depend on the machine
        self._frame_from = av.VideoFrame.from_ndarray

    def __enter__(self) -> _ClipVideo:
        return self

    def write(self, rgb: np.ndarray) -> None:
        self._container.mux(self._stream.encode(self._frame_from(rgb, format="rgb24")))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._container.mux(self._stream.encode(None))
        self._container.close()
        self._whole.__exit__(kind, error, trace)


def _world_from_camera(camera: SceneCamera) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = camera.camera_from_world.numpy().T
    pose[:3, 3] = camera.position_m.numpy()
    return pose


def _marked(frame: ClipFrame) -> Image.Image:
    """A small copy of the picture with the boxes and numbers of all people."""
    picture = Image.fromarray(frame.rgb)
    draw = ImageDraw.Draw(picture)
    for number, person in enumerate(frame.people):
        if np.isfinite(person.box_xyxy_px).all():
            colour = _COLOURS[number % len(_COLOURS)]
            draw.rectangle([float(value) for value in person.box_xyxy_px], outline=colour, width=2)
            draw.text((float(person.box_xyxy_px[0]) + 4, float(person.box_xyxy_px[1]) + 2), str(number), fill=colour)
    picture.thumbnail((_TILE_PX, _TILE_PX))
    return picture


def _contact_sheet(rows: list[list[Image.Image]]) -> Image.Image:
    heights = [max(tile.height for tile in row) for row in rows]
    sheet = Image.new("RGB", (_SHEET_FRAMES * _TILE_PX, sum(heights)))
    for row, top in zip(rows, np.cumsum([0, *heights[:-1]]).tolist(), strict=True):
        for column, tile in enumerate(row):
            sheet.paste(tile, (column * _TILE_PX, top))
    return sheet

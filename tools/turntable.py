"""Draw the bodies of a STEM.npz from the camera and from the side, where errors of depth are visible: one contact sheet.

    python tools/turntable.py out/clip.npz clip.mp4 --frames 10,50,90 -o sheet.png python tools/turntable.py old.npz clip.mp4 --compare
    new.npz --labels before,after --views camera,side,top

A row per frame: the picture, the overlay, and each body alone in each view. The views rotate about the vertical through the person, 0
degrees being the camera's side; all are orthographic and of one scale. The ground line goes through the lowest point of the feet, thick
where a foot is within 3 cm of it. The red line is the plumb line of the body's centre of volume: for a person who stands still it ends
over a foot or between the feet. The knee flexions of each person and frame are printed as a table.

The vertical is the camera's y axis, or, with `--up world`, that of a file made with `--static-camera`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import ValidationError

from mchmr_stream.body.model import BodyModel, skin
from mchmr_stream.config import CameraSettings, Settings, SourceSettings
from mchmr_stream.datatypes import JOINT_NAMES, Bodies, Frame, Scene
from mchmr_stream.errors import InputError, MchmrError, UsageError
from mchmr_stream.export.formats import body_of
from mchmr_stream.export.person_motion import usable_rows
from mchmr_stream.files.atomic import atomic_file, check_folder, write_errors
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.motion.motion import Motion, Track, load
from mchmr_stream.pipeline.factory import with_camera
from mchmr_stream.rendering.colours import identity_colour
from mchmr_stream.rendering.shading import paint_bodies
from mchmr_stream.sinks.overlay import draw_scene
from mchmr_stream.sources import open_source

Array = NDArray[np.float64]
Picture = NDArray[np.uint8]

VIEWS = ("camera", "side", "back", "top")
GAP_PX, STRIP_PX, TEXT_PX = 4, 20, 13
"""Gap between tiles, height of the line of text above a row, height of letters."""
HEAD_PX, FOOT_PX, EDGE_PX = 36, 14, 8
"""Margins of a tile: for text at the top, below the body, at its sides."""
NEAR_GROUND_M = 0.03
FAR_M = 100.0
"""At this distance projection is nearly orthographic: 0.5 m nearer is 0.5 % larger."""
_PAPER, _INK, _GROUND, _PLUMB, _FAINT = (246, 246, 244), (30, 30, 30), (110, 110, 110), (200, 30, 30), (160, 160, 160)
_FEET = [JOINT_NAMES.index(name) for name in ("left_ankle", "right_ankle", "left_foot", "right_foot")]


@dataclass(frozen=True, eq=False)
class Posed:
    """One person in one frame."""

    track: Track
    """one row"""
    vertices_m: Array
    """(V, 3) camera axes"""

    @property
    def track_id(self) -> int:
        return self.track.track_id

    @property
    def knees_deg(self) -> tuple[float, float]:
        """Flexion of left and right, 0 where the leg is straight."""
        left, right = (knee_flexion_deg(self.track.joints_m[0], side) for side in ("left", "right"))
        return left, right


@dataclass(frozen=True, eq=False)
class Bodyset:
    """People of one file in the selected frames."""

    label: str
    motion: Motion
    body: BodyModel
    people: dict[int, list[Posed]]
    """By frame"""

    @property
    def feet(self) -> NDArray[np.bool_]:
        """(V,) vertices whose largest skinning weight is an ankle or a foot."""
        return (self.body.weights[:, _FEET].sum(1) > 0.5).numpy()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except MchmrError as error:
        print(f"turntable: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`")
    parser.add_argument("clip", type=Path, metavar="CLIP", help="the video or pictures that they come from")
    parser.add_argument("--frames", metavar="N,N,...", help="numbers of frames")
    parser.add_argument("--count", type=int, default=4, metavar="N", help="without --frames: so many, spread evenly (default 4)")
    parser.add_argument("--views", default="camera,side", metavar="VIEW,...", help=f"of {','.join(VIEWS)} (default camera,side)")
    parser.add_argument("--ids", metavar="ID,...", help="only these people (default: everyone)")
    parser.add_argument("--compare", type=Path, metavar="OTHER.npz", help="draw the same frames of this file below")
    parser.add_argument("--labels", metavar="ONE,OTHER", help="names of the two files (default: their file names)")
    parser.add_argument("--up", choices=("camera", "world"), default="camera", help="what is vertical (default: the camera's y axis)")
    parser.add_argument("--tile", type=int, default=300, metavar="PX", help="height of a picture, side of a body's tile (default 300)")
    parser.add_argument("--across", type=int, default=8, metavar="N", help="most tiles beside each other (default 8)")
    parser.add_argument("--body", type=Path, metavar="FILE", help="the SMPL file that the run used, where it is no longer in its place")
    parser.add_argument("-o", "--out", type=Path, default=Path("turntable.png"), metavar="OUT.png", help="default: turntable.png")
    return parser


def _run(args: argparse.Namespace) -> int:
    views = _views(args.views)
    if args.tile < 64 or args.across < 1 or args.count < 1:
        raise UsageError("expected --tile of at least 64 and --across and --count of at least 1")
    if args.out.suffix.lower() != ".png":
        raise UsageError(f"--out got {args.out}, expected a name that ends in .png")
    check_folder(args.out)
    paths = [args.file] if args.compare is None else [args.file, args.compare]
    motions = [load(path) for path in paths]
    for path, motion in zip(paths, motions, strict=True):
        if (motion.width, motion.height) != (motions[0].width, motions[0].height):
            raise InputError(
                f"{path} is of pictures of {motion.width} x {motion.height}, {paths[0]} of {motions[0].width} x {motions[0].height}; "
                "compare files of one clip"
            )
    ids = _numbers(args.ids, "--ids")
    frames = _frames(motions, args.frames, args.count, ids)
    sets = [
        pose(motion, frames, ids, label, body_of(motion, args.body))
        for motion, label in zip(motions, _labels(paths, args.labels), strict=True)
    ]
    pictures = read_pictures(args.clip, motions[0], frames)
    sheet = draw_sheet(sets, pictures, views, up=args.up, tile_px=args.tile, across=args.across)
    with write_errors(args.out), atomic_file(args.out) as temporary:
        sheet.save(temporary, format="png")
    print(knee_table(sets, frames))
    print(f"{args.out}: {sheet.width} x {sheet.height}, {len(frames)} frames")
    return 0


def _views(text: str) -> list[str]:
    views = text.split(",")
    if unknown := [view for view in views if view not in VIEWS]:
        raise UsageError(f"--views got {unknown[0]!r}, expected some of {','.join(VIEWS)}")
    return views


def _numbers(text: str | None, option: str) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} got {text!r}, expected whole numbers with commas between them") from error


def _labels(paths: Sequence[Path], text: str | None) -> list[str]:
    if text is None:
        stems = [path.stem for path in paths]
        return stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    labels = text.split(",")
    if len(labels) != len(paths):
        raise UsageError(f"--labels got {text!r}, expected {len(paths)} with a comma between them: one for each file")
    return labels


def _frames(motions: Sequence[Motion], text: str | None, count: int, ids: list[int] | None) -> list[int]:
    """The given frames, or `count` spread evenly over the frames of the first file with people."""
    if ids is not None and (unknown := [one for one in ids if not any(one in motion.tracks for motion in motions)]):
        known = ",".join(str(one) for one in motions[0].tracks)
        raise UsageError(f"--ids got {unknown[0]}, the file has {known or 'nobody'}")
    if (frames := _numbers(text, "--frames")) is not None:
        there = motions[0].frames
        if unknown := [frame for frame in frames if frame not in there]:
            span = f"{there[0]} to {there[-1]}" if len(there) else "none"
            raise UsageError(f"--frames got {unknown[0]}, the file has {span} ({len(there)} frames)")
        return list(dict.fromkeys(frames))
    tracks = [track for track in motions[0].tracks.values() if ids is None or track.track_id in ids]
    if not tracks:
        raise InputError("the file has nobody in it; give --frames to see the pictures anyway")
    seen = np.unique(np.concatenate([track.frame for track in tracks]))
    # The middles of equal parts: at both ends people are often truncated by the picture's edge.
    places = ((np.arange(count) + 0.5) * len(seen) / count).astype(int)
    return [int(frame) for frame in np.unique(seen[places])]


def pose(motion: Motion, frames: Sequence[int], ids: Sequence[int] | None, label: str, body: BodyModel) -> Bodyset:
    """Pose all people (or `ids`) in `frames`. Rows that are no bodies are left out with a warning."""
    people: dict[int, list[Posed]] = {frame: [] for frame in frames}
    for track in sorted(motion.tracks.values(), key=lambda track: track.track_id):
        if ids is not None and track.track_id not in ids:
            continue
        track = usable_rows(track.only(np.isin(track.frame, frames)))
        if not len(track):
            continue
        rotations = track.rotations
        tensors = [torch.from_numpy(np.ascontiguousarray(values)) for values in (rotations, track.betas, track.transl)]
        vertices_m = skin(body, *tensors)[0].double().numpy()
        for row in range(len(track)):
            people[int(track.frame[row])].append(Posed(track.only(np.array([row])), vertices_m[row]))
    return Bodyset(label, motion, body, people)


def read_pictures(clip: Path, motion: Motion, frames: Sequence[int]) -> dict[int, Picture]:
    """The pictures of these frames, by number; lens distortion is undone as for the file.

    Raises InputError if sizes or times show that the file was made from another clip.
    """
    try:
        source = SourceSettings(**{**motion.settings.get("source", {}), "start_s": None, "end_s": None, "every": 1, "hwaccel": None})
        settings = Settings(source=source, camera=CameraSettings(**motion.settings.get("camera", {})))
    except (ValidationError, TypeError) as error:
        raise InputError(f"the file's settings are not those of this version: {error}") from error
    time_s = dict(zip(motion.frames.tolist(), motion.frames_time_s.tolist(), strict=True))
    return {frame: _picture(clip, settings, motion, frame, time_s[frame]) for frame in frames}


def _picture(clip: Path, settings: Settings, motion: Motion, frame: int, time_s: float) -> Picture:
    # Seek to each frame, so that a few frames of a long film do not need a full decode.
    start_s = max(0.0, time_s - 1e-4)
    source = open_source(clip, settings.source.model_copy(update={"start_s": start_s or None}))
    with closing(with_camera(source, settings)[0]) as opened:
        found = next(iter(opened.frames()), None)
    if found is None or found.index != frame or (found.width, found.height) != (motion.width, motion.height):
        got = "nothing" if found is None else f"frame {found.index} of {found.width} x {found.height}"
        raise InputError(
            f"{clip} has {got} at {time_s:.3f} s, the .npz frame {frame} of {motion.width} x {motion.height}; give the clip it comes from"
        )
    return found.rgb


def knee_flexion_deg(joints_m: NDArray[np.floating], side: str) -> float:
    """Compute 180 degrees minus the angle hip-knee-ankle, from joints (24, 3)."""
    hip, knee, ankle = (joints_m[JOINT_NAMES.index(f"{side}_{name}")].astype(np.float64) for name in ("hip", "knee", "ankle"))
    thigh, shank = knee - hip, ankle - knee
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(thigh, shank)), thigh @ shank)))


def knee_table(sets: Sequence[Bodyset], frames: Sequence[int]) -> str:
    """A line per person, frame and file."""
    width = max(4, *(len(one.label) for one in sets))
    lines = [f"{'file':{width}}  frame  person  confidence  left knee  right knee  (flexion, degrees)"]
    for frame in frames:
        for one in sets:
            for person in one.people[frame]:
                left, right = person.knees_deg
                confidence = person.track.confidence[0]
                lines.append(f"{one.label:{width}}  {frame:5d}  {person.track_id:6d}  {confidence:10.2f}  {left:9.0f}  {right:10.0f}")
    return "\n".join(lines)


def view_axes(view: str, down: Array, position_m: Array) -> Array:
    """Compute the rotation (3, 3) view_from_camera; its rows are right, down and forward of the view.

    The person is at `position_m`, camera axes. "camera" looks along the horizontal part of the ray from the camera; "side" is rotated by 90
    degrees about the vertical, with the camera on the left; "back" is opposite to the camera; "top" looks down, with the camera at the
    lower edge.
    """
    away = position_m - down * (down @ position_m)
    away /= np.linalg.norm(away)
    right = np.cross(down, away)
    return {
        "camera": np.stack([right, down, away]),
        "side": np.stack([away, down, -right]),
        "back": np.stack([-right, down, -away]),
        "top": np.stack([right, -away, down]),
    }[view]


def _down(motion: Motion, up: str) -> Array:
    """(3,) down direction, camera axes."""
    if up == "camera":
        return np.array([0.0, 1.0, 0.0])
    if motion.world is None:
        raise UsageError("--up world: the file has no world, as --static-camera estimates where feet are seen to stand; leave it out")
    return -motion.world.world_from_camera[1, :3]


def draw_sheet(
    sets: Sequence[Bodyset], pictures: dict[int, Picture], views: Sequence[str], *, up: str = "camera", tile_px: int = 300, across: int = 8
) -> Image.Image:
    """A row per frame and file: picture, overlay, and for each person a tile per view."""
    ids = sorted({person.track_id for one in sets for people in one.people.values() for person in people})
    beside = max(1, across // len(views))
    """people in one line"""
    lines = max(1, -(-len(ids) // beside))
    height, width = next(iter(pictures.values())).shape[:2]
    wide_px = round(width * tile_px / height)
    row_px = STRIP_PX + lines * (tile_px + GAP_PX)
    columns = min(len(ids), beside) * len(views)
    size = (2 * (wide_px + GAP_PX) + columns * (tile_px + GAP_PX), len(pictures) * len(sets) * row_px)
    sheet = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    turned = {
        (which, frame, person.track_id, view): person.vertices_m @ view_axes(view, _down(one.motion, up), person.vertices_m.mean(0)).T
        for which, one in enumerate(sets) for frame, people in one.people.items() for person in people for view in views
    }  # fmt: skip
    px_per_m = _scale(list(turned.values()), tile_px)
    top = 0
    for frame, rgb in pictures.items():
        for which, one in enumerate(sets):
            name = f"frame {frame}, {_time_s(one.motion, frame)}" + (f": {one.label}" if len(sets) > 1 else "")
            draw.text((GAP_PX, top + 3), name, fill=_INK, font=_font())
            for column, picture in enumerate((rgb, overlay(one, frame, rgb))):
                small = Image.fromarray(picture).resize((wide_px, tile_px), Image.Resampling.LANCZOS)
                sheet.paste(small, (column * (wide_px + GAP_PX), top + STRIP_PX))
            there = {person.track_id: person for person in one.people.get(frame, [])}
            for number, track_id in enumerate(ids):
                line, place = divmod(number, beside)
                for column, view in enumerate(views):
                    left = 2 * (wide_px + GAP_PX) + (place * len(views) + column) * (tile_px + GAP_PX)
                    vertices = turned.get((which, frame, track_id, view))
                    tile = draw_tile(one, there.get(track_id), track_id, view, vertices, tile_px, px_per_m)
                    sheet.paste(tile, (left, top + STRIP_PX + line * (tile_px + GAP_PX)))
            top += row_px
    return sheet


def _time_s(motion: Motion, frame: int) -> str:
    place = np.flatnonzero(motion.frames == frame)
    return f"{motion.frames_time_s[place[0]]:.3f} s" if len(place) else "not in this file"


def _scale(turned: Sequence[Array], tile_px: int) -> float:
    """px per metre at which all bodies fit their tile."""
    if not turned:
        return 1.0
    width_m, height_m = np.max([np.ptp(vertices[:, :2], axis=0) for vertices in turned], axis=0)
    return float(min((tile_px - 2 * EDGE_PX) / width_m, (tile_px - HEAD_PX - FOOT_PX) / height_m))


def overlay(one: Bodyset, frame: int, rgb: Picture) -> Picture:
    """Draw the bodies over the picture, as `mchmr video` does."""
    people = one.people.get(frame, [])
    if not people:
        return rgb
    row = lambda name: np.concatenate([getattr(person.track, name) for person in people])
    bodies = Bodies(
        frame=frame, time_s=float(people[0].track.time_s[0]), track_id=np.array([person.track_id for person in people]),
        boxes_xyxy_px=row("box_xyxy_px"), scores=row("score"), confidence=row("confidence"), interpolated=row("interpolated"),
        **{name: row(name) for name in ("keypoints_px", "global_orient", "body_pose", "betas", "transl", "views_cam", "betas_frame")},
    )  # fmt: skip
    K = one.motion.K
    camera = Intrinsics(*(float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2))))
    vertices_m = np.stack([person.vertices_m for person in people]).astype(np.float32)
    shown = Frame(frame, bodies.time_s, rgb)
    return draw_scene(Scene(shown, bodies, camera, row("joints_m"), row("joints_px"), one.body.faces, lambda: vertices_m))


def draw_tile(
    one: Bodyset, person: Posed | None, track_id: int, view: str, vertices_m: Array | None, tile_px: int, px_per_m: float
) -> Image.Image:
    """One body from one view; `vertices_m` (V, 3) in the view's axes."""
    tile = Image.new("RGB", (tile_px, tile_px), _PAPER)
    draw = ImageDraw.Draw(tile)
    if person is None or vertices_m is None:
        draw.text((6, 3), f"{track_id}: not in this frame", fill=_FAINT, font=_font())
        return tile
    low, high = vertices_m.min(0), vertices_m.max(0)
    middle = (low + high) / 2
    is_upright = view != "top"
    centre_y = tile_px - FOOT_PX - (high[1] - middle[1]) * px_per_m if is_upright else (tile_px + HEAD_PX - FOOT_PX) / 2
    centre = np.array([(tile_px - 1) / 2, centre_y])
    to_tile = lambda points_m: (points_m[..., :2] - middle[:2]) * px_per_m + centre
    feet_m = vertices_m[one.feet]
    ground_m = feet_m[:, 1].max()
    if is_upright:
        y = float(to_tile(np.array([0, ground_m]))[1])
        draw.line([(0, y), (tile_px, y)], fill=_GROUND)
    rgb = np.array(tile)
    camera = Intrinsics(FAR_M * px_per_m, FAR_M * px_per_m, *centre.tolist())
    placed = vertices_m - middle + [0, 0, FAR_M]
    paint_bodies(rgb, placed[None], one.body.faces, camera, identity_colour(track_id)[None], opacity=1.0)
    tile = Image.fromarray(rgb)
    draw = ImageDraw.Draw(tile)
    if is_upright:
        for x, _ in to_tile(feet_m[feet_m[:, 1] > ground_m - NEAR_GROUND_M]):
            draw.line([(x - 1, y + 2), (x + 1, y + 2)], fill=_GROUND, width=3)
        start = to_tile(volume_centre(vertices_m, one.body.faces))
        draw.line([tuple(start), (start[0], y + 4)], fill=_PLUMB)
    title = f"{track_id} {view}  confidence {person.track.confidence[0]:.2f}" + ("  interpolated" if person.track.interpolated[0] else "")
    left, right = person.knees_deg
    draw.text((6, 3), title, fill=_INK, font=_font())
    draw.text((6, 19), f"knees left {left:.0f}°, right {right:.0f}°", fill=_INK, font=_font())
    if view == "side":
        draw.text((tile_px - 6, 19), "< camera", fill=_FAINT, font=_font(), anchor="ra")
    return tile


def volume_centre(vertices_m: Array, faces: NDArray[np.int64]) -> Array:
    """Compute the centre (3,) of the enclosed volume; near the centre of mass, because a body's density is nearly uniform."""
    origin = vertices_m.mean(0)
    a, b, c = (vertices_m[corner] - origin for corner in faces.T)
    volume = np.einsum("ij,ij->i", a, np.cross(b, c))
    return origin + (volume[:, None] * (a + b + c)).sum(0) / (4 * volume.sum())


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT_PX)


if __name__ == "__main__":
    raise SystemExit(main())

"""Files of synthetic scenes: npz shards (pictures as JPEG bytes with their labels), and a contact sheet.

A shard holds two tables: scenes (`scene_*`) and people (`person_*`; `person_scene` is the row of the scene). Nothing is pickled, so any
npz reader opens it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.same_file import refuse_to_replace
from mchmr_stream.geometry.camera import Intrinsics
from mchmr_stream.synthesis.generator import SceneGenerator, SynthSettings
from mchmr_stream.synthesis.poses import PoseSettings
from mchmr_stream.synthesis.random_cameras import RandomCameraSettings
from mchmr_stream.synthesis.samples import PersonLabel, SyntheticScene

_SHARD_BYTES = 40_000_000
_SHARD_SCENES = 600
_PERSON_SHAPES: dict[str, tuple[int, ...]] = {
    "rotations": (24, 3, 3), "betas": (10,), "betas_exact": (), "transl": (3,), "joints_m": (24, 3), "joints_px": (24, 2),
    "keypoints_px": (17, 3), "box_xyxy_px": (4,), "visible_fraction": (), "truncated_fraction": (), "sex": (), "skin_tone": (),
    "outfit": (), "pose_clip": (), "pose_family": (), "mirrored": (),
}  # fmt: skip


def run_synth(
    data: Path,
    out: Path,
    count: int,
    seed: int = 0,
    backgrounds: Path | None = None,
    poses: PoseSettings | None = None,
    long_side_px: tuple[int, int] = (640, 960),
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write shards with at least `count` people to the folder `out`, and `contact.png`.

    Equal arguments give equal bytes. One process uses one core well (torch.set_num_threads(1)); for more cores run several with other
    seeds. With glibc, MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 in the environment saves about a tenth of the
    time, because large temporaries are reused.

    Args:
        data: the developers' data folder (body/, people/, poses/).
        out: output folder.
        count: least number of people.
        seed: seed of the series.
        backgrounds: see `backgrounds`.
        poses: settings of the poses; default: the training split.
        long_side_px: range of the pictures' longer side.
        progress: called with the people made so far and `count`.

    Returns:
        The shards.

    Raises:
        UsageError: `count` is not positive, or `out` already holds shards.
        InputError: the data are invalid.
    """
    if count < 1:
        raise UsageError(f"count is {count}, expected at least 1 person")
    if any(out.glob("shard_*.npz")):
        raise UsageError(f"{out} already holds shards; choose an empty folder, or delete them")
    settings = SynthSettings(data, backgrounds, poses=poses or PoseSettings(), cameras=RandomCameraSettings(long_side_px=long_side_px))
    refuse_to_replace([data, backgrounds, *settings.poses.files], [out / "contact.png"])
    generator = SceneGenerator(settings)
    out.mkdir(parents=True, exist_ok=True)
    shards: list[Path] = []
    held: list[SyntheticScene] = []
    looked_at: list[SyntheticScene] = []
    people = index = 0
    while people < count:
        scene = generator.scene(seed, index)
        index += 1
        people += len(scene.people)
        held.append(scene)
        if len(looked_at) < 48:
            looked_at.append(scene)
        if people >= count or len(held) >= _SHARD_SCENES or sum(len(scene.jpeg) for scene in held) >= _SHARD_BYTES:
            shards.append(write_shard(out / f"shard_{len(shards):04d}.npz", held))
            held = []
        if progress is not None:
            progress(people, count)
    contact_sheet(looked_at).save(out / "contact.png")
    return shards


def write_shard(path: Path, scenes: list[SyntheticScene]) -> Path:
    """Write scenes to one npz atomically."""
    people = [person for scene in scenes for person in scene.people]
    table: dict[str, np.ndarray] = {
        "scene_index": np.array([scene.index for scene in scenes]),
        "scene_jpeg": np.frombuffer(b"".join(scene.jpeg for scene in scenes), np.uint8),
        "scene_jpeg_end": np.cumsum([len(scene.jpeg) for scene in scenes]),
        "scene_size_wh": np.array([(scene.width, scene.height) for scene in scenes]),
        "scene_K": np.stack([scene.intrinsics.matrix for scene in scenes]),
        "scene_background": np.array([scene.background for scene in scenes], np.str_),
        "scene_shot": np.array([scene.shot for scene in scenes], np.str_),
        "person_scene": np.repeat(np.arange(len(scenes)), [len(scene.people) for scene in scenes]),
    }
    for name, shape in _PERSON_SHAPES.items():
        table[f"person_{name}"] = np.stack([np.asarray(getattr(person, name)) for person in people]).reshape(len(people), *shape)
    with atomic_file(path) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **table)
    return path


def read_shard(path: Path) -> list[SyntheticScene]:
    """Read the scenes of one shard.

    Raises:
        InputError: the file is no shard.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            table = {name: archive[name] for name in archive.files}
        ends = table["scene_jpeg_end"].tolist()
        columns = {name: table[f"person_{name}"] for name in _PERSON_SHAPES}
        first_person = np.searchsorted(table["person_scene"], np.arange(len(ends) + 1))
        scenes = []
        for row, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            people = [_person(columns, person) for person in range(first_person[row], first_person[row + 1])]
            width, height = table["scene_size_wh"][row].tolist()
            K = table["scene_K"][row]
            scenes.append(SyntheticScene(
                int(table["scene_index"][row]), table["scene_jpeg"][begin:end].tobytes(), width, height,
                Intrinsics.from_matrix(K), tuple(people),
                str(table["scene_background"][row]), str(table["scene_shot"][row]),
            ))  # fmt: skip
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"cannot read synthetic shard {path}: {error}; expected an npz written by `mchmr synth`") from error
    return scenes


def read_shards(folder: Path) -> Iterator[SyntheticScene]:
    """Yield all scenes of all shards of a folder, in order.

    Raises:
        InputError: there is none.
    """
    paths = sorted(folder.glob("shard_*.npz"))
    if not paths:
        raise InputError(f"no shard_*.npz in {folder}; make some with `mchmr synth`")
    for path in paths:
        yield from read_shard(path)


def contact_sheet(scenes: Iterable[SyntheticScene], tile_px: int = 256, columns: int = 8) -> Image.Image:
    """Draw a grid of small pictures."""
    tiles = []
    for scene in scenes:
        tile = Image.fromarray(scene.rgb())
        tile.thumbnail((tile_px, tile_px))
        tiles.append(tile)
    sheet = Image.new("RGB", (columns * tile_px, max(1, math.ceil(len(tiles) / columns)) * tile_px))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        sheet.paste(tile, (column * tile_px, row * tile_px))
    return sheet


def _person(columns: dict[str, np.ndarray], row: int) -> PersonLabel:
    values = {name: column[row] for name, column in columns.items()}
    return PersonLabel(**{name: value.item() if np.ndim(value) == 0 else value for name, value in values.items()})

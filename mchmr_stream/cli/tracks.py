"""`mchmr tracks FILE.npz`: list and edit the identities of a file without running the network."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mchmr_stream.cli.help_text import examples
from mchmr_stream.errors import UsageError
from mchmr_stream.files.output_lock import claimed

if TYPE_CHECKING:
    from mchmr_stream.motion.motion import Motion


class _Edit(argparse.Action):
    """Action that appends edits of all kinds to one list, in the given order."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        namespace.edits = [*namespace.edits, ((option or "").removeprefix("--"), values)]


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "tracks",
        help="list, merge, split, rename or select the people of a file",
        description="List the people of a STEM.npz. With edits, which are done in the order given, write a new one to --out.",
        epilog=examples("mchmr tracks out/clip.npz", "mchmr tracks out/clip.npz --merge 2+5 --rename 7=1 -o out/named.npz"),
    )
    parser.add_argument("file", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`")
    for option, metavar, what in (
        ("--merge", "A+B", "B is the same person as A; C may follow: A+B+C"),
        ("--split", "A@S", "from S seconds on person A is another person, who gets a new number"),
        ("--rename", "A=B", "person A gets number B"),
        ("--select", "A,B", "keep only these people"),
    ):
        parser.add_argument(option, action=_Edit, metavar=metavar, help=what)
    parser.add_argument("-o", "--out", type=Path, metavar="OUT.npz", help="where to write the result of edits")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing OUT.npz, which may be FILE.npz itself")
    parser.set_defaults(run=run, edits=[])


def run(args: argparse.Namespace) -> int:
    from mchmr_stream.motion import motion as motions

    if args.edits and args.out is None:
        raise UsageError("edits need -o OUT.npz, where to write the result")
    if args.out is not None and not args.edits:
        raise UsageError("-o is given but there is nothing to change; expected --merge, --split, --rename or --select")
    if args.out is not None and args.out.exists() and not args.overwrite:
        raise UsageError(f"{args.out} is there already; use --overwrite, or another name")
    with claimed([args.out] if args.out is not None else []):
        motion = motions.load(args.file)
        for kind, text in args.edits:
            motion = _edited(motion, kind, text, args.quiet)
        if args.out is not None:
            motion.save(args.out)
    if not args.quiet:
        _show(motion, args.out or args.file)
    return 0


def _edited(motion: Motion, kind: str, text: str, quiet: bool) -> Motion:
    from mchmr_stream.motion import editing

    if kind == "merge":
        into, *others = _numbers(kind, text, "+", "A+B", least=2)
        for other in others:
            motion = editing.merge(motion, into, other)
        return motion
    if kind == "split":
        identity, _, time = text.partition("@")
        motion, new = editing.split(motion, _number(kind, identity, text, "A@S"), _time_s(time, text))
        if not quiet:
            print(f"person {identity} from {time} s on is now person {new}")
        return motion
    if kind == "rename":
        old, to = _numbers(kind, text, "=", "A=B", least=2, most=2)
        return editing.rename(motion, old, to)
    return editing.select(motion, _numbers(kind, text, ",", "A,B", least=1))


def _numbers(kind: str, text: str, between: str, form: str, *, least: int, most: int | None = None) -> list[int]:
    parts = text.split(between)
    if len(parts) < least or (most is not None and len(parts) > most):
        raise UsageError(f"--{kind} got {text}, expected {form} with people's numbers")
    return [_number(kind, part, text, form) for part in parts]


def _number(kind: str, part: str, text: str, form: str) -> int:
    try:
        return int(part)
    except ValueError as error:
        raise UsageError(f"--{kind} got {text}, expected {form} with people's numbers") from error


def _time_s(part: str, text: str) -> float:
    try:
        time_s = float(part)
    except ValueError:
        time_s = math.nan
    if not math.isfinite(time_s):
        raise UsageError(f"--split got {text}, expected A@S with a person's number and seconds, such as 3@12.5")
    return time_s


def _show(motion: Motion, path: Path) -> None:
    from rich.table import Table

    from mchmr_stream.cli.tables import TableConsole
    from mchmr_stream.motion.editing import summaries

    columns = ("person", "from s", "to s", "rows", "missing", "interp.", "conf.", "away m", "first at px", "may have changed at s")
    table = Table(*columns, title=str(path))
    for one in summaries(motion):
        times = (f"{one.first_s:.3f}", f"{one.last_s:.3f}")
        counts = (str(one.rows), str(one.missing_frames), str(one.interpolated_rows))
        place = f"{one.place_px[0]:.0f},{one.place_px[1]:.0f}"
        doubts = " ".join(f"{time_s:.3f}" for time_s in one.doubts_s)
        table.add_row(str(one.track_id), *times, *counts, f"{one.confidence:.2f}", f"{one.distance_m:.2f}", place, doubts)
    TableConsole().print(table)

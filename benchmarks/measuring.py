"""Common parts of the benchmarks: alternating measurements, ratios within a round, and the result file.

A script answers one question and writes benchmarks/results/NAME.json: the question, the command, date, machine, versions, one table, and
ratios with all their rounds. `tools/performance_page.py` writes docs/performance.md from these files.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mchmr_stream.config import Settings, load_settings
from mchmr_stream.pipeline.pipeline import Pipeline
from mchmr_stream.runtime.malloc import keep_freed_memory
from mchmr_stream.runtime.versions import machine, versions
from mchmr_stream.speed.drawn_clip import write_clip
from mchmr_stream.speed.whole_run import run_scenes

RESULTS = Path(__file__).parent / "results"
SCHEMA = 1
Rounds = list[dict[str, float]]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Create a parser with the options of all scripts, and set the process's heap as the command `mchmr` does."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="rounds; the median of the ratios within a round counts")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.NAME=VALUE", help="a setting of ours")
    parser.add_argument("--out", type=Path, help="result file (default: benchmarks/results/NAME.json)")
    parser.add_argument("--no-save", action="store_true", help="only print")
    return parser


def in_turns(sides: Mapping[str, Callable[[], float]], repeats: int) -> Rounds:
    """Measure each side once per round, in reverse order in every second round, so that a drift of the speed affects all alike."""
    rounds: Rounds = []
    for number in range(repeats):
        names = list(sides) if number % 2 == 0 else list(sides)[::-1]
        measured = {name: sides[name]() for name in names}
        rounds.append({name: measured[name] for name in sides})
        print(f"round {number + 1}: {json.dumps({name: round(value, 2) for name, value in rounds[-1].items()})}", flush=True)
    return rounds


@dataclass(frozen=True)
class Ratio:
    """Ratio of one side to another, in each round."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @staticmethod
    def of(rounds: Rounds, side: str, other: str) -> Ratio:
        """Compute the ratio of `side` to `other`."""
        return Ratio([one[side] / one[other] for one in rounds])

    def __str__(self) -> str:
        return f"{self.median:.2f} ({min(self.rounds):.2f} to {max(self.rounds):.2f})"


def middle(rounds: Rounds, side: str) -> float:
    """Return the median over the rounds."""
    return statistics.median(one[side] for one in rounds)


@dataclass
class Result:
    """Result of one benchmark."""

    name: str
    question: str
    columns: Sequence[str]
    about: str = ""
    """description of the measurement and of the columns"""
    rows: list[Sequence[str]] = field(default_factory=list)
    ratios: dict[str, Ratio] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    """single numbers that other scripts read"""

    def finish(self, args: argparse.Namespace) -> None:
        """Print the result, and write the file unless --no-save is given."""
        content = {
            "schema": SCHEMA,
            "name": self.name,
            "question": self.question,
            "about": self.about,
            "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(_shortened, sys.argv[1:])]),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "versions": versions(),
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
            "ratios": {
                name: {"median": round(ratio.median, 4), "rounds": [round(value, 4) for value in ratio.rounds]}
                for name, ratio in self.ratios.items()
            },
            "figures": {name: round(value, 6) for name, value in self.figures.items()},
        }
        print(as_text(content))
        if not args.no_save:
            path = args.out or RESULTS / f"{self.name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n")


def _shortened(argument: str) -> str:
    """The last part of a path: the rest is specific to this machine."""
    return Path(argument).name if argument.startswith("/") else argument


def as_text(content: Mapping[str, Any]) -> str:
    """Format a result as Markdown: the question, the table, the ratios."""
    lines = [content["question"], "", "| " + " | ".join(content["columns"]) + " |", "|" + "---|" * len(content["columns"])]
    lines += ["| " + " | ".join(row) + " |" for row in content["rows"]]
    if content["ratios"]:
        lines.append("")
    for name, ratio in content["ratios"].items():
        lines.append(f"- {name}: **{ratio['median']:.2f}** (rounds {', '.join(f'{value:.2f}' for value in ratio['rounds'])})")
    return "\n".join(lines)


@contextmanager
def drawn(people: int, *, frames: int, size_wh: tuple[int, int] = (1280, 720), places: int | None = None) -> Iterator[Path]:
    """Yield the clip of `mchmr bench`, for the duration of the `with` block."""
    with tempfile.TemporaryDirectory() as folder:
        yield write_clip(Path(folder) / f"drawn_{people}.mp4", people, frames=frames, size_wh=size_wh, places=places)


def settings_of(overrides: Sequence[str], *own: str) -> Settings:
    """Combine defaults, the script's own settings, and the user's overrides."""
    return load_settings(None, [*own, *overrides])


def pipeline_fps(clip: Path, settings: Settings, pipeline: Pipeline, frames: int) -> Callable[[], float]:
    """Measure frames per second of the warmed-up pipeline, without drawing or writing."""
    run_scenes(clip, settings, pipeline, 10)
    return lambda: run_scenes(clip, settings, pipeline, frames).frames_per_s


def need(path: Path | None, what: str) -> Path:
    """End the script with one line if a file or folder does not exist."""
    if path is None or not path.exists():
        raise SystemExit(f"{Path(sys.argv[0]).name}: {path or 'nothing'} is not there; expected {what}")
    return path

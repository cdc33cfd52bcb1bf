"""Write docs/model_card.md from measurements; all its numbers are generated.

    python tools/model_card.py runs/card/seed0 runs/card/seed1 runs/card/seed2

Each folder is the output of tools/evaluate_weights.py for the weights of one seed. The first must be of the weights that ship (`--weights`,
default mchmr_stream/assets/mchmr_default.safetensors), which is checked by their hash. The others give mean and spread. Pictures of the
worst cases go to docs/images/.
"""

from __future__ import annotations

import argparse
import io
import math
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from mchmr_stream.evaluation.figures import format_value
from mchmr_stream.evaluation.results import Results, Table, read_results
from mchmr_stream.network.weights import LoadedNetwork, find_weights, load_network

ROOT = Path(__file__).resolve().parents[1]
LARGEST_PICTURE_BYTES = 150_000
FEW = 20
"""Groups with fewer people are listed, but not named as the worst."""

INTRODUCTION = """\
Written by `tools/model_card.py` from the output of `tools/evaluate_weights.py`; every number below was measured or read from the
weights' file. What the metrics mean: [evaluation.md](evaluation.md).
"""
WHAT = """\
The network of `mchmr_stream` at its default settings: crops of one person in, one body in the SMPL format (24 rotations, 10 shape
coefficients of the free body that ships) and one camera per crop out. Its image encoder (BlazePose, by Google) is used as it is; what
was trained is the head that reads what encoder and detector (MoveNet, by Google) saw.
"""
USE = """\
**For**: people in ordinary video, for animation, sport and movement studies, human-computer interaction, and as a start for further
training. The output is a plausible body near the picture, with a confidence; look at it before you rely on it.

**Not for**: medical or legal decisions; measuring a person's height, weight or shape (the errors below are too large); telling who
somebody is, or what sex, age, origin or mood they are; watching people without their knowledge. Nothing here was trained on pictures
of real people except the encoder and the detector, by their makers.
"""
DATA = """\
- Rendered people: bodies, clothes, hair and skins of MakeHuman (CC0), the free body (Anny, Apache-2.0, on MakeHuman data), in front of CC0
  panoramas, drawn rooms and wallpapers of Debian packages.
- Poses: the CMU Graphics Lab Motion Capture Database (free to use, also in products), sets under CC0 and MIT, and poses made by a program.
- People without pictures: random poses, bodies and cameras of the same sources, with mistakes of the detectors
  borrowed from the rendered people.
- No SMPL file and no data set with a non-commercial licence was used. Terms of everything: [THIRD_PARTY.md](../THIRD_PARTY.md).
- The real views below were never trained on. Choices between runs were made by looking at them, so they are no longer a clean test.

How the data is made and the commands: [training.md](training.md).
"""
LIMITS = """\
- The real views are one man in one laboratory, on two cameras: they say little about other people, clothes and places. The groups above are
  of rendered people, on whom detectors do worse than on filmed ones; compare groups with each other, not with the real views.
- Rendered people with stretched bones have "true" shape coefficients that are a least-squares fit, which adds to their stature error.
- Distance from the camera follows the focal length. Where that is assumed, distances are as wrong as it is.
- Hands, feet and faces are not estimated: hands are straight, and the joints beyond the wrists mean nothing.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders of tools/evaluate_weights.py, that of the shipped weights first")
    parser.add_argument("--weights", default="default", help="the weights that the card is about (default: the shipped)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "model_card.md")
    args = parser.parse_args()

    network = load_network(args.weights)
    runs = [Run(folder) for folder in args.results]
    measured = runs[0]["synthetic"].about["weights_sha256"]
    if measured != network.sha256:
        sys.exit(f"{args.results[0]} is about weights {measured[:12]}, the card about {network.sha256[:12]}; evaluate these first")
    pictures = list(copy_pictures(args.results[0], args.out.parent / "images"))
    args.out.write_text("\n".join(sections(network, find_weights(args.weights), runs, pictures)))
    print(args.out)


class Run:
    """The results of one seed, by file name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._results: dict[str, Results] = {}

    def __getitem__(self, name: str) -> Results:
        if name not in self._results:
            self._results[name] = read_results(self.folder / f"{name}.json")
        return self._results[name]


def sections(network: LoadedNetwork, file: Path, runs: Sequence[Run], pictures: Sequence[str]) -> Iterator[str]:
    """Yield the card's sections."""
    yield f"# Model card: {file.name}\n"
    yield INTRODUCTION
    yield "## What it is\n"
    yield WHAT
    yield facts(network, file)
    yield "## Intended use\n"
    yield USE
    yield "## Data and licences\n"
    yield DATA
    yield "## How it was trained\n"
    yield training(network.provenance)
    yield "## Results\n"
    if len(runs) > 1:
        yield f"First these weights; in brackets mean ± standard deviation over {len(runs)} trainings with other seeds and this one.\n"
    else:
        yield "One training; no spread over seeds was measured.\n"
    yield from results(runs)
    yield "## Where it fails\n"
    yield failures(runs[0]["synthetic"])
    yield from pictures
    yield "## Limits\n"
    yield LIMITS


def facts(network: LoadedNetwork, file: Path) -> str:
    """Facts from the file's header."""
    parameters = sum(value.numel() for value in network.net.head.parameters())
    config = ", ".join(f"{name} {value}" for name, value in network.net.config.to_dict().items())
    rows = {
        "file": f"`{file.name}`, {file.stat().st_size / 1e6:.1f} MB, sha256 `{network.sha256}`",
        "trained parameters": f"{parameters / 1e6:.2f} million",
        "network": config,
        "licence": "Apache-2.0",
    }
    return markdown(["", ""], [[name, value] for name, value in rows.items()])


def training(provenance: dict[str, Any]) -> str:
    """Format command, revision and settings of the training from the weights' header."""
    rest = {name: value for name, value in provenance.items() if name != "settings"}
    table = markdown(["", ""], [[str(name), f"`{value}`"] for name, value in rest.items()])
    settings = yaml.safe_dump(provenance.get("settings", {}), sort_keys=False, default_flow_style=None, width=120)
    return f"{table}\nSettings:\n\n```yaml\n{settings}```\n"


def results(runs: Sequence[Run]) -> Iterator[str]:
    """Yield all tables."""
    real = runs[0]["real3d"]
    yield f"### Real views ({real.about['frames']} frames, {real.about['views']} views)\n"
    yield "Means over the cameras:\n"
    yield spread_table([means_of(run["real3d"].tables["errors"]) for run in runs])
    yield "Mean error of each joint, mm, both sides with the middle of the hips together:\n"
    yield spread_table([run["real3d"].tables["per joint, mm"] for run in runs])
    synthetic = runs[0]["synthetic"]
    yield f"### Rendered people of the test split ({synthetic.about['people']} people, {synthetic.about['views']} views)\n"
    yield (
        f'The detector found {synthetic.about["found by the detector"]} of them: the rows "found". The rows "all" count also people whom '
        "a tracker would have to carry.\n"
    )
    yield spread_table([run["synthetic"].tables["errors"] for run in runs])
    yield "### One view against several\n"
    yield spread_table([views_table(run) for run in runs])
    yield "### By group (rendered, found, known focal length)\n"
    kept = ("people", "MPJPE mm", "PA-MPJPE mm", "PVE mm", "stature cm", "stature bias cm", "PCK@0.1 %")
    yield spread_table([only(groups_of(run["synthetic"]), kept) for run in runs])
    yield "### Cut off under the hips\n"
    yield "The same rendered people with the picture cut below their hips, and whole; joints that stay in view, and joints that do not.\n"
    yield spread_table([run["upper_body"].tables["upper body (known focal)"] for run in runs])
    yield "### Does it know when it is wrong?\n"
    yield spread_table([run["synthetic"].tables["confidence"] for run in runs])
    yield "### Cameras of the views, and distance from the detector's keypoints\n"
    yield "Spread of the views' translations, in percent of depth (rendered people):\n"
    yield spread_table([run["consistency"].tables["consistency"] for run in runs])
    yield "Distance of projected joints from confident keypoints, percent of the box's height:\n"
    yield spread_table([named_by_file(run["reprojection"].tables["reprojection"]) for run in runs])


def views_table(run: Run) -> Table:
    """Build the table of PA-MPJPE with all views and with one, and the gain of the others."""
    rows: Table = {}
    for title, name, row in (
        ("real views, per frame, known camera", "real3d", "mean: ours, per frame, known camera"),
        ("real views, smoothed, known camera", "real3d", "mean: ours, smoothed, known camera"),
        ("rendered people, found, known focal", "synthetic", "found, known focal"),
    ):
        several, one = (run[which].tables["errors"][row]["PA-MPJPE mm"] for which in (name, f"{name}_1view"))
        rows[title] = {
            f"PA-MPJPE mm, {run[name].about['views']} views": several,
            "PA-MPJPE mm, 1 view": one,
            "gain %": (1 - several / one) * 100,
        }
    return rows


def failures(synthetic: Results) -> str:
    """Describe the groups with the largest errors."""
    groups = groups_of(synthetic)
    overall = synthetic.tables["errors"]["found, known focal"]["PA-MPJPE mm"]
    large = {name: row for name, row in groups.items() if row["people"] >= FEW}
    worst = sorted(large, key=lambda name: -large[name]["PA-MPJPE mm"])[:5]
    pa = lambda name: large[name]["PA-MPJPE mm"]
    lines = [
        f"- {name} ({large[name]['people']:.0f} people): {pa(name):.0f} mm, {pa(name) / overall:.2f} times that of everyone"
        for name in worst
    ]
    return f"Groups of at least {FEW} rendered people with the largest PA-MPJPE:\n\n" + "\n".join(lines) + "\n"


def copy_pictures(folder: Path, images: Path) -> Iterator[str]:
    """Write pictures of the worst cases as small JPEG files; yields the lines that show them."""
    images.mkdir(parents=True, exist_ok=True)
    for name, caption in (
        ("worst_real", "The worst frames of the real views (known camera, no smoothing); video of Pose2Sim, BSD-3-Clause"),
        ("worst_rendered", "The worst rendered people among those in front of panoramas (known focal length)"),
    ):
        source = folder / f"{name}.png"
        if not source.is_file():
            continue
        (images / f"{name}.jpg").write_bytes(small_jpeg(Image.open(source).convert("RGB")))
        yield f"![{caption}](images/{name}.jpg)\n\n{caption}. Blue: truth; orange: prediction; dots: the left side. MPJPE / PA-MPJPE.\n"


def small_jpeg(picture: Image.Image) -> bytes:
    """Encode with the best quality within the size limit."""
    for quality in range(88, 20, -6):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= LARGEST_PICTURE_BYTES:
            break
    return buffer.getvalue()


def groups_of(results: Results) -> Table:
    """Return the table of groups, by the start of its name."""
    return next(table for name, table in results.tables.items() if name.startswith("groups"))


def means_of(errors: Table) -> Table:
    """The rows over all cameras, by method."""
    return {name.removeprefix("mean: "): row for name, row in errors.items() if name.startswith("mean: ")}


def only(table: Table, metrics: Sequence[str]) -> Table:
    """Select some of the columns."""
    return {name: {metric: row[metric] for metric in metrics if metric in row} for name, row in table.items()}


def named_by_file(table: Table) -> Table:
    """Rows named by a path get the file's name."""
    return {Path(name).stem: row for name, row in table.items()}


def spread_table(tables: Sequence[Table]) -> str:
    """Format the first seed's table; with several seeds with mean and standard deviation of each value."""
    first = tables[0]
    metrics = list(dict.fromkeys(metric for row in first.values() for metric in row))
    cell: Callable[[str, str], str] = lambda name, metric: with_spread(
        [table.get(name, {}).get(metric, math.nan) for table in tables], metric
    )
    return markdown(["", *metrics], [[name, *(cell(name, metric) for metric in metrics)] for name in first])


def with_spread(values: Sequence[float], metric: str) -> str:
    """Format `72.1 (71.5 ± 0.8)`; the value alone for one seed, or if all are equal."""
    finite = [value for value in values if math.isfinite(value)]
    text = format_value(values[0], metric)
    if len(finite) < 2 or max(finite) == min(finite):
        return text
    return f"{text} ({format_value(statistics.mean(finite), metric)} ± {format_value(statistics.stdev(finite))})"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table in Markdown."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

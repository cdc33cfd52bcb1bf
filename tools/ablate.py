"""Train the network with one thing changed at a time, at a fixed budget and with several seeds, and write what that did.

    mchmr train configs/train_default.yaml --data DATA --shards runs/synth --test-shards runs/synth_test --pack runs/pack
    python tools/ablate.py --packed runs/pack -o runs/ablation --real DIR_OF_REAL_VIEWS

or, from observations that a training has kept (observed_*.npz):

    python tools/ablate.py --config configs/train_default.yaml --observed runs/default/observed_synth.npz \\
        --observed-test runs/default/observed_synth_test.npz --data DATA -o runs/ablation --real DIR_OF_REAL_VIEWS

One run after the other; the same command again goes on where it was stopped, and leaves out what is finished. After every run
RESULTS.json in the output folder and the table (`--table`, docs/ablations.md) are written anew. Real views are observed once
and kept in the output folder.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from mchmr_stream.body.files import load_body
from mchmr_stream.errors import MchmrError, UsageError
from mchmr_stream.learning import train
from mchmr_stream.learning.body_landmarks import SparseBody
from mchmr_stream.learning.evaluation.real_observations import ObservedView, load_observed, observe_real, real_errors, save_observed
from mchmr_stream.learning.observed import ObservedPeople
from mchmr_stream.learning.packing import load_packed, pack
from mchmr_stream.learning.train_settings import TrainSettings, load_train_settings
from mchmr_stream.learning.trainer import new_head, validate
from mchmr_stream.learning.training_data import TrainingData, joined, pose_pool
from mchmr_stream.network.model import MultiCropHead
from mchmr_stream.network.weights import pick_device

ROOT = Path(__file__).resolve().parents[1]
TESTED_VIEWS = (1, 3, 5)
BASE = "base"
Run = dict[str, Any]
Errors = dict[str, dict[str, float]]
"""By number of views, as text for JSON: MPJPE mm, PA-MPJPE mm."""


@dataclass(frozen=True)
class Variant:
    """What differs from the base."""

    name: str
    network: Mapping[str, Any] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    all_people: str | None = None
    """the only kind of people: "rendered_people" or "landmark_people", as many of them as the base has of both"""

    def of(self, base: TrainSettings) -> TrainSettings:
        """The settings of this variant."""
        changed: dict[str, Any] = dict(self.settings)
        if self.all_people is not None:
            changed |= {"rendered_people": 0, "landmark_people": 0}
            changed[self.all_people] = base.rendered_people + base.landmark_people
        return replace(base, network=base.network | dict(self.network), losses=replace(base.losses, **self.losses), **changed)

    def tested_views(self, base: TrainSettings) -> list[int]:
        """The numbers of views it can be tested with: for few-view variants up to theirs, for a concatenation just its own."""
        settings = self.of(base)
        if settings.network_config().fusion == "concat":
            return [settings.views]
        return [views for views in (*TESTED_VIEWS, 7) if views <= settings.views]


_CONCAT = {"single_view_share": 0.0}
"""A concatenation bears one number of views in one order."""
VARIANTS = (
    Variant(BASE),
    Variant("1 view", settings={"views": 1}),
    Variant("3 views", settings={"views": 3}),
    Variant("7 views", settings={"views": 7}),
    Variant("no contrastive loss", losses={"contrastive": 0.0}),
    Variant("no camera consistency loss", losses={"camera_consistency": 0.0}),
    Variant("fusion: mean of the views", network={"fusion": "mean"}),
    Variant("fusion: concatenation", network={"fusion": "concat", "relative_encoding": False}, settings=_CONCAT),
    Variant("fusion: concatenation with relations (the paper's)", network={"fusion": "concat"}, settings=_CONCAT),
    Variant("fusion: self-attention", network={"fusion": "self_attention"}),
    Variant("no relative encoding", network={"relative_encoding": False}),
    Variant("always all five views in order", settings=_CONCAT),
    Variant("rendered people only", all_people="rendered_people"),
    Variant("people without pictures only", all_people="landmark_people"),
)
NOTES = """\
- Rendered: people of the test split whom the detector found, with their true focal length. Real: each frame by itself, the camera
  known, no smoothing, mean over the cameras. MPJPE / PA-MPJPE in mm of twelve joints, see [evaluation.md](evaluation.md).
- Numbers are means over the seeds, behind the +- the standard deviation of single runs (not of the mean). A difference within it says
  nothing. At this budget no variant is trained to its end; what helps early need not help late.
- "1 view" and "3 views" were trained with the first so many crops only, and are tested with as many and fewer; all others see five
  crops in training (a random subset in half of the steps) unless said otherwise.
- Concatenation cannot do without one crop or take them in another order, so it always sees all five: compare it with "always all five
  views in order". With relations it is the fusion of the paper; ours replaces its flattening by attention, so that any V will do.
- Self-attention and "no relative encoding" are the same function with other initial weights: how far apart they are is noise.
- Tokens are told the place of their own crop in every variant; the relative encoding comes on top of that.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return ablate(_arguments(arguments))
    except MchmrError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return error.exit_code


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packed", type=Path, help="folder of `mchmr train --pack`, with test people")
    parser.add_argument("--config", type=Path, help="training settings; with --packed instead of the pack's")
    parser.add_argument("--observed", type=Path, nargs="+", default=[], help="observed rendered people, instead of --packed")
    parser.add_argument("--observed-test", type=Path, help="observed rendered people of the test split")
    parser.add_argument("--data", type=Path, help="folder with poses/ and body/, for people without pictures")
    parser.add_argument("--real", type=Path, help="folder of real views (docs/evaluation.md)")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the runs and RESULTS.json")
    parser.add_argument("--table", type=Path, default=ROOT / "docs" / "ablations.md", help="the table (default docs/ablations.md)")
    parser.add_argument("--steps", type=int, default=600, help="of each run (default 600)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(default 0 1 2)")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help=f"some of: {'; '.join(each.name for each in VARIANTS)}")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser.parse_args(arguments)


def ablate(args: argparse.Namespace) -> int:
    """Everything that is not yet done. Returns the exit code."""
    chosen = _chosen(args.variants)
    args.out.mkdir(parents=True, exist_ok=True)
    packed = args.packed or _pack(args)
    base, data = load_packed(packed)
    if args.config is not None:
        base = load_train_settings(args.config)
    if data.test is None:
        raise UsageError(f"{packed} has no test people; pack again with --test-shards (or give --observed-test)")
    base = replace(base, steps=args.steps, warmup_steps=min(base.warmup_steps, max(1, args.steps // 10)))
    there = min(data.rendered.views.shape[1], data.test.views.shape[1])
    real = _real_views(args, there) if args.real is not None else None
    body = SparseBody(load_body("free"))
    skipped = [variant.name for variant in chosen if variant.of(base).views > there]
    for name in skipped:
        print(f"{name}: left out, only {there} views of each person were observed", flush=True)
    wanted = [(variant, seed) for seed in args.seeds for variant in chosen if variant.name not in skipped]
    runs: dict[str, dict[str, Run]] = {variant.name: {} for variant, _ in wanted}
    about = {
        "machine": _machine(args.device),
        "torch": torch.__version__, "date": datetime.now(UTC).date().isoformat(), "revision": train.revision(), "steps": args.steps,
        "seeds": args.seeds, "people per step": base.rendered_people + base.landmark_people, "pack": packed.resolve().name,
        "shards": data.shards, "test people": int(data.test.found().sum()), "real views": args.real.resolve().name if args.real else None,
        "left out": skipped, "runs wanted": len(wanted),
    }  # fmt: skip
    for number, (variant, seed) in enumerate(wanted, 1):
        result = _run(variant, seed, base, packed, args, data.test, real, body)
        runs[variant.name][str(seed)] = result
        print(f"{number} of {len(wanted)}: {variant.name}, seed {seed}: {_line(result)}", flush=True)
        _write(args.out / "RESULTS.json", json.dumps({"about": about, "runs": runs}, indent=1) + "\n")
        _write(args.table, table(about, runs))
    print(args.table)
    return 0


def _chosen(names: Sequence[str] | None) -> list[Variant]:
    known = {variant.name: variant for variant in VARIANTS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise UsageError(f"variant {unknown[0]!r} is unknown, expected some of: {'; '.join(known)}")
    return list(VARIANTS) if names is None else [known[name] for name in names]


def _pack(args: argparse.Namespace) -> Path:
    """The observations as a pack of its own, made once."""
    folder = args.out / "pack"
    names = " ".join(path.stem for path in args.observed)
    if (folder / "settings.json").is_file():
        before = load_packed(folder)[1].shards
        if args.observed and before != names:
            raise UsageError(f"{folder} was made of {before}; choose another folder with -o for {names}")
        return folder
    if args.config is None or not args.observed or args.observed_test is None or args.data is None:
        raise UsageError("expected --packed, or --config, --observed, --observed-test and --data")
    settings = load_train_settings(args.config)
    people = [ObservedPeople.load(path) for path in args.observed]
    pack(TrainingData(joined(people), ObservedPeople.load(args.observed_test), pose_pool(args.data, settings), names), settings, folder)
    return folder


def _real_views(args: argparse.Namespace, views: int) -> list[ObservedView]:
    kept = args.out / f"real_{views}views.npz"
    if not kept.is_file():
        save_observed(kept, observe_real(args.real, views=views, device=args.device))
    return load_observed(kept)


def _run(
    variant: Variant, seed: int, base: TrainSettings, packed: Path, args: argparse.Namespace, test: ObservedPeople,
    real: list[ObservedView] | None, body: SparseBody,
) -> Run:  # fmt: skip
    """Train and measure, or read what was measured before. Raises UsageError when that was made with other settings."""
    folder = args.out / f"{variant.name.replace(' ', '_').replace(':', '').replace('(', '').replace(')', '')}_seed{seed}"
    settings = replace(variant.of(base), seed=seed)
    finished = folder / "result.json"
    result: Run = json.loads(finished.read_text()) if finished.is_file() else {}
    if result and result["settings"] != settings.to_dict():
        raise UsageError(f"{finished} was made with other settings; choose another folder with -o, or delete {folder}")
    head: MultiCropHead | None = None
    if not result:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "settings.yaml"
        config.write_text(yaml.safe_dump(settings.to_dict()))
        start = time.monotonic()
        resume = (folder / "checkpoint.pt").is_file()
        train.run(config, packed=packed, out=folder, resume=resume, device=args.device, report=lambda line: None)
        result = {"settings": settings.to_dict(), "seconds": round(time.monotonic() - start, 1), "revision": train.revision()}
    views = variant.tested_views(base)
    if "rendered" not in result:
        head = _averaged_head(folder, settings)
        result["rendered"] = {str(count): validate(head, test, body, count) for count in views}
    if real is not None and "real" not in result:
        head = head or _averaged_head(folder, settings)
        result["real"] = {str(count): real_errors(head, real, body, count) for count in views}
    _write(finished, json.dumps(result, indent=1) + "\n")
    return result


def _averaged_head(folder: Path, settings: TrainSettings) -> MultiCropHead:
    head = new_head(settings.network_config())
    head.load_state_dict(torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")["average"])
    return head.eval()


def table(about: Mapping[str, Any], runs: Mapping[str, Mapping[str, Run]]) -> str:
    """docs/ablations.md."""
    done = sum(map(len, runs.values()))
    parts = [
        "# Ablations\n",
        "Written by `tools/ablate.py`; no number is typed by hand. One thing changed at a time, everything else as in the base.\n",
        f"{about['steps']} steps of {about['people per step']} people per run, seeds {', '.join(map(str, about['seeds']))}; "
        f"{about['test people']} rendered test people; {about['date']}, revision {about['revision'] or 'unknown'}, {about['machine']}, "
        f"torch {about['torch']}.\n",
    ]
    if done < about["runs wanted"]:
        parts.append(f"**Not finished: {done} of {about['runs wanted']} runs.**\n")
    for kind, title in (("rendered", "Rendered people"), ("real", "Real views")):
        if any(kind in run for seeds in runs.values() for run in seeds.values()):
            parts.append(f"## {title}\n\n{_table(runs, kind)}")
    left_out = "".join(f"- {name}: left out, for lack of observed views.\n" for name in about["left out"])
    return "\n".join([*parts, f"## Notes\n\n{left_out}{NOTES}"])


def _table(runs: Mapping[str, Mapping[str, Run]], kind: str) -> str:
    views = sorted({int(count) for seeds in runs.values() for run in seeds.values() for count in run.get(kind, {})})
    lines = [
        f"| variant | seeds | {' | '.join(f'V = {count}: MPJPE | PA' for count in views)} |",
        f"|---|---|{'---|---|' * len(views)}",
    ]
    for name, seeds in runs.items():
        measured = [run[kind] for run in seeds.values() if kind in run]
        if measured:
            cells = [
                spread([errors[str(count)][metric] for errors in measured if str(count) in errors])
                for count in views
                for metric in ("MPJPE mm", "PA-MPJPE mm")
            ]
            lines.append(f"| {name} | {len(measured)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    if not values or not all(map(math.isfinite, values)):
        return ""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _line(result: Run) -> str:
    most = max(result["rendered"], key=int)
    parts = [f"{kind} {result[kind][most]['MPJPE mm']:.1f} / {result[kind][most]['PA-MPJPE mm']:.1f}" for kind in ("rendered", "real")
             if kind in result]  # fmt: skip
    return f"{', '.join(parts)} mm with {most} views, {result['seconds']:.0f} s"


def _machine(device: str) -> str:
    """What trains, in words."""
    on = pick_device(device)
    if on.type == "cuda":
        return torch.cuda.get_device_name(on)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def _write(path: Path, text: str) -> None:
    """The file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())

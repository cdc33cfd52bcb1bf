r"""Run all evaluations on one set of weights and store the results in one folder, from which tools/model_card.py writes the card.

    python tools/evaluate_weights.py mchmr_stream/assets/mchmr_default.safetensors -o runs/card/seed0 \
            --real DIR_OF_REAL_VIEWS --shards runs/synth_test --observed runs/observed_test.npz --clip demo/clip/two_people.mp4

`--real` is a folder as for `mchmr evaluate real3d`, `--shards` people of the test split by `mchmr synth`, `--observed` their stored
observations (computed if missing; valid for all weights with the same encoder), `--clip` videos on which reprojection is measured in
addition to the real views. For weights of further seeds run it again with another `-o`. Five minutes on two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from mchmr_stream.cli import main as mchmr
from mchmr_stream.evaluation import camera_consistency, html_report, real3d, real_predictions, reprojection, synthetic, upper_body
from mchmr_stream.evaluation.figures import draw_cases
from mchmr_stream.evaluation.real_views import load_views
from mchmr_stream.evaluation.results import Results
from mchmr_stream.evaluation.synthetic_people import Labelled, check_same_people, labelled_people, observed_people
from mchmr_stream.evaluation.synthetic_predictions import predict
from mchmr_stream.evaluation.worst_cases import worst_real, worst_rows, worst_synthetic
from mchmr_stream.network.weights import LoadedNetwork, load_network

PARTS = ("real", "rendered", "upper_body", "reprojection")
FREE_BACKGROUND = "panorama:"
"""Pictures of people in front of these (CC0) may be published; some other backgrounds are copyleft."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a .safetensors file, or default")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--real", type=Path, required=True, help="folder of real views")
    parser.add_argument("--shards", type=Path, required=True, help="rendered people of the test split")
    parser.add_argument("--observed", type=Path, help="observations of them, made when missing")
    parser.add_argument("--clip", type=Path, nargs="*", default=[], help="more videos for reprojection")
    parser.add_argument("--limit", type=int, default=200, help="people cut off under the hips (default 200)")
    parser.add_argument("--only", choices=PARTS, help="one part; without it all of them")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    if args.only is None:
        # Each part runs in a separate process: prepared networks and their workspaces add up to gigabytes otherwise.
        for part in PARTS:
            subprocess.run([sys.executable, *sys.argv, "--only", part], check=True)
    elif args.only == "real":
        real(args.weights, args.real, args.out)
    elif args.only == "rendered":
        rendered(load_network(args.weights), args.shards, args.observed, args.out)
    elif args.only == "upper_body":
        keep(args.out, "upper_body", upper_body.evaluate(args.shards, load_network(args.weights), most_people=args.limit))
    else:
        videos = [*(view.video for view in load_views(args.real)), *args.clip]
        keep(args.out, "reprojection", reprojection.evaluate(run_videos(args.weights, videos, args.out / "video")))


def real(weights: str, folder: Path, out: Path) -> None:
    """Evaluate with all views and with one view; MediaPipe once."""
    overrides = [f"network.weights={weights}"]
    predictions = real_predictions.predict(folder, overrides=overrides)
    results = real3d.evaluate(predictions)
    keep(out, "real3d", results)
    cases = worst_real(predictions, load_views(folder), real_predictions.PER_FRAME_KNOWN)
    html_report.real_report(out / "real", results, predictions, cases)
    (out / "worst_real.png").write_bytes(draw_cases(cases))
    keep(out, "real3d_1view", real3d.evaluate(real_predictions.predict(folder, views=1, overrides=overrides, mediapipe=False)))


def rendered(network: LoadedNetwork, shards: Path, observed: Path | None, out: Path) -> None:
    """Evaluate on rendered people with the same numbers of views, and camera consistency."""
    people = observed_people(shards, observed, network.net.config.encoder, None)
    labels = list(labelled_people(shards))
    check_same_people(labels, people.betas.numpy())
    predictions = predict(people, network, labels=labels, data=shards.name)
    results = synthetic.evaluate(predictions)
    keep(out, "synthetic", results)
    keep(out, "consistency", camera_consistency.evaluate_predictions(predictions))
    html_report.synthetic_report(out / "synthetic", results, worst_synthetic(predictions, labels, worst_rows(predictions)))
    shown = worst_rows(predictions, among=may_be_shown(labels))
    if shown:
        (out / "worst_rendered.png").write_bytes(draw_cases(worst_synthetic(predictions, labels, shown)))
    keep(out, "synthetic_1view", synthetic.evaluate(predict(people, network, views=1, labels=labels, data=shards.name)))


def may_be_shown(labels: list[Labelled]) -> np.ndarray:
    """(N,) people whose picture may be published."""
    return np.array([label.scene.background.startswith(FREE_BACKGROUND) for label in labels])


def run_videos(weights: str, videos: list[Path], out: Path) -> list[Path]:
    """Bodies of all videos, as by `mchmr video`."""
    code = mchmr(
        ["video", *map(str, videos), "-o", str(out), "--overwrite", "--no-overlay", "--set", f"network.weights={weights}", "--quiet"]
    )
    if code:
        raise SystemExit(code)
    return [out / f"{video.stem}.npz" for video in videos]


def keep(out: Path, name: str, results: Results) -> None:
    """Write one evaluation as JSON."""
    (out / f"{name}.json").write_text(results.to_json() + "\n")
    print(f"{out / name}.json", flush=True)


if __name__ == "__main__":
    main()

"""`mchmr evaluate --dataset NAME` and `mchmr evaluate real3d|synthetic|consistency|reprojection`: measure accuracy."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mchmr_stream.cli.help_text import examples
from mchmr_stream.cli.inputs import bodies_inputs
from mchmr_stream.cli.number_types import integer
from mchmr_stream.cli.progress import ProgressLines
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.files.same_file import refuse_to_replace

if TYPE_CHECKING:
    from mchmr_stream.evaluation.dataset_predictions import DatasetPredictions
    from mchmr_stream.evaluation.results import Results
    from mchmr_stream.evaluation.synthetic_people import Labelled
    from mchmr_stream.evaluation.synthetic_predictions import SyntheticPredictions


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from mchmr_stream.cli.video import add_triton_arguments

    parser = subparsers.add_parser(
        "evaluate",
        help="measure accuracy",
        description="Measure accuracy against ground truth or against the picture.",
        epilog=examples("mchmr evaluate --dataset 3dpw --data DATA", "mchmr evaluate reprojection out/clip.npz"),
    )
    _add_dataset(parser)
    kinds = parser.add_subparsers(metavar="KIND", required=False)

    real3d = kinds.add_parser(
        "real3d",
        help="3D joints of filmed people",
        description="Joint errors in mm on views with 3D ground truth.",
        epilog=examples("mchmr evaluate real3d --data VIEWS --report report"),
    )
    real3d.add_argument(
        "--data", type=Path, nargs="+", metavar="DIR", help="folders with videos and their ground truth, searched recursively"
    )
    real3d.add_argument("--weights", metavar="FILE", help="weights other than the default (network.weights)")
    real3d.add_argument("--views", type=integer(1, 64), metavar="N", help="crops of each person (crops.views)")
    real3d.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    real3d.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.NAME=VALUE", help="one setting; may be repeated"
    )
    add_triton_arguments(real3d)
    real3d.add_argument("--mediapipe-model", type=Path, metavar="FILE.task", help="PoseLandmarker bundle to compare with")
    real3d.add_argument("--no-mediapipe", action="store_true", help="leave MediaPipe out")
    _add_predictions(real3d)
    _add_outputs(real3d, report=True)
    real3d.set_defaults(run=_real3d)

    synthetic = kinds.add_parser(
        "synthetic",
        help="rendered people",
        description="Body errors on people rendered by `mchmr synth`.",
        epilog=examples("mchmr evaluate synthetic --shards people"),
    )
    _add_rendered(synthetic)
    synthetic.add_argument(
        "--crop-upper-body", action="store_true", help="instead compare people in full and cut off below the hips (needs --shards)"
    )
    synthetic.add_argument(
        "--limit", type=integer(1, 1_000_000_000), default=200, metavar="N", help="people for --crop-upper-body (default 200)"
    )
    _add_predictions(synthetic)
    _add_outputs(synthetic, report=True)
    synthetic.set_defaults(run=_synthetic)

    camera_consistency = kinds.add_parser(
        "consistency",
        help="consistency of the crop cameras",
        description="Spread of the crop cameras of each person, in files of `mchmr video` or on rendered people.",
        epilog=examples("mchmr evaluate consistency out/clip.npz"),
    )
    camera_consistency.add_argument("files", nargs="*", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`")
    _add_rendered(camera_consistency)
    _add_predictions(camera_consistency)
    _add_outputs(camera_consistency)
    camera_consistency.set_defaults(run=_consistency)

    reprojection = kinds.add_parser(
        "reprojection",
        help="bodies against detected keypoints",
        description="Distance of projected joints from detected keypoints.",
        epilog=examples("mchmr evaluate reprojection out/clip.npz"),
    )
    reprojection.add_argument("files", nargs="+", type=Path, metavar="FILE.npz", help="bodies as written by `mchmr video`")
    _add_outputs(reprojection)
    reprojection.set_defaults(run=_reprojection)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("a public data set, by its published protocol (instead of a KIND)")
    group.add_argument("--dataset", metavar="NAME", help="3dpw, h36m-p1, h36m-p2, 3dhp, agora, bedlam, or a folder of the data folder")
    group.add_argument("--data", type=Path, metavar="DIR", help="data folder, as `mchmr data check` takes it")
    group.add_argument("--labels", type=Path, action="append", metavar="FILE", help="label file instead of the protocol's; may be repeated")
    group.add_argument("--bodies", type=Path, metavar="DIR", help="folder with SMPL_FEMALE, SMPL_MALE, SMPL_NEUTRAL (.npz or .pkl)")
    group.add_argument("--regressor", type=Path, metavar="FILE.npy", help="J_regressor_h36m (default: approximate joints)")
    group.add_argument("--weights", metavar="FILE", help="weights other than the default (network.weights)")
    group.add_argument("--views", type=integer(1, 64), metavar="N", help="crops of each person (crops.views)")
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N")
    group.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="SECTION.NAME=VALUE", help="one setting; may be repeated"
    )
    group.add_argument("--limit", type=integer(1, 1_000_000_000), metavar="N", help="only the first N people")
    group.add_argument("--self-check", action="store_true", help="use the labelled bodies as predictions, which must give 0 mm")
    _add_predictions(parser)
    _add_outputs(parser)
    parser.set_defaults(run=_dataset)


def _add_rendered(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", type=Path, metavar="DIR", help="rendered people, as written by `mchmr synth`")
    parser.add_argument(
        "--observed",
        type=Path,
        metavar="FILE.npz",
        help="stored output of detector and encoder: read if it exists, else computed from --shards",
    )
    parser.add_argument("--weights", default="default", metavar="FILE", help="weights other than the default")
    parser.add_argument("--views", type=integer(1, 64), metavar="N", help="crops of each person (default: all that were observed)")


def _add_predictions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--predictions", type=Path, metavar="FILE.npz", help="store the predictions here")
    group.add_argument(
        "--from", dest="earlier", type=Path, metavar="FILE.npz", help="read the predictions from here instead of running the network"
    )


def _add_outputs(parser: argparse.ArgumentParser, *, report: bool = False) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    if report:
        parser.add_argument("--report", type=Path, metavar="DIR", help="write report.html with tables, plots and the worst cases")


def _dataset(args: argparse.Namespace) -> int:
    from mchmr_stream.cli.stopping import StopOnSignals
    from mchmr_stream.datasets.labelled_bodies import LabelledBodies
    from mchmr_stream.datasets.points import load_regressor
    from mchmr_stream.evaluation import dataset, dataset_predictions
    from mchmr_stream.evaluation.dataset_protocols import H36M_ORDER, protocol_of

    _check_outputs(args)
    if args.dataset is None:
        raise UsageError("expected a KIND or --dataset NAME; `mchmr evaluate --help` explains")
    protocol = protocol_of(args.dataset)
    regressor = load_regressor(args.regressor, len(H36M_ORDER), "J_regressor_h36m") if args.regressor is not None else None
    with StopOnSignals() as stop:
        if args.earlier is not None:
            predictions = dataset_predictions.load_predictions(args.earlier)
        else:
            predictions = _dataset_predictions(args, stop.event.is_set)
        if args.predictions is not None:
            predictions.save(args.predictions)
    return _show(dataset.evaluate(predictions, protocol, LabelledBodies(args.bodies), regressor), args.json) or stop.exit_code or 0


def _dataset_predictions(args: argparse.Namespace, stopped: Callable[[], bool]) -> DatasetPredictions:
    from mchmr_stream.datasets.checking import missing_pictures
    from mchmr_stream.datasets.opening import open_set
    from mchmr_stream.evaluation.dataset_predictions import feed_truth, predict
    from mchmr_stream.evaluation.dataset_protocols import protocol_files, protocol_of

    if args.data is None:
        raise UsageError("expected --data DIR with the data set, or --from FILE.npz with earlier predictions")
    protocol = protocol_of(args.dataset)
    files = args.labels or protocol_files(args.data, protocol)
    reader = open_set(args.data, protocol.folder, files=files)
    about = {"protocol": args.dataset, "labels": [file.name for file in files]}
    if args.self_check:
        return feed_truth(reader, about, args.limit)
    missing = missing_pictures(reader)
    if missing and args.limit is None:
        raise InputError(
            f"{len(missing)} pictures of {args.dataset} are not there ({sum(missing.values())} of {len(reader)} people), "
            f"first {next(iter(missing))}; errors of a part are not those of the set: see `mchmr data check`, or say --limit"
        )
    overrides = [
        f"runtime.device={args.device}",
        *([f"network.weights={args.weights}"] if args.weights else []),
        *([f"crops.views={args.views}"] if args.views is not None else []),
        *args.overrides,
    ]
    return predict(reader, about, overrides=overrides, limit=args.limit, progress=_progress(args), stopped=stopped)


def _real3d(args: argparse.Namespace) -> int:
    from mchmr_stream.evaluation import real3d, real_predictions

    _check_outputs(args)
    _check_report(args)
    if args.earlier is not None:
        predictions = real_predictions.load_predictions(args.earlier)
    elif args.data is None:
        raise UsageError("expected --data DIR with the views, or --from FILE.npz with earlier predictions")
    else:
        overrides = [*([f"network.weights={args.weights}"] if args.weights else []), *args.overrides]
        predictions = real_predictions.predict(
            args.data, views=args.views, device=args.device, overrides=overrides, mediapipe=not args.no_mediapipe,
            mediapipe_model=args.mediapipe_model,
        )  # fmt: skip
        if args.predictions is not None:
            predictions.save(args.predictions)
    results = real3d.evaluate(predictions)
    if args.report is not None:
        from mchmr_stream.evaluation.html_report import real_report
        from mchmr_stream.evaluation.real_clips import load_clips
        from mchmr_stream.evaluation.worst_cases import worst_real

        clips = load_clips(args.data) if args.data is not None else []
        cases = worst_real(predictions, clips, real_predictions.PER_FRAME_KNOWN)
        _print_report(args, real_report(args.report, results, predictions, cases))
    return _show(results, args.json)


def _synthetic(args: argparse.Namespace) -> int:
    _check_outputs(args)
    _check_report(args)
    if args.crop_upper_body:
        return _upper_body(args)
    from mchmr_stream.evaluation import synthetic

    predictions, labels = _rendered(args)
    results = synthetic.evaluate(predictions)
    if args.report is not None:
        from mchmr_stream.evaluation.html_report import synthetic_report
        from mchmr_stream.evaluation.worst_cases import worst_rows, worst_synthetic

        cases = worst_synthetic(predictions, labels, worst_rows(predictions)) if labels is not None else []
        _print_report(args, synthetic_report(args.report, results, cases))
    return _show(results, args.json)


def _upper_body(args: argparse.Namespace) -> int:
    from mchmr_stream.evaluation import synthetic_people, upper_body
    from mchmr_stream.network.weights import load_network

    if args.shards is None:
        raise UsageError("--crop-upper-body needs --shards DIR: it cuts the rendered pictures")
    unused = [name for name in ("observed", "predictions", "earlier", "report") if getattr(args, name) is not None]
    if unused:
        raise UsageError(f"--crop-upper-body observes people anew; leave --{unused[0].replace('earlier', 'from')} out")
    views = synthetic_people.STORED_VIEWS if args.views is None else args.views
    results = upper_body.evaluate(args.shards, load_network(args.weights), views=views, most_people=args.limit)
    return _show(results, args.json)


def _consistency(args: argparse.Namespace) -> int:
    from mchmr_stream.evaluation import camera_consistency

    _check_outputs(args)
    rendered = [name for name in ("shards", "observed", "earlier") if getattr(args, name) is not None]
    if args.files and rendered:
        raise UsageError(f"got files of `mchmr video` and --{rendered[0].replace('earlier', 'from')}, expected one or the other")
    if args.files:
        return _show(camera_consistency.evaluate_files(bodies_inputs(args.files)), args.json)
    return _show(camera_consistency.evaluate_predictions(_rendered(args)[0]), args.json)


def _reprojection(args: argparse.Namespace) -> int:
    from mchmr_stream.evaluation import reprojection

    return _show(reprojection.evaluate(bodies_inputs(args.files)), args.json)


def _rendered(args: argparse.Namespace) -> tuple[SyntheticPredictions, list[Labelled] | None]:
    """Predictions on rendered people, and their labels if --shards is given."""
    from mchmr_stream.evaluation import synthetic_people, synthetic_predictions
    from mchmr_stream.network.weights import load_network

    if args.earlier is not None:
        predictions = synthetic_predictions.load_predictions(args.earlier)
        labels = list(synthetic_people.labelled_people(args.shards)) if args.shards is not None else None
        if labels is not None:
            synthetic_people.check_same_people(labels, predictions.truth["betas"])
        return predictions, labels
    network = load_network(args.weights)
    people = synthetic_people.observed_people(args.shards, args.observed, network.net.config.encoder, args.views, _progress(args))
    labels = list(synthetic_people.labelled_people(args.shards)) if args.shards is not None else None
    if labels is not None:
        synthetic_people.check_same_people(labels, people.betas.numpy())
    data = (args.shards or args.observed).name
    predictions = synthetic_predictions.predict(people, network, views=args.views, labels=labels, data=data)
    if args.predictions is not None:
        predictions.save(args.predictions)
    return predictions, labels


def _check_outputs(args: argparse.Namespace) -> None:
    """Check that predictions and report do not overwrite their own inputs."""
    given = [getattr(args, name, None) for name in ("earlier", "observed", "weights", "regressor", "mediapipe_model")]
    read = [*given, *(getattr(args, "files", None) or []), *(getattr(args, "labels", None) or [])]
    report = getattr(args, "report", None)
    written = [getattr(args, "predictions", None), None if report is None else report / "report.html"]
    refuse_to_replace(read, [path for path in written if path is not None], "choose another name")


def _check_report(args: argparse.Namespace) -> None:
    if args.report is not None:
        from mchmr_stream.evaluation.figures import require_matplotlib

        require_matplotlib()


def _progress(args: argparse.Namespace) -> Callable[[int], None] | None:
    if args.quiet:
        return None
    if not sys.stderr.isatty():
        lines = ProgressLines("observed", "people/s")
        return lambda done: lines(done, None)
    return lambda done: print(f"\robserved {done} people", end="", file=sys.stderr, flush=True)


def _print_report(args: argparse.Namespace, page: Path) -> None:
    if not args.quiet:
        print(f"report: {page}", file=sys.stderr)


def _show(results: Results, as_json: bool) -> int:
    """Print all tables: a row per measured item, a column per metric."""
    if as_json:
        print(results.to_json())
        return 0
    from rich.table import Column, Table

    from mchmr_stream.cli.tables import TableConsole

    console = TableConsole()
    for title, rows in results.tables.items():
        metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
        table = Table(Column(title, overflow="fold"), *metrics)
        for name, row in rows.items():
            table.add_row(name, *(f"{row[metric]:.4g}" if math.isfinite(row.get(metric, math.nan)) else "" for metric in metrics))
        console.print(table)
    return 0

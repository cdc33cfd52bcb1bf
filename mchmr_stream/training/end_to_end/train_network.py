"""Train the paper's network on labelled pictures: one run, in one or several legs (`loop`) and processes.

torchrun --nproc-per-node 8 -m mchmr_stream train configs/paper_resnet50.yaml ...
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mchmr_stream.body.files import load_body
from mchmr_stream.datasets.labels import LabelReader
from mchmr_stream.datasets.opening import open_set
from mchmr_stream.errors import InputError, UsageError
from mchmr_stream.network.encoders import make_encoder
from mchmr_stream.network.mesh_network import MultiCropNet
from mchmr_stream.network.weights import load_network, read_header
from mchmr_stream.training.common.distributed import Ranks, open_ranks
from mchmr_stream.training.common.loop import Leg, Loop, Report, check_folder, provenance, resume_training
from mchmr_stream.training.common.train_settings import read_yaml
from mchmr_stream.training.end_to_end.crop_sampling import open_people
from mchmr_stream.training.end_to_end.network_settings import NetworkTrainSettings, picture_settings_from
from mchmr_stream.training.end_to_end.network_trainer import NetworkTrainer, new_network, trainer_name
from mchmr_stream.training.rendered_people import SyntheticReader

log = logging.getLogger(__name__)


def run(
    config: Path,
    *,
    shards: Sequence[Path] = (),
    sets: Path | None = None,
    unchecked: bool = False,
    out: Path,
    test_shards: Path | None = None,
    test_set: str | None = None,
    start: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    minutes: float | None = None,
    seed: int | None = None,
    workers: int = 0,
    report: Report = log.info,
    progress: Callable[[int, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Leg:
    """Train until all steps are done, `minutes` have passed or `stopped` returns True, then write a checkpoint.

    Args:
        config: the settings' YAML file.
        shards: folders of `mchmr synth`.
        sets: a folder of data sets (`datasets.opening`), mixed by the settings' `shares`.
        unchecked: also accept data sets that fail the check.
        out: output folder.
        test_shards: folder of rendered people to measure on during training.
        test_set: data set among `sets` whose test split is measured during training.
        start: initial weights: a network of the same shape or an encoder, as written by `mchmr import-weights`.
        resume: continue the run in `out`.
        device: torch device or "auto".
        minutes: time limit of this leg.
        seed: overrides the settings' seed.
        workers: picture-reading processes per training process.
        report: called with lines for the log.
        progress: called with (steps done, steps) after each step.
        stopped: ends training when it returns True.

    Returns:
        The state at the end.

    Raises:
        UsageError: the arguments contradict each other.
        InputError: data or weights cannot be read.
        MchmrError: the loss or its gradients are not finite; the last checkpoint is kept.
    """
    settings = picture_settings_from(read_yaml(config, "training settings"), config)
    if seed is not None:
        settings = replace(settings, seed=seed)
    check_folder(out, resume, [config, start], trainer_name(settings))
    with open_ranks(device) as ranks:
        people = open_people(settings.shares, settings.seed, shards, sets, unchecked=unchecked)
        test = _test_people(test_shards, sets, test_set)
        out.mkdir(parents=True, exist_ok=True)
        body = load_body(settings.body)
        network = starting_network(start, settings) if start is not None else None
        trainer = NetworkTrainer(settings, people, body, test=test, start=network, ranks=ranks, workers=workers)
        report_once = report if ranks.first else _discard
        if resume:
            resume_training(trainer, out, report_once)
        for line in (*people.lines(), f"test: {len(test) if test is not None else 0} people", _where(ranks)):
            report_once(line)
        made_by = provenance(config.name, settings, ranks.device) | {
            "shards": " ".join(folder.resolve().name for folder in shards), "sets": people.lines(), "body_sha256": body.sha256,
            "processes": ranks.count, "start": start.name if start is not None else "",
        }  # fmt: skip
        return Loop(trainer, out, made_by, report=report_once, progress=progress if ranks.first else None, ranks=ranks).until(
            minutes, stopped
        )


def starting_network(path: Path, settings: NetworkTrainSettings) -> MultiCropNet:
    """Load the initial network from a file, or create a new one with the encoder of a file.

    Raises:
        UsageError: the network is not that of the settings.
        InputError: the file is neither a network nor an encoder.
    """
    torch.manual_seed(settings.seed)
    header = read_header(path)
    expected = settings.network_config()
    if "encoder" in header:
        if header["encoder"] != expected.encoder:
            raise UsageError(f"{path} holds the encoder {header['encoder']}, the settings say {expected.encoder}")
        net = new_network(settings)
        net.encoder = make_encoder(expected.encoder, path)
        return net
    if "config" not in header:
        raise InputError(f"{path} is neither a network nor an encoder of this program; make one with `mchmr import-weights`")
    loaded = load_network(str(path)).net
    there = replace(loaded.config, bodies=expected.bodies, dropout=expected.dropout)
    differing = [name for name, value in expected.to_dict().items() if there.to_dict()[name] != value]
    if differing:
        given = json.dumps({name: there.to_dict()[name] for name in differing})
        raise UsageError(f"{path} holds another network than the settings say; it has {given}")
    net = new_network(settings)
    net.load_state_dict(loaded.state_dict())
    return net


def _test_people(shards: Path | None, sets: Path | None, name: str | None) -> LabelReader | None:
    if name is None:
        return SyntheticReader([shards], "synthetic test") if shards is not None else None
    if sets is None or shards is not None:
        raise UsageError("--test-set names one of the data sets in --sets, instead of --test-shards")
    return open_set(sets, name, "test")


def _where(ranks: Ranks) -> str:
    kind = torch.cuda.get_device_name(ranks.device) if ranks.device.type == "cuda" else "CPU"
    return kind if ranks.count == 1 else f"{ranks.count} processes, each on {kind}"


def _discard(line: str) -> None:
    """A report that discards its lines: all processes produce the same ones, and the first one logs them."""

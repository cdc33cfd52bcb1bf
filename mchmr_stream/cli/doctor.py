"""`mchmr doctor`: check the installation, and advise on missing parts."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mchmr_stream import __version__
from mchmr_stream.cli.help_text import examples
from mchmr_stream.errors import MchmrError
from mchmr_stream.runtime.versions import package_version

if TYPE_CHECKING:
    from mchmr_stream.config import Settings

CORE_PACKAGES = {  # distribution -> module
    "torch": "torch",
    "numpy": "numpy",
    "av": "av",
    "kornia": "kornia",
    "filterpy": "filterpy",
    "scipy": "scipy",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
    "rich": "rich",
    "websockets": "websockets",
    "matplotlib": "matplotlib",
    "pillow": "PIL",
    "pygltflib": "pygltflib",
}
OPTIONAL_PACKAGES = {  # distribution -> module, purpose
    "mediapipe": ("mediapipe", "the mediapipe detector"),
    "smplx": ("smplx", "comparing with the reference SMPL code; your SMPL files load without it"),
    "tensorboard": ("tensorboard", "event files of training runs"),
    "usd-core": ("pxr", "`mchmr export --to usd`"),
    "smplcodec": ("smplcodec", "`mchmr export --to smpl`"),
    "rerun-sdk": ("rerun", "`--rerun`"),
    "paho-mqtt": ("paho.mqtt", "`mchmr live --mqtt`"),
    "python-osc": ("pythonosc", "`mchmr live --osc`"),
    "tritonclient[grpc]": ("tritonclient.grpc", "`--triton` and `mchmr serve`"),
    "onnx": ("onnx", "`mchmr export-model --to onnx`"),
    "onnxruntime": ("onnxruntime", "comparing an ONNX file with the network"),
}
CODECS = (  # name, decoders or encoders of which one suffices, mode, core
    ("H.264 decoding", ("h264",), "r", True),
    ("HEVC decoding", ("hevc",), "r", False),
    ("VP9 decoding", ("vp9", "libvpx-vp9"), "r", False),
    ("AV1 decoding", ("libdav1d", "libaom-av1"), "r", False),
    ("H.264 encoding", ("libx264",), "w", True),
)


@dataclass(frozen=True)
class Finding:
    """One line of the report. Only the state `broken` makes the command fail."""

    area: str
    part: str
    state: Literal["ok", "absent", "broken"]
    found: str
    advice: str = ""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    from mchmr_stream.cli.video import add_settings_arguments

    parser = subparsers.add_parser(
        "doctor",
        help="check the installation",
        description="Check installed packages, files and devices. Exit code 1 when a required part is broken.",
        epilog=examples("mchmr doctor"),
    )
    add_settings_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    findings = list(_packages())
    if not any(finding.state == "broken" for finding in findings):
        from mchmr_stream.config import load_settings

        settings = load_settings(args.config, args.overrides)
        findings += [*_files(settings), *_device(settings), *_codecs()]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _print_table(findings)
    return 1 if any(finding.state == "broken" for finding in findings) else 0


def _packages() -> Iterator[Finding]:
    yield Finding("packages", "python", "ok", f"{platform.python_version()} at {sys.executable}, {platform.platform()}")
    yield Finding("packages", "mchmr-stream", "ok", f"{__version__} at {Path(__file__).resolve().parents[1]}")
    for distribution, module in CORE_PACKAGES.items():
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:  # OSError: a shared library of the package cannot be loaded
            advice = f"reinstall it: python -m pip install --force-reinstall {distribution}"
            yield Finding("packages", distribution, "broken", " ".join(str(error).split()), advice)
        else:
            yield Finding("packages", distribution, "ok", _version(distribution))
    for requirement, (module, purpose) in OPTIONAL_PACKAGES.items():
        if _is_installed(module):
            yield Finding("optional", requirement, "ok", _version(requirement.partition("[")[0]))
        else:
            yield Finding("optional", requirement, "absent", f"only for {purpose}", f"python -m pip install '{requirement}'")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package of the module is missing, too
        return False


def _version(distribution: str) -> str:
    return package_version(distribution) or "version unknown (no package metadata)"


def _files(settings: Settings) -> Iterator[Finding]:
    from mchmr_stream.body.files import load_body
    from mchmr_stream.fitting.noise_constants import load_calibration
    from mchmr_stream.movenet.multipose import load_movenet
    from mchmr_stream.movenet.thunder import load_thunder
    from mchmr_stream.network.weights import ASSETS, find_weights, load_network

    reinstall = f"reinstall mchmr-stream; looked in {ASSETS}"
    try:
        network = load_network(settings.network.weights)
        yield Finding(
            "files",
            "network weights",
            "ok",
            f"{settings.network.weights} at {find_weights(settings.network.weights)}, SHA-256 {network.sha256[:12]}",
        )
    except MchmrError as error:
        advice = reinstall if settings.network.weights == "default" else "network.weights must name a .safetensors file of this project"
        yield Finding("files", "network weights", "broken", str(error), advice)
    yield _shipped("movenet weights", "movenet_multipose.safetensors", load_movenet, reinstall)
    yield _shipped("movenet thunder weights", "movenet_thunder.safetensors", load_thunder, reinstall)
    yield _shipped("fit calibration", "fit_calibration.safetensors", load_calibration, reinstall)
    try:
        body = load_body(settings.body.model)
        yield Finding("files", "body", "ok", f"{settings.body.model}, SHA-256 {body.sha256[:12]}")
    except MchmrError as error:
        advice = reinstall if settings.body.model == "free" else 'body.model must be "free" or your SMPL .npz or .pkl file'
        yield Finding("files", "body", "broken", str(error), advice)


def _shipped(part: str, name: str, load: Callable[[], object], advice: str) -> Finding:
    """Check a file of the package."""
    from mchmr_stream.network.weights import ASSETS

    try:
        load()
    except MchmrError as error:
        return Finding("files", part, "broken", str(error), advice)
    return Finding("files", part, "ok", str(ASSETS / name))


def _device(settings: Settings) -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            card = torch.cuda.get_device_properties(index)
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            yield Finding("device", f"cuda:{index}", "ok", f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {bf16}")
    elif torch.version.cuda:
        yield Finding(
            "device",
            "cuda",
            "absent",
            f"torch is built for CUDA {torch.version.cuda}, but no device is usable",
            "check the driver with nvidia-smi",
        )
    else:
        yield Finding(
            "device",
            "cuda",
            "absent",
            "this torch is built for the CPU only",
            "fine without a GPU; with one, install the CUDA build of torch",
        )
    get_capabilities: Callable[[], dict[str, object]] = getattr(
        torch.cpu, "get_capabilities", dict
    )  # newer than the oldest supported torch
    features = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "bf16") if get_capabilities().get(name)]
    yield Finding(
        "device",
        "cpu",
        "ok",
        f"{os.cpu_count()} cores, torch uses {settings.runtime.threads or torch.get_num_threads()} threads; {' '.join(features)}",
    )


def _codecs() -> Iterator[Finding]:
    import av
    from av.codec.codec import UnknownCodecError

    for part, names, mode, core in CODECS:
        for name in names:
            try:
                av.Codec(name, mode)
            except UnknownCodecError:
                continue
            yield Finding("codecs", part, "ok", name)
            break
        else:
            advice = "install PyAV from its wheel: python -m pip install --force-reinstall --only-binary=:all: av"
            yield Finding("codecs", part, "broken" if core else "absent", f"PyAV {av.__version__} has none of {', '.join(names)}", advice)


def _print_table(findings: list[Finding]) -> None:
    from rich.table import Column, Table
    from rich.text import Text

    from mchmr_stream.cli.tables import TableConsole

    styles = {"ok": "green", "absent": "yellow", "broken": "bold red"}
    table = Table("", "part", "state", Column("found, and what to do", overflow="fold"), box=None, pad_edge=False)
    area = ""
    for finding in findings:
        # Text objects: square brackets in a path or an extra's name are not markup.
        table.add_row(
            "" if finding.area == area else finding.area,
            finding.part,
            Text(finding.state, styles[finding.state]),
            Text(f"{finding.found}\n-> {finding.advice}" if finding.advice else finding.found),
        )
        area = finding.area
    TableConsole().print(table)

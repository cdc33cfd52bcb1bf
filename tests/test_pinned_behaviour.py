"""Behaviour that stays equal while code is moved and renamed.

Pinned are the numbers of a real clip, the command line, the public names, the file and the Triton interface.

`MCHMR_PIN=write pytest tests/test_pinned_behaviour.py` stores the present state as the expected one, after a change that is meant.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import DATA

import mchmr_stream
from mchmr_stream.cli import main
from mchmr_stream.cli.demo import get_clip
from mchmr_stream.errors import MissingPart
from mchmr_stream.motion.motion import COLUMNS, FRAME_COLUMNS, HEADER, WORLD_COLUMNS
from mchmr_stream.runtime.versions import cpu_name
from mchmr_stream.triton.wire_format import OUTPUT_SPECS, input_specs

REFERENCE, INTERFACE = DATA / "pinned_demo.npz", DATA / "pinned_interface.json"
WRITE = os.environ.get("MCHMR_PIN") == "write"
COMMANDS = (
    "ablate", "average", "bench", "config", "data check", "demo", "doctor", "evaluate", "export", "export-model", "gst-path",
    "import-weights", "live", "serve", "smooth", "synth", "tracks", "train", "video",
)  # fmt: skip
OTHER_MACHINE_M = 0.02
"""On another CPU, kernels add in another order. AVX2 instead of AVX-512 moves a joint of this clip by up to 0.8 mm."""


def machine() -> str:
    return f"{cpu_name()}; {torch.backends.cpu.get_cpu_capability()}; torch {torch.__version__}; numpy {np.__version__}"


@pytest.mark.slow
def test_bodies_of_the_demo_clip_are_the_same(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Equal to the last bit on the machine that the expected values come from, near elsewhere. The window has both people."""
    try:
        clip = get_clip(request.config.cache.mkdir("demo"))
    except MissingPart as missing:
        pytest.skip(str(missing))
    settings = mchmr_stream.load_settings(
        None, ["source.start_s=1.0", "source.end_s=1.6", "network.precision=fp32", "runtime.device=cpu", "output.overlay=false"]
    )
    result = mchmr_stream.process_video(str(clip), tmp_path, settings)
    with np.load(result.npz) as file:
        got = {name: file[name] for name in (*COLUMNS, *FRAME_COLUMNS, "K")}
    if WRITE:
        np.savez_compressed(REFERENCE, machine=machine(), **got)
    with np.load(REFERENCE) as expected:
        assert set(expected.files) == {*got, "machine"}
        same_machine = str(expected["machine"]) == machine()
        for name, column in got.items():
            assert (column.shape, column.dtype) == (expected[name].shape, expected[name].dtype), name
            if same_machine:
                np.testing.assert_array_equal(column, expected[name], err_msg=name)
        np.testing.assert_array_equal(got["track_id"], expected["track_id"])
        np.testing.assert_allclose(got["joints_m"], expected["joints_m"], atol=OTHER_MACHINE_M)


def options_of(command: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    return sorted(set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text.partition("examples:")[0])))


def test_interfaces_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Command line, public names, columns of STEM.npz, and tensors between client and Triton server."""
    got: dict[str, Any] = {
        "public names": sorted(mchmr_stream.__all__),
        "options": {command: options_of(command, capsys) for command in COMMANDS},
        "columns": {
            name: [np.dtype(column.dtype).name, list(column.shape)]
            for name, column in {**COLUMNS, **WORLD_COLUMNS, **FRAME_COLUMNS}.items()
        },
        "header": list(HEADER),
        "tensors": [[spec.name, spec.datatype, [str(size) for size in spec.dims]] for spec in (*input_specs((256, 256)), *OUTPUT_SPECS)],
    }
    if WRITE:
        INTERFACE.write_text(json.dumps(got, indent=1) + "\n")
    assert got == json.loads(INTERFACE.read_text())

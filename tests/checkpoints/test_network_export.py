"""The network as ONNX and TorchScript files, and model repositories for Triton, read back by others."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from components import import_or_skip
from numpy.typing import NDArray
from places import ROOT

from mchmr_stream.cli import main
from mchmr_stream.config import Settings
from mchmr_stream.datatypes import CropBatch
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.files.checksum import sha256_of_file
from mchmr_stream.network.weights import load_network
from mchmr_stream.serving.model_repository import ModelOptions, write_python_repository
from mchmr_stream.triton.wire_format import OUTPUT_SPECS, answer_arrays, input_specs, request_arrays

Run = Callable[[dict[str, NDArray]], dict[str, NDArray]]
INPUTS = [spec.name for spec in input_specs((256, 256))]
OUTPUTS = [spec.name for spec in OUTPUT_SPECS]


def batch(people: int, views: int) -> CropBatch:
    rng = np.random.default_rng(10 * people + views)
    base = np.stack([rng.uniform(200, 600, people), rng.uniform(200, 400, people), rng.uniform(100, 300, people)], -1)
    keypoints = np.concatenate([base[:, None, :2] + rng.normal(0, 50, (people, 17, 2)), rng.uniform(0, 1, (people, 17, 1))], -1)
    return CropBatch(
        crops=torch.from_numpy(rng.integers(0, 256, (people, views, 3, 256, 256), dtype=np.uint8)),
        views_px=(base[:, None] * rng.uniform(0.8, 1.2, (people, views, 3))).astype(np.float32),
        base_px=base.astype(np.float32),
        keypoints_px=keypoints.astype(np.float32),
        focal_px=rng.uniform(700, 1500, people).astype(np.float32),
        roll_rad=np.zeros(people, np.float32),
    )


def with_onnxruntime(path: Path) -> Run:
    runtime: Any = import_or_skip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in session.get_inputs()] == INPUTS
    return lambda arrays: dict(zip(OUTPUTS, session.run(OUTPUTS, arrays), strict=True))


def with_torchscript(path: Path) -> Run:
    script = torch.jit.load(str(path))

    def run(arrays: dict[str, NDArray]) -> dict[str, NDArray]:
        with torch.no_grad(), torch.jit.optimized_execution(False):
            answers = script(*(torch.from_numpy(arrays[name]) for name in INPUTS))
        return {name: answer.numpy() for name, answer in zip(OUTPUTS, answers, strict=True)}

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "file", "reader"), [("onnx", "model.onnx", with_onnxruntime), ("torchscript", "model.pt", with_torchscript)]
)
def test_an_exported_file_gives_the_same_numbers(
    form: str, file: str, reader: Callable[[Path], Run], quick_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = quick_settings.network.weights
    assert main(["export-model", "--to", form, "--weights", weights, "-o", str(tmp_path)]) == 0
    assert "differs from the network by at most" in capsys.readouterr().out
    run = reader(tmp_path / "mchmr" / "1" / file)
    local = LocalEstimator(weights, torch.device("cpu"), "fp32", views=1)
    for people, views in ((1, 1), (2, 5), (3, 2), (1, 9)):
        asked = batch(people, views)
        got, expected = run(request_arrays(asked)), answer_arrays(local.estimate(asked))
        for name in OUTPUTS:
            np.testing.assert_allclose(got[name], expected[name], atol=2e-4, rtol=1e-5, err_msg=f"{name}, {people} people, V={views}")


@pytest.mark.parametrize(("form", "backend"), [("onnx", "onnxruntime"), ("torchscript", "pytorch")])
def test_the_configuration_is_one_that_triton_reads(form: str, backend: str, quick_settings: Settings, tmp_path: Path) -> None:
    text_format: Any = import_or_skip("google.protobuf.text_format")
    model_config: Any = import_or_skip("tritonclient.grpc.model_config_pb2")
    from mchmr_stream.serving import model_repository

    network = load_network(quick_settings.network.weights)
    text = model_repository.config_pbtxt(network, backend, ModelOptions(device="cpu"), numbered=form == "torchscript")
    config = text_format.Parse(text, model_config.ModelConfig())
    assert (config.name, config.backend, config.max_batch_size) == ("mchmr", backend, 32)
    assert [tensor.name.partition("__")[0] for tensor in config.input] == INPUTS
    assert config.parameters["weights_sha256"].string_value == network.sha256


def test_the_repository_in_the_project_is_of_the_weights_that_ship(tmp_path: Path) -> None:
    project = ROOT / "triton_models"
    write_python_repository(tmp_path, load_network("default"), "default", ModelOptions())
    for file in ("mchmr/config.pbtxt", "mchmr/1/model.py"):
        assert (project / file).read_text() == (tmp_path / file).read_text(), "run: mchmr export-model --to python -o triton_models"
    prepared = re.search(r'"prepared_views", value: { string_value: "(\d)" }', (project / "mchmr/config.pbtxt").read_text())
    assert prepared is not None
    assert int(prepared[1]) == Settings().crops.views, "else a served network computes more crops than it is sent"


def test_weights_of_ones_own_travel_with_the_repository(quick_settings: Settings, tmp_path: Path) -> None:
    weights = quick_settings.network.weights
    assert main(["export-model", "--to", "python", "--weights", weights, "-o", str(tmp_path)]) == 0
    assert sha256_of_file(tmp_path / "mchmr" / "1" / "weights.safetensors") == sha256_of_file(Path(weights))

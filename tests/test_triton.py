"""The network on a real Triton server, which the tests start; they skip where no server program can be had."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mchmr_stream.errors import MissingPart
from mchmr_stream.estimators.local import LocalEstimator
from mchmr_stream.network.weights import load_network
from mchmr_stream.protocols import MeshEstimator
from mchmr_stream.records import CropBatch

pytest.importorskip("tritonclient.grpc", reason="needs mchmr-stream[triton]")

from mchmr_stream.estimators.triton import Shm, TritonEstimator
from mchmr_stream.serving.binary import TritonBinary, find_tritonserver
from mchmr_stream.serving.repository import ModelOptions, write_python_repository
from mchmr_stream.serving.server import TritonServer

OPTIONS = ModelOptions(device="cpu", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def binary() -> TritonBinary:
    try:
        return find_tritonserver()
    except MissingPart as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_python_repository(folder, load_network("default"), "default", OPTIONS)
    return folder


@pytest.fixture(scope="module")
def server(binary: TritonBinary, repository: Path) -> Iterator[TritonServer]:
    with TritonServer(binary, repository) as running:
        running.wait()
        yield running


@pytest.fixture(scope="module")
def local() -> LocalEstimator:
    return LocalEstimator("default", torch.device("cpu"), "fp32", views=5)


def people(count: int, views: int, seed: int = 0) -> CropBatch:
    """Crops of coloured noise, sharp and soft, no two alike: what is mixed up or cut short shows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, views, 3, 8, 8), dtype=np.uint8)
    crops = np.repeat(np.repeat(coarse, 32, -1), 32, -2) // 2 + rng.integers(0, 128, (count, views, 3, 256, 256), dtype=np.uint8)
    base = np.stack([rng.uniform(200, 600, count), rng.uniform(200, 400, count), rng.uniform(100, 300, count)], -1).astype(np.float32)
    spread = rng.uniform(-0.2, 0.2, (count, views, 3)).astype(np.float32)
    keypoints = np.concatenate([base[:, None, :2] + rng.normal(0, 50, (count, 17, 2)), rng.uniform(0, 1, (count, 17, 1))], -1)
    return CropBatch(
        crops=torch.from_numpy(crops),
        views_px=base[:, None] * (1 + spread),
        base_px=base,
        keypoints_px=keypoints.astype(np.float32),
        focal_px=rng.uniform(700, 1500, count).astype(np.float32),
        roll_rad=np.zeros(count, np.float32),
    )


@pytest.mark.parametrize("shm", ["off", "system"])
def test_the_same_numbers_as_in_process(server: TritonServer, local: MeshEstimator, shm: Shm) -> None:
    served = TritonEstimator([server.grpc_address], "mchmr", expected_sha256=local.weights_sha256, views=5, shm=shm)
    try:
        for views in range(1, 10):
            batch = people(1 + views % 3, views, seed=views)
            expected, got = local.estimate(batch), served.estimate(batch)
            for name in ("rotations", "betas", "views_cam", "confidence", "presence", "landmarks_px"):
                np.testing.assert_allclose(
                    getattr(got, name), getattr(expected, name), atol=1e-4, rtol=1e-5, err_msg=f"{name}, {views} views"
                )
    finally:
        served.close()

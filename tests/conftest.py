"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from components import skip_without

if TYPE_CHECKING:
    from mchmr_stream.config import Settings
    from mchmr_stream.pipeline.pipeline import Pipeline


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that depend on the wall clock run last in their file, where its fixtures exist, and once more if they fail."""
    files = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (files[item.path], item.get_closest_marker("clock") is not None))
    for item in items:
        if item.get_closest_marker("clock"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and validation views of the developers; users do not have them, so tests that need them skip."""
    folder = Path(os.environ.get("MCHMR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data").is_dir():
        skip_without("shared", f"developers' data not found at {folder} (set MCHMR_SHARED to use it)")
    return folder


@pytest.fixture(scope="session")
def quick_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The real components, small: one view, a small head that was never trained. Bodies mean nothing, all else is as ever."""
    import torch

    from mchmr_stream.config import settings_from
    from mchmr_stream.network.mesh_network import MultiCropNet, NetworkConfig
    from mchmr_stream.network.weights import save_network

    torch.manual_seed(0)
    weights = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    save_network(weights, MultiCropNet(NetworkConfig(token_dim=32, trunk_dim=64, trunk_depth=1)), {})
    return settings_from(
        {
            "network": {"weights": str(weights), "precision": "fp32"},
            "crops": {"views": 1},
            "detector": {"input_px": 256},
            "runtime": {"device": "cpu", "threads": 1},
        }
    )


@pytest.fixture(scope="session")
def quick_pipeline(quick_settings: Settings) -> Pipeline:
    """Loaded once; for runs with any settings that differ from `quick_settings` only outside of its components."""
    from mchmr_stream.pipeline.pipeline import Pipeline

    return Pipeline(quick_settings)

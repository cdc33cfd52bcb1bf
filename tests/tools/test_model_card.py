"""The model card's numbers: mean and spread over seeds, the worst groups, and that weights and measurements belong together."""

from __future__ import annotations

import importlib.util
import io
import sys
from types import ModuleType

import numpy as np
import pytest
from PIL import Image
from places import ROOT

from mchmr_stream.evaluation.results import Results

TOOL = ROOT / "tools" / "model_card.py"


@pytest.fixture(scope="module")
def card() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_card", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mean_and_sample_deviation_over_seeds(card):
    assert card.with_spread([72.0, 70.0, 74.0], "PA-MPJPE mm") == "72.0 (72.0 ± 2.00)"
    assert card.with_spread([72.0], "PA-MPJPE mm") == "72.0"
    assert card.with_spread([699.0, 699.0], "people") == "699"


def test_the_first_seed_decides_the_rows_of_a_table(card):
    table = card.spread_table([{"a": {"x": 10.0}}, {"a": {"x": 14.0}, "b": {"x": 1.0}}])
    assert table.splitlines()[2:] == ["| a | 10.0 (12.0 ± 2.83) |"]


def test_small_groups_are_not_called_the_worst(card):
    groups = {"pose: few": {"people": 3.0, "PA-MPJPE mm": 300.0}, "pose: many": {"people": 30.0, "PA-MPJPE mm": 120.0}}
    errors = {"found, known focal": {"PA-MPJPE mm": 100.0}}
    text = card.failures(Results("synthetic", {}, {"errors": errors, "groups (found, known focal)": groups}))
    assert "pose: many (30 people): 120 mm, 1.20 times" in text
    assert "few" not in text


def test_pictures_are_small(card):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    data = card.small_jpeg(Image.fromarray(noise))
    assert len(data) <= card.LARGEST_PICTURE_BYTES
    assert Image.open(io.BytesIO(data)).size == (400, 300)


def test_measurements_of_other_weights_are_refused(card, tmp_path, monkeypatch):
    (tmp_path / "synthetic.json").write_text(Results("synthetic", {"weights_sha256": "0" * 64}, {}).to_json())
    monkeypatch.setattr(sys, "argv", ["model_card.py", str(tmp_path), "--out", str(tmp_path / "card.md")])
    with pytest.raises(SystemExit, match="evaluate these first"):
        card.main()
    assert not (tmp_path / "card.md").exists()

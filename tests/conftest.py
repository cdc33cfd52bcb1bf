"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and validation views of the developers; users do not have them, so tests that need them skip."""
    folder = Path(os.environ.get("MCHMR_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"developers' data not found at {folder} (set MCHMR_SHARED to use it)")
    return folder

"""Components that not every machine has. A test skips without its component, and fails where CI installed it."""

from __future__ import annotations

import os
from types import ModuleType
from typing import NoReturn

import pytest

INSTALLED = "MCHMR_INSTALLED"
"""The environment variable in which .ci/run lists what it installs: names of `NAMES`, separated by spaces."""
NAMES = ("chromium", "gstreamer", "mosquitto", "node", "packages", "shared", "tritonserver")
"""`packages` are the Python packages of the extra `dev`, `shared` the developers' data."""


def skip_without(component: str, reason: str) -> NoReturn:
    """Skip the test for want of a component, or fail it if CI installed that component."""
    assert component in NAMES
    if component in os.environ.get(INSTALLED, "").split():
        pytest.fail(f"CI installs {component} ({INSTALLED}), and this test does not find it: {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def import_or_skip(name: str) -> ModuleType:
    """Import a package of the extra `dev`, or end the test as `skip_without` does."""
    try:
        return pytest.importorskip(name)
    except pytest.skip.Exception as skipped:
        skip_without("packages", str(skipped.msg))

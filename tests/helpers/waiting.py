"""Waiting for what happens on other threads and in other processes."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
    """Until it is true."""
    until_s = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until_s, "waited in vain"
        time.sleep(0.02)

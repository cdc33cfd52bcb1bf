"""Freed pictures stay with the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PICTURES = """
import resource, sys, threading
import numpy as np
from mchmr_stream.runtime.malloc import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(77)

def window():
    held = [np.empty(6 << 20, np.uint8) for _ in range(8)]
    for picture in held:
        picture[::4096] = 1

def pictures():
    window()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(6):
        window()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=pictures)
thread.start()
thread.join()
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", PICTURES, how], capture_output=True, text=True, timeout=60)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.clock
def test_pictures_are_not_fetched_from_the_system_again_and_again() -> None:
    pages = 6 * 8 * (6 << 20) // 4096
    assert page_faults("keep") < 0.02 * pages
    assert page_faults("as it is") > 0.1 * pages, "then nothing would have to be done"

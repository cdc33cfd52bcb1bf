"""The C library's heap, set for programs that ask for the same large pieces again and again."""

from __future__ import annotations

import ctypes
import logging
import sys

log = logging.getLogger(__name__)

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_IN_HEAP = 32 << 20
"""The most that glibc allows for pieces that come out of its heap; larger ones it takes from the system every time."""
_KEPT = 512 << 20


def keep_freed_memory() -> bool:
    """Keep freed pictures and maps for the next ones instead of giving them back to the system; for the whole process.

    glibc by default gives large pieces back at once, and the system then fills the next picture with zeros, page by page: a
    thousand page faults a frame at 1080p, a tenth of the work and more where memory is virtual. Call it before threads
    begin: those that already have a heap of their own keep it. The process holds on to what it needed at its peak, which is
    no more than without it. Returns False where the C library is another one: then nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # The heaps of single threads shrink whatever the threshold is; one for all does not, and large pieces are asked for seldom.
    chosen = {_M_MMAP_THRESHOLD: _LARGEST_IN_HEAP, _M_TRIM_THRESHOLD: _KEPT, _M_ARENA_MAX: 1}
    refused = [name for name, value in chosen.items() if not library.mallopt(name, value)]
    if refused:
        log.info("glibc refused to keep freed memory (parameters %s): pictures will take a little longer", refused)
    return not refused

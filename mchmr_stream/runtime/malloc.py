"""Settings of the C library's heap for programs that allocate the same large blocks repeatedly."""

from __future__ import annotations

import ctypes
import logging
import sys

log = logging.getLogger(__name__)

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_IN_HEAP = 32 << 20
"""Largest block that glibc can be set to allocate from its heap; larger ones are mapped from the system every time."""
_KEPT = 512 << 20


def keep_freed_memory() -> bool:
    """Keep freed pictures and maps for reuse instead of returning them to the system; for the whole process.

    By default glibc returns large blocks at once, and the system then fills the next picture with zeros, page by page: a thousand page
    faults per frame at 1080p, a tenth of the work and more in virtual machines. It has to be called before threads start: those that
    already have a heap keep it. The process keeps its peak memory, which is no larger than without the setting.

    Returns:
        False if the C library is another one, or refuses; nothing is changed by another library.
    """
    if not sys.platform.startswith("linux"):
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # The heaps of single threads shrink at any threshold; a common one does not, and large blocks are allocated seldom.
    chosen = {_M_MMAP_THRESHOLD: _LARGEST_IN_HEAP, _M_TRIM_THRESHOLD: _KEPT, _M_ARENA_MAX: 1}
    refused = [name for name, value in chosen.items() if not library.mallopt(name, value)]
    if refused:
        log.info("glibc refused to keep freed memory (parameters %s): pictures will take a little longer", refused)
    return not refused

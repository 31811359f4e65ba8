"""Memory that reading a table has freed."""

from __future__ import annotations

import ctypes
import sys


def release_memory() -> None:
    """Gives memory that was freed back to the system. glibc and arrow keep it for later: after a large table that is
    as much as half of its numbers, and what comes later (training, forecasts) seldom fits into the pieces.

    Elsewhere than on Linux with glibc, only arrow's is given back.
    """
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)

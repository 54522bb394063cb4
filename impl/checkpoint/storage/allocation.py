"""What becomes of memory that is freed: TensorStore's threads each keep theirs, which adds up to several leaves."""

from __future__ import annotations

import ctypes
import functools

__all__ = ["return_free_memory", "return_large_buffers"]

LARGE = 1 << 20
POOLS = 2
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's malloc.h


@functools.cache
def return_large_buffers() -> None:
    """Has buffers of LARGE bytes and more go back to the system when they are freed, from here on in this process.

    glibc would raise this limit by itself to the size of what is freed, up to 32 MB, and keep the rest for each thread:
    smaller buffers share POOLS pools from here on.
    Other C libraries have no such call and are left alone.
    """
    call = getattr(ctypes.CDLL(None), "mallopt", None)
    if call is not None:
        call(_MMAP_THRESHOLD, LARGE)
        call(_ARENA_MAX, POOLS)


def return_free_memory() -> None:
    """Gives what C libraries have freed back to the system; as far as glibc does, which others need not be asked to."""
    call = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if call is not None:
        call(0)

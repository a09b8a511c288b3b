"""Keeps freed memory for the next slice."""

import ctypes

import pyarrow as pa

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGE = 1 << 30


def keep_freed_memory() -> None:
    """Make the C library keep large buffers instead of returning them to the kernel.

    Every slice needs the same large buffers again, and page faults take a third of the time. Uses
    one arena, since the others cannot hold large buffers. Does nothing if the C library is not
    glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGE - 1)
    mallopt(_M_ARENA_MAX, 1)
    pa.set_memory_pool(pa.system_memory_pool())

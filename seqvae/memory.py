"""How this process holds memory; nothing here changes a result."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next step rather than hand them back to the kernel.

    A step frees and asks again for the same tens of megabytes (logits above all), and by default each time the kernel
    has to map and clear every page anew, which costs about as much as the arithmetic. No effect outside Linux/glibc.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # from malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)

"""How this process uses cores and memory. Nothing here changes a result, and nothing here imports torch."""

import ctypes
import os
import sys


def share_cores() -> None:
    """Let a waiting thread of OpenMP spin only briefly before it sleeps, unless the environment sets how it waits.

    Call it before torch is imported. Long spinning suits a machine with no other work: with one other busy process on
    two cores it made training more than ten times as slow (docs/log.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ and "torch" not in sys.modules:  # torch reads it when it is imported
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for the next step rather than return them to the kernel.

    Each step frees and allocates the same tens of megabytes (logits above all), and by default the kernel maps and
    clears every page again, which costs about as much as the arithmetic. No effect outside Linux with glibc.
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


def limit_primitives(count: int) -> None:
    """Let oneDNN cache at most `count` primitives (programs for one shape), unless the environment sets a number.

    Call it before the first one is built; it has no effect afterwards. Each of the default 1,024 holds about a
    megabyte, and those between the tensors of a step keep glibc from reusing memory: with sentences of 2 to 80 words a
    training in fp32 held twice as much after 100 steps as after 10 (docs/log.md).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(count))

"""How this process uses the machine; nothing here changes a result, and nothing here imports torch."""

import ctypes
import os
import sys


def share_cores() -> None:
    """Let a thread that waits for the others spin only briefly before it sleeps, unless the environment says otherwise.

    To be called before torch is imported. Long spinning is meant for a machine that nobody else uses: with one other
    busy process on two cores, training was more than ten times as slow with it as without (docs/log.md).
    """
    if "OMP_WAIT_POLICY" not in os.environ and "torch" not in sys.modules:  # which has read it by then
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


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


def limit_primitives(count: int) -> None:
    """Let oneDNN keep so many of the programs that it builds for shapes, unless the environment says otherwise.

    To be called before the first of them is built; no effect afterwards. Of the usual 1,024 each holds up to a megabyte
    or more, and those that lie between the tensors of a step keep glibc from using that memory again: with sentences of
    2 to 80 words a training in fp32 held twice as much after 100 steps as after 10 (docs/log.md).
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(count))

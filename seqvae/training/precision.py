"""bf16 or fp32: bf16 where this machine computes in it and a measurement finds it faster.

The measurement takes a second, longer for large models, and is kept in the cache by processor or GPU, threads, torch
and sizes.
"""

import contextlib
import hashlib
import math
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from seqvae.config import Config
from seqvae.data.text.files import get_cache_folder
from seqvae.errors import ConfigError, SeqVAEError, write_atomically
from seqvae.model.modes import evaluating_in
from seqvae.model.observations.tokens import Tokens
from seqvae.rng import Stream
from seqvae.training import machine

Precision = Literal["fp32", "bf16"]

# The largest time of a bf16 step relative to fp32 at which bf16 is chosen. The optimizer gains nothing and is not
# measured: at measured ratios of 0.67 and 0.8, whole steps had 0.71 and 1.0 (docs/performance.md).
MARGIN = 0.75
# Operations of a measured step, at most, where that leaves enough words a sentence, as weights are cast once for all,
# and enough sentences for products at full speed.
OPERATIONS, WORDS, SENTENCES = 4e9, (8, 16), 64
CPU = torch.device("cpu")
SECONDS = 0.4  # of measuring, without the first step of each precision


def choose_precision(
    choice: str, device: torch.device, measure: Callable[[], float] = lambda: 1.0
) -> tuple[Precision, str]:
    """Choose `fp32` or `bf16`; return it with the reason.

    Args:
        choice: `fp32`, `bf16` or `auto`, which is bf16 where it is faster.
        device: that computes.
        measure: returns the time of a step in bf16 over that in fp32; called only if the choice is `auto` and the
            device has bf16.

    Raises:
        ConfigError: for bf16 where layers do not run in it.
    """
    if choice == "bf16" and not supports_bf16(device):
        raise ConfigError(
            "precision = bf16: this processor has no AVX512, without which LSTM layers do not run in it: "
            "write --precision fp32"
        )
    if choice != "auto":
        return ("bf16" if choice == "bf16" else "fp32"), "as given"
    if device.type == "cuda":
        native, place = torch.cuda.is_bf16_supported(including_emulation=False), "GPU"
    else:
        native, place = bool(torch.cpu.get_capabilities().get("avx512_bf16")) and supports_bf16(device), "processor"
    if device.type not in ("cpu", "cuda") or not native:
        return "fp32", f"this {place} does not compute in bf16"
    relative = measure()
    chosen: Precision = "bf16" if relative <= MARGIN else "fp32"
    return chosen, f"a step in bf16 takes {relative:.2g} times as long as in fp32 here"


def evaluate_in(precision: Precision, model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Let encodings and scores by a model compute in bf16, or not, as `evaluating_in` does.

    Raises:
        ConfigError: for bf16 where layers do not run in it.
    """
    machine.limit_primitives(128)  # before the check builds the first one
    choose_precision(precision, next(model.parameters()).device)
    return evaluating_in(precision)


def supports_bf16(device: torch.device) -> bool:
    """Return whether layers run in bf16, be it by emulation: oneDNN on x86 needs these instructions."""
    known = torch.cpu.get_capabilities()
    if device.type != "cpu" or known.get("architecture") != "x86_64":
        return True
    return all(known.get(name) for name in ("avx512_bw", "avx512_dq", "avx512_vl")) and _lstm_runs_in_bf16()


@cache
def _lstm_runs_in_bf16() -> bool:
    """Try it: the environment may forbid oneDNN instructions that the processor has (ONEDNN_MAX_CPU_ISA)."""
    try:
        with Stream(0), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


# -- the measurement --------------------------------------------------------------------------------------------------


def measure_bf16(config: Config, device: torch.device = CPU) -> float:
    """Return the seconds of a step in bf16 over those in fp32, at the sizes of the run, from the cache if possible."""
    sizes = read_sizes(config)
    limits = (OPERATIONS, WORDS, SENTENCES)
    known = (identify(device), torch.get_num_threads(), torch.__version__, limits, sorted(sizes.items()))
    name = f"bf16-{hashlib.sha256(repr(known).encode()).hexdigest()[:16]}.txt"
    with contextlib.suppress(OSError, ValueError, SeqVAEError):
        relative = float((get_cache_folder() / name).read_text())
        if 0 < relative < math.inf:
            return relative
    relative = measure_ratio(**sizes, device=device)
    with contextlib.suppress(OSError, SeqVAEError):
        write_atomically(get_cache_folder() / name, lambda path: path.write_text(f"{relative}"), shared=True)
    return relative


def read_sizes(config: Config) -> dict[str, int]:
    """Return the sizes that decide the cost of a step, as arguments of `measure_ratio`."""
    model, words = config.model, config.model.observation.get("name") == "tokens"
    return {
        "sentences": config.training.batch_size,
        "embedding": model.embedding,
        "hidden": int(model.decoder.get("hidden", model.embedding)),
        "vocabulary": config.data.vocabulary_size if words else 8,
        "head_size": int(model.observation.get("head_size", 500)) if words else 0,
    }


def measure_ratio(
    *,
    sentences: int,
    embedding: int,
    hidden: int,
    vocabulary: int,
    head_size: int,
    device: torch.device = CPU,
) -> float:
    """Measure the seconds of a step in bf16 over those in fp32, of an LSTM (for any decoder) and the output layer.

    The global random state stays as it is.
    """
    weights = 4 * hidden * (embedding + hidden) + embedding * min(vocabulary, (head_size or vocabulary) + 1000)
    length = WORDS[1]
    if device.type == "cpu":
        length = int(np.clip(OPERATIONS / (6 * sentences * weights), *WORDS))
        sentences = min(sentences, max(SENTENCES, int(OPERATIONS / (6 * length * weights))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.LSTM(embedding, hidden, batch_first=True)
        tokens = Tokens(vocabulary=vocabulary, embedding=embedding, features=hidden, head_size=head_size)
        ids = (vocabulary ** torch.rand(sentences, length)).long().clamp(max=vocabulary - 1)  # frequency 1 / id
    layer, tokens, ids = layer.to(device), tokens.to(device), ids.to(device)

    def time_step(bf16: bool) -> float:
        begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            tokens.log_prob(layer(tokens.embed(ids))[0], ids).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - begin

    return compare_times(lambda: time_step(True), lambda: time_step(False))


def compare_times(first: Callable[[], float], second: Callable[[], float]) -> float:
    """Return the least seconds of one function over the least of the other, run in turn after a warmup of each."""
    first(), second()
    begin, pairs = time.perf_counter(), [(first(), second())]
    while time.perf_counter() - begin < SECONDS and len(pairs) < 10:
        pairs.append((first(), second()))
    least, other = map(min, zip(*pairs, strict=True))
    return least / other


def identify(device: torch.device) -> str:
    """Return the name of the GPU, or that of the processor, as far as the system gives it, and its instructions."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith("model name")), "") + str(torch.cpu.get_capabilities())
    return f"{platform.processor()} {platform.machine()} {torch.cpu.get_capabilities()}"

"""Whether training in bf16 is quicker than in fp32 on this machine, by a measurement that is remembered."""

import contextlib
import hashlib
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from seqvae.config import Config
from seqvae.data.text.files import cache_folder, settle
from seqvae.errors import SeqVAEError
from seqvae.model.observations.tokens import Tokens

# bf16 is taken where a step takes at most so many times as long as in fp32. The optimizer and the reading of sentences
# of unequal length gain nothing and are not in it: where it took 0.67 and 0.8 times as long, whole steps took 0.71
# and 1.0 times as long (docs/performance.md).
MARGIN = 0.75
OPERATIONS = 4e9  # of a step that is measured, at most
SECONDS = 0.4  # of measuring, but for the first step of each kind


def ratio(config: Config) -> float:
    """Seconds of a step in bf16 over those in fp32, for sizes like those of the run: measured once, then remembered.

    It is kept in the cache by processor, threads, torch and sizes; without a cache it is measured each time.
    """
    sizes = sizes_of(config)
    known = (processor(), torch.get_num_threads(), torch.__version__, OPERATIONS, sorted(sizes.items()))
    name = f"bf16-{hashlib.sha256(repr(known).encode()).hexdigest()[:16]}.txt"
    with contextlib.suppress(OSError, ValueError, SeqVAEError):
        found = float((cache_folder() / name).read_text())
        if 0 < found < math.inf:
            return found
    found = measure(**sizes)
    with contextlib.suppress(OSError, SeqVAEError):
        settle(cache_folder() / name, lambda path: path.write_text(f"{found}"))
    return found


def sizes_of(config: Config) -> dict[str, int]:
    """The sizes that the cost of a step depends on, by the arguments of `measure`."""
    model, words = config.model, config.model.observation.get("name") == "tokens"
    return {
        "sentences": config.training.batch_size,
        "embedding": model.embedding,
        "hidden": int(model.decoder.get("hidden", model.embedding)),
        "vocabulary": config.data.vocabulary_size if words else 8,
        "head_size": int(model.observation.get("head_size", 500)) if words else 0,
    }


def measure(*, sentences: int, embedding: int, hidden: int, vocabulary: int, head_size: int) -> float:
    """Seconds of a step in bf16 over those in fp32: the best of each, in turn, of an LSTM and the scores of its words.

    An LSTM stands for every kind of decoder. The global random numbers stay as they are.
    """
    weights = 4 * hidden * (embedding + hidden) + embedding * min(vocabulary, (head_size or vocabulary) + 1000)
    steps = int(min(16, max(2, OPERATIONS / (6 * sentences * weights))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = nn.LSTM(embedding, hidden, batch_first=True)
        tokens = Tokens(vocabulary=vocabulary, embedding=embedding, features=hidden, head_size=head_size)
        ids = (vocabulary ** torch.rand(sentences, steps)).long().clamp(max=vocabulary - 1)  # as frequent as 1 / id

    def step(half: bool) -> float:
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            tokens.log_prob(layer(tokens.embed(ids))[0], ids).sum().backward()
        return time.perf_counter() - begin

    return best_ratio(lambda: step(True), lambda: step(False))


def best_ratio(ours: Callable[[], float], theirs: Callable[[], float]) -> float:
    """The least seconds of one over the least of the other, in turn, after a first time that does not count."""
    ours(), theirs()
    begin, pairs = time.perf_counter(), [(ours(), theirs())]
    while time.perf_counter() - begin < SECONDS and len(pairs) < 10:
        pairs.append((ours(), theirs()))
    mine, other = map(min, zip(*pairs, strict=True))
    return mine / other


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.startswith("model name")), "") + str(torch.cpu.get_capabilities())
    return f"{platform.processor()} {platform.machine()} {torch.cpu.get_capabilities()}"

"""Whether a GPU computes the same as the processor: losses, gradients, log p(x), and the sentences that are decoded."""

import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from benchmarks.workloads import get_train
from seqvae.config import Config
from seqvae.data.batching import iterate_by_length
from seqvae.data.text.corpus import TextCorpus, load
from seqvae.evaluation.likelihood import measure
from seqvae.model.decoding import beam_search, decode
from seqvae.model.distributions import kl
from seqvae.model.vae import SequenceVAE
from seqvae.training.loop import Run
from seqvae.training.runtime import make_accelerator

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")


@contextmanager
def use_precision(name: str) -> Iterator[bool]:
    """Compute products of fp32 in TF32 or not; yield whether the layers are to run in bf16."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = name == "tf32"
        yield name == "bf16"
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def format_row(*cells: object) -> str:
    """Format a line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def compare(there: Tensor, here: Tensor) -> float:
    """Return the length of the difference of two tensors over that of the second."""
    there, here = there.detach().cpu().double(), here.detach().cpu().double()
    return float((there - here).norm() / here.norm().clamp_min(1e-30))


def train_small(corpus: TextCorpus, steps: int) -> SequenceVAE:
    """Train a small model without dropout and noise."""
    parts = {name: {"name": "recurrent", "hidden": 128, "dropout": 0.0} for name in ("encoder", "decoder")}
    parts |= {"observation": {"name": "tokens", "head_size": 50}, "noise": {"name": "word-dropout", "rate": 0.0}}
    chosen = Config.from_dict({"model": parts, "training": {"precision": "fp32"}})
    run = Run(chosen, corpus, accelerator=make_accelerator(chosen, None))
    for _ in itertools.islice(run.trainer.steps(), steps):
        pass
    return run.model


def differentiate(model: SequenceVAE, corpus: TextCorpus, noise: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return -log p(x|z) and KL of sentences, z from this noise, and the gradients of the mean of their sum."""
    model.train()  # cuDNN has no gradients otherwise
    device = next(model.parameters()).device
    batch = get_train(corpus).batch(range(len(noise))).to(device)
    q = model.encode(batch)
    z = q.mean + q.stddev * noise.to(device)
    reconstruction, divergence = -model.log_prob(batch, z).sum(1), kl(q, model.prior(), z)
    (reconstruction + divergence).mean().backward()
    model.eval()
    return reconstruction, divergence, [w.grad for w in model.parameters() if w.grad is not None]


def compare_devices(steps: int, count: int) -> Iterator[str]:
    """Compare the GPU with the processor, in fp32 without TF32; lines of a table.

    Args:
        steps: that the compared model is trained for, on the GPU.
        count: sentences.
    """
    corpus = load("grammar", vocabulary_size=400)
    assert corpus.valid is not None
    with use_precision("fp32"):
        trained = train_small(corpus, steps)
        models = [copy.deepcopy(trained).to(device) for device in (DEVICE, "cpu")]
        noise = torch.randn(count, trained.latent, generator=torch.Generator().manual_seed(0))
        there, here = (differentiate(model, corpus, noise) for model in models)
        some = corpus.valid.at_most(count)
        log_p = [measure(model, iterate_by_length(some), samples=50).nll for model in models]
        greedy = [decode(model, noise, temperature=0, max_length=20).tokens for model in models]
        beams = [beam_search(model, noise, 4, max_length=20).tokens for model in models]
    yield "| relative difference, processor to GPU | |\n| --- | ---: |"
    yield format_row("-log p(x\\|z)", f"{compare(there[0], here[0]):.1e}")
    yield format_row("KL", f"{compare(there[1], here[1]):.1e}")
    yield format_row("gradient, largest of a weight", f"{max(map(compare, there[2], here[2])):.1e}")
    yield format_row("-log p(x), 50 samples", f"{compare(*log_p):.1e}")
    for name, (ours, theirs) in {"greedy decoding": greedy, "beam search": beams}.items():
        yield format_row(f"{name}, equal sentences", f"{sum(map(list.__eq__, ours, theirs))} of {len(theirs)}")

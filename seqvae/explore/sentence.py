"""One item as the model reads it: its posterior, log p(x), and the surprise of each word with and without z."""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from seqvae.data.batch import END, Batch
from seqvae.errors import ConfigError
from seqvae.evaluation.likelihood import measure
from seqvae.explore.answers import Reading, Word
from seqvae.explore.items import list_values, show, write
from seqvae.model.modes import evaluating

PRIOR_SAMPLES = 64  # of z, over which it is averaged out
ESTIMATES = 5  # of log p(x), for its error


def read(model: Any, item: Any, label: str | None = None, *, samples: int = 20, seed: int = 0) -> Reading:
    """Read a sentence or a series.

    A word's surprise with z is -log p(x_t | x_<t, mu), mu the mean of q(z|x). Without z it is -log of the mean over 64
    samples z_s of the prior of p(x_t | x_<t, z_s): the same decoder, which sees the words before, with a z that knows
    nothing of this item. (This is not the model's own p(x_t | x_<t), in which z is inferred from the words before.)

    Args:
        model: of text or of series.
        item: a sentence; or a series (frames, channels).
        label: in a model conditioned on labels.
        samples: of z in each of the 5 importance-weighted estimates of log p(x).
        seed: of all samples.

    Raises:
        ConfigError: for a blank sentence, or a label that is needed or not known.
    """
    batch = make_batch(model, check(item), label)
    table = measure(model.model, [([0], batch)], samples=samples, seed=seed, seeds=ESTIMATES)
    passes = -table.passes[0]
    with evaluating(model.model):
        q = model.model.encode(batch)
        mean = q.mode
        spread = q.stddev[0].tolist() if hasattr(q, "stddev") else []
        surprise = -model.model.log_prob(batch, mean)[0]
        without = average_out(model, batch, seed)
    found = write(model, mean, label)[0]
    return Reading(
        text=show(item),
        values=list_values(item),
        reconstruction=found.text,
        reconstruction_values=found.values,
        mean=mean[0].tolist(),
        standard_deviation=spread,
        log_prob=float(passes.mean()),
        error=float(passes.std()) / math.sqrt(ESTIMATES),
        words=[Word(*row) for row in zip(name_targets(model, batch), surprise.tolist(), without.tolist(), strict=True)],
    )


def check(item: Any) -> Any:
    """Return the item; raise a `ConfigError` for a blank sentence."""
    if isinstance(item, str) and not item.strip():
        raise ConfigError("the sentence is blank: write words")
    return item


def make_batch(model: Any, item: Any, label: str | None) -> Batch:
    """Make a batch of one item on the device of the model."""
    if isinstance(item, str):
        batch = Batch.of(model.tokenize([item]))
        numbers = model.number_labels(label, 1)
        batch = batch if numbers is None else replace(batch, labels=numbers)
    else:
        batch = model.load_corpus([item], whole=True).test.batch([0])
    return batch.to(next(model.model.parameters()).device)


def average_out(model: Any, batch: Batch, seed: int) -> Tensor:
    """Return -log of the mean over samples of the prior of p(x_t | x_<t, z), (T,) nats, for a batch of one item."""
    z = model.sample_prior(PRIOR_SAMPLES, seed=seed).to(next(model.model.parameters()))
    log_prob = model.model.log_prob(batch.repeat(PRIOR_SAMPLES), z).double()
    return math.log(PRIOR_SAMPLES) - torch.logsumexp(log_prob, 0)


def name_targets(model: Any, batch: Batch) -> list[str]:
    """Name the targets of a batch of one item: its tokens as text, or the numbers of its frames."""
    steps = int(batch.targets.shape[1])
    if model.unit == "series":
        return [f"frame {step + 1}" for step in range(steps)]
    return ["(end)" if i == END else model.tokenizer.decode([i]) for i in batch.targets[0].tolist()]

"""Vital signs: whether z is used, cheaply enough to be looked at in each validation of a training."""

from dataclasses import dataclass

import torch

from seqvae.decoding import evaluating
from seqvae.measures.bounds import Indexed, measure
from seqvae.measures.metrics import active_units
from seqvae.measures.space import aggregate, permuted_increase, placed
from seqvae.vae import SequenceVAE


@dataclass(frozen=True)
class Vitals:
    """What z knows of some sentences, and what the decoder makes of it.

    Attributes:
        watched: N, how many sentences these were.
        watched_kl: their mean KL, nats.
        mutual_information_lower, mutual_information_upper: ends of I(x; z), nats: at most log N, and at most their KL;
            it lies between two standard errors below the one and two above the other.
        mutual_information_lower_standard_error, mutual_information_upper_standard_error: of each.
        active_units: dimensions that tell sentences apart, as `Scores.active_units`.
        permuted_nll_increase: rise of -log p(x|z) when each sentence gets another one's z, nats per sentence.
    """

    watched: int
    watched_kl: float
    mutual_information_lower: float
    mutual_information_upper: float
    active_units: int
    permuted_nll_increase: float
    mutual_information_lower_standard_error: float = 0.0
    mutual_information_upper_standard_error: float = 0.0


def vitals(model: SequenceVAE, batches: Indexed, *, seed: int = 0) -> Vitals | None:
    """Measure them on two or more sentences, with one draw of z each; None for a model without z.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus.
        seed: of the draws and of who gets whose z; the global random state is left alone.
    """
    if not model.latent:
        return None
    kept = [(torch.as_tensor(index).long(), batch) for index, batch in batches]
    table = measure(model, kept, samples=1, seed=seed)
    with evaluating(model):
        found, rise = aggregate(model, kept, table, seed), permuted_increase(model, kept, table, seed)
        count, _ = active_units(*placed(model, table, seed))
    return Vitals(
        watched=len(table.index),
        watched_kl=float(table.kl.mean()),
        active_units=count,
        permuted_nll_increase=rise,
        **{name: value for name, value in found.items() if name.startswith("mutual_information")},
    )

"""The latent space of a set of sentences: how the posteriors lie in it, and what the decoder hears."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from seqvae.batch import Batch
from seqvae.decoding import decode
from seqvae.measures.aggregate import Bracket, bracket_information, holes
from seqvae.measures.bounds import device_of, log_likelihood, slices
from seqvae.measures.draws import draw_prior
from seqvae.measures.measured import Measured
from seqvae.measures.metrics import per_token, standard_error
from seqvae.vae import SequenceVAE

INFORMATION = 10_000  # sentences that the aggregate posterior is made of, at most
SPREAD = 200  # sentences that the costly scores look at, at most
HOLES = 1_000  # draws of the prior that look for holes

Kept = Sequence[tuple[Tensor, Batch]]  # the sentences of a table, each with its place in the corpus


def aggregate(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> dict[str, float]:
    """What compares q of all sentences, or of a random `INFORMATION` of them, with each other and with p."""
    if not model.latent:
        return Bracket(0.0, 0.0, 0.0, 0.0).named("mutual_information")
    states, keys = [], []
    for index, batch in among(kept, table.index[shuffled(table, seed)[:INFORMATION]]):
        states.append(model.hidden(batch.to(device_of(model))))
        keys.append(index)
    place = torch.searchsorted(table.index, torch.cat(keys))
    q, p = model.posterior(torch.cat(states)), model.prior()
    divergence = table.kl[place]
    found = bracket_information(q, table.z[place].to(device_of(model)), divergence.to(device_of(model)))
    depths = holes(q, p, draw_prior(p, torch.arange(HOLES), 1, seed)[:, 0])
    return {
        **found[0].named("mutual_information"),
        **found[1].named("marginal_kl"),
        "holes": float(depths.mean()),
        "holes_standard_error": standard_error(depths),
    }


def placed(model: SequenceVAE, table: Measured, seed: int) -> tuple[Tensor, Tensor]:
    """Find what active units are counted by.

    Returns:
        (N, D) the posterior means, on a sphere their directions; and (D,) the variance of z under the prior, that of
        `HOLES` draws where it has no closed form, as with a flow.
    """
    if not model.latent:
        return table.mean, torch.ones(0)
    p = model.prior()
    try:
        variance = p.variance
    except NotImplementedError:
        variance = draw_prior(p, torch.arange(HOLES), 1, seed)[:, 0].var(0)
    means = normalize(table.mean, dim=1) if model.prior.spherical else table.mean
    return means, variance.cpu()


def talk(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> dict[str, float]:
    """How sure the decoder is of what it says at draws of p, and at draws of q of some sentences.

    With a condition, each sentence's label goes with its draw of q and with one of p.
    """
    if not model.latent:
        return {}
    chosen = spread(len(table.index))
    near = table.z[chosen]
    far = draw_prior(model.prior(), torch.arange(len(near)), 1, seed)[:, 0]
    labels = None if model.condition is None else labels_at(kept, table.index[chosen]).repeat(2).to(far.device)
    said = decode(
        model,
        model.conditioned(torch.cat([far, near.to(far)]), labels),
        max_length=int(table.tokens.max()),
        allow_unknown=True,
        generator=torch.Generator().manual_seed(seed),
    )
    lengths = torch.tensor([len(ids) for ids in said.tokens])
    halves = zip(-said.log_prob.cpu().view(2, -1), lengths.view(2, -1), strict=True)
    (prior, first), (posterior, second) = (per_token(nll, tokens) for nll, tokens in halves)
    return {
        "decoder_entropy_prior": prior,
        "decoder_entropy_posterior": posterior,
        "decoder_entropy_standard_error": (first**2 + second**2) ** 0.5,
    }


def permuted_increase(model: SequenceVAE, kept: Kept, table: Measured, seed: int) -> float:
    """Mean rise of -log p(x|z), nats, when z of the first draw goes to the next sentence of a random round."""
    if not model.latent:
        return 0.0
    round_ = shuffled(table, seed)
    giver = torch.empty_like(round_)
    giver[round_] = round_.roll(1)  # one cycle through all sentences: nobody keeps its own
    rise = 0.0
    for index, batch in kept:
        for places, part in slices(model, index, batch, len(batch)):
            place = torch.searchsorted(table.index, places)
            z = table.z[giver[place]].to(part.lengths.device)
            rise += float((-log_likelihood(model, part, z).cpu() - table.first[place]).sum())
    return rise / len(table.index)


def shuffled(table: Measured, seed: int) -> Tensor:
    """(N,) the rows of a table in a random order, a function of the seed and of the sentences, not of their places."""
    order = table.key.argsort(stable=True)
    return order[torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))]


def labels_at(kept: Kept, places: Tensor) -> Tensor:
    """The labels of the sentences at some places, which are in ascending order."""
    found = [(index, batch.labels) for index, batch in among(kept, places) if batch.labels is not None]
    order = torch.cat([index for index, _ in found]).argsort()
    return torch.cat([labels.cpu() for _, labels in found])[order]


def spread(count: int, most: int = SPREAD) -> Tensor:
    """At most `most` of `count` places, evenly spread, in order.

    >>> len(spread(201)), spread(3).tolist()
    (200, [0, 1, 2])
    """
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).long()


def among(kept: Kept, chosen: Tensor) -> Iterator[tuple[Tensor, Batch]]:
    """The sentences at the `chosen` places."""
    for index, batch in kept:
        rows = torch.isin(index, chosen)
        if rows.any():
            yield index[rows], batch.select(rows)

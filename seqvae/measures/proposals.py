"""Another proposal for the importance weights, to see whether q(z|x) misses mass of p(z|x)."""

import torch
from torch import Tensor

from seqvae.decoding import evaluating
from seqvae.errors import ConfigError
from seqvae.measures.bounds import DRAWS, Indexed, slices, weigh
from seqvae.measures.draws import draw_posterior, draw_prior, sentence_keys
from seqvae.vae import SequenceVAE


def mixture_nll(model: SequenceVAE, batches: Indexed, *, samples: int = 100, seed: int = 0) -> Tensor:
    """The importance-weighted NLL of each sentence by draws of r(z) = (q(z|x) + p(z)) / 2.

    -log p(x) <= -[logsumexp_k(log p(x|z_k) + log p(z_k) - log r(z_k)) - log K] in expectation, half of the K draws from
    q and half from p. A weight is at most 2 p(x|z) however narrow q is, so mass that q misses is found if draws of the
    prior find it. Where q is good, half of its draws are lost and the result is slightly above that of q alone.

    Args:
        model: put in evaluation mode while it works, then back.
        batches: each sentence once, with its place in the corpus.
        samples: K, at least 2; of an odd number q has one more, and r is weighted accordingly.
        seed: of the draws; those of q are the first ones of `bounds.measure` with that seed if q is Gaussian.

    Returns:
        (N,) float64 nats, in the order of the corpus.

    Raises:
        ConfigError: for fewer than 2 samples.

    Source: Veach & Guibas, Optimally combining sampling techniques for Monte Carlo rendering, 1995 (the balance
    heuristic); Owen & Zhou, Safe and effective importance sampling, 2000 (deterministic mixtures).
    """
    if samples < 2:
        raise ConfigError(f"a mixture of two proposals needs at least 2 samples, got {samples}")
    far = samples // 2
    places, found = [], []
    with evaluating(model):
        p = model.prior()
        for index, batch in batches:
            for rows, part in slices(model, index, batch, DRAWS // (samples * max(1, model.latent))):
                keys, h = sentence_keys(part).cpu(), model.hidden(part)
                q = model.posterior(h)
                near = draw_posterior(model, h, q, keys, samples - far, seed)
                z = torch.cat([near, draw_prior(p, keys, far, seed)], dim=1)  # (B, S, D)
                weights, _ = weigh(model, part, q, p, z, share=1 - far / samples)
                places.append(rows)
                found.append(-weights.value().cpu())
    return torch.cat(found)[torch.cat(places).argsort()]

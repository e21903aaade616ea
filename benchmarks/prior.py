"""How much of -log p(x) a better prior would give, with the encoder and the decoder that a model has.

    python -m benchmarks.prior MODEL CORPUS [--components K [K ...]]

The prior of a training is fitted to the posteriors of the encoder. Here mixtures of K Gaussians are fitted by EM to
-log p(x) itself, so to the decoder's true posteriors: those of training sentences, as draws of q that are weighted by
p(x|z) / q(z|x). EM ends where validation sentences gain no more. What test sentences then have, by fresh draws, is a
line for each K. The larger K, the nearer to all that a prior can give; K of the model's own prior begins with that one.

Source: the bound of Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, arXiv:1509.00519, as a
function of the prior alone; a pass is the EM of mixtures (Dempster, Laird & Rubin, 1977) on the weighted draws.
"""

import argparse
import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from seqvae import TextVAE
from seqvae.data.batching import iterate_by_length
from seqvae.data.corpus import Split
from seqvae.evaluation.likelihood import (
    compute_importance_weights,
    draw_posterior,
    hash_sentences,
    measure,
    split_batch,
)
from seqvae.model.distributions import GaussianMixture
from seqvae.model.modes import evaluating
from seqvae.model.priors import Mixture
from seqvae.model.vae import SequenceVAE

FITTED, VALIDATED, TESTED = 20_000, 1000, 1000
DRAWS, HELD_OUT_DRAWS, TEST_DRAWS = 8, 50, 500
ROWS = 256  # sentences whose responsibilities are in memory at a time
MOST_PASSES, LEAST_GAIN = 40, 1e-3
PRIOR_POINTS = 5.0  # sentences with the variance of all draws that the variance of each component begins with


@dataclass(frozen=True)
class Draws:
    """Draws of q(z|x) of N sentences.

    Attributes:
        z: (N, S, D).
        log_weight: (N, S) float64, log p(x|z) - log q(z|x): what the density of a prior is added to.
    """

    z: Tensor
    log_weight: Tensor

    def rows(self, count: int) -> "Iterator[Draws]":
        """Yield the draws of so many sentences at a time."""
        parts = zip(self.z.split(count), self.log_weight.split(count), strict=True)
        return (Draws(*part) for part in parts)


def draw(model: SequenceVAE, split: Split, samples: int, seed: int = 0) -> Draws:
    """Draw from the posterior of each sentence of a split, in the order of their lengths."""
    found, p = [], model.prior()
    with evaluating(model):
        for index, batch in iterate_by_length(split):
            for _, part in split_batch(model, index, batch, len(batch)):
                h = model.encode_features(part)
                q = model.posterior(h)
                z = draw_posterior(model, h, q, hash_sentences(part), samples, seed)
                _, log_prob = compute_importance_weights(model, part, q, p, z)
                found.append((z, log_prob - q.log_prob(z.transpose(0, 1)).double().T))
    return Draws(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def estimate_nll(draws: Draws, prior: Mixture) -> float:
    """Return the mean of -log p(x) by these draws, nats."""
    with torch.no_grad():
        p = prior()
        sums = [(rows.log_weight + p.log_prob(rows.z)).logsumexp(1).sum() for rows in draws.rows(ROWS)]
    return math.log(draws.z.shape[1]) - float(torch.stack(sums).sum()) / len(draws.z)


def start(draws: Draws, components: int, seed: int = 0) -> Mixture:
    """Return the mixture that a fit begins with: around one draw each of K sentences, as wide as all draws."""
    n, d = len(draws.z), draws.z.shape[-1]
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(n, generator=random)[:components]
    which = torch.multinomial(draws.log_weight[chosen].softmax(1), 1, generator=random)[:, 0]
    return build_mixture(torch.zeros(components), draws.z[chosen, which], find_variance(draws).expand(components, d))


def build_mixture(logits: Tensor, means: Tensor, variances: Tensor) -> Mixture:
    """Return the prior of these weights (K,), means (K, D) and variances (K, D)."""
    prior = Mixture(latent=means.shape[1], components=len(means))
    prior.load_state_dict({"logits": logits, "means": means, "log_variances": variances.log()})
    return prior.requires_grad_(False)


@torch.no_grad()
def improve(draws: Draws, prior: Mixture, prior_points: float = PRIOR_POINTS) -> Mixture:
    """Make one pass of EM over all sentences.

    The responsibility r_nsk of component k for draw s of sentence n is proportional to w_ns pi_k N_k(z_ns), its sum
    over s and k is 1. With N_k = sum r_nsk, the new mean is sum r z / N_k, the new variance
    (sum r z^2 - N_k m_k^2 + a V) / (N_k + a), V the variance of all draws, a = `prior_points`. With a = 0 -log p(x) by
    these draws does not rise.
    """
    mixture = prior()
    assert isinstance(mixture, GaussianMixture)
    size = prior.means.shape
    count, first, second = (torch.zeros(shape, dtype=torch.float64) for shape in (size[:1], size, size))
    for rows in draws.rows(ROWS):
        points = rows.z.flatten(0, 1).double()
        terms = mixture.joint_log_prob(rows.z) + rows.log_weight[..., None]  # (n, S, K)
        r = (terms - terms.flatten(1).logsumexp(1)[:, None, None]).exp().flatten(0, 1)
        count += r.sum(0)
        first += r.T @ points
        second += r.T @ points.square()
    count = count.clamp(min=1e-6)
    mean = first / count[:, None]
    rest = second - count[:, None] * mean.square() + prior_points * find_variance(draws)
    variance = (rest / (count + prior_points)[:, None]).clamp(min=1e-6)
    return build_mixture((count / count.sum()).log(), mean, variance)


def find_variance(draws: Draws) -> Tensor:
    """Return the variance of all draws, (D,) float64."""
    return draws.z.flatten(0, 1).double().var(0)


def fit(draws: Draws, held_out: Draws, prior: Mixture) -> tuple[Mixture, int]:
    """Improve a prior while the held-out sentences gain a thousandth of a nat or more; return it and the passes."""
    nll, passes = estimate_nll(held_out, prior), 0
    while passes < MOST_PASSES:
        improved = improve(draws, prior)
        found = estimate_nll(held_out, improved)
        if found > nll - LEAST_GAIN:
            break
        prior, nll, passes = improved, found, passes + 1
    return prior, passes


def main() -> None:
    """Print a line for the model's own prior, and one for each mixture that was fitted."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prior", description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("corpus")
    parser.add_argument("--components", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--fitted", type=int, default=FITTED, help="training sentences that the mixtures are fitted to")
    given = parser.parse_args()
    torch.set_num_threads(1)
    text_vae = TextVAE.from_pretrained(given.model)
    model, corpus = text_vae.model, text_vae.load_corpus(given.corpus)
    own = model.prior
    if not isinstance(own, Mixture):
        raise SystemExit(f"{given.model}: expected a model with the prior mixture, got {type(own).__name__}")
    assert corpus.train is not None and corpus.valid is not None and corpus.test is not None
    most = min(given.fitted, len(corpus.train))
    if max(given.components) > most:
        raise SystemExit(f"--components {max(given.components)}: expected at most the number of sentences, {most:,}")
    draws = draw(model, corpus.train.at_most(given.fitted), DRAWS)
    held_out = draw(model, corpus.valid.at_most(VALIDATED), HELD_OUT_DRAWS)
    test = corpus.test.at_most(TESTED)
    before = measure(model, iterate_by_length(test), samples=TEST_DRAWS)
    order = before.index.argsort()
    print("| prior | passes | training | validation | test, -log p(x) | less than its own |")
    print("| --- | ---: | ---: | ---: | ---: | --- |")
    row = "| {} | {} | {:.2f} | {:.2f} | {:.2f} | {} |".format
    print(row("its own", "", estimate_nll(draws, own), estimate_nll(held_out, own), float(before.nll.mean()), ""))
    for components in given.components:
        first = own if components == len(own.means) else start(draws, components)
        prior, passes = fit(draws, held_out, first)
        model = copy.deepcopy(text_vae.model)
        model.prior = prior
        after = measure(model, iterate_by_length(test), samples=TEST_DRAWS)
        gain = before.nll[order] - after.nll[after.index.argsort()]
        error = float(gain.std()) / len(gain) ** 0.5
        name = f"{components:,} Gaussians" + (", from its own" if first is own else "")
        scores = estimate_nll(draws, prior), estimate_nll(held_out, prior), float(after.nll.mean())
        print(row(name, passes, *scores, f"{float(gain.mean()):.3f} ± {error:.3f}"), flush=True)


if __name__ == "__main__":
    main()

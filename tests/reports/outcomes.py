"""Synthetic outcomes of runs: an autoencoder with a KL far from the others, a language model without z."""

import numpy as np

from seqvae.reports.comparison.outcomes import Outcome

LATENT = 8
# kind, KL, reconstruction, nll, mutual information (lower, upper), active units
RECIPES = {
    "language-model": ("lm", 0.0, 34.0, 34.0, None, None, None),
    "autoencoder": ("ae", 180.0, 3.0, 90.0, 6.6, 176.0, 8),
    "default": ("vae", 17.0, 17.0, 31.5, 6.7, 15.0, 7),
    "weight-1": ("vae", 3.0, 29.0, 31.0, 2.6, 2.9, 2),
}


def make_run(name="run", seed=0, *, kind="vae", nll=(1.0, 2.0, 3.0), **scores):
    """Make a run with the scores given and nothing else."""
    return Outcome(name, seed, kind, scores, np.array(nll), [], {}, 1.0)


def make_runs(recipes=RECIPES, seeds=2, sentences=50):
    """Make runs with all that a training gives."""
    g = np.random.default_rng(0)
    difficulty = g.gamma(6, 1 / 6, sentences)
    return [
        _make_run(g, name, seed, difficulty, *numbers) for name, numbers in recipes.items() for seed in range(seeds)
    ]


def _make_run(g, name, seed, difficulty, kind, kl, reconstruction, nll, lower, upper, units):
    kl, reconstruction, nll = (value * (1 + g.normal(0, 0.01)) for value in (kl, reconstruction, nll))
    losses = nll * difficulty / difficulty.mean()
    scores = {"kl": kl, "reconstruction": reconstruction, "elbo": -kl - reconstruction, "nll": nll}
    scores["nll_standard_error"] = float(losses.std(ddof=1) / len(losses) ** 0.5)
    scores |= {"perplexity": float(np.exp(nll / 10)), "mutual_information_lower": lower}
    scores |= {"mutual_information_upper": upper, "active_units": units, "variances": None}
    sentences = {"samples": [f"a <unk> {name} & {i}" for i in range(3)]}
    if units is not None:
        scores["variances"] = (1.0,) * units + (1e-4,) * (LATENT - units)
        sentences["originals"] = ["the cat sat .", "a dog ran ."]
        sentences["reconstructions"] = [f"{name} sat .", f"{name} ran ."]
        sentences["interpolation"] = ["the cat sat .", "the dog sat .", "a dog ran ."]
    curve = []
    for step in range(100, 2001, 100):
        done = 1 - np.exp(-step / 300)
        loss, cost = 65 + (reconstruction - 65) * done, kl * done
        line = {"kind": "valid", "step": step, "reconstruction": loss, "kl": cost, "elbo": -loss - cost}
        curve.append(line if lower is None else line | {"mutual_information_lower": lower * done})
    return Outcome(name, seed, kind, scores, losses, curve, sentences, 12.5 + seed, diagnosis="healthy")

"""The law of a density: `log_prob` integrates to 1, and is the density of the samples, whatever tails it has."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from seqvae.testing.laws import Laws

SAMPLES = 20_000


DENSITY = "log_prob is a density that integrates to 1, and the one that samples have"


def check_density(laws: Laws, d: Distribution, spherical: bool, row: bool = False) -> None:
    """Check that `log_prob` integrates to 1 and is the density of the samples."""
    with torch.no_grad():
        if spherical:
            return check_circle(laws, d) if d.event_shape == (2,) else None
        z = d.sample((SAMPLES,))  # (N, D), or (N, 1, D) of a posterior
        z = z[:, 0] if row else z
        points: Callable[[Tensor], Tensor] = (lambda x: d.log_prob(x[:, None])[:, 0]) if row else d.log_prob
        if z.shape[1] == 1:
            check_line(laws, points, z[:, 0])
        else:
            check_locally(laws, points, z)


def check_line(laws: Laws, log_prob: Callable[[Tensor], Tensor], samples: Tensor) -> None:
    """Integrate over the whole line, z = m + s tan(pi u / 2), which suits tails up to those of a Cauchy distribution.

    The distribution function of the samples then has to be that of the density. It is within 2.7 / sqrt(N), but once in
    a million seeds (Kolmogorov & Smirnov).
    """
    m = samples.median()
    s = (samples - m).abs().median().clamp_min(1e-12)
    u = (torch.arange(SAMPLES).double() + 0.5) / SAMPLES * 2 - 1
    z = m + s * torch.tan(math.pi * u / 2)
    density = (log_prob(z[:, None]).exp() * s * math.pi / 2 / torch.cos(math.pi * u / 2).square()).nan_to_num(0.0)
    mass = density.cumsum(0) * 2 / SAMPLES
    laws.require(abs(float(mass[-1]) - 1) < 5e-3, DENSITY, f"a mass of {float(mass[-1]):.4f} on the line")
    below = torch.searchsorted(samples.sort().values, z, right=True).double() / len(samples)
    gap = float((below - mass).abs().max())
    laws.require(gap < 2.7 / SAMPLES**0.5 + 2e-3, DENSITY, f"distribution functions that are {gap:.3f} apart")


def check_locally(laws: Laws, log_prob: Callable[[Tensor], Tensor], samples: Tensor) -> None:
    """Check that E_p[h(z) / p(z)] = 1 for a density h that lies where many samples are, whatever tails p has.

    h is a Gaussian fitted to the tenth of the samples nearest to the densest one.
    """
    log_p = log_prob(samples)
    distances = (samples - samples[log_p.argmax()]).square().sum(1)
    near = samples[distances.argsort()[: SAMPLES // 10]]
    ratio = (Normal(near.mean(0), near.std(0)).log_prob(samples).sum(1) - log_p).exp()
    mass, error = float(ratio.mean()), float(ratio.std()) / SAMPLES**0.5
    laws.require(abs(mass - 1) < 6 * error + 1e-3, DENSITY, f"E[h(z) / p(z)] = {mass:.3f} in place of 1")


def check_circle(laws: Laws, d: Distribution) -> None:
    """Integrate over the unit circle."""
    angle = torch.arange(2000).double() * 2 * math.pi / 2000
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    points = circle if d.batch_shape == () else circle[:, None]
    mass = float(d.log_prob(points).exp().mean() * 2 * math.pi)
    laws.require(abs(mass - 1) < 1e-3, DENSITY, f"a mass of {mass:.4f} on the circle")

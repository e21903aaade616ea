"""Samples of a prior at a temperature: its Gaussians narrowed around their means, so that fewer samples are far off."""

import torch
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily, MultivariateNormal

from seqvae.errors import ConfigError, check_number
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.flows import FlowDistribution

MAX_NUMBERS = 2**26  # sampled at a time


def check_temperature(temperature: float) -> None:
    """Raise a `ConfigError` unless a prior can be sampled at this temperature."""
    check_number(prior_temperature=temperature)
    if not 0 <= temperature < float("inf"):
        raise ConfigError(f"prior_temperature = {temperature}: expected 0 or more, such as 0.7; 1 is the prior itself")


def has_temperature(p: Distribution) -> bool:
    """Return whether p can be sampled at another temperature than 1: a Gaussian, a mixture of them, or a flow."""
    if isinstance(p, MixtureSameFamily):
        p = p.component_distribution
    return isinstance(p, FlowDistribution | MultivariateNormal) or get_gaussian_parameters(p) is not None


def sample_at_temperature(p: Distribution, n: int, temperature: float) -> Tensor:
    """Draw (n, D) from p with its standard deviations multiplied by the temperature.

    A Gaussian is N(m, t^2 C). Of a mixture the weights and means stay and each component is narrowed, so that all kinds
    of sentences still come; a flow maps noise of N(0, t^2 I). At 1 the samples are those of `p.sample`.

    Args:
        p: batch (), event (D,).
        n: number of samples.
        temperature: t; 0 gives means.

    Raises:
        ConfigError: for a temperature out of range, or other than 1 for a prior that is none of these.

    Source: Kingma & Dhariwal, Glow: Generative Flow with Invertible 1x1 Convolutions, 2018,
    https://arxiv.org/abs/1807.03039, section 6 (a flow sampled with a reduced temperature).

    >>> from seqvae.model.distributions import build_diagonal_gaussian
    >>> p = build_diagonal_gaussian(torch.ones(2), torch.ones(2))
    >>> sample_at_temperature(p, 1, 0.0)
    tensor([[1., 1.]])
    """
    check_temperature(temperature)
    if temperature == 1:
        return torch.cat([p.sample(torch.Size([count])) for count in _split(p, n)])
    if isinstance(p, MixtureSameFamily):
        chosen = p.mixture_distribution.sample(torch.Size([n]))
        return _sample_gaussians(p.component_distribution, chosen, temperature)
    if isinstance(p, FlowDistribution):
        return p.transform_noise(temperature * torch.randn(n, *p.event_shape))
    return _sample_gaussians(p, torch.zeros(n, dtype=torch.long), temperature)


def _split(p: Distribution, n: int) -> list[int]:
    """Divide n samples into parts that need little memory: torch samples all components of a mixture for each."""
    components = p.mixture_distribution.param_shape[-1] if isinstance(p, MixtureSameFamily) else 1
    size = max(1, MAX_NUMBERS // max(1, components * p.event_shape.numel()))
    return [min(size, n - start) for start in range(0, n, size)]


def _sample_gaussians(p: Distribution, chosen: Tensor, temperature: float) -> Tensor:
    """Draw (n, D), from the component of p that is chosen for each, narrowed; p has batch (K,), or () for one."""
    gaussian = get_gaussian_parameters(p)
    if gaussian is not None:
        mean, scale = (part.reshape(-1, *p.event_shape)[chosen] for part in gaussian)
        return mean + temperature * scale * torch.randn_like(mean)
    if isinstance(p, MultivariateNormal):
        mean, factor = p.loc.reshape(-1, *p.event_shape)[chosen], p.scale_tril.reshape(-1, *2 * p.event_shape)[chosen]
        return mean + temperature * (factor @ torch.randn_like(mean)[..., None])[..., 0]
    raise ConfigError(f"prior_temperature = {temperature}: expected 1, since {type(p).__name__} has no scale to reduce")

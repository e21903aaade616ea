"""The density of a mixture of diagonal Gaussians, by products of matrices, beside torch's."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily
from torch.utils._python_dispatch import TorchDispatchMode

from seqvae.model.distributions import GaussianMixture, build_diagonal_gaussian


def make_mixture(kind, spread, dtype=torch.float64, components=7, latent=5):
    draw = torch.Generator().manual_seed(0)
    values = [torch.randn(components, latent, generator=draw, dtype=torch.float64) for _ in range(2)]
    leaves = [torch.randn(components, generator=draw, dtype=torch.float64), values[0], values[1] + math.log(spread)]
    logits, mean, log_scale = (leaf.to(dtype).requires_grad_() for leaf in leaves)
    return kind(Categorical(logits=logits), build_diagonal_gaussian(mean, log_scale.exp())), (logits, mean, log_scale)


@pytest.mark.parametrize("spread", [1e-3, 0.5, 30.0])
def test_the_density_of_a_mixture_and_its_gradients_are_those_of_torchs_formula(spread):
    z = spread * torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for kind in (GaussianMixture, MixtureSameFamily):
        p, leaves = make_mixture(kind, spread)
        point = z.clone().requires_grad_()
        value = p.log_prob(point)
        found.append([value, *torch.autograd.grad(value.sum(), [point, *leaves])])
    for ours, torchs in zip(*found, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-8, atol=1e-7)


def test_narrow_components_cost_no_digits_in_single_precision():
    p, _ = make_mixture(GaussianMixture, 1e-3, torch.float32)
    exact, _ = make_mixture(MixtureSameFamily, 1e-3)
    z = p.sample((100,))
    assert p.log_prob(z).dtype == torch.float32
    torch.testing.assert_close(p.log_prob(z).double(), exact.log_prob(z.double()), rtol=1e-5, atol=1e-2)


def test_components_far_from_the_origin_cost_no_digits_either():
    far = 1e4 + 1e-3 * torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scale = torch.full((7, 5), 1e-3, dtype=torch.float64)
    ours, torchs = (
        kind(Categorical(logits=torch.zeros(7, dtype=torch.float64)), build_diagonal_gaussian(far[0], scale))
        for kind in (GaussianMixture, MixtureSameFamily)
    )
    torch.testing.assert_close(ours.log_prob(far[1]), torchs.log_prob(far[1]), rtol=1e-7, atol=1e-6)


def test_the_density_of_a_mixture_is_the_same_under_autocast():
    p, _ = make_mixture(GaussianMixture, 0.5, torch.float32)
    z = p.sample((10,))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(p.log_prob(z), p.log_prob(z))
        half = p.log_prob(z)
    assert torch.equal(half, p.log_prob(z))


def test_the_density_of_a_mixture_never_holds_all_differences_at_once():
    p, _ = make_mixture(GaussianMixture, 0.5, torch.float32, components=1000, latent=64)
    z, largest = torch.randn(100, 64), []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            largest.extend(t.numel() for t in [out] if isinstance(t, torch.Tensor))
            return out

    with Watch():
        p.log_prob(z)
    assert max(largest) <= 1000 * 100

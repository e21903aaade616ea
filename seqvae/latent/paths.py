"""Points of the latent space to decode: samples of the prior, and interpolations between two points.

Between samples of the prior spherical interpolation is right, since they lie near a sphere of radius sqrt(D); between
posterior means, which lie inside it, linear interpolation.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from seqvae.errors import check_whole, choose
from seqvae.latent.prior_temperature import sample_at_temperature
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream, shift_seed

Path = Callable[[Tensor, Tensor, int], Tensor]


def sample_prior(model: SequenceVAE, n: int, *, seed: int | None = None, temperature: float = 1.0) -> Tensor:
    """Sample the model's prior, (n, D); with a seed the same samples each time, the global random state untouched.

    Args:
        model: with a prior.
        n: number of points.
        seed: None takes new random numbers each time.
        temperature: see `seqvae.latent.prior_temperature`; 1 is the prior itself.
    """
    check_whole(1, n=n)
    with torch.no_grad():
        p = model.prior()
        with Stream(shift_seed(seed)):
            return sample_at_temperature(p, n, temperature)


def linear(z0: Tensor, z1: Tensor, steps: int) -> Tensor:
    """Interpolate linearly, (1 - t) z0 + t z1 for `steps` evenly spaced values of t from 0 to 1.

    Args:
        z0: (..., D), the first point of the path, kept exactly.
        z1: (..., D), the last point of the path, kept exactly.
        steps: number of points, both ends included, at least 2.

    Returns:
        (steps, ..., D).

    >>> linear(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 2.0]), 3).tolist()
    [[0.0, 0.0], [0.5, 1.0], [1.0, 2.0]]
    """
    t = _make_times(z0, z1, steps)
    return _restore_ends(torch.lerp(z0.double(), z1.double(), t), z0, z1)


def slerp(z0: Tensor, z1: Tensor, steps: int) -> Tensor:
    """Interpolate spherically: the direction turns evenly on a great circle while the norm changes evenly.

    With the angle w between z0 and z1, and e the unit vector at right angles to z0 towards z1,
    ((1 - t) |z0| + t |z1|) (cos(tw) z0/|z0| + sin(tw) e). Between opposite directions, where every great circle is as
    short as any other, e leans towards the axis along which z0 is smallest. A zero vector has the other's direction.

    Args and returns as `linear`. Source: Shoemake, Animating rotation with quaternion curves, 1985; for latent spaces
    White, Sampling Generative Networks, 2016, arXiv:1609.04468.

    >>> slerp(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 3.0]), 3)[1]
    tensor([1.4142, 1.4142])
    """
    t = _make_times(z0, z1, steps)
    a, b = z0.double(), z1.double()
    norm_a, norm_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = _normalize(a), _normalize(b)
    u, v = torch.where(norm_a > 0, u, v), torch.where(norm_b > 0, v, u)
    cosine = (u * v).sum(-1, keepdim=True)
    orthogonal = v - cosine * u
    sine = orthogonal.norm(dim=-1, keepdim=True)
    axis = torch.zeros_like(u).scatter(-1, u.abs().argmin(-1, keepdim=True), 1.0)
    fallback = axis - (axis * u).sum(-1, keepdim=True) * u
    e = _normalize(torch.where(sine > 1e-12, orthogonal, fallback))
    angle = t * torch.atan2(sine, cosine)
    points = torch.lerp(norm_a, norm_b, t) * (angle.cos() * u + angle.sin() * e)
    return _restore_ends(points, z0, z1)


PATHS: dict[str, Path] = {"linear": linear, "slerp": slerp}


def get_path(name: str) -> Path:
    """Return the path of that name from `PATHS`, or raise a `ConfigError` that names them all."""
    return PATHS[choose("path", name, PATHS)]


def _make_times(z0: Tensor, z1: Tensor, steps: int) -> Tensor:
    """Return t from 0 to 1, (steps, 1, ..., 1) float64, to broadcast with points (..., D)."""
    check_whole(2, 1_000_000, steps=steps)
    if z0.shape != z1.shape:
        raise ValueError(f"the ends of a path must have one shape, got {tuple(z0.shape)} and {tuple(z1.shape)}")
    return torch.linspace(0, 1, steps, dtype=torch.float64, device=z0.device).reshape(-1, *[1] * z0.dim())


def _restore_ends(points: Tensor, z0: Tensor, z1: Tensor) -> Tensor:
    """Return the points in the dtype of the ends, and the ends as they were given, bit for bit."""
    points = points.to(z0.dtype)
    points[0], points[-1] = z0, z1
    return points


def _normalize(vectors: Tensor) -> Tensor:
    """Normalize vectors to length 1 in the last dimension; zero stays zero."""
    norm = vectors.norm(dim=-1, keepdim=True)
    return vectors / torch.where(norm > 0, norm, 1.0)

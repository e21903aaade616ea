"""A model in evaluation mode, and points of its latent space as tensors."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from seqvae.errors import ConfigError, shorten


@contextmanager
def evaluation_mode(module: torch.nn.Module) -> Iterator[None]:
    """Turn dropout and noise off, with gradients; each submodule gets its own mode back afterwards.

    A module in evaluation mode already is not touched, so that several threads can use it at once.
    """
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True


EVALUATES_IN_BF16: ContextVar[bool] = ContextVar("EVALUATES_IN_BF16", default=False)


@contextmanager
def evaluating_in(precision: Literal["fp32", "bf16"]) -> Iterator[None]:
    """Let encodings and scores within compute matrix products in bfloat16, or not, which is the default.

    Posteriors, sums of log-probabilities and importance weights stay in single or double precision.
    """
    token = EVALUATES_IN_BF16.set(precision == "bf16")
    try:
        yield
    finally:
        EVALUATES_IN_BF16.reset(token)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Turn dropout, noise, gradients and the caller's autocast off; as `evaluation_mode`, otherwise."""
    device = next((parameter.device.type for parameter in model.parameters()), "cpu")
    with (
        evaluation_mode(model),
        torch.no_grad(),
        torch.autocast(device, torch.bfloat16, enabled=EVALUATES_IN_BF16.get()),
    ):
        yield


Points = Tensor | np.ndarray | Sequence[Sequence[float]]  # (N, D)


def read_points(z: Points, size: int, like: Tensor) -> Tensor:
    """Return (N, size) points in the precision and on the device of `like`.

    Args:
        z: a tensor, an array, or a list of rows of numbers.
        size: D.
        like: a tensor of the model.

    Raises:
        ConfigError: for another shape, and for what is not a number or not finite.

    >>> read_points([[1, 2], [3, 4]], 2, torch.zeros(()))
    tensor([[1., 2.],
            [3., 4.]])
    """
    wanted = f"expected numbers of shape (rows, {size})"
    if not isinstance(z, Tensor):
        rows: Any = z
        if isinstance(z, list | tuple):
            rows = [row.detach().cpu().numpy() if isinstance(row, Tensor) else row for row in z]
        try:
            array = np.asarray(rows)
        except (TypeError, ValueError):
            raise ConfigError(f"z is a {type(z).__name__} of rows of different kinds or lengths: {wanted}") from None
        if array.dtype.kind not in "fiu":
            raise ConfigError(f"z is {shorten(z)}: {wanted}, such as the mode of the distribution that encode returns")
        z = torch.from_numpy(array.astype(np.float64))
    if z.is_complex() or z.dtype == torch.bool:
        raise ConfigError(f"z holds {str(z.dtype).removeprefix('torch.')}: {wanted}")
    if z.dim() != 2 or z.shape[1] != size:
        hint = "; write z[None] for one point" if tuple(z.shape) == (size,) else ""
        raise ConfigError(f"z has shape {tuple(z.shape)}: {wanted}{hint}")
    z = z.detach().to(like)
    if len(wrong := (~z.isfinite().all(1)).nonzero()):
        raise ConfigError(f"row {int(wrong[0])} of z holds values that are not finite in {str(z.dtype)[6:]}: {wanted}")
    return z

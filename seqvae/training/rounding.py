"""Rounded weights: how a model folder stores them in half or a quarter of the bytes. Whoever loads computes in float32.

dtype       each number                                              bytes   relative error
float32     as it was computed                                       4       none
bfloat16    8 bits of precision                                      2       at most 1/256
int8        w = scale * q, |q| <= 127, a scale for each row of a     1       at most 1/254 of the row's largest
            matrix (the absolute maximum / 127); vectors in float32
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from seqvae.errors import choose

DTYPES = ("float32", "bfloat16", "int8")
SCALE = ".int8_scale"  # follows the name of a matrix


def check_dtype(dtype: str) -> None:
    """Raise a `ConfigError` for a dtype in which weights cannot be stored."""
    choose("dtype", dtype, DTYPES)


def round_weights(weights: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Return weights as they are stored; int8 adds a float32 scale (rows,) beside each matrix.

    >>> sorted(round_weights({"w": torch.eye(2), "b": torch.ones(2)}, "int8"))
    ['b', 'w', 'w.int8_scale']
    """
    check_dtype(dtype)
    stored: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if dtype == "float32" or not weight.is_floating_point():
            stored[name] = weight
        elif dtype == "bfloat16":
            stored[name] = weight.bfloat16()
        elif weight.dim() == 2:
            scale = weight.abs().amax(dim=1) / 127
            stored[name] = (weight / scale.clamp(min=torch.finfo(scale.dtype).tiny)[:, None]).round().to(torch.int8)
            stored[name + SCALE] = scale.float()
        else:
            stored[name] = weight
    return stored


def restore_weights(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what `round_weights` has stored, the matrices of int8 in float32; a model copies bfloat16 into its own."""
    weights: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if (scale := stored.get(name + SCALE)) is not None:
            weights[name] = tensor.float() * scale[:, None]
        elif not is_scale(name, stored):
            weights[name] = tensor
    return weights


def is_scale(name: str, stored: Mapping[str, object]) -> bool:
    """Tell whether a stored tensor is the scale of another."""
    return name.endswith(SCALE) and name.removesuffix(SCALE) in stored

"""Paraphrases: of many sentences decoded from z around q(z|x), those that are near and likely."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.errors import ConfigError, check_number
from seqvae.model.distributions import get_gaussian_parameters

TEMPERATURE = 1.3  # at 1 most z decode to the sentence itself, at 2 to other sentences


def check_temperature(temperature: Any) -> None:
    """Raise a `ConfigError` unless q can be sampled at this temperature."""
    check_number(temperature=temperature)
    if not 0 < temperature < math.inf:
        raise ConfigError(f"temperature = {temperature}: expected a number above 0, such as {TEMPERATURE}")


def strip_marks(text: str) -> str:
    """Return the letters and digits of a text and single spaces: texts that differ in marks and case alone are equal.

    >>> strip_marks("Well, I know!"), strip_marks("?!")
    ('well i know', '?!')
    """
    kept = " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split())
    return kept or text


def find_others(text: str, candidates: Sequence[str]) -> list[int]:
    """Return the places of those that differ from the text and from all before them in more than marks and case."""
    known, found = {strip_marks(text)}, []
    for place, candidate in enumerate(candidates):
        if (stripped := strip_marks(candidate)) not in known:
            known.add(stripped)
            found.append(place)
    return found


def measure_distance(q: Distribution, means: Tensor) -> Tensor:
    """Return how far points (N, D) are from the mode of q(z|x), batch (1,): (N,), root mean square over D.

    In standard deviations of q, where it is a diagonal Gaussian.
    """
    gaussian = get_gaussian_parameters(q)
    scale = torch.ones_like(q.mode) if gaussian is None else gaussian[1]
    return ((means - q.mode) / scale).square().mean(1).sqrt()

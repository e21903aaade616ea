"""A family of curves with known factors: damped sines of different lengths, with a little noise.

x_t = amplitude exp(-decay t / 32) sin(2 pi frequency t / 32 + phase) + noise,   t = 0 .. length - 1
"""

import math
from dataclasses import dataclass

import numpy as np

SIZE = 10_000  # series of the built-in corpus
SEED = 0
PERIOD = 32  # frames: the unit of time of frequency and decay
NOISE = 0.05  # standard deviation of the noise

# Each factor is uniform over its range, independently of the others; the length is a whole number.
FACTORS: dict[str, tuple[float, float]] = {
    "amplitude": (0.5, 2.0),
    "frequency": (0.5, 2.0),
    "phase": (0.0, 2 * math.pi),
    "decay": (0.0, 1.5),
    "length": (24, 60),
}


@dataclass(frozen=True, eq=False)
class Curves:
    """Samples: all frames below each other, (sum of lengths, 1), and the factors of each series."""

    values: np.ndarray
    factors: dict[str, np.ndarray]


def sample(count: int, seed: int = SEED) -> Curves:
    """Sample `count` curves, a pure function of the seed.

    >>> curves = sample(3, seed=1)
    >>> len(curves.values) == int(curves.factors["length"].sum())
    True
    """
    random = np.random.default_rng(seed)
    factors: dict[str, np.ndarray] = {name: random.uniform(low, high, count) for name, (low, high) in FACTORS.items()}
    low, high = FACTORS["length"]
    factors["length"] = random.integers(int(low), int(high) + 1, count)
    parts = [compute_curve(*(column[i] for column in factors.values())) for i in range(count)]
    values = np.concatenate(parts)
    return Curves((values + NOISE * random.standard_normal(len(values)))[:, None].astype(np.float32), factors)


def compute_curve(amplitude: float, frequency: float, phase: float, decay: float, length: int) -> np.ndarray:
    """Return (length,) the curve of these factors without noise."""
    t = np.arange(length) / PERIOD
    return amplitude * np.exp(-decay * t) * np.sin(2 * math.pi * frequency * t + phase)


def entropy() -> float:
    """Return H(x | factors), nats per series: that of the noise at the mean length; no model has a lower nll."""
    low, high = FACTORS["length"]
    return (low + high) / 2 * 0.5 * math.log(2 * math.pi * math.e * NOISE**2)

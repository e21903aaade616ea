"""Schedules: pure functions of the step, for the weight of a term of the objective.

Steps of the optimizer are counted from 0: `schedule(0)` is the weight at the first one.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from seqvae.errors import ConfigError, check_positive, shorten


class Schedule(ABC):
    """A function of the number of steps made so far: step -> float.

    Attributes:
        fraction: of the training after which the trainer makes it reach `annealing_steps`, by passing a step of that
            proportion in place of the number of steps: it is then the same on a fast and on a slow machine, and for a
            short and a long training. None: the steps are those made.
    """

    fraction: float | None = None

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the value at `step` (0, 1, 2, ...)."""

    @property
    @abstractmethod
    def annealing_steps(self) -> int:
        """The first step from which the value is constant; of a periodic schedule, that of its first full value."""


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value throughout: value(t) = end.

    Args:
        end: the value.

    >>> Constant(end=0.5)(123)
    0.5
    """

    end: float = 1.0

    def __call__(self, step: int) -> float:
        """Return the constant."""
        return self.end

    @property
    def annealing_steps(self) -> int:
        """0: it is constant from the start."""
        return 0


@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """A straight line from `start` to `end` over `steps`, then `end`.

    Args:
        start: the value at the first step.
        end: the value from `steps` on.
        steps: the length of the line.
        fraction: the length of the line as a fraction of the training, in place of `steps`; none = in steps.

    >>> [Linear(end=1.0, steps=4)(t) for t in (0, 1, 4, 9)]
    [0.0, 0.25, 1.0, 1.0]
    """

    start: float = 0.0
    end: float = 1.0
    steps: int = 2000
    fraction: float | None = None

    def __post_init__(self) -> None:
        check_positive(steps=self.steps)
        check_fraction(self.fraction)

    def __call__(self, step: int) -> float:
        """Return start + (end - start) min(1, t / steps)."""
        return self.start + (self.end - self.start) * min(1.0, step / self.steps)

    @property
    def annealing_steps(self) -> int:
        """`steps`."""
        return self.steps


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from `start` to `end` over `steps`, flat at both of its ends; then `end`.

    With w = (1 - cos(pi t / T)) / 2: value(t) = (1 - w) start + w end.

    Args:
        start: the value at the first step.
        end: the value from `steps` on.
        steps: T, the length of the curve.
        fraction: T as a fraction of the training, in place of `steps`; none = in steps.

    Source: the shape in Loshchilov & Hutter, SGDR, 2017, https://arxiv.org/abs/1608.03983, equation 5, there of a
    learning rate.

    >>> [round(Cosine(end=1.0, steps=4)(t), 4) for t in (0, 1, 2, 4, 9)]
    [0.0, 0.1464, 0.5, 1.0, 1.0]
    """

    start: float = 0.0
    end: float = 1.0
    steps: int = 2000
    fraction: float | None = None

    def __post_init__(self) -> None:
        check_positive(steps=self.steps)
        check_fraction(self.fraction)

    def __call__(self, step: int) -> float:
        """Return (1 - w) start + w end, with w = (1 - cos(pi min(1, t / T))) / 2."""
        w = (1 - math.cos(math.pi * min(1.0, step / self.steps))) / 2
        return (1 - w) * self.start + w * self.end

    @property
    def annealing_steps(self) -> int:
        """`steps`."""
        return self.steps


@dataclass(frozen=True, kw_only=True)
class Logistic(Schedule):
    """An S-curve: value(t) = end / (1 + exp(-k (t - x0))).

    Args:
        end: the value that it approaches.
        midpoint: x0, the step at which half of it is reached.
        steepness: k, per step.

    Source: Bowman et al., Generating Sentences from a Continuous Space, 2016, https://arxiv.org/abs/1511.06349,
    figure 2.

    >>> Logistic(midpoint=2500)(2500)
    0.5
    """

    end: float = 1.0
    midpoint: int = 2500
    steepness: float = 0.0025

    def __post_init__(self) -> None:
        check_positive(steepness=self.steepness)

    def __call__(self, step: int) -> float:
        """Return end * sigmoid(steepness (t - midpoint)), computed without overflow."""
        x = self.steepness * (step - self.midpoint)
        return self.end * (1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x)))

    @property
    def annealing_steps(self) -> int:
        """The step at which 99 % of the end is reached: x0 + log(99) / k."""
        return max(0, math.ceil(self.midpoint + math.log(99) / self.steepness))


@dataclass(frozen=True, kw_only=True)
class Cyclical(Schedule):
    """`cycles` equal periods over `steps`, each rising from 0 to `end` in its first `ratio`, then flat; then `end`.

    With tau = mod(t, ceil(T / M)) / (T / M): value = end * min(1, tau / R). The paper counts steps from 1, here from 0.

    Args:
        end: the value at the top of each cycle, and after the last.
        steps: T, the length of all cycles together.
        cycles: M.
        ratio: R, the fraction of a cycle in which the value rises.

    Source: Fu et al., Cyclical Annealing Schedule, 2019, https://arxiv.org/abs/1903.10145, equation 6.

    >>> [Cyclical(steps=400, cycles=4)(t) for t in (0, 25, 50, 99, 100, 125, 400)]
    [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0]
    """

    end: float = 1.0
    steps: int = 10_000
    cycles: int = 4
    ratio: float = 0.5

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, cycles=self.cycles, ratio=self.ratio)

    def __call__(self, step: int) -> float:
        """Return the value within the cycle that `step` falls in."""
        if step >= self.steps:
            return self.end
        tau = (step % math.ceil(self.steps / self.cycles)) / (self.steps / self.cycles)
        return self.end * min(1.0, tau / self.ratio)

    @property
    def annealing_steps(self) -> int:
        """The top of the first cycle, where the full weight is first reached; `steps` if cycles are too short."""
        top = math.ceil(self.steps / self.cycles * self.ratio)
        return top if top < math.ceil(self.steps / self.cycles) else self.steps


@dataclass(frozen=True, kw_only=True)
class ZeroLinear(Schedule):
    """0 for `zero` steps (an autoencoder), then a straight line to `end` over `steps`.

    Args:
        end: the value after the line.
        zero: steps at 0.
        steps: the length of the line.

    Source: the shape in Li et al., Optimus, 2020, https://arxiv.org/abs/2004.04092 (half a cycle at 0, a quarter
    rising, a quarter at 1).

    >>> [ZeroLinear(end=1.0, zero=2, steps=4)(t) for t in (0, 2, 4, 6, 9)]
    [0.0, 0.0, 0.5, 1.0, 1.0]
    """

    end: float = 1.0
    zero: int = 2000
    steps: int = 1000

    def __post_init__(self) -> None:
        check_positive(steps=self.steps)

    def __call__(self, step: int) -> float:
        """Return end * clip((t - zero) / steps, 0, 1)."""
        return self.end * min(1.0, max(0.0, (step - self.zero) / self.steps))

    @property
    def annealing_steps(self) -> int:
        """The step at which the line reaches its end."""
        return self.zero + self.steps


def check_fraction(fraction: float | None) -> None:
    """Raise a `ConfigError` unless it is a fraction of a training, or None."""
    if fraction is not None and not (isinstance(fraction, float | int) and 0 < fraction <= 1):
        raise ConfigError(f"fraction = {shorten(fraction)}: expected more than 0 and at most 1, such as 0.25")


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "linear": Linear,
    "cosine": Cosine,
    "logistic": Logistic,
    "cyclical": Cyclical,
    "zero-linear": ZeroLinear,
}

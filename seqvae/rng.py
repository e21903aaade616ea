"""Streams of random numbers of our own: no call moves another's, in whatever thread it runs.

torch's global generator belongs to the process. To save, seed and restore it around a call is right in one thread only:
of two calls at once each draws from the other's numbers, and what is restored brings back numbers already used. Here a
call has generators of its own; the global one is asked for a seed at most, by a call that was given none.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seqvae.errors import check_whole

STREAM = 0x9E3779B9  # sets the seeds of different things apart that are drawn with one seed

_FUNCTIONS = (
    "rand randn randint randperm rand_like randn_like randint_like normal bernoulli binomial multinomial poisson "
    "_standard_gamma _sample_dirichlet"
)
_METHODS = "normal_ uniform_ bernoulli_ cauchy_ exponential_ geometric_ log_normal_ random_ bernoulli multinomial"
_STARTS = "normal_ uniform_ kaiming_uniform_"  # those of torch.nn.init that torch hands over whole
RANDOM = frozenset(
    getattr(place, name)
    for place, names in ((torch, _FUNCTIONS), (Tensor, _METHODS), (torch.nn.init, _STARTS))
    for name in names.split()
)


class Stream(TorchFunctionMode):
    """Random numbers from one seed: what is drawn inside `with stream:` comes from its generators.

    Whatever in torch takes a `generator` and was given none gets the stream's: so distributions can be drawn from whose
    `sample` takes none, as those of torch and of zuko. It holds for the thread that entered it, as `with torch.device`
    does, and may be entered again to go on. The numbers are those that follow `torch.manual_seed(seed)`.

    Args:
        seed: from 0 to 2^63 - 1. None takes one from torch's global generator when something is drawn: another for
            each stream, in all threads, and the same ones again after `torch.manual_seed`.

    Raises:
        ConfigError: for another seed.

    >>> with Stream(3):
    ...     first = torch.rand(())
    >>> with Stream(3):
    ...     bool(torch.rand(()) == first)
    True
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__()
        if seed is not None:
            check_seed(seed)
        self.seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """Return the generator of this stream for a device, to be handed over where that is possible."""
        device = torch.device(device)
        if device.type == "meta":  # nothing is drawn there
            device = torch.device("cpu")
        if self.seed is None:  # by one call of torch, which locks its generator meanwhile
            self.seed = int(torch.randint(2**63 - 1, (), device="cpu"))
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(int(self.seed))
        return self._generators[device]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, with a generator if it can use one."""
        kwargs = kwargs or {}
        if func in RANDOM and kwargs.get("generator") is None:
            kwargs = kwargs | {"generator": self.generator(_device(args, kwargs))}
        return func(*args, **kwargs)


def seeded(seed: int | None) -> Stream:
    """Return a stream that starts at `seed`, or anywhere if it is None; the global random state stays as it is."""
    return Stream(seed)


def shift_seed(seed: int | None, number: int = 1) -> int | None:
    """Return a seed for something else that is drawn by the same call; None stays None.

    Words are often drawn with the seed of their z: from the same stream they would depend on z twice.
    """
    if seed is None:
        return None
    check_seed(seed)
    return (int(seed) + number * STREAM) % 2**63


def check_seed(seed: int) -> None:
    """Raise a `ConfigError` unless it is a whole number from 0 to 2^63 - 1."""
    check_whole(0, 2**63 - 1, seed=seed)


def _device(args: Any, kwargs: Any) -> torch.device:
    """Return where the numbers of a call are drawn."""
    if (device := kwargs.get("device")) is not None:
        return torch.device(device)
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.get_default_device())


def keyed_normal(seed: int, rows: Tensor, draws: int, dimensions: int) -> Tensor:
    """Standard Gaussian numbers that are a pure function of (seed, row, draw, dimension).

    So the noise of a sentence does not depend on its batch, nor on how many draws are asked for. A counter hashed by
    the finalizer of SplitMix64 (Steele, Lea & Flood, Fast splittable pseudorandom number generators, 2014), mapped
    through the inverse of the Gaussian distribution function.

    Args:
        seed: any integer.
        rows: (B,) int64 keys, such as those of sentences (`seqvae.evaluation.likelihood.sentence_keys`).
        draws: S.
        dimensions: D.

    Returns:
        (B, S, D) float64.
    """
    key = mix(torch.tensor(seed % 2**63, device=rows.device))
    key = mix(key + rows[:, None, None])
    key = mix(key + torch.arange(draws, device=rows.device)[:, None])
    key = mix(key + torch.arange(dimensions, device=rows.device))
    uniform = (_shift(key, 11).double() + 0.5) * 2.0**-53
    return torch.special.ndtri(uniform)


def mix(key: Tensor) -> Tensor:
    """Hash integers by SplitMix64's output for a counter; int64 products wrap around as unsigned ones would."""
    key = (key + 1) * -7046029254386353131  # 0x9E3779B97F4A7C15
    key = (key ^ _shift(key, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    key = (key ^ _shift(key, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return key ^ _shift(key, 31)


def _shift(key: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros: int64's own shift would copy the sign."""
    return (key >> bits) & ((1 << (64 - bits)) - 1)

"""Seeded streams of random numbers: each call has generators of its own, so that concurrent calls do not interfere.

torch's global generator belongs to the process. Saving, seeding and restoring it around a call is right in one thread
only: two concurrent calls would consume each other's numbers, and restoring would bring used ones back. Here the global
generator at most supplies a seed, for a call that was given none.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seqvae.errors import check_whole

STREAM = 0x9E3779B9  # the distance between seeds that are derived from one

_FUNCTIONS = (
    "rand randn randint randperm rand_like randn_like randint_like normal bernoulli binomial multinomial poisson "
    "_standard_gamma _sample_dirichlet"
)
_METHODS = "normal_ uniform_ bernoulli_ cauchy_ exponential_ geometric_ log_normal_ random_ bernoulli multinomial"
_INITIALIZERS = "normal_ uniform_ kaiming_uniform_"  # of torch.nn.init, which torch passes to a mode as one call
RANDOM = frozenset(
    getattr(place, name)
    for place, names in ((torch, _FUNCTIONS), (Tensor, _METHODS), (torch.nn.init, _INITIALIZERS))
    for name in names.split()
)


class Stream(TorchFunctionMode):
    """Random numbers from one seed: all sampling inside `with stream:` uses its generators.

    Every function of torch that takes a `generator` and was given none gets the stream's; so do distributions of torch
    and of zuko, whose `sample` takes none. The stream acts on the thread that entered it, as `with torch.device` does,
    and continues when it is entered again. Its numbers are those that follow `torch.manual_seed(seed)`.

    Args:
        seed: from 0 to 2^63 - 1. None takes one from torch's global generator when the first number is needed: a
            different one for each stream in all threads, and the same ones again after `torch.manual_seed`.

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
        """Return the generator of this stream for a device, for functions that take one."""
        device = torch.device(device)
        if device.type == "meta":  # which has no numbers
            device = torch.device("cpu")
        if self.seed is None:  # one call of torch, which locks its generator
            self.seed = int(torch.randint(2**63 - 1, (), device="cpu"))
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(int(self.seed))
        return self._generators[device]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`, with a generator if it takes one."""
        kwargs = kwargs or {}
        if func in RANDOM and kwargs.get("generator") is None:
            kwargs = kwargs | {"generator": self.generator(_device(args, kwargs))}
        return func(*args, **kwargs)


def shift_seed(seed: int | None, number: int = 1) -> int | None:
    """Return the seed of the `number`-th other stream of a call; None stays None.

    Words are often sampled with the seed of their z: from the same stream they would depend on z twice.
    """
    if seed is None:
        return None
    check_seed(seed)
    return (int(seed) + number * STREAM) % 2**63


def check_seed(seed: int) -> None:
    """Raise a `ConfigError` unless the seed is a whole number from 0 to 2^63 - 1."""
    check_whole(0, 2**63 - 1, seed=seed)


def _device(args: Any, kwargs: Any) -> torch.device:
    """Return the device that a call samples on."""
    if (device := kwargs.get("device")) is not None:
        return torch.device(device)
    tensors = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.get_default_device())


def keyed_normal(seed: int, rows: Tensor, samples: int, dimensions: int) -> Tensor:
    """Compute standard Gaussian numbers as a pure function of (seed, row, sample, dimension).

    So the noise of a sentence depends neither on its batch nor on the number of samples. A counter is hashed by the
    finalizer of SplitMix64 (Steele, Lea & Flood, Fast splittable pseudorandom number generators, 2014) and mapped
    through the inverse of the Gaussian distribution function.

    Args:
        seed: any integer.
        rows: (B,) int64 keys, such as those of sentences (`seqvae.evaluation.likelihood.hash_sentences`).
        samples: S.
        dimensions: D.

    Returns:
        (B, S, D) float64.
    """
    key = mix(torch.tensor(seed % 2**63, device=rows.device))
    key = mix(key + rows[:, None, None])
    key = mix(key + torch.arange(samples, device=rows.device)[:, None])
    key = mix(key + torch.arange(dimensions, device=rows.device))
    uniform = (_shift(key, 11).double() + 0.5) * 2.0**-53
    return torch.special.ndtri(uniform)


def mix(key: Tensor) -> Tensor:
    """Hash integers by the output function of SplitMix64; int64 products wrap around as unsigned ones would."""
    key = (key + 1) * -7046029254386353131  # 0x9E3779B97F4A7C15
    key = (key ^ _shift(key, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    key = (key ^ _shift(key, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return key ^ _shift(key, 31)


def _shift(key: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros: int64's own shift would copy the sign."""
    return (key >> bits) & ((1 << (64 - bits)) - 1)

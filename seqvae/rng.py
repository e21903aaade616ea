"""Streams of random numbers of our own: no call moves another's, in whatever thread it runs.

torch's global generator belongs to the process. To save, seed and restore it around a call is right in one thread only:
of two calls at once each draws from the other's numbers, and what is restored brings back numbers already used. Here a
call has generators of its own; the global one is asked for a seed at most, by a call that was given none.
"""

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seqvae.arguments import check_whole

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

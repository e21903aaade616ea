"""What the checks share: parts made of what a user gives, small batches and models, and errors that name the law."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from seqvae.config import Config, get_import_path
from seqvae.data.batch import END, Batch
from seqvae.errors import ConfigError
from seqvae.model.vae import SequenceVAE, Trace
from seqvae.training.build import build_model
from seqvae.training.own_parts import get_parameters

LATENT, EMBEDDING, FEATURES, VOCABULARY, SENTENCES = 3, 6, 8, 11, 100
LENGTHS = (5, 1, 7, 3, 7)  # of the sentences of a batch


@contextmanager
def fix_seed() -> Iterator[None]:
    """Draw from the same seed each time, and put torch's random numbers back when done."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def call_with_sizes(make: Callable[..., Any], base: type, **sizes: Any) -> Any:
    """Call a class or a function with those of the sizes that it asks for."""
    wanted = get_parameters(make)
    made = make(**{name: size for name, size in sizes.items() if name in wanted})
    assert isinstance(made, base), f"{make!r} makes a {type(made).__name__}, not a {get_import_path(base)}"
    return made


def make_part(part: Any, base: type, moved: bool, **sizes: Any) -> Any:
    """Make a part in double precision and evaluation mode; None where its class refuses the sizes.

    Args:
        part: a class, a function or an instance.
        base: what it has to be.
        moved: whether its weights are moved at random, as a training does.
        sizes: what it may ask for.
    """
    if isinstance(part, nn.Module):
        assert isinstance(part, base), f"{type(part).__name__} is not a {get_import_path(base)}"
        made = deepcopy(part)
    else:
        try:
            made = call_with_sizes(part, base, **sizes)
        except ConfigError:
            return None
    made = made.double().eval()
    if moved:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def make_model(latent: int, vocabulary: int) -> SequenceVAE:
    """Make a tiny model with a standard normal prior, whose weights are wide enough for all to depend on all."""
    parts = {"encoder": {"hidden": 4}, "prior": {"name": "normal"}, "decoder": {"hidden": 5}}
    parts |= {"latent": latent, "embedding": EMBEDDING}
    model = build_model(Config.from_dict({"model": parts}), vocabulary).double().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=2.0)
    return model


def make_batch(lengths: tuple[int, ...] = LENGTHS) -> Batch:
    """Make sentences of random words, the same each time."""
    g = torch.Generator().manual_seed(0)
    return Batch.of([[*torch.randint(3, VOCABULARY, (n - 1,), generator=g).tolist(), END] for n in lengths])


def lengthen(batch: Batch, steps: int = 3, fill: int = 7) -> Batch:
    """Return the sentences in a wider batch, with a word in place of all padding."""
    mask = nn.functional.pad(batch.mask, (0, steps))

    def widen(ids: Tensor) -> Tensor:
        return nn.functional.pad(ids, (0, steps)).masked_fill(~mask, fill)

    return replace(
        batch,
        source=widen(batch.source),
        inputs=widen(batch.inputs),
        targets=widen(batch.targets),
        lengths=batch.lengths,
    )


def crop(batch: Batch) -> Batch:
    """Return a batch without the steps that no sentence has."""
    steps = int(batch.lengths.max())
    ids = {name: getattr(batch, name)[:, :steps] for name in ("source", "inputs", "targets")}
    return Batch(**ids, lengths=batch.lengths)


def make_trace(model: SequenceVAE, batch: Batch, z: Tensor | None = None) -> Trace:
    """Make the trace of a batch at z, or at points about the posterior means."""
    q = model.encode(batch)
    if z is None:
        z = q.mean + q.stddev * torch.linspace(-1, 1, q.mean.numel()).view_as(q.mean).double()
    return Trace(batch=batch, q=q, p=model.prior(), z=z, log_prob=model.log_prob(batch, z))


class Laws:
    """The errors of one part.

    Args:
        part: what is checked.
        base: the abstract class, whose docstring has more.
    """

    def __init__(self, part: Any, base: type) -> None:
        self.name, self.where = type(part).__name__, get_import_path(base).replace(":", ".")

    def require(self, holds: bool, law: str, found: str = "") -> None:
        """Raise an AssertionError that names the law, what was found, and where to read."""
        if not holds:
            raise self.make_error(law, found)

    def make_error(self, law: str, found: str = "") -> AssertionError:
        """Return the error for a law that is broken."""
        return AssertionError(f"{self.name} breaks a law: {law}{found and f'; found {found}'} (see {self.where})")

    def finite(self, values: Tensor, what: str) -> None:
        """Require finite values."""
        self.require(bool(values.isfinite().all()), f"{what} are finite")

    def same(self, found: Tensor, expected: Tensor, law: str) -> None:
        """Require equal values, up to the rounding of batches of other sizes."""
        self.require(found.shape == expected.shape, law, f"shape {tuple(found.shape)}, not {tuple(expected.shape)}")
        self.require(bool(torch.isclose(found, expected, rtol=1e-7, atol=1e-9, equal_nan=False).all()), law)

    def gradients(self, module: nn.Module, what: str, shared: frozenset[int] | set[int] = frozenset()) -> None:
        """Require a finite gradient that is not 0 in each parameter of a module but the shared ones."""
        for name, parameter in module.named_parameters():
            if id(parameter) not in shared and parameter.requires_grad:
                self.require(parameter.grad is not None, f"gradients reach {what}", f"none in {name}")
                assert parameter.grad is not None
                self.finite(parameter.grad, f"the gradients of {name}")


def check_state(laws: Laws, part: nn.Module, compute: Callable[..., Tensor]) -> None:
    """Check that a copy with other weights is the same part again once the weights are loaded."""
    copy = deepcopy(part)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(torch.randn_like(parameter))
    copy.load_state_dict(part.state_dict())
    with torch.no_grad():
        torch.manual_seed(0)
        expected = compute(part)
        torch.manual_seed(0)
        laws.same(compute(copy), expected, "what is saved is what is loaded: use nn.Parameter and register_buffer")

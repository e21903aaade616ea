"""A dry step of the chosen parts before any work, at tiny sizes and on two made-up sentences.

Parts that do not go together fail there. Nothing is left behind: random numbers, warnings and what accelerate keeps for
the whole process are restored.
"""

import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from seqvae.config import Config, OwnPart, Training
from seqvae.data.batch import END, UNKNOWN, Batch
from seqvae.data.batching import Batches
from seqvae.errors import ConfigError, SeqVAEError, TrainingError
from seqvae.model.vae import SequenceVAE
from seqvae.objective.objective import Objective, Report
from seqvae.training.trainer import Trainer, Update

if TYPE_CHECKING:
    from accelerate import Accelerator

PACKAGE = Path(__file__).parents[1]
VOCABULARY, CHANNELS, LABELS = 8, 2, 2  # of the made-up sentences, and of the made-up series
LATENT, EMBEDDING = 3, 4
# Options of these names, of any part, are at most this in a dry step; all others are tried as they are given.
SMALL = {
    "hidden": 4,
    "width": 8,
    "heads": 2,
    "layers": 2,
    "rank": 2,
    "components": 2,
    "length": 2,
    "transforms": 1,
    "directions": 2,
    "head_size": UNKNOWN + 2,
    "largest_cluster": 1,
    "samples": 2,
    "steps": 2,
    "window": 1,
}
Parts = tuple[SequenceVAE, Objective, Update]


def shrink(config: Config) -> Iterator[Config]:
    """Yield the configuration at sizes that cost next to nothing, then at others for parts that these do not suit.

    An instance has the sizes that it was made with: then all parts keep theirs.
    """
    parts = [*vars(config.model).values(), *vars(config.objective).values()]
    if any(isinstance(part, OwnPart) and part.is_instance for part in parts):
        yield config
        return
    groups = [{name: lower(value) for name, value in vars(group).items()} for group in (config.model, config.objective)]
    model, objective = replace(config.model, **groups[0]), replace(config.objective, **groups[1])
    model = replace(model, embedding=min(model.embedding, EMBEDDING), label_size=min(model.label_size, LABELS))
    yield replace(config, model=replace(model, latent=min(model.latent, LATENT)), objective=objective)
    yield replace(config, model=model, objective=objective)
    yield config


def lower(value: Any) -> Any:
    """Return the part with none of its sizes above `SMALL`; a value that is no part as it is."""
    if not isinstance(value, dict):
        return value
    sizes = {name: size for name, size in value.items() if name in SMALL and isinstance(size, int)}
    return value | {name: min(size, SMALL[name]) for name, size in sizes.items()}


def check_together(
    config: Config, build: Callable[[Config], Parts], others: Callable[[Config], Iterable[tuple[str, str, Config]]]
) -> None:
    """Make a dry step of the parts of `config`.

    Args:
        config: resolved.
        build: what makes the parts of a configuration, at tiny sizes.
        others: the configurations that differ in one value: the place of the part, what to write for it, and the whole.

    Raises:
        ConfigError: if it fails, with the parts to blame: those that it does not fail without.
    """
    error = try_step(config, build)
    if isinstance(error, SeqVAEError):
        raise error
    if error is None:
        return
    mended: dict[str, list[str]] = {}
    for place, words, other in others(config):
        if (place not in mended or ".name " not in words) and try_step(other, build) is None:
            mended.setdefault(place, []).append(words)
    if not mended:
        raise error  # by whichever parts: a fault of the program
    blamed = " with ".join(f"{place} = {get_name(config, place)}" for place in mended)
    remedies = ", or ".join(words for found in mended.values() for words in found)
    raise ConfigError(f"{blamed} cannot be trained ({shorten_error(error)}): write {remedies}") from error


def get_name(config: Config, place: str) -> str:
    """Return the name of the part at a place such as `model.prior`."""
    group, field = place.split(".")
    return str(getattr(getattr(config, group), field)["name"])


def shorten_error(error: Exception) -> str:
    """Return the first line of an error, not too long; of one in a part of the user's own its kind and place too."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:120].rstrip(". ")
    frames = traceback.extract_tb(error.__traceback__)
    last = Path(frames[-1].filename) if frames else PACKAGE
    if PACKAGE in last.parents or "site-packages" in last.parts or not last.is_file():
        return text
    return f"{type(error).__name__}: {text}, {last.name} line {frames[-1].lineno}"


def try_step(config: Config, build: Callable[[Config], Parts]) -> Exception | None:
    """Return the error of a dry step of `config`; None if it succeeds."""
    try:
        with preserve_process():
            make_steps(*build(config), config)
    except TrainingError:  # not finite, which need not be so at the real sizes and sentences
        return None
    except Exception as error:  # of torch and of parts that others have written, a dozen kinds
        return error
    return None


def make_steps(model: SequenceVAE, objective: Objective, rule: Update, config: Config) -> None:
    """Make a step of tiny parts where the divergence weighs most, and one in each stage of an update with stages."""
    weight, first = objective.weight, rule.schedule_delay
    pair = Pair(
        series=config.model.observation["name"] == "frames",
        labels=model.condition is not None,
        weights=config.data.weight_column is not None,
    )
    trainer = DryTrainer(model, objective, cast(Batches, pair), config.training, cast("Accelerator", Alone()), rule)
    heaviest = first + max((0, weight.annealing_steps), key=lambda step: abs(weight(step)))
    for term in (objective.divergence, objective.auxiliary):
        term.register_forward_hook(check_term_shape)
    for step in sorted({0, first, heaviest} if first else {heaviest}):
        trainer.step, trainer.progress = step, (weight.fraction or 0.0) * (step == heaviest > first)
        found = rule(trainer, pair.batch)
        if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Report)):
            raise TypeError(f"an update returns a Report and the norm of the gradient, found {type(found).__name__}")


def check_term_shape(term: nn.Module, arguments: Any, value: Tensor) -> None:
    """Raise a `TypeError` unless a term has returned one value for each sentence."""
    if not isinstance(value, Tensor) or value.dim() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{type(term).__name__} returns (B,), one value for each sentence; found {shape}")


@contextmanager
def preserve_process() -> Iterator[None]:
    """Restore the random numbers and the warnings of the process when done, and compute on the CPU."""
    processor = nullcontext() if torch.empty(0).device.type == "cpu" else torch.device("cpu")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), processor, torch.enable_grad():
        warnings.simplefilter("ignore")
        torch.default_generator.manual_seed(0)  # not those of other devices, as `torch.manual_seed` does
        yield


class Pair:
    """The only batch of a training: two sentences of unequal length, in which each token occurs, or two series.

    Args:
        series: two series in place of sentences.
        labels: with a label each.
        weights: with a weight each.
    """

    steps = 1

    def __init__(self, *, series: bool, labels: bool, weights: bool = False) -> None:
        words = list(range(UNKNOWN, VOCABULARY))
        frames = np.linspace(-1, 1, 3 * CHANNELS, dtype=np.float32).reshape(3, CHANNELS)
        batch = Batch.of_frames([frames, frames[:1]]) if series else Batch.of([[*words, END], [words[-1], END]])
        self.batch = replace(
            batch, labels=torch.arange(LABELS) if labels else None, weights=torch.ones(2) if weights else None
        )

    def extra(self, start: int = 0) -> Iterator[Batch]:
        """Yield the batch again and again."""
        return repeat(self.batch)


class Alone:
    """What a trainer needs of accelerate, for one process in single precision; accelerate's own has global state."""

    device, num_processes, process_index, is_main_process = torch.device("cpu"), 1, 0, True

    def prepare(self, *objects: Any) -> Any:
        """Return the objects as they are, a single one by itself."""
        return objects if len(objects) > 1 else objects[0]

    def prepare_model(self, model: nn.Module, **options: Any) -> nn.Module:
        """Return the model as it is."""
        return model

    def backward(self, loss: Tensor, inputs: list[Tensor] | None = None) -> None:
        """Compute the gradients of `loss` ()."""
        loss.backward(inputs=inputs)

    def clip_grad_norm_(self, parameters: Iterable[Tensor], most: float) -> Tensor:
        """Scale gradients of a larger norm down to `most`, and return the norm () before."""
        return nn.utils.clip_grad_norm_(parameters, most)


class DryTrainer(Trainer):
    """A trainer with a plain optimizer: the first of torch's own in a process imports its compiler, for a second."""

    @staticmethod
    def make_optimizer(module: nn.Module, training: Training) -> Any:
        """Return gradient descent."""
        return Descent(list(module.parameters()))


class Descent:
    """What a trainer and its updates need of an optimizer."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": parameters, "lr": 1e-3}]
        self.state: dict[Tensor, Any] = {}

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Make a step of gradient descent."""
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                parameter -= self.param_groups[0]["lr"] * parameter.grad

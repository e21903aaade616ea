"""A model folder: config.json, model.safetensors, of text a tokenizer.json. Nothing in it is code or pickled.

Every file is written under another name and then renamed, so that a kill at any moment leaves the old one or the new
one.
"""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from seqvae.config import Config
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import CheckpointError, SeqVAEError, truncate, write_atomically
from seqvae.model.vae import SequenceVAE
from seqvae.rng import Stream
from seqvae.training.build import build_model, hand_over, require_sources
from seqvae.training.own_parts import Handed
from seqvae.training.rounding import DTYPES, check_dtype, is_scale, restore_weights, round_weights

FORMAT, OLDEST = 4, 3  # of the folders that are written, and that are read
CONFIG, WEIGHTS, TOKENIZER, CARD = "config.json", "model.safetensors", "tokenizer.json", "README.md"
METRICS = "metrics.jsonl"
STATE = Path("resume") / "state.pt"
ASIDE = Path("resume") / "before"


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a model folder.

    Attributes:
        config: the run that made the model.
        model: in evaluation mode, on the CPU.
        tokenizer: sentence -> ids; None for series, whose means and standard deviations are among the weights.
        facts: where the model comes from: name and notes of the corpus, scores; plain values.
        labels: those that it is conditioned on, in sorted order, with the number of training sentences of each.
        generation_config: options that `sample` takes where none is given: `temperature`, `top_k`, `top_p`, `min_p`.
        dtype: in which the weights are stored, and were rounded (see `seqvae.training.rounding`).
    """

    config: Config
    model: SequenceVAE
    tokenizer: Tokenizer | None
    facts: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    generation_config: dict[str, float] = field(default_factory=dict)
    dtype: str = "float32"

    def save(self, folder: Path) -> None:
        """Write the files that `load` needs into `folder`, which is made if missing.

        Raises:
            CheckpointError: if the disk is full or the place cannot be written; what was there before is still there.
        """
        values: dict[str, Any] = {
            "format": FORMAT,
            "library": "seqvae",
            "vocabulary": self.model.observation.size,
            "dtype": self.dtype,
            "config": self.config.to_dict(),
            "facts": self.facts,
        }
        if self.labels:
            values["labels"] = self.labels
        if self.generation_config:
            values["generation_config"] = self.generation_config
        weights = round_weights(_stored_once(self.model), self.dtype)
        if (tokenizer := self.tokenizer) is not None:
            write(folder / TOKENIZER, lambda path: tokenizer.save(path))
        write(folder / WEIGHTS, lambda path: save_file(weights, str(path)))
        write(folder / CONFIG, lambda path: path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8"))

    def save_over(self, folder: Path, old: "Checkpoint") -> None:
        """Write this model over one of other sizes, which is kept aside meanwhile.

        A kill between two of the files leaves a folder that is neither model; `recover` puts the old one back.
        """
        old.save(folder / ASIDE)
        self.save(folder)
        (folder / ASIDE / CONFIG).unlink()
        shutil.rmtree(folder / ASIDE, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path, parts: Handed = ()) -> "Checkpoint":
        """Read what `save` wrote.

        Args:
            folder: a model folder. Nothing is imported because a file in it names it.
            parts: the classes of the user's own that the model is made of (see `seqvae.training.build.hand_over`).

        Raises:
            CheckpointError: one line for a folder that is missing, unfinished, damaged or not ours, or that has a part
                from outside the package which is not among `parts`.
        """
        if not folder.is_dir():
            raise CheckpointError(f"no model folder at {folder}: expected a folder that `seqvae train` has written")
        if not (folder / CONFIG).is_file():
            hint = "; its training has not reached a validation yet" if (folder / METRICS).is_file() else ""
            raise CheckpointError(f"{folder} is not a model folder: it has no {CONFIG}{hint}")
        stored = _read_config(folder / CONFIG)
        config, vocabulary, labels = hand_over(stored.config, parts), stored.vocabulary, stored.others["labels"]
        require_sources(config, str(folder))
        if config.model.observation["name"] == "frames":
            return cls(config, _weights(folder / WEIGHTS, config, vocabulary, 0), None, **stored.others)
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        if len(tokenizer) != vocabulary:
            raise CheckpointError(
                f"{folder / TOKENIZER} has {len(tokenizer)} tokens, but the model was trained with {vocabulary}: "
                "the folder mixes files of two models"
            )
        return cls(config, _weights(folder / WEIGHTS, config, vocabulary, len(labels)), tokenizer, **stored.others)


def refuse_foreign(folder: Path) -> None:
    """Raise a `CheckpointError` if a config.json in the folder is of something else, and would be lost."""
    try:
        ours = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["library"] == "seqvae"
    except OSError:
        return  # there is none, or it cannot be read, which writing will say
    except (ValueError, LookupError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise CheckpointError(f"{folder / CONFIG} was not written by seqvae, and would be lost: name another folder")


@dataclass(frozen=True)
class _Stored:
    """What config.json holds: the size of the model's vocabulary, its options, and other fields of its `Checkpoint`."""

    vocabulary: int
    config: Config
    others: dict[str, Any]


def _read_config(path: Path) -> _Stored:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["library"] != "seqvae":
            raise KeyError("library")
        if values["format"] not in range(OLDEST, FORMAT + 1):
            given = truncate(repr(values["format"]))
            raise CheckpointError(
                f"{path} has format {given}, and this version of seqvae reads formats {OLDEST} to {FORMAT}: "
                "load it with the version that wrote it, or train the model again"
            )
        config = Config.from_dict(values["config"])
        others = {
            "facts": _check_facts(path, values["facts"]),
            "labels": _labels(path, config, values.get("labels", {})),
            "generation_config": dict(values.get("generation_config", {})),
            "dtype": values.get("dtype", DTYPES[0]),
        }
        check_dtype(others["dtype"])
        return _Stored(int(values["vocabulary"]), config, others)
    except CheckpointError:
        raise
    except SeqVAEError as error:
        raise CheckpointError(f"{path} describes a model that this version cannot build: {error}") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        raise CheckpointError(f"{path} is damaged or was not written by seqvae") from None


# Those that are read again; other facts are kept as they are.
FACTS = {"corpus": str, "notes": list, "fingerprint": str, "content": str, "step": int, "init": dict, "scores": dict}


def _check_facts(path: Path, given: Any) -> dict[str, Any]:
    """Return the facts of a config.json, if each is of its type or none."""
    facts = dict(given)
    for name, kind in FACTS.items():
        if not isinstance(facts.get(name), kind | None):
            raise CheckpointError(f"{path} is damaged: facts.{name} is {truncate(repr(facts[name]))}")
    return facts


def _labels(path: Path, config: Config, labels: Any) -> dict[str, int]:
    """Return the labels of a conditional model, if they are as `text.labels` makes them."""
    column = config.data.label_column
    sound = isinstance(labels, dict) and bool(labels) == (column is not None) and list(labels) == sorted(labels)
    sound = sound and all(name == " ".join(name.split()) != "" for name in labels)
    if not sound or not all(type(count) is int and 0 < count < 2**53 for count in labels.values()):
        wanted = "none, as the model has no label column" if column is None else f"those of column {column!r}"
        raise CheckpointError(f"{path} is damaged: its labels are not {wanted}, sorted, each with a number above 0")
    return dict(labels)


def _weights(path: Path, config: Config, vocabulary: int, labels: int) -> SequenceVAE:
    """Build the model only once the file's header agrees with it, so that a false size never fills the memory."""
    try:
        with safe_open(str(path), framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        found = {name: shape for name, shape in found.items() if not is_scale(name, found)}
        with torch.device("meta"), _WithoutValues():
            expected = build_model(config, vocabulary, labels)
        _compare(path, found, expected.state_dict(keep_vars=True))
        with Stream(0), _WithoutValues():  # takes nobody else's random numbers
            model = build_model(config, vocabulary, labels)
        weights = restore_weights(load_file(str(path)))
        model.load_state_dict(weights, strict=False)  # the other names of tied weights are not stored
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent} has no {path.name}: the folder is incomplete") from None
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or truncated ({_first_line(error)})") from None
    except SeqVAEError as error:
        raise error if isinstance(error, CheckpointError) else CheckpointError(f"{path.parent}: {error}") from None
    return model.eval()


_RANDOM = (torch.Tensor.normal_, torch.Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _WithoutValues(TorchFunctionMode):
    """Leave parameters that will be loaded, and tensors of the meta device, without random numbers.

    For the meta device, which has no numbers, torch would import its compiler, which takes a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _RANDOM:
            tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta or isinstance(tensor, nn.Parameter):
                return tensor
        return func(*args, **kwargs)


def _stored_once(model: SequenceVAE) -> dict[str, torch.Tensor]:
    """Return the weights by name; tied ones under the first of their names, so that a file is the same each time."""
    names = {id(tensor): name for name, tensor in reversed(model.state_dict(keep_vars=True).items())}
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name in names.values()}


def _compare(path: Path, found: dict[str, tuple[int, ...]], expected: dict[str, torch.Tensor]) -> None:
    """Raise a `CheckpointError` for a file that has other weights than the model, or fewer."""
    for name, shape in found.items():
        wanted = tuple(expected[name].shape) if name in expected else "no such weight"
        if wanted != shape:
            raise CheckpointError(f"{path} does not fit its config.json: {name} is {shape}, expected {wanted}")
    stored = {id(tensor) for name, tensor in expected.items() if name in found}
    for name, tensor in expected.items():
        if id(tensor) not in stored:  # tied weights are stored once, under one of their names
            raise CheckpointError(f"{path} is incomplete: it has no {name}")


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write what a resumed training needs, apart from the model itself."""
    write(folder / STATE, lambda path: torch.save(state, path))


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote; only tensors and plain values can be in it.

    Raises:
        CheckpointError: if there is none, or it is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        raise CheckpointError(f"nothing to resume: {path} does not exist")
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise CheckpointError(f"{path} is damaged ({_first_line(error)}): it cannot be resumed") from None


def recover(folder: Path) -> None:
    """Put back the model that was kept aside when `Checkpoint.save_over` was killed; nothing where there is none."""
    if (folder / ASIDE / CONFIG).is_file():  # it is written last and removed first: the others are whole
        for name in (TOKENIZER, WEIGHTS, CONFIG):
            if (folder / ASIDE / name).is_file():  # else a kill while this was done before
                os.replace(folder / ASIDE / name, folder / name)
    shutil.rmtree(folder / ASIDE, ignore_errors=True)


def write(path: Path, how: Callable[[Path], object]) -> None:
    """Let `how` write a file as `write_atomically` does.

    Raises:
        CheckpointError: if the disk is full or the place cannot be written.
    """
    try:
        write_atomically(path, how)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"cannot write {path} ({_first_line(error)}): is the disk full, the place writable?"
        ) from None


def append(path: Path, text: str) -> None:
    """Append `text` to a file, which is created if missing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CheckpointError(
            f"cannot write {path} ({_first_line(error)}): is the disk full, the place writable?"
        ) from None


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics.jsonl, without those that a kill cut short; none if there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    except (OSError, ValueError):
        return []
    found = []
    for line in lines:
        with suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [entry for entry in found if isinstance(entry, dict)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]

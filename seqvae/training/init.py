"""Fine-tuning: a training that begins with the weights, the sizes and the vocabulary of a trained model.

`seqvae.training.inherit` has its options, `seqvae.training.new_vocabulary` the weights in another vocabulary.
"""

import copy
import hashlib
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqvae.config import Config, get_corpus_options
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import ConfigError
from seqvae.model.posteriors import BatchNormGaussian
from seqvae.model.vae import SequenceVAE
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.new_vocabulary import TABLES, map_output, map_rows, map_tokens

COVERED = 0.95  # fraction of known tokens below which a log line says what to write


# -- the model to begin with ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Init:
    """A trained model that a run begins with.

    Attributes:
        name: by which it was given.
        checkpoint: its content. Of a run that is resumed that of its own folder, since the other may be gone.
        resumed: whether it is that.
    """

    name: str
    checkpoint: Checkpoint
    resumed: bool = False

    def __post_init__(self) -> None:
        if self.checkpoint.tokenizer is None:
            raise ConfigError(f"--init {self.name} is a model of series: expected one of text")
        if self.checkpoint.config.kind == "lm":
            raise ConfigError(
                f"--init {self.name} is a language model, without a latent space: expected kind vae or ae"
            )

    @classmethod
    def of(cls, trained: Any) -> "Init":
        """Make it of a loaded model, which has no name: that of its corpus stands for it."""
        checkpoint = trained.checkpoint
        if next(trained.model.parameters()).device.type != "cpu":  # where the new model is built
            checkpoint = replace(checkpoint, model=copy.deepcopy(trained.model).cpu())
        return cls(f"a model of {checkpoint.facts.get('corpus', trained.config.corpus)}", checkpoint)

    @cached_property
    def origin(self) -> dict[str, str]:
        """Return the name and a hash of the weights, as the model that comes of it stores them."""
        if self.resumed:
            return dict(self.checkpoint.facts.get("init", {}))
        return {"name": name_place(self.name), "sha256": hash_weights(self.checkpoint.model)}

    def get_tokenizer(self, config: Config) -> Tokenizer | None:
        """Return the tokenizer of the run; None where it is to be trained on the corpus."""
        return None if config.training.own_vocabulary and not self.resumed else self.checkpoint.tokenizer

    def load_weights(self, model: SequenceVAE, corpus: Any) -> None:
        """Give a new model the weights of this one, with rows for the tokens and labels of the corpus.

        Raises:
            ConfigError: if a weight has another size, as parts of the user's own may have.
        """
        old = self.checkpoint.model
        rows = map_tokens(self._tokenizer, corpus.tokenizer)
        weights = dict(old.state_dict())
        if corpus.tokenizer.to_json() != self._tokenizer.to_json():
            weights |= {name: map_rows(weights[name], rows) for name in TABLES if name in weights}
            weights |= map_output(old.observation, model.observation, rows)
        if model.condition is not None:
            known = {label: row for row, label in enumerate(self.checkpoint.labels)}
            labels = torch.tensor([known.get(label, -1) for label in corpus.labels])
            weights["condition.weight"] = map_rows(weights["condition.weight"], labels)
        for name, tensor in model.state_dict().items():
            shape = tuple(weights[name].shape) if name in weights else "missing"
            if shape != tuple(tensor.shape):
                raise ConfigError(f"--init {self.name}: its weight {name} is {shape}, expected {tuple(tensor.shape)}")
        model.load_state_dict({name: weights[name] for name in model.state_dict()})

    def describe(self, config: Config, corpus: Any) -> list[str]:
        """Return log lines: what the run begins with, and how well the vocabularies fit."""
        if self.resumed:
            return []
        training = config.training
        lines = [
            f"begins with {self.name} (sha256 {self.origin['sha256']}): {config.model.latent} latent dimensions, "
            f"learning rate {training.learning_rate:g}, patience {training.patience}"
        ]
        if self.get_tokenizer(config) is None:
            rows = map_tokens(self._tokenizer, corpus.tokenizer)
            known, new = int((rows >= 0).sum()), int((rows < 0).sum())
            lines.append(
                f"a vocabulary of its own: {known:,} tokens have rows of {self.name}, {new:,} begin at the mean"
            )
            return lines
        return [*lines, self.describe_coverage(corpus)]

    def advise(self, config: Config, corpus: Any) -> str | None:
        """Return the line on the vocabulary if it suits the corpus badly, else None."""
        if self.get_tokenizer(config) is None:
            return corpus.unknown_words
        return self.describe_coverage(corpus) if covers_badly(corpus) else None

    def describe_coverage(self, corpus: Any) -> str:
        """Return how many tokens of the training sentences the vocabulary has, and what to write if these are few."""
        line = (
            f"the vocabulary of {self.name} has {measure_coverage(corpus):.1%} of the tokens of the training sentences"
        )
        if not covers_badly(corpus):
            return line
        return f"{line}, the others are read as <unk>: write --own-vocabulary to learn one from them"

    @property
    def _tokenizer(self) -> Tokenizer:
        assert self.checkpoint.tokenizer is not None
        return self.checkpoint.tokenizer


def measure_coverage(corpus: Any) -> float:
    """Return the fraction of the tokens of the training sentences that are not `<unk>`."""
    return 1.0 - (corpus.train.unknown_rate if corpus.train else 0.0)


def covers_badly(corpus: Any) -> bool:
    """Return whether so many tokens are unknown that a vocabulary of its own is better."""
    return measure_coverage(corpus) < COVERED


def choose_reading(config: Config, init: Init | None) -> dict[str, Any]:
    """Return the options of `seqvae.data.text.corpus.load`, with the tokenizer of the model to begin with, if any."""
    tokenizer = None if init is None else init.get_tokenizer(config)
    return get_corpus_options(config) | ({} if tokenizer is None else {"tokenizer": tokenizer})


def refuse_series(config: Config) -> None:
    """Raise a `ConfigError` if a model of series is to begin with another model."""
    if config.training.init is not None:
        raise ConfigError(f"--init {config.training.init}: models of series cannot be fine-tuned: leave the option out")


def name_place(name: str) -> str:
    """Return the name of a model without the folders above it on this machine; one of the hub as it is."""
    return Path(name).name if Path(name).exists() else name


def hide_place(config: Config) -> Config:
    """Return the configuration with the model that it began with named as in `Init.origin`."""
    init = config.training.init
    return config if init is None else replace(config, training=replace(config.training, init=name_place(init)))


def hash_weights(model: nn.Module) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the names and values of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# -- frozen parts ------------------------------------------------------------------------------------------------------


def freeze(model: SequenceVAE, names: Collection[str]) -> str | None:
    """Exclude the parameters of some parts from training; return a log line, None if there are none.

    A part is its own parameters: the encoder without an embedding that the decoder has too, the prior without an
    encoder that it is made of. The weights of a tied output layer are those of the embedding.

    Raises:
        ConfigError: if nothing is left to train.
    """
    if not names:
        return None
    embedding = [*model.observation.embedding.parameters()]
    shared = {*embedding}
    encoder = [*model.encoder.parameters(), *model.posterior.parameters()]
    parts = {
        "encoder": [p for p in model.encoder.parameters() if p not in shared],
        "posterior": [*model.posterior.parameters()],
        "prior": [p for p in model.prior.parameters() if p not in {*encoder}],
        "decoder": [*model.decoder.parameters()],
        "embedding": [*embedding, *getattr(model.encoder, "embed", nn.Identity()).parameters()],
        "observation": [*model.observation.parameters()],
    }
    for name in names:
        for parameter in parts[name]:
            parameter.requires_grad_(False)
    if "posterior" in names and isinstance(model.posterior, BatchNormGaussian):
        model.posterior.frozen = True  # its statistics are no parameters
    total = sum(p.numel() for p in model.parameters())
    trained = count_trained(model.parameters())
    if not trained:
        raise ConfigError(f"--freeze {' '.join(names)} leaves nothing to train: leave one of them out")
    return f"frozen: {', '.join(names)}; {trained:,} of {total:,} parameters are trained"


def count_trained(parameters: Any) -> int:
    """Count the numbers in those parameters that are trained."""
    return sum(p.numel() for p in parameters if p.requires_grad)


def apply_init(config: Config, init: Init | None, corpus: Any, model: SequenceVAE) -> list[str]:
    """Freeze what the options name, and return the log lines about what the run begins with.

    Raises:
        ConfigError: if the model to begin with is missing, or frozen parts do not go with the update.
    """
    training = config.training
    if training.init is None:
        return []
    if init is None:
        raise ConfigError(f"--init {training.init}: expected a model of text, for a corpus of text")
    if training.freeze and config.objective.update["name"] == "lagging":
        raise ConfigError("--freeze with --objective.update.name lagging: leave one of them out")
    frozen = freeze(model, training.freeze)
    return [*init.describe(config, corpus), *([frozen] if frozen else [])]

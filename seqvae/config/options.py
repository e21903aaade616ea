"""Options: each with its default, its type and its range; and the divergences that hold the KL at a target."""

import dataclasses
import os
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, Literal

from seqvae.config.parts import (
    OwnTokenizer,
    Part,
    convert,
    default_part,
)
from seqvae.errors import ConfigError, choose, shorten

TOLERANCE = 0.05  # relative distance from the target up to which the KL of held-out sentences meets it
FREEZABLE = ("encoder", "posterior", "decoder", "embedding", "prior", "observation")
TargetBy = Literal["controller", "minimum-rate"]
KINDS = ("word", "bpe", "char", "regex")  # of tokenizers that are trained on the corpus

# A divergence, its option for the target, other options, and the constant weight of the objective. One setting serves
# all targets, since both methods move by relative distances. The minimum rate only keeps the KL from falling below its
# target: its weight has to be above 1, or a KL that is larger at weight 1 would stay there.
TARGET_METHODS: dict[str, tuple[str, str, Part, float]] = {
    "controller": ("controlled", "target", {}, 1.0),
    "minimum-rate": ("minimum-rate", "rate", {"damping": 1.0}, 2.0),
}


def target_parts(divergence: Part, target: float, by: TargetBy) -> dict[str, Part]:
    """Return the `divergence` and the `weight` that hold the KL at a target.

    Args:
        divergence: as it was given; where it is the one of the method, its options stay, but for the target.
        target: nats per sentence.
        by: the method, one of `TARGET_METHODS`.

    >>> target_parts({"name": "kl"}, 8.0, "minimum-rate")["divergence"]
    {'damping': 1.0, 'name': 'minimum-rate', 'rate': 8.0}
    """
    name, option, others, weight = TARGET_METHODS[by]
    given = divergence if divergence["name"] == name else {}
    return {
        "divergence": {**others, **given, "name": name, option: target},
        "weight": {"name": "constant", "end": weight},
    }


def find_target(divergence: Part) -> float | None:
    """Return the KL that a divergence pulls the model to, nats per sentence; None if it has none."""
    if divergence["name"] != "controlled":  # another's target, one of the user's own, is not a KL
        return None
    return float(divergence.get("target", 0.0)) or None


def meets_target(kl: float, target: float | None) -> bool:
    """Return whether the KL of held-out sentences is the target, up to 5 %, or there is no target.

    >>> meets_target(5.1, 5.3), meets_target(4.61, 5.3), meets_target(0.0, None)
    (True, False, True)
    """
    return target is None or abs(kl / target - 1) <= TOLERANCE


def describe_miss(kl: float, target: float) -> str:
    """Return the line about a KL that does not meet its target.

    >>> describe_miss(4.61, 5.3)
    'target missed: KL 4.61 where 5.3 was asked'
    """
    return f"target missed: KL {kl:.2f} where {target:g} was asked"


# -- the options -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is read, and how it becomes tokens.

    Attributes:
        column: the column of a table that holds the sentences; default `text`, or the only column of strings. Of
            series, the column of lists.
        label_column: condition the model on the labels in this column: q(z|x, y) and p(x|z, y), with one prior p(z)
            for all labels; `seqvae sample --label` then chooses the label of the sentences.
        weight_column: the column of numbers that says how much each training sentence counts; 0 leaves it out. Scores
            of validation and test sentences are unweighted.
        tokenizer: `word` (white space and punctuation), `bpe` (byte-level pairs), `char`, or `regex`, whose tokens are
            what --pattern matches; or one that there is: a tokenizer.json, a model folder, or OWNER/NAME on the
            Hugging Face hub. In Python also a `tokenizers.Tokenizer`.
        pattern: of the tokenizer regex, such as `Cl|Br|\\[[^]]*\\]`; each character that it does not match is a token.
        vocabulary_size: the most different tokens, the four reserved ones included; the rarest become `<unk>`.
        lowercase: fold to lower case; default yes for words, no for the others.
        split_punctuation: for words, punctuation marks are tokens of their own; no = split at white space alone.
        normalization: of Unicode, before anything else: `nfc` (one code point for each accented letter), `nfkc` (also
            ligatures, full-width letters and the like made plain), or `none`.
        embeddings: a file of word vectors that the embeddings begin as: GloVe, word2vec (text or binary), fastText's
            .vec, each also .gz. Vectors of another width than model.embedding are fitted to it.
        embeddings_frozen: these vectors stay as they are; only words that have none are trained.
        max_length: sentences of more tokens, and series of more frames, are truncated, and then have no EOS.
        split_seed: of the split into train, valid and test where the corpus has none; it does not depend on --seed.
    """

    column: str | None = None
    label_column: str | None = None
    weight_column: str | None = None
    tokenizer: str = "word"
    pattern: str | None = None
    vocabulary_size: int = 8_000
    lowercase: bool | None = None
    split_punctuation: bool = True
    normalization: Literal["none", "nfc", "nfkc"] = "none"
    embeddings: str | None = None
    embeddings_frozen: bool = False
    max_length: int = 128
    split_seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokenizer", _name_tokenizer(self.tokenizer))
        if isinstance(self.embeddings, os.PathLike):
            object.__setattr__(self, "embeddings", str(self.embeddings))
        _check_types(self)
        _check_seed("split_seed", self.split_seed)
        if (self.tokenizer == "regex") != (self.pattern is not None):
            raise ConfigError(
                "tokenizer regex without a pattern: write --pattern 'REGULAR EXPRESSION' too"
                if self.pattern is None
                else f"option pattern = {shorten(self.pattern)}: it is of the tokenizer regex: write --tokenizer regex"
            )

        if self.embeddings_frozen and self.embeddings is None:
            raise ConfigError("option embeddings_frozen without vectors: write --embeddings FILE too, or leave it out")

    @property
    def folds_case(self) -> bool:
        """Whether sentences are folded to lower case."""
        return self.tokenizer == "word" if self.lowercase is None else self.lowercase


@dataclass(frozen=True, kw_only=True)
class Model:
    """The sizes that parts share, and one implementation of each part of the model.

    Attributes:
        latent: dimensions of z.
        embedding: size of the token embeddings.
        share_embedding: encoder and decoder use one table of embeddings.
        label_size: dimensions of the vector of a label, where there is a label_column.
        encoder: a sentence -> a vector. Its dropout is by default 0.15, or 0.3 where the training split has fewer than
            1,000,000 tokens (of series, frames).
        posterior: the family of q(z|x).
        prior: p(z).
        decoder: the tokens generated so far, and z -> features of the next one. Its dropout is by default that of the
            encoder.
        observation: p(x_t) given these features: of tokens, or of frames, which a corpus of series selects by itself.
        noise: a random change of what the encoder reads or the decoder is conditioned on, while training.
    """

    latent: int = 64
    embedding: int = 256
    share_embedding: bool = True
    label_size: int = 16
    encoder: Part = default_part("recurrent", hidden=192, dropout=None)
    posterior: Part = default_part("gaussian")
    prior: Part = default_part("mixture", components=100, refit=1000)
    decoder: Part = default_part("recurrent", dropout=None)
    observation: Part = default_part("tokens")
    noise: Part = default_part("word-dropout", rate=0.0)

    def __post_init__(self) -> None:
        _check_types(self)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """reconstruction + weight(step) * divergence + auxiliary.

    Attributes:
        divergence: the distance of q(z|x) from p(z).
        weight: a schedule over steps for the weight of the divergence; it ends by default at 0.6, or at 0.5 where the
            training split has fewer than 1,000,000 tokens (of series, frames).
        auxiliary: what else is minimized, outside the bound.
        update: how a step is made.
    """

    divergence: Part = default_part("kl")
    weight: Part = default_part("linear", end=None, fraction=0.3)
    auxiliary: Part = default_part("none")
    update: Part = default_part("joint")

    def __post_init__(self) -> None:
        _check_types(self)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how fast.

    Attributes:
        init: fine-tuning: begin with the weights, the sizes and the vocabulary of this model: a folder, a built-in
            model, or OWNER/NAME on the hub. Some defaults are then others (see docs/howto/fine-tune.md).
        own_vocabulary: with `init`, learn the vocabulary from the corpus, as options of the tokenizer ask for too.
            Tokens that the model has keep their rows.
        freeze: with `init`, parts that stay as they are: encoder, posterior, decoder, embedding, prior, observation.
        seed: fixes the initial weights, the order of the batches and all noise.
        batch_size: sentences per step, over all processes.
        tokens_per_batch: the most tokens of a step, padding counted, so that long sentences do not run out of memory: a
            batch then has fewer sentences. A sentence of more tokens is a batch of its own; default: no limit.
        exact_length: only sentences of equal length share a batch, as in much of the literature.
        optimizer: `adamw`, or `sgd` without momentum, as in much of the literature, there with a learning rate near 1.
        learning_rate: after the warmup.
        weight_decay: on matrices alone; that of AdamW is decoupled from the gradient.
        warmup: steps over which the learning rate rises from 0.
        decay: the last fraction of the training, over which it falls linearly to 0.
        learning_rate_patience: halve the learning rate after N validations without a better bound, and each time again,
            at most five times; a sixth ends the training; 0 = never.
        clip: gradients of a larger norm are scaled down to it.
        max_epochs: passes over the training split; default 20, or more if that is fewer than 3,000 steps.
        max_minutes: minutes of training, the decay of the learning rate included; default 5 if max_epochs is not given
            either, else no limit.
        validate_every: steps between validations; default an epoch, several where these are 50 steps only together, and
            2,000 steps of a longer one.
        patience: stop after N validations without a better bound; 0 = never.
        precision: `bf16` computes the training's forward pass in bfloat16, `fp32` does not, `auto` takes bf16 where a
            measurement finds it faster.
        trackers: also log to these (`tensorboard`, `wandb`, or any other that accelerate has).
    """

    init: str | None = None
    own_vocabulary: bool = False
    freeze: tuple[str, ...] = ()
    seed: int = 0
    batch_size: int = 128
    tokens_per_batch: int | None = None
    exact_length: bool = False
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 6e-3
    weight_decay: float = 0.01
    warmup: int = 200
    decay: float = 0.4
    learning_rate_patience: int = 0
    clip: float = 5.0
    max_epochs: int | None = None
    max_minutes: float | None = None
    validate_every: int | None = None
    patience: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    trackers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_types(self)
        for part in self.freeze:
            choose("part to freeze", part, FREEZABLE)
        for name in ("freeze", "own_vocabulary"):
            if (value := getattr(self, name)) and self.init is None:
                raise ConfigError(f"{name} = {value} without init: write --init MODEL too, or leave it out")
        for name in ("batch_size", "learning_rate", "clip"):
            expect(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for name in ("weight_decay", "warmup", "patience", "learning_rate_patience"):
            expect(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _check_seed("seed", self.seed)
        expect(0 <= self.decay <= 1, "decay", self.decay, "a fraction between 0 and 1")
        for name in ("tokens_per_batch", "max_epochs", "max_minutes", "validate_every"):
            value = getattr(self, name)
            expect(value is None or value > 0, name, value, "more than 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run.

    Attributes:
        corpus: where the sentences come from.
        kind: `vae`; `ae`, the same with a divergence of weight 0; `lm`, the same decoder without a latent, a language
            model, with no words dropped. Options of what a kind does not have are ignored.
        target_kl: hold the KL at this target in nats per sentence: short for a divergence with that target and a
            constant weight. Ignored by the kinds ae and lm.
        target_by: the divergence that holds it: `controller` moves the weight of the KL, `minimum-rate` adds a
            multiplier that keeps the KL from falling below the target.
        data, model, objective, training: the options of each.
    """

    corpus: str = "chitchat"
    kind: Literal["vae", "ae", "lm"] = "vae"
    target_kl: float | None = None
    target_by: TargetBy = "controller"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    objective: Objective = field(default_factory=Objective)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        _check_types(self)
        for group in ("model", "objective"):  # tables of its own, not those of the group that it was given
            object.__setattr__(self, group, replace(getattr(self, group)))
        if self.target_kl is not None:
            expect(0 < self.target_kl < float("inf"), "target_kl", self.target_kl, "more than 0 nats")
        elif self.target_by != "controller":
            raise ConfigError(
                f"target_by = {self.target_by} without a target: write target_kl = 8 too, or leave it out"
            )
        for name in ("latent", "embedding", "label_size"):
            value = getattr(self.model, name)
            if not (name == "latent" and self.kind == "lm"):
                expect(1 <= value <= 2**16, f"model.{name}", value, "1 to 65536")

    @property
    def kl_target(self) -> float | None:
        """The KL that training is to hold, nats per sentence; None where there is no target."""
        if self.kind != "vae":
            return None
        return find_target(self.objective.divergence) if self.target_kl is None else self.target_kl

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as config.json holds them."""
        groups = {name: _plain_group(value) for name, value in vars(self).items() if is_dataclass(value)}
        return dict(vars(self)) | groups

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """Invert `to_dict`; missing options take their defaults, unknown ones are refused by name."""
        groups = {"data": Data, "model": Model, "objective": Objective, "training": Training}
        for name in values:
            choose("section of the configuration", name, ["corpus", "kind", "target_kl", "target_by", *groups])
        return cls(
            corpus=values.get("corpus", cls.corpus),
            kind=values.get("kind", cls.kind),
            target_kl=values.get("target_kl"),
            target_by=values.get("target_by", cls.target_by),
            **{name: _make_group(kind, name, values.get(name, {})) for name, kind in groups.items()},
        )


def _plain_group(group: Any) -> dict[str, Any]:
    return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(group).items()}


def _make_group(kind: type, name: str, values: dict[str, Any]) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"section {name} = {values!r}: expected a table of options")
    known = {f.name: f for f in dataclasses.fields(kind)}
    for option in values:
        choose(f"option of {name}", option, known)
    return kind(**values)


def _check_types(group: Any) -> None:
    """Raise a `ConfigError` unless the values of a new dataclass have their types; parts become tables."""
    for f in dataclasses.fields(group):
        object.__setattr__(group, f.name, convert(getattr(group, f.name), f.type, f.name))


def _name_tokenizer(given: Any) -> str:
    """Return the name of a tokenizer: as it is, of a path, or of an object that the user has handed over."""
    if isinstance(given, os.PathLike):
        return str(given)
    if any(hasattr(given, name) for name in ("to_str", "to_json", "backend_tokenizer")):
        return OwnTokenizer.wrap(given)
    return given if isinstance(given, str) and given else choose("tokenizer", given, KINDS)


def _check_seed(name: str, seed: int) -> None:
    expect(0 <= seed < 2**63, name, seed, "a whole number of at least 0 and below 2^63")


def expect(holds: bool, name: str, given: object, expected: str) -> None:
    """Raise a `ConfigError` for the option `name` unless `holds`."""
    if not holds:
        raise ConfigError(f"option {name} = {given}: expected {expected}")

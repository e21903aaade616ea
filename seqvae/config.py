"""Every option and its default, in one place, without importing torch.

The same names serve on the command line (`--model.latent 64`), in a TOML file (`[model]` / `latent = 64`), in
`TextVAE.fit(latent=64)` and in a model folder's config.json. A *part* is the name of an implementation and its options;
which names and options there are, the catalogues say (`seqvae.training.build`).
"""

import dataclasses
import json
import shlex
from dataclasses import dataclass, field, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from seqvae.errors import ConfigError, choose, shown

Part = dict[str, Any]  # the `name` of one of a catalogue, and its options


def completed(given: Part, default: Part) -> Part:
    """`given` over the default part; the default's options count only for the part of that name.

    >>> completed({"rate": 0.5}, {"name": "word-dropout", "rate": 0.3})
    {'name': 'word-dropout', 'rate': 0.5}
    >>> completed({"name": "constant"}, {"name": "linear", "steps": 9})
    {'name': 'constant'}
    """
    given = {str(name).replace("-", "_"): value for name, value in given.items()}  # as on the command line
    same = str(given.get("name", default["name"])) == default["name"]
    return {**default, **given} if same else given


def typed(value: Any, annotation: Any, name: str) -> Any:
    """`value`, if it has the type of the option `name`; a list stands for a tuple, which JSON and TOML do not have.

    Raises:
        ConfigError: if it has another type.
    """
    value = plain(value)
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    for kind in options:
        origin = get_origin(kind)
        if origin is Literal:
            return choose(f"value of {name}", str(value), get_args(kind))
        if origin is tuple and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
        wanted: Any = {float: (int, float), dict: dict}.get(origin or kind, kind)
        if origin in (None, dict) and isinstance(value, wanted) and (kind is bool or not isinstance(value, bool)):
            return value
    expected = " or ".join(_named(kind) for kind in options)
    raise ConfigError(f"option {name} = {shown(repr(value))}: expected {expected}")


def plain(value: Any) -> Any:
    """A number of NumPy or torch as one of Python; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def _named(kind: Any) -> str:
    """A type as a user would say it."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "none"}
    if isinstance(kind, type) and is_dataclass(kind):
        return f"a seqvae.config.{kind.__name__}"
    return words.get(kind, "a list of texts" if get_origin(kind) is tuple else "a table such as {name: recurrent}")


TOLERANCE = 0.05  # relative distance from the target up to which a KL of held-out sentences has met it
TargetBy = Literal["controller", "minimum-rate", "capacity", "free-bits"]

# A divergence, its option for the target, others, and the constant weight. One setting serves all targets, since what
# moves does so by relative distances. Where a method only keeps the KL from falling below its target the weight has to
# be above 1, or a KL that is larger at weight 1 would stay there. docs/log.md has what was seen of them.
HOLDERS: dict[str, tuple[str, str, Part, float]] = {
    "controller": ("controlled", "target", {}, 1.0),
    "minimum-rate": ("minimum-rate", "rate", {"damping": 1.0}, 2.0),
    "capacity": ("capacity", "target", {"rise": 500}, 3.0),
    "free-bits": ("kl", "free_bits", {"floor": "batch"}, 2.0),
}


def held(divergence: Part, target: float, by: TargetBy) -> dict[str, Part]:
    """The `divergence` and the `weight` that hold the KL at `target` nats per sentence in the way that `by` names.

    Args:
        divergence: as it was given; its options stay, but for the target itself, if it is the one that `by` stands for.
        target: nats per sentence.
        by: one of `HOLDERS`.

    >>> held({"name": "kl"}, 8.0, "capacity")["divergence"]
    {'rise': 500, 'name': 'capacity', 'target': 8.0}
    """
    name, option, others, weight = HOLDERS[by]
    given = divergence if divergence["name"] == name else {}
    return {
        "divergence": {**others, **given, "name": name, option: target},
        "weight": {"name": "constant", "end": weight},
    }


def target_of(divergence: Part) -> float | None:
    """The KL that a divergence draws the model to, nats per sentence; None if it has none, or 0."""
    return float(divergence.get("target", 0.0)) or None


def met(kl: float, target: float | None) -> bool:
    """Whether the KL of held-out sentences is the target, up to 5 %, or none was asked for.

    >>> met(5.1, 5.3), met(4.61, 5.3), met(0.0, None)
    (True, False, True)
    """
    return target is None or abs(kl / target - 1) <= TOLERANCE


def miss(kl: float, target: float) -> str:
    """What to say of a KL that has not met its target.

    >>> miss(4.61, 5.3)
    'target missed: KL 4.61 where 5.3 was asked'
    """
    return f"target missed: KL {kl:.2f} where {target:g} was asked"


NO_LABELS = "nothing, since models of series are not conditioned"
NO_WORDS = (
    "word-dropout, which is then none, since noise is made of words and model.observation is of frames: "
    "write --model.noise.name word-dropout"
)


def part(name: str, **options: Any) -> Any:
    """A field whose default is the tenant `name` with these options."""
    return field(default_factory=lambda: {"name": name, **options})


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is read and how it is cut into tokens.

    Attributes:
        column: the column of a table that holds the sentences; default `text`, or the only column of strings. Of
            series, the column of lists.
        label_column: condition the model on the labels in this column: q(z|x, y) and p(x|z, y), the prior p(z) the
            same for all labels; then `seqvae sample --label` says of which label the sentences shall be.
        tokenizer: `word` (white space and punctuation), `bpe` (byte-level pairs), or `char`.
        vocabulary_size: at most so many different tokens, the four reserved ones included; the rarest become `<unk>`.
        lowercase: fold to lower case; default yes for words, no for bpe and char.
        split_punctuation: for words, make punctuation marks tokens of their own; no = split at white space alone.
        max_length: sentences of more tokens, and series of more frames, are cut, and then have no end.
        split_seed: of the division into train, valid and test where there is none yet; runs of any --seed share it.
    """

    column: str | None = None
    label_column: str | None = None
    tokenizer: Literal["word", "bpe", "char"] = "word"
    vocabulary_size: int = 8_000
    lowercase: bool | None = None
    split_punctuation: bool = True
    max_length: int = 128
    split_seed: int = 0

    def __post_init__(self) -> None:
        _settle(self)
        _expect_seed("split_seed", self.split_seed)


@dataclass(frozen=True, kw_only=True)
class Model:
    """The sizes that parts share, and one tenant of each room.

    Attributes:
        latent: dimensions of z.
        embedding: size of the token embeddings.
        share_embedding: encoder and decoder use one table of embeddings.
        label_size: dimensions of the vector of a label, where there is a label_column.
        encoder: reads the sentence.
        posterior: the family of q(z|x).
        prior: p(z).
        decoder: writes the sentence.
        observation: what x is made of: tokens, or frames, which a corpus of series chooses by itself.
        noise: what is hidden from the model while it trains.
    """

    latent: int = 32
    embedding: int = 256
    share_embedding: bool = True
    label_size: int = 16
    encoder: Part = part("recurrent")
    posterior: Part = part("gaussian")
    prior: Part = part("normal")
    decoder: Part = part("recurrent")
    observation: Part = part("tokens")
    noise: Part = part("word-dropout", rate=0.3)

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Objective:
    """reconstruction + weight(update) * divergence + auxiliary.

    Attributes:
        divergence: what draws q(z|x) towards p(z).
        weight: a schedule over steps for the weight of the divergence.
        auxiliary: what else is minimized, outside the bound.
        update: how an update is made.
    """

    divergence: Part = part("kl")
    weight: Part = part("linear", end=0.5, steps=1500)
    auxiliary: Part = part("none")
    update: Part = part("joint")

    def __post_init__(self) -> None:
        _settle(self)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How long and how fast.

    Attributes:
        seed: fixes the initial weights, the order of the batches and all noise.
        batch_size: sentences per update, over all processes.
        tokens_per_batch: most tokens of an update, padding counted, so that long sentences do not run out of memory: it
            ends a batch that has fewer sentences. A sentence of more tokens stands alone; default: no limit.
        exact_length: only sentences of equal length share a batch (the literature's way).
        optimizer: `adamw`, or `sgd` without momentum, as in much of the literature, there with a learning rate near 1.
        learning_rate: after the warmup.
        weight_decay: on matrices alone; that of AdamW is decoupled from the gradient.
        warmup: steps over which the learning rate rises from 0.
        decay: last share of the training over which it falls to 0 in a straight line.
        learning_rate_patience: halve the learning rate after N validations without a better bound, and each time again,
            at most five times; a sixth ends the training; 0 = never.
        clip: gradients of a larger norm are scaled down to it.
        max_epochs: passes over the training split; default 20, or more if that is fewer than 3,000 steps.
        max_minutes: stop, cooled down, after so many minutes of training; default 5 if max_epochs is not given either,
            else no limit.
        validate_every: steps between validations; default each epoch, of short ones so many that they are 50 steps
            or more, and each 2,000 steps of a longer one.
        patience: stop after so many validations without a better bound; 0 = never.
        precision: `bf16` computes the training's forward pass in bfloat16, `fp32` does not, `auto` takes bf16 where a
            measurement finds it quicker.
        trackers: also log to these (`tensorboard`, `wandb`, or whatever else accelerate knows).
    """

    seed: int = 0
    batch_size: int = 64
    tokens_per_batch: int | None = None
    exact_length: bool = False
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 4e-3
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
        _settle(self)
        for name in ("batch_size", "learning_rate", "clip"):
            _expect(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for name in ("weight_decay", "warmup", "patience", "learning_rate_patience"):
            _expect(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _expect_seed("seed", self.seed)
        _expect(0 <= self.decay <= 1, "decay", self.decay, "a share between 0 and 1")
        for name in ("tokens_per_batch", "max_epochs", "max_minutes", "validate_every"):
            value = getattr(self, name)
            _expect(value is None or value > 0, name, value, "more than 0")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run.

    Attributes:
        corpus: where the sentences come from.
        kind: `vae`; `ae`, the same with a divergence of weight 0; `lm`, the same decoder without a latent, a language
            model, with no words dropped. Options that concern what a kind does not have rest.
        target_kl: hold the KL at so many nats per sentence: short for a divergence with that target and a constant
            weight. Kinds ae and lm have no KL to be held.
        target_by: which divergence holds it (see `seqvae.config`).
        data, model, objective, training: the options of each.
    """

    corpus: str = "sotu"
    kind: Literal["vae", "ae", "lm"] = "vae"
    target_kl: float | None = None
    target_by: TargetBy = "controller"
    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    objective: Objective = field(default_factory=Objective)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        _settle(self)
        for group in ("model", "objective"):  # with parts of its own, not those of what it was given
            _change(self, group)
        if self.target_kl is None and self.target_by != "controller":
            raise ConfigError(
                f"target_by = {self.target_by} without a target: write target_kl = 8 too, or leave it out"
            )
        if self.target_kl is not None:
            _expect(0 < self.target_kl < float("inf"), "target_kl", self.target_kl, "more than 0 nats")
            parts = held(self.objective.divergence, self.target_kl, self.target_by)
            _change(self, "objective", **parts)
        if self.kind != "vae":  # a recipe for a VAE serves its baselines too: what concerns z is overruled
            weight = {"name": "constant", "end": 1.0 if self.kind == "lm" else 0.0}
            # A divergence that waits for its rate would wait for ever, and the last model be kept in place of the best.
            _change(self, "objective", divergence={"name": "kl"}, weight=weight, update={"name": "joint"})
        if self.kind == "lm":
            # Word dropout is there to make a decoder ask z; without z it is a handicap, of 1.1 nats on Tatoeba.
            noise = {"name": "word-dropout", "rate": 0.0}
            # A space without dimensions is the same whatever lies in it, and some parts need one at least.
            _change(self, "model", latent=0, noise=noise, posterior={"name": "gaussian"}, prior={"name": "normal"})
            _change(self, "objective", auxiliary={"name": "none"})
        if self.model.observation["name"] == "frames":  # there are no words to be dropped or deleted
            _expect(self.model.noise["name"] == "word-dropout", "model.noise.name", self.model.noise["name"], NO_WORDS)
            _expect(self.data.label_column is None, "label_column", self.data.label_column, NO_LABELS)
            _change(self, "model", noise={"name": "word-dropout", "rate": 0.0})
        for name in ("latent", "embedding", "label_size"):
            value = getattr(self.model, name)
            if not (name == "latent" and self.kind == "lm"):
                _expect(1 <= value <= 2**16, f"model.{name}", value, "1 to 65536")

    @property
    def held_kl(self) -> float | None:
        """The KL that training is to hold, nats per sentence; None where it is left to itself, or there is none."""
        if self.kind != "vae":
            return None
        return target_of(self.objective.divergence) if self.target_kl is None else self.target_kl

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Config":
        """The inverse of `to_dict`; missing options take their defaults, unknown ones are refused by name."""
        groups = {"data": Data, "model": Model, "objective": Objective, "training": Training}
        for name in values:
            choose("section of the configuration", name, ["corpus", "kind", "target_kl", "target_by", *groups])
        return cls(
            corpus=values.get("corpus", cls.corpus),
            kind=values.get("kind", cls.kind),
            target_kl=values.get("target_kl"),
            target_by=values.get("target_by", cls.target_by),
            **{name: _group(kind, name, values.get(name, {})) for name, kind in groups.items()},
        )


def to_toml(config: Config) -> str:
    """The configuration as a recipe for `--config`: the names are those of the command line."""
    values = config.to_dict()
    top = {k: v for group in ("data", "training") for k, v in values[group].items() if v is not None and v != ()}
    asked = ("target_kl", "target_by") if config.target_kl is not None else ()
    lines = [
        f"# seqvae train {shlex.quote(config.corpus)} --config recipe.toml",
        *_assignments({k: values[k] for k in ("kind", *asked)} | top),
    ]
    for group in ("model", "objective"):
        plain = {k: v for k, v in values[group].items() if not isinstance(v, dict)}
        lines += ["", f"[{group}]", *_assignments(plain)] if plain else []
        for name, options in values[group].items():
            if isinstance(options, dict):
                lines += ["", f"[{group}.{name}]", *_assignments(options)]
    return "\n".join(lines) + "\n"


def _assignments(values: dict[str, Any]) -> list[str]:
    # A JSON string, number, truth value or list of strings is also one of TOML.
    return [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]


def for_series(config: Config) -> Config:
    """The configuration with frames in place of tokens, for a corpus of series; options of frames are kept."""
    given = config.model.observation
    return replace(config, model=replace(config.model, observation=given | {"name": "frames"}))


def for_text(config: Config) -> Config:
    """The configuration as it is, for a corpus of text.

    Raises:
        ConfigError: if it observes frames, which are of series.
    """
    name = config.model.observation["name"]
    _expect(name != "frames", "model.observation.name", name, "tokens, as this is text")
    return config


def loading(config: Config) -> dict[str, Any]:
    """The options of `data` as `seqvae.data.text.corpus.load` names them."""
    options = dict(vars(config.data))
    return options | {"seed": options.pop("split_seed")}


def _group(kind: type, name: str, values: dict[str, Any]) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"section {name} = {values!r}: expected a table of options")
    known = {f.name: f for f in dataclasses.fields(kind)}
    for option in values:
        choose(f"option of {name}", option, known)
    return kind(**values)


def _settle(group: Any) -> None:
    """See to it that the values of a new dataclass have their types, and complete its parts with their defaults.

    Raises:
        ConfigError: for a value of another type.
    """
    for f in dataclasses.fields(group):
        value = typed(getattr(group, f.name), f.type, f.name)
        if isinstance(value, dict) and f.default_factory is not dataclasses.MISSING:
            value = completed(value, f.default_factory())
        object.__setattr__(group, f.name, value)


def _change(config: Config, group: str, **values: Any) -> None:
    """Put a changed copy of a group in the place of the one that a new configuration was given."""
    object.__setattr__(config, group, replace(getattr(config, group), **values))


def _expect_seed(name: str, seed: int) -> None:
    _expect(0 <= seed < 2**63, name, seed, "a whole number of at least 0 and below 2^63")


def _expect(holds: bool, name: str, given: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"option {name} = {given}: expected {expected}")

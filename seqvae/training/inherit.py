"""What a run takes from the model that it begins with, and which of a user's options may differ from that."""

from dataclasses import fields, replace
from typing import Any

from seqvae.config import Config, Data, Model, Objective, OwnPart, Part
from seqvae.errors import ConfigError
from seqvae.training.build import resolve_part
from seqvae.training.init import Init

# Defaults of fine-tuning, in place of those of a training from new weights: measured in docs/results/fine-tuning.md.
DEFAULTS: dict[str, Any] = {"learning_rate": 1e-3, "warmup": 20, "batch_size": 32, "patience": 10}
WEIGHT = 0.32  # of the divergence, from the first step on
# Options of a part that change how it is trained, and no weight of it.
FREE = ("dropout", "output_dropout", "weight_dropout", "embedding_dropout", "locked", "refit")
SIZES = ("latent", "embedding", "share_embedding", "label_size")
READING = (
    "column",
    "label_column",
    "weight_column",
    "max_length",
    "split_seed",
    "embeddings",
    "embeddings_frozen",
)  # options of `data` that are not the tokenizer's


def inherit(config: Config, init: Init) -> Config:
    """Return the options of a run that begins with a model: its sizes and vocabulary, and the defaults of fine-tuning.

    An option that differs from its default is one that the user gave.

    Raises:
        ConfigError: for an option that cannot differ from that of the model.
    """
    source = init.checkpoint.config
    if config.kind == "lm":
        raise ConfigError(f"--kind lm: {init.name} has a latent space, and a language model has none: leave --init out")
    if config.data.embeddings is not None:
        raise ConfigError(f"--embeddings {config.data.embeddings}: {init.name} has embeddings: leave one of both out")
    data = inherit_data(config, init)
    own = any(getattr(data, name) != getattr(source.data, name) for name in list_tokenizer_options())
    training: dict[str, Any] = {name: value for name, value in DEFAULTS.items() if is_default(config.training, name)}
    training["own_vocabulary"] = config.training.own_vocabulary or own
    return replace(
        config,
        data=data,
        model=inherit_model(config.model, init),
        objective=inherit_objective(config),
        training=replace(config.training, **training),
    )


def inherit_data(config: Config, init: Init) -> Data:
    """Return how sentences are read: as for the model, with a vocabulary of its own only where one is asked for."""
    given, source, tokenizer = config.data, init.checkpoint.config.data, list_tokenizer_options()
    if given.label_column is not None and source.label_column is None:
        raise ConfigError(f"--label-column {given.label_column}: {init.name} has no labels: leave the option out")
    names = [name for name in ("label_column", "max_length") if is_default(given, name)]
    asked = [name for name in tokenizer if getattr(given, name) not in (getattr(Data(), name), getattr(source, name))]
    if not asked and not config.training.own_vocabulary:
        names += tokenizer
    return replace(given, **{name: getattr(source, name) for name in names})


def inherit_model(given: Model, init: Init) -> Model:
    """Return the sizes and parts of the model, with those options of the user's that may differ."""
    source = init.checkpoint.config.model
    values: dict[str, Any] = {}
    for name in SIZES:
        value, has = getattr(given, name), getattr(source, name)
        if not is_default(given, name) and value != has:
            raise refuse(f"--model.{name} {value}", init, has)
        values[name] = has
    for name, default in vars(Model()).items():
        if isinstance(default, dict):
            asked = {} if getattr(given, name) == default else getattr(given, name)
            values[name] = inherit_part(f"model.{name}", asked, init)
    return replace(given, **values)


def inherit_part(place: str, asked: Part, init: Init) -> Part:
    """Return a part of the model with the options that the user gave, which may differ only if they are `FREE`."""
    stored = getattr(init.checkpoint.config.model, place.partition(".")[2])
    if place == "model.noise":
        return asked or stored
    has = resolve_part(place, stored)
    if asked.get("name", has["name"]) != has["name"]:
        raise refuse(f"--{place}.name {asked['name']}", init, has["name"])
    values: dict[str, Any] = {name.replace("-", "_"): value for name, value in asked.items()}
    if has["name"] == "mixture":
        values = {"refit": Model().prior["refit"]} | values
    part = resolve_part(place, OwnPart(has | values, stored.source) if isinstance(stored, OwnPart) else has | values)
    for name in part:
        if part[name] != has[name] and name not in FREE:
            raise refuse(f"--{place}.{name} {part[name]}", init, has[name])
    return part


def inherit_objective(config: Config) -> Objective:
    """Return the objective that was given; a weight of the divergence that was not given is `WEIGHT`, without a warmup.

    A warmup lets a decoder learn to use z before it costs anything, and that of a trained model does already. The KL
    target of the model is not taken: it belongs to its corpus, and where other sentences never meet it, training keeps
    the last model in place of the best.
    """
    given = config.objective
    if config.target_kl is not None or not is_default(given, "weight"):
        return given
    return replace(given, weight={"name": "constant", "end": WEIGHT})


def is_default(group: Any, name: str) -> bool:
    """Return whether an option of a group has its default."""
    return bool(getattr(group, name) == getattr(type(group)(), name))


def list_tokenizer_options() -> list[str]:
    """List the options of `data` that make the tokenizer."""
    return [field.name for field in fields(Data) if field.name not in READING]


def refuse(option: str, init: Init, has: Any) -> ConfigError:
    """Return the error for an option that cannot differ."""
    return ConfigError(f"{option}: {init.name} has {has}, which its weights are made for: leave the option out")

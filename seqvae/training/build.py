"""Config -> objects: the one place that knows all catalogues.

The constructor of a class is the schema of its options: each keyword argument with a default is an option; those
without one (sizes that the neighbours decide) are filled in here.
"""

import inspect
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import nn

from seqvae.config import Config, Part, plain
from seqvae.errors import ConfigError, choose, shown
from seqvae.model.decoders import DECODERS
from seqvae.model.encoders import ENCODERS, Encoder, NoEncoder
from seqvae.model.noise import NOISES
from seqvae.model.observations import OBSERVATIONS
from seqvae.model.posteriors import POSTERIORS
from seqvae.model.priors import PRIORS
from seqvae.model.vae import SequenceVAE
from seqvae.objective import AUXILIARIES, DIVERGENCES
from seqvae.objective.objective import Objective
from seqvae.objective.term import Reconstruction
from seqvae.schedules import SCHEDULES
from seqvae.training.dry_run import CHANNELS, LABELS, VOCABULARY, Parts, check_together, shrink
from seqvae.training.trainer import Update
from seqvae.training.updates import UPDATES

# Where a part stands in the configuration -> the catalogue that its name is looked up in.
CATALOGUES: dict[str, Mapping[str, type]] = {
    "model.encoder": ENCODERS,
    "model.posterior": POSTERIORS,
    "model.prior": PRIORS,
    "model.decoder": DECODERS,
    "model.observation": OBSERVATIONS,
    "model.noise": NOISES,
    "objective.divergence": DIVERGENCES,
    "objective.weight": SCHEDULES,
    "objective.auxiliary": AUXILIARIES,
    "objective.update": UPDATES,
}


def options(cls: type) -> dict[str, inspect.Parameter]:
    """The options of a class: the keyword arguments of its constructor that have a default."""
    parameters = inspect.signature(cls).parameters
    return {name: p for name, p in parameters.items() if p.default is not inspect.Parameter.empty}


def make(place: str, part: Part, **sizes: Any) -> Any:
    """The object that `part` names, from the catalogue of `place`, with those of `sizes` that its constructor asks for.

    Raises:
        ConfigError: for an unknown name or option, or a value of the wrong type, before anything is built.
    """
    resolved = resolve(place, part)
    cls = CATALOGUES[place][resolved["name"]]
    wanted = inspect.signature(cls).parameters
    return cls(**{size: value for size, value in (sizes | resolved).items() if size in wanted})


def resolve(place: str, part: Part) -> Part:
    """The part with every option that its class has, those not given at their defaults, each in its proper type.

    >>> resolve("model.posterior", {"name": "low-rank", "rank": "3"})
    {'name': 'low-rank', 'rank': 3}
    """
    catalogue = CATALOGUES[place]
    known = options(catalogue[choose(f"{place}.name", str(part["name"]), catalogue)])
    for option in part.keys() - {"name"}:
        choose(f"option of {place} {part['name']!r}", option, known)
    return {"name": part["name"]} | {
        option: converted(part.get(option, parameter.default), parameter.annotation, f"{place}.{option}")
        for option, parameter in known.items()
    }


def resolve_all(config: Config) -> Config:
    """The configuration with every part resolved, so that a wrong name or value is found before any work.

    Raises:
        ConfigError: also for parts that do not go together, as a dry update finds out (see `seqvae.training.dry_run`).
    """
    for place in CATALOGUES:
        config = with_part(config, place, resolve(place, part_at(config, place)))
    check_together(config, build_small, alternatives)
    return config


def part_at(config: Config, place: str) -> Part:
    """The part at a place such as `model.prior`."""
    group, field = place.split(".")
    return getattr(getattr(config, group), field)


def with_part(config: Config, place: str, part: Part) -> Config:
    """The configuration with another part at a place such as `model.prior`."""
    group, field = place.split(".")
    return replace(config, **{group: replace(getattr(config, group), **{field: part})})


def build_small(config: Config) -> Parts:
    """What is trained of a resolved configuration, at tiny sizes, for the sentences of a dry update."""
    size, labels = VOCABULARY, 0 if config.data.label_column is None else LABELS
    if config.model.observation["name"] == "frames":
        size = CHANNELS
    with torch.device("meta"):  # without memory: only to see whether each class takes its values
        build_model(config, size, labels)
        build_objective(config, vocabulary=size, sentences=VOCABULARY)
    for small in shrink(config):
        try:
            parts = build_model(small, size, labels), build_objective(small, vocabulary=size, sentences=VOCABULARY)
        except ConfigError:  # a value that goes with the sizes as they are, and not with small ones
            continue
        return *parts, build_update(small)
    raise AssertionError("the last is the configuration itself")


def alternatives(config: Config) -> Iterator[tuple[str, str, Config]]:
    """Yield the configurations with one option, then one part, at its default: the place, what to write, the whole."""
    usual = Config()
    for place in CATALOGUES:
        part, default = part_at(config, place), resolve(place, part_at(usual, place))
        plain = resolve(place, {"name": part["name"]})
        for option, value in plain.items():
            if value != part[option]:
                words = f"--{place}.{option} {str(value).lower()}"
                yield place, words, with_part(config, place, part | {option: value})
        if part["name"] != default["name"]:
            yield place, f"--{place}.name {default['name']}", with_part(config, place, default)


def converted(value: Any, annotation: Any, place: str) -> Any:
    """`value` (as a command line, TOML, JSON or Python gives it) as the type that the constructor asks for."""
    value = plain(value)
    if get_origin(annotation) in (Union, types.UnionType):
        if value is None or str(value).lower() == "none":
            return None
        annotation = next(a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is Literal:
        return choose(f"value of {place}", str(value), get_args(annotation))
    text = str(value).lower()
    if annotation is bool:
        if text in ("true", "yes", "1", "false", "no", "0"):
            return text in ("true", "yes", "1")
        raise ConfigError(f"{place} = {shown(value)}: expected true or false")
    try:
        if annotation in (int, float):
            return annotation(text)
    except ValueError:
        kind = "a whole number" if annotation is int else "a number"
        raise ConfigError(f"{place} = {shown(value)}: expected {kind}") from None
    return value


def build_model(config: Config, vocabulary: int, labels: int = 0) -> SequenceVAE:
    """The model that `config` describes, with new weights from torch's global generator.

    Args:
        config: the whole configuration.
        vocabulary: how many tokens there are; of series, how many channels a frame has.
        labels: how many different labels it is conditioned on; 0 = it is not.
    """
    m = config.model
    sizes: dict[str, Any] = {"latent": m.latent, "embedding": m.embedding}
    sizes |= {"vocabulary": vocabulary, "channels": vocabulary}
    with empty_weights_allowed():
        size = m.label_size if labels else 0
        decoder = make("model.decoder", m.decoder, **sizes | {"latent": m.latent + size})
        observation = make("model.observation", m.observation, **sizes, features=decoder.features)
        encoder: Encoder = NoEncoder()
        if m.latent:
            embed = observation.embedding if m.share_embedding else observation.another_embedding()
            encoder = make("model.encoder", m.encoder, **sizes, embed=embed)
        sizes["features"] = encoder.features + size
        posterior = make("model.posterior", m.posterior, **sizes)
        prior = make("model.prior", m.prior, **sizes, encoder=encoder, posterior=posterior)
        if posterior.spherical != prior.spherical:
            fitting = ("sphere", "gaussian") if posterior.spherical else ("normal", "vmf")
            raise ConfigError(
                f"model.posterior {m.posterior['name']} with model.prior {m.prior['name']}: one lies on the sphere and "
                f"the other does not: write --model.prior.name {fitting[0]}, or --model.posterior.name {fitting[1]}"
            )
        return SequenceVAE(
            latent=m.latent,
            encoder=encoder,
            posterior=posterior,
            prior=prior,
            decoder=decoder,
            observation=observation,
            noise=make("model.noise", m.noise),
            condition=nn.Embedding(labels, size) if labels else None,
        )


def build_objective(config: Config, **sizes: int) -> Objective:
    """The objective that `config` describes, the parameters of its terms new from torch's global generator.

    Args:
        config: the options.
        sizes: `vocabulary` and `sentences` (of the training split), where a term asks for them.
    """
    sizes = {"latent": config.model.latent, "embedding": config.model.embedding} | sizes
    with empty_weights_allowed():
        return Objective(
            reconstruction=Reconstruction(),
            divergence=make("objective.divergence", config.objective.divergence, **sizes),
            weight=make("objective.weight", config.objective.weight),
            auxiliary=make("objective.auxiliary", config.objective.auxiliary, **sizes),
        )


@contextmanager
def empty_weights_allowed() -> Iterator[None]:
    """Without torch's warning: what hears of z has empty weights where z has no dimensions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        yield


def build_update(config: Config) -> Update:
    """The way of making steps that `config` names."""
    return make("objective.update", config.objective.update)


def parts_help() -> str:
    """The catalogues as text: each part with its options, their defaults and what they do."""
    lines = ["Parts (as in --model.encoder.hidden 512, or --objective.weight.name cyclical):", ""]
    for place, catalogue in CATALOGUES.items():
        lines.append(f"  {place}")
        for name, cls in catalogue.items():
            lines.append(f"    {name}: {(inspect.getdoc(cls) or '').splitlines()[0]}")
            meanings = described(inspect.getdoc(cls) or "")
            for option, parameter in options(cls).items():
                among = get_args(parameter.annotation) if get_origin(parameter.annotation) is Literal else ()
                choices = f" [{', '.join(among)}]" if among else ""
                meaning = f"  {meanings[option]}" if option in meanings else ""
                lines.append(f"      .{option} = {parameter.default}{choices}{meaning}")
    return "\n".join(lines)


def described(docstring: str) -> dict[str, str]:
    """What the `Args` section of a docstring says of each argument, as one line."""
    found: dict[str, str] = {}
    _, _, section = docstring.partition("Args:\n")
    for line in section.splitlines():
        if not line.startswith("    "):
            break
        name, colon, text = line.strip().partition(": ")
        if colon and line[4] != " ":
            found[name] = text
        elif found:
            found[list(found)[-1]] += " " + line.strip()
    return found

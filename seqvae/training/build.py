"""Config -> objects: the one place that knows all catalogues.

The constructor of a class is the schema of its options: each keyword argument is an option, but for the sizes that the
neighbours decide, which are filled in here. A class or an instance of the user's own needs no catalogue.
"""

import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args, get_origin

import torch
from torch import nn

from seqvae import config as configuration
from seqvae.config import Config, OwnPart, Part, convert
from seqvae.errors import ConfigError, choose, truncate
from seqvae.model.decoders import DECODERS, Decoder
from seqvae.model.encoders import ENCODERS, Encoder, NoEncoder
from seqvae.model.noise import NOISES, Noise
from seqvae.model.observations import OBSERVATIONS
from seqvae.model.observations.base import Observation
from seqvae.model.posteriors import POSTERIORS, Posterior
from seqvae.model.priors import PRIORS, Prior
from seqvae.model.vae import SequenceVAE
from seqvae.objective import AUXILIARIES, DIVERGENCES
from seqvae.objective.objective import Objective
from seqvae.objective.term import Reconstruction, Term
from seqvae.schedules import SCHEDULES, Schedule
from seqvae.training.dry_run import CHANNELS, LABELS, VOCABULARY, Parts, check_together, shrink
from seqvae.training.own_parts import (
    Handed,
    adopt,
    copy_instance,
    find_options,
    find_source,
    get_parameters,
    is_plain,
    missing_source,
)
from seqvae.training.trainer import Update
from seqvae.training.updates import UPDATES

# The place of a part in the configuration -> the catalogue of its names, and the abstract class of all its kind.
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
BASES: dict[str, type] = {
    "model.encoder": Encoder,
    "model.posterior": Posterior,
    "model.prior": Prior,
    "model.decoder": Decoder,
    "model.observation": Observation,
    "model.noise": Noise,
    "objective.divergence": Term,
    "objective.weight": Schedule,
    "objective.auxiliary": Term,
    "objective.update": Update,
}


# -- a part ------------------------------------------------------------------------------------------------------------


def find_class(place: str, part: Part) -> type:
    """Return the class that a part names.

    Raises:
        ConfigError: for a name that is not in the catalogue, or an import path whose class nobody has handed over.
    """
    if isinstance(part, OwnPart) and part.source is not None:
        return part.cls
    name, catalogue = part["name"], CATALOGUES[place]
    if isinstance(name, str) and ":" in name and name not in catalogue:
        raise ConfigError(
            f"{place} = {truncate(name)} is from outside seqvae, and its class was not handed over: write "
            f"--{place}.name {truncate(name)} again, or give the class in Python"
        )
    return catalogue[choose(f"{place}.name", str(name), catalogue)]


def make(place: str, part: Part, **sizes: Any) -> Any:
    """Return the object that `part` names, made with those of `sizes` that its constructor asks for.

    Raises:
        ConfigError: for an unknown name or option, or a value of the wrong type, before anything is built.
    """
    if isinstance(part, OwnPart) and part.is_instance:
        return copy_instance(place, part, sizes)
    resolved, cls = resolve_part(place, part), find_class(place, part)
    wanted = get_parameters(cls)
    return cls(**{name: value for name, value in (sizes | dict(resolved)).items() if name in wanted})


def resolve_part(place: str, part: Part) -> Part:
    """Return the part with every option that its class has, those not given at their defaults, each in its type.

    >>> resolve_part("model.posterior", {"name": "low-rank", "rank": "3"})
    {'name': 'low-rank', 'rank': 3}
    """
    known = find_options(find_class(place, part))
    for option in part.keys() - {"name"}:
        choose(f"option of {place} {part['name']!r}", option, known)
    found = {"name": part["name"]}
    for option, parameter in known.items():
        value, name = part.get(option, parameter.default), f"{place}.{option}"
        if value is parameter.empty:
            raise ConfigError(f"{place} {part['name']!r} needs its option {option}: it has no default")
        annotation = parameter.annotation
        if (place, option) in configuration.BY_SIZE:  # None until the corpus is known
            annotation = annotation | None
        if value is not None or not isinstance(part, OwnPart):  # an own class may write `scale: float = None`
            value = convert(value, annotation, name, words=True)
        if not is_plain(value):
            raise ConfigError(f"option {name}: expected a number, a truth value or a text, which can be stored")
        found[option] = value
    return part | found if isinstance(part, OwnPart) else found


# -- a configuration ---------------------------------------------------------------------------------------------------


def resolve_all(config: Config) -> Config:
    """Return the complete configuration of a run (`seqvae.config.resolve`), with every option of every part.

    Only for what a user has written: import paths in it are followed. A wrong name or value is found here, before any
    work.

    Raises:
        ConfigError: also for parts that do not go together, as a dry step finds out (see `seqvae.training.dry_run`),
            and for parts of the user's own that could not be stored, or not be loaded again.
    """
    config = configuration.resolve(config)
    for place in CATALOGUES:
        part = adopt(place, get_part(config, place), BASES[place], CATALOGUES[place])
        config = replace_part(config, place, resolve_part(place, part))
    check_stored(config)
    check_together(config, build_small, list_alternatives)
    return config


def hand_over(config: Config, parts: Handed) -> Config:
    """Return a configuration that was read from a folder, with the classes of the user's own that it names.

    Args:
        config: as it is stored: a part from outside the package is an import path and its options.
        parts: classes, their import paths, or either by place (`{"model.prior": MyPrior}`).

    Raises:
        ConfigError: for a class that is not of the kind of its place.
    """
    for place, name in list_foreign_names(config):
        source = find_source(place, name, parts)
        if source is not None:
            own = adopt(place, OwnPart(get_part(config, place), source), BASES[place], CATALOGUES[place])
            config = replace_part(config, place, own)
    return config


def require_sources(config: Config, folder: str) -> None:
    """Raise a `CheckpointError` for a part of the model that is from outside the package and was not handed over."""
    for place, name in list_foreign_names(config):
        if place.startswith("model."):
            raise missing_source(folder, place, name)


def list_foreign_names(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the place and the import path of each part that has no class yet."""
    for place in CATALOGUES:
        part = get_part(config, place)
        name = str(part.get("name"))
        if ":" in name and not isinstance(part, OwnPart):
            yield place, name


def check_stored(config: Config) -> None:
    """See to it that the model's instances can be made again from what is stored of them.

    Raises:
        ConfigError: if the weights of an instance have not the sizes that its class has in this model.
    """
    places = [place for place in CATALOGUES if place.startswith("model.") and is_instance(get_part(config, place))]
    if not places:
        return
    again = config
    for place in places:
        part = get_part(config, place)
        again = replace_part(again, place, OwnPart(part, type(part.source)) if ":" in part["name"] else dict(part))
    size = CHANNELS if config.model.observation["name"] == "frames" else VOCABULARY
    with torch.device("meta"):
        made, stored = (build_model(whole, size, 0).state_dict() for whole in (config, again))
    for place in places:
        field = place.partition(".")[2]
        found, expected = (
            {name: tuple(t.shape) for name, t in weights.items() if name.startswith(f"{field}.")}
            for weights in (made, stored)
        )
        for name in found.keys() ^ expected.keys() if field == "observation" else found.keys() | expected.keys():
            if found.get(name) != expected.get(name):
                raise ConfigError(
                    f"{place} = {type(get_part(config, place).source).__name__}(...) could not be loaded again: its "
                    f"weight {name} is {found.get(name)}, and {expected.get(name)} in a model with these options "
                    f"(latent {config.model.latent}, embedding {config.model.embedding}): make it with the same sizes"
                )


def is_instance(part: Part) -> bool:
    """Return whether a part is an instance of the user's own."""
    return isinstance(part, OwnPart) and part.is_instance


def get_part(config: Config, place: str) -> Any:
    """Return the part at a place such as `model.prior`."""
    group, field = place.split(".")
    return getattr(getattr(config, group), field)


def replace_part(config: Config, place: str, part: Part) -> Config:
    """Return the configuration with another part at a place such as `model.prior`."""
    group, field = place.split(".")
    return replace(config, **{group: replace(getattr(config, group), **{field: part})})


def build_small(config: Config) -> Parts:
    """Build what is trained of a resolved configuration, at tiny sizes, for the sentences of a dry step."""
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


def list_alternatives(config: Config) -> Iterator[tuple[str, str, Config]]:
    """Yield the configurations with one option, then one part, at its default: the place, what to write, the whole."""
    usual = Config()
    for place in CATALOGUES:
        part, default = get_part(config, place), resolve_part(place, get_part(usual, place))
        if not is_instance(part):
            named = {"name": part["name"]}
            plain = resolve_part(place, OwnPart(named, part.source) if isinstance(part, OwnPart) else named)
            for option, value in plain.items():
                if value != part[option]:
                    words = f"--{place}.{option} {str(value).lower()}"
                    yield place, words, replace_part(config, place, part | {option: value})
        if part["name"] != default["name"] or is_instance(part):
            yield place, f"--{place}.name {default['name']}", replace_part(config, place, default)


# -- what is trained ---------------------------------------------------------------------------------------------------


def build_model(config: Config, vocabulary: int, labels: int = 0) -> SequenceVAE:
    """Build the model that `config` describes, with new weights from torch's global generator.

    An instance of the user's own is copied, with the weights that it has; it stays as it was given.

    Args:
        config: the whole configuration, resolved or not.
        vocabulary: the number of tokens; of series, the number of channels of a frame.
        labels: the number of labels that the model is conditioned on; 0 = it is not.
    """
    m = configuration.adapt_to_corpus(configuration.resolve(config)).model
    sizes: dict[str, Any] = {"latent": m.latent, "embedding": m.embedding}
    sizes |= {"vocabulary": vocabulary, "channels": vocabulary}
    with allow_empty_weights():
        size = m.label_size if labels else 0
        decoder = make("model.decoder", m.decoder, **sizes | {"latent": m.latent + size})
        observation = make("model.observation", m.observation, **sizes, features=decoder.features)
        encoder: Encoder = NoEncoder()
        if m.latent:
            embed = observation.embedding if m.share_embedding else observation.build_embedding()
            encoder = make("model.encoder", m.encoder, **sizes, embed=embed)
        sizes["features"] = encoder.features + size
        posterior = make("model.posterior", m.posterior, **sizes)
        prior = make("model.prior", m.prior, **sizes, encoder=encoder, posterior=posterior)
        check_space(m, posterior, prior)
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


def check_space(model: configuration.Model, posterior: Posterior, prior: Prior) -> None:
    """Raise a `ConfigError` unless posterior and prior are both of the sphere, or neither is."""
    if posterior.spherical != prior.spherical:
        fitting = ("sphere", "gaussian") if posterior.spherical else ("normal", "vmf")
        raise ConfigError(
            f"model.posterior {model.posterior['name']} with model.prior {model.prior['name']}: one lies on the sphere "
            f"and the other does not: write --model.prior.name {fitting[0]}, or --model.posterior.name {fitting[1]}"
        )


def build_objective(config: Config, **sizes: int) -> Objective:
    """Build the objective that `config` describes, the parameters of its terms new from torch's global generator.

    Args:
        config: the options, resolved or not.
        sizes: `vocabulary` and `sentences` (of the training split), where a term asks for them.
    """
    config = configuration.adapt_to_corpus(configuration.resolve(config))
    sizes = {"latent": config.model.latent, "embedding": config.model.embedding} | sizes
    with allow_empty_weights():
        return Objective(
            reconstruction=Reconstruction(),
            divergence=make("objective.divergence", config.objective.divergence, **sizes),
            weight=make("objective.weight", config.objective.weight),
            auxiliary=make("objective.auxiliary", config.objective.auxiliary, **sizes),
        )


def build_update(config: Config) -> Update:
    """Build the rule by which `config` makes a step."""
    return make("objective.update", configuration.resolve(config).objective.update)


@contextmanager
def allow_empty_weights() -> Iterator[None]:
    """Silence torch's warning: what is conditioned on z has empty weights where z has no dimensions."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Initializing zero-element tensors")
        yield


# -- help --------------------------------------------------------------------------------------------------------------


def format_parts() -> str:
    """Return the catalogues as text: each part with its options, their defaults and meanings."""
    lines = ["Parts (as in --model.encoder.hidden 512, or --objective.weight.name cyclical):", ""]
    for place, catalogue in CATALOGUES.items():
        lines.append(f"  {place}")
        for name, cls in catalogue.items():
            lines.append(f"    {name}: {(inspect.getdoc(cls) or '').splitlines()[0]}")
            meanings = describe_options(inspect.getdoc(cls) or "")
            for option, parameter in find_options(cls).items():
                among = get_args(parameter.annotation) if get_origin(parameter.annotation) is Literal else ()
                choices = f" [{', '.join(among)}]" if among else ""
                meaning = f"  {meanings[option]}" if option in meanings else ""
                lines.append(f"      .{option} = {parameter.default}{choices}{meaning}")
    return "\n".join(lines)


def describe_options(docstring: str) -> dict[str, str]:
    """Return the text about each argument in the `Args` section of a docstring, as one line."""
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

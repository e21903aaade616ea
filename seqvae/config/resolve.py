"""The complete configuration of a run, and the recipe that it is written as."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from seqvae.config.options import Config, expect, target_parts
from seqvae.config.parts import Part, complete


def resolve(config: Config) -> Config:
    """Return the complete configuration of a run.

    Parts have the options of the defaults, `target_kl` has become a divergence and a weight, and the kind and the
    observation have replaced what does not concern them: one recipe for a VAE serves its baselines too. Nothing else
    changes, and resolving once more changes nothing.

    Raises:
        ConfigError: for options that frames do not have.

    >>> resolve(Config(kind="ae")).objective.weight
    {'name': 'constant', 'end': 0.0}
    """
    config = replace(config, model=_complete_parts(config.model), objective=_complete_parts(config.objective))
    for apply in (_apply_target, _apply_kind, _apply_frames):
        config = apply(config)
    return config


def _complete_parts(group: Any) -> Any:
    defaults = vars(type(group)()).items()
    return replace(group, **{name: complete(getattr(group, name), d) for name, d in defaults if isinstance(d, dict)})


def _apply_target(config: Config) -> Config:
    if config.target_kl is None:
        return config
    parts = target_parts(config.objective.divergence, config.target_kl, config.target_by)
    return replace(config, objective=replace(config.objective, **parts))


def _apply_kind(config: Config) -> Config:
    if config.kind == "vae":
        return config
    # A divergence with a target would never meet it, and the last model be kept in place of the best.
    parts: dict[str, Part] = {
        "divergence": {"name": "kl"},
        "weight": {"name": "constant", "end": 1.0 if config.kind == "lm" else 0.0},
        "update": {"name": "joint"},
    }
    if config.kind == "ae":
        return replace(config, objective=replace(config.objective, **parts))
    model = replace(
        config.model,
        latent=0,
        # Word dropout makes a decoder depend on z; without z it is a handicap, of 1.1 nats on Tatoeba.
        noise={"name": "word-dropout", "rate": 0.0},
        # A space without dimensions is the same with any prior, and some need a dimension.
        posterior={"name": "gaussian"},
        prior={"name": "normal"},
    )
    return replace(config, model=model, objective=replace(config.objective, **parts, auxiliary={"name": "none"}))


NO_VECTORS = "none, since models of series have no words"
NO_LABELS = "none, since models of series are not conditioned"
NO_WORDS = (
    "word-dropout (which is then none), since noise is made of words and model.observation is of frames: "
    "write --model.noise.name word-dropout"
)


def _apply_frames(config: Config) -> Config:
    if config.model.observation["name"] != "frames":
        return config
    noise, column = config.model.noise["name"], config.data.label_column
    expect(noise == "word-dropout", "model.noise.name", noise, NO_WORDS)
    expect(column is None, "label_column", column, NO_LABELS)
    expect(config.data.embeddings is None, "embeddings", config.data.embeddings, NO_VECTORS)
    return replace(config, model=replace(config.model, noise={"name": "word-dropout", "rate": 0.0}))


def select_frames(config: Config) -> Config:
    """Return the configuration with frames in place of tokens, for a corpus of series; options of frames are kept."""
    given = config.model.observation
    return replace(config, model=replace(config.model, observation=given | {"name": "frames"}))


def require_tokens(config: Config) -> Config:
    """Return the configuration as it is, for a corpus of text.

    Raises:
        ConfigError: if it observes frames, which are of series.
    """
    name = config.model.observation.get("name")
    expect(name != "frames", "model.observation.name", name, "tokens, as this is text")
    return config


def get_corpus_options(config: Config) -> dict[str, Any]:
    """Return the options of `data` under the names of `seqvae.data.text.corpus.load`."""
    options = {name: value for name, value in vars(config.data).items() if not name.startswith("embeddings")}
    return options | {"seed": options.pop("split_seed")}


def to_toml(config: Config) -> str:
    """Return the configuration as a recipe for `--config`, with the names of the command line."""
    values = config.to_dict()
    top = {k: v for group in ("data", "training") for k, v in values[group].items() if v is not None and v != ()}
    target = ("target_kl", "target_by") if config.target_kl is not None else ()
    lines = [
        f"# seqvae train {shlex.quote(config.corpus)} --config recipe.toml",
        *_assign({k: values[k] for k in ("kind", *target)} | top),
    ]
    for group in ("model", "objective"):
        plain = {k: v for k, v in values[group].items() if not isinstance(v, dict)}
        lines += ["", f"[{group}]", *_assign(plain)] if plain else []
        for name, options in values[group].items():
            if isinstance(options, dict):
                lines += ["", f"[{group}.{name}]", *_assign(options)]
    return "\n".join(lines) + "\n"


def _assign(values: dict[str, Any]) -> Iterable[str]:
    # A JSON string, number, truth value or list of strings is also one of TOML.
    return (f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None)

"""The complete configuration of a run, and the recipe that it is written as."""

import json
import shlex
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from seqvae.config.options import Config, expect, target_parts
from seqvae.config.parts import OwnPart, Part, complete


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
NO_WEIGHTS = "none, since series have no weights"
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
    expect(config.data.weight_column is None, "weight_column", config.data.weight_column, NO_WEIGHTS)
    expect(config.data.embeddings is None, "embeddings", config.data.embeddings, NO_VECTORS)
    return replace(config, model=replace(config.model, noise={"name": "word-dropout", "rate": 0.0}))


# -- by the size of the corpus -----------------------------------------------------------------------------------------

SMALL_CORPUS = 1_000_000  # tokens of the training split, or frames
# A part and an option of it that may be None -> its value for larger corpora and for small ones.
BY_SIZE: dict[tuple[str, str], tuple[float, float]] = {
    ("model.encoder", "dropout"): (0.15, 0.3),
    ("model.decoder", "dropout"): (0.15, 0.3),
    ("objective.weight", "end"): (0.6, 0.5),
}


def adapt_to_corpus(config: Config, tokens: int = SMALL_CORPUS) -> Config:
    """Return the configuration with numbers for the options of `BY_SIZE` that are None; all others stay as they are.

    Args:
        config: the options, resolved or not.
        tokens: of the training split as it is trained on, ends included; of series, frames. Default: a larger corpus.

    >>> config = adapt_to_corpus(Config(), tokens=9_000)
    >>> config.model.decoder["dropout"], config.objective.weight["end"]
    (0.3, 0.5)
    """
    return _fill(config, {option: values[tokens < SMALL_CORPUS] for option, values in BY_SIZE.items()})


def adapt_like(config: Config, run: Config) -> Config:
    """Return the configuration with the numbers of an earlier run for the options that are left to the corpus."""
    return _fill(config, {(place, option): _get_part(run, place).get(option) for place, option in BY_SIZE})


def describe_adaptation(given: Config, tokens: int, unit: str = "tokens") -> str | None:
    """Return the line about what `adapt_to_corpus` chooses, and why; None if it chooses nothing.

    Args:
        given: the options before, resolved.
        tokens: as for `adapt_to_corpus`.
        unit: what they are called: `tokens` or `frames`.

    >>> describe_adaptation(Config(), 9_000)
    'dropout 0.3, KL weight to 0.5: fewer than 1,000,000 training tokens'
    """
    small = tokens < SMALL_CORPUS
    chosen = {place: values[small] for (place, option), values in BY_SIZE.items() if _is_open(given, place, option)}
    if given.kind == "lm":
        chosen.pop("model.encoder", None)
    names = {"model.encoder": "encoder dropout", "model.decoder": "decoder dropout", "objective.weight": "KL weight to"}
    if "model.encoder" in chosen and "model.decoder" in chosen:
        names["model.decoder"] = "dropout"
        del chosen["model.encoder"]
    if not chosen:
        return None
    words = ", ".join(f"{names[place]} {value:g}" for place, value in chosen.items())
    return f"{words}: {'fewer than' if small else 'at least'} {SMALL_CORPUS:,} training {unit}"


def _fill(config: Config, values: dict[tuple[str, str], Any]) -> Config:
    for (place, option), value in values.items():
        if _is_open(config, place, option):
            group, field = place.split(".")
            given = getattr(getattr(config, group), field)  # in the order of its options, which recipe.toml keeps
            part = {**(given if option in given else _get_part(config, place)), option: value}
            config = replace(config, **{group: replace(getattr(config, group), **{field: part})})
    return config


def _is_open(config: Config, place: str, option: str) -> bool:
    part = _get_part(config, place)  # None may mean something else to a class of the user's own
    return not isinstance(part, OwnPart) and option in part and part[option] is None


def _get_part(config: Config, place: str) -> Part:
    group, field = place.split(".")
    options = getattr(config, group)
    return complete(getattr(options, field), getattr(type(options)(), field))


# -- text and series ---------------------------------------------------------------------------------------------------


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

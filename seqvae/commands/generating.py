"""Sentences from points of the latent space, and points from sentences."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqvae import show
from seqvae.commands import series
from seqvae.commands.reading import Lines, Source, training_texts
from seqvae.commands.series import NO_LABEL, Drawn
from seqvae.errors import ConfigError, check_folder
from seqvae.model.decoding import check_options
from seqvae.reports.validity import count, judged, load_validator
from seqvae.series_vae import SeriesVAE, opened
from seqvae.text_vae import Sentence, TextVAE


def sample(
    name: str,
    number: int,
    source: Source,
    drawn: Drawn,
    *,
    label: str | None,
    validator: str | None,
    seed: int | None,
    json: bool,
    temperature: float,
    allow_unknown: bool,
    **options: Any,
) -> None:
    """Sentences from the prior, or from a density of the aggregate posterior, and how many of them are valid."""
    if number < 1:
        raise ConfigError(f"--number {number}: expected 1 or more sentences")
    check_options(temperature=temperature, **options)
    source.check()
    is_valid = None if validator is None else load_validator(validator)
    model = opened(name)
    if isinstance(model, SeriesVAE):
        given = options | {"allow_unknown": allow_unknown, "from": source.name, "validator": validator, "label": label}
        usual = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "beam": 0}
        series.refuse(given, usual | {"allow_unknown": False, "from": "prior", "validator": None, "label": None})
        return series.sample(model, number, drawn, seed=seed, json=json, temperature=temperature)
    drawn.refuse()
    options |= {"seed": seed, "temperature": temperature, "allow_unknown": allow_unknown}
    model.numbers(label if label is not None else model.labels[:1] or None, 1)  # before any work
    labels = model.label_draws(number, seed=seed) if label is None else [label] * number
    facts: list[dict[str, Any]] = [{}] * number if labels is None else [{"label": name} for name in labels]
    if source.name == "prior":
        said = model.samples(number, label=labels, **options)
    else:
        said, found = _from_aggregate(model, number, source, labels, **options)
        facts = [fact | confidence for fact, confidence in zip(facts, found, strict=True)]
    texts = [sentence.text for sentence in said]
    valid: list[bool] = []
    if validator is not None and is_valid is not None:
        valid = judged(validator, is_valid, texts)
        facts = [more | {"valid": verdict} for more, verdict in zip(facts, valid, strict=True)]
    if json:
        for sentence, more in zip(said, facts, strict=True):
            show.json(vars(sentence) | more)
    else:
        show.sentences(said, json)
    if is_valid is not None:
        training, reason = training_texts(model) if any(valid) else ([], "")
        show.remark(str(count(texts, valid, training)) + (f": {reason}" if reason else ""))


def _from_aggregate(
    model: TextVAE, number: int, source: Source, labels: list[str] | None, *, seed: int | None, **options: Any
) -> tuple[list[Sentence], list[dict[str, Any]]]:
    """Sentences from a density of the aggregate posterior, and the confidence in each."""
    found = source.fit(model)
    drawn = found.sample(number, seed=seed, min_confidence=source.min_confidence or 0.0)
    error = "" if found.gain_standard_error is None else f" ± {found.gain_standard_error:.2f}"
    show.remark(
        f"density fitted to {found.sentences:,} sentences; draws of q of others are {found.gain:.2f}{error} nats "
        f"likelier under it than under the prior; holes: {found.holes:.2f} ± {found.holes_standard_error:.2f} nats, "
        f"those of the prior {found.holes_prior:.2f} ± {found.holes_prior_standard_error:.2f}"
    )
    confidence = zip(drawn.log_prob.tolist(), drawn.quantile.tolist(), strict=True)
    facts = [{"confidence": log_prob, "confidence_quantile": quantile} for log_prob, quantile in confidence]
    return model.sentences(drawn.z, labels=labels, seed=seed, **options), facts


def reconstruct(name: str, lines: Lines, drawn: Drawn, *, beam: int, json: bool) -> None:
    """Each sentence through its posterior mean and back."""
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series.refuse({"beam": beam} | vars(lines) | {"source": None}, {"beam": 0} | NO_LABEL)
        return series.reconstruct(model, lines.source, drawn, json=json)
    drawn.refuse()
    texts, labels = lines.read(model)
    said = model.sentences(model.encode(texts, labels=labels).mode, labels=labels, beam=beam)
    show.sentences(said, json, originals=texts)


def interpolate(
    name: str,
    start: str | None,
    end: str | None,
    drawn: Drawn,
    *,
    label: str | None,
    steps: int,
    path: str | None,
    seed: int | None,
    json: bool,
) -> None:
    """From one sentence, or draw of the prior, to another."""
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series.refuse({"label": label}, NO_LABEL)
        route = path or ("slerp" if start is None else model.straight)
        return series.interpolate(model, start, end, drawn, steps=steps, path=route, seed=seed, json=json)
    drawn.refuse()
    if (start is None) != (end is None):
        raise ConfigError("one sentence was given: expected two (START END), or none for two draws of the prior")
    if start is None or end is None:
        z0, z1 = model.prior_draws(2, seed=seed)
        likely = model.label_draws(1, seed=seed)
        label = likely[0] if label is None and likely else label
    else:
        z0, z1 = model.encode([start, end], labels=label).mode
    way = model.walk(z0, z1, steps=steps, path=path or ("slerp" if start is None else model.straight))
    show.sentences(model.sentences(way, labels=label), json)


def encode(name: str, lines: Lines, *, output: Path, scale: bool) -> None:
    """Sentences to a NumPy array."""
    if output.suffix != ".npy":
        raise ConfigError(f"--output {output}: expected a name that ends in .npy")
    check_folder("--output", output)
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series.refuse(vars(lines) | {"source": None}, NO_LABEL)
        q = series.encode(model, lines.source)
    else:
        texts, labels = lines.read(model)
        q = model.encode(texts, labels=labels)
    try:
        with open(output, "wb") as file:
            np.save(file, (q.stddev if scale else q.mode).numpy())
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}") from None


def decode(
    name: str,
    latents: Path,
    drawn: Drawn,
    *,
    label: str | None,
    temperature: float,
    beam: int,
    seed: int | None,
    json: bool,
) -> None:
    """A NumPy array to sentences."""
    check_options(temperature=temperature or float(beam > 0), beam=beam)
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series.refuse({"beam": beam, "label": label}, NO_LABEL | {"beam": 0})
        drawn.check(json)
    else:
        drawn.refuse()
    try:
        z = np.load(latents, allow_pickle=False)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {latents}: expected a .npy file as `seqvae encode` writes it") from None
    except (OSError, ValueError, EOFError):
        raise ConfigError(
            f"{latents} is not a NumPy array: expected a .npy file as `seqvae encode` writes it"
        ) from None
    if not isinstance(z, np.ndarray):
        raise ConfigError(f"{latents} is an archive of arrays: expected a .npy file as `seqvae encode` writes it")
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] != model.config.model.latent:
        wanted = f"numbers (sentences, {model.config.model.latent})"
        raise ConfigError(f"{latents} holds {z.dtype} of shape {z.shape}: expected {wanted}")
    if not np.isfinite(z).all():
        raise ConfigError(f"{latents} holds values that are not finite")
    if isinstance(model, SeriesVAE):
        series.decode(model, torch.from_numpy(z), drawn, temperature=temperature, seed=seed, json=json)
        return
    said = model.sentences(torch.from_numpy(z), labels=label, temperature=temperature, beam=beam, seed=seed)
    show.sentences(said, json)

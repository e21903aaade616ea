"""The commands: results go to standard output, progress and remarks to standard error."""

import json as json_
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqvae import series_commands, show, steering
from seqvae.decoding import check_options
from seqvae.errors import ConfigError
from seqvae.examination import examine
from seqvae.machine import keep_freed_memory
from seqvae.measures import probes, surface
from seqvae.measures.held_out import factors
from seqvae.reading import Held, Labels, Lines, Source, training_texts
from seqvae.series.corpus import SeriesSplit
from seqvae.series_commands import Drawn
from seqvae.seriesvae import SeriesVAE, opened
from seqvae.text.corpus import Split
from seqvae.text_evaluation import check_packages, evaluate_text
from seqvae.textvae import Sentence, TextVAE
from seqvae.validity import count, judged, load_validator

STEERED = 500  # sentences that a report steers, at most
NO_LABEL: dict[str, Any] = {"source": None, "column": None, "label": None, "label_column": None}  # of series
SAMPLES = 20  # draws of z for each sentence that a diagnosis is made from


def sample(
    name: str,
    number: int,
    source: "Source",
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
        series_commands.refuse(
            given, usual | {"allow_unknown": False, "from": "prior", "validator": None, "label": None}
        )
        return series_commands.sample(model, number, drawn, seed=seed, json=json, temperature=temperature)
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
    model: TextVAE, number: int, source: "Source", labels: list[str] | None, *, seed: int | None, **options: Any
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
        series_commands.refuse({"beam": beam} | vars(lines) | {"source": None}, {"beam": 0} | NO_LABEL)
        return series_commands.reconstruct(model, lines.source, drawn, json=json)
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
        series_commands.refuse({"label": label}, NO_LABEL)
        route = path or ("slerp" if start is None else model.straight)
        return series_commands.interpolate(model, start, end, drawn, steps=steps, path=route, seed=seed, json=json)
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
    _expect_folder("--output", output)
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series_commands.refuse(vars(lines) | {"source": None}, NO_LABEL)
        q = series_commands.encode(model, lines.source)
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
        series_commands.refuse({"beam": beam, "label": label}, NO_LABEL | {"beam": 0})
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
        series_commands.decode(model, torch.from_numpy(z), drawn, temperature=temperature, seed=seed, json=json)
        return
    said = model.sentences(torch.from_numpy(z), labels=label, temperature=temperature, beam=beam, seed=seed)
    show.sentences(said, json)


def evaluate(
    name: str,
    held: Held,
    *,
    samples: int,
    seeds: int,
    refined: int,
    seed: int,
    text: bool,
    labels: list[str],
    language_model: str | None,
    plot: Path | None,
    json: Path | None,
) -> None:
    """Scores with their definitions, floors, probes and the doctor's line."""
    if json is not None:
        _expect_folder("--json", json)
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series_commands.refuse(
            {"text": text, "language_model": language_model}, {"text": False, "language_model": None}
        )
        options = {"samples": samples, "seeds": seeds, "refined": refined, "seed": seed}
        return series_commands.evaluate(model, held, folder=name, labels=labels, plot=plot, json=json, **options)
    Drawn(plot=plot).refuse()
    if text:
        check_packages()  # before any work
    judge = None if language_model is None else TextVAE.from_pretrained(language_model)
    if labels and not model.model.latent:
        raise ConfigError("--label-column needs posterior means: a model of kind lm has none")
    split, train = held.read(model)
    columns = {label: split.column(label) for label in labels or (factors(split) if model.model.latent else [])}
    for label, values in columns.items():
        probes.check(label, values)  # before any work
    keep_freed_memory()
    options = {"samples": samples, "seeds": seeds, "refined": refined, "seed": seed}
    found = examine(model, split, train, folder=name, **options)
    results: dict[str, Any] = vars(found.scores) | {"floors": found.floors, "diagnosis": vars(found.diagnosis)}
    show.condition(model)
    show.scores(found.scores)
    show.floors(found.floors)
    if columns:
        probed = probes.probes(found.table.mean, split.sequences(range(len(split))), columns)
        show.probes(probed)
        results["probes"] = [vars(probe) for probe in probed]
    if text:
        told = evaluate_text(model, split, train, seed=seed, language_model=judge)
        show.scores(told)
        results["text"] = vars(told)
    show.diagnosis(found.diagnosis, at_length=False)
    if json is not None:
        try:
            json.write_text(json_.dumps(results, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json {json} cannot be written: {error.strerror}") from None


def diagnose(name: str, held: Held, *, seed: int, json: bool) -> None:
    """The doctor's diagnosis with its evidence and advice."""
    model = opened(name)
    split: Split | SeriesSplit
    train: Split | SeriesSplit | None
    split, train = held.read(model) if isinstance(model, TextVAE) else held.read_series(model)
    keep_freed_memory()
    found = examine(model, split, train, samples=SAMPLES, seed=seed, folder=name).diagnosis
    if json:
        show.json(vars(found))
    else:
        show.diagnosis(found, at_length=True)


def steer(
    name: str,
    sentences: list[str],
    labels: Labels,
    *,
    label: str | None,
    strength: float,
    direction: str,
    report: bool,
    json: bool,
) -> None:
    """Sentences moved along the direction of an attribute, and how well that works."""
    model = TextVAE.from_pretrained(name)
    if not sentences and not report:
        raise ConfigError("no sentence was given: write one or more between quotes, or --report")
    if not all(sentence.strip() for sentence in sentences):
        raise ConfigError("one of the sentences is blank: write words between the quotes")
    if not math.isfinite(strength):
        raise ConfigError(f"--strength {strength}: expected a finite number, as 1.5")
    if report:
        surface.optional("rapidfuzz.distance")  # before any work
    if not model.model.latent:
        raise ConfigError("steering needs a latent space: a model of kind lm has none; train one of kind vae")
    if sentences or label is not None:
        model.numbers(label, 1)
    known, held = labels.read(model, report=report)
    keep_freed_memory()
    having, lacking = labels.divide(known)
    way = steering.DIRECTIONS[direction](_means(model, having), _means(model, lacking))
    show.remark(
        f"{direction} direction of {labels.column} = {labels.attribute}: length {float(way.norm()):.2f}, from "
        f"{len(having):,} sentences with it and {len(lacking):,} others"
    )
    if sentences:
        means = model.encode(sentences, labels=label).mode
        said = model.sentences(means + strength * way.to(means), labels=label)
        show.sentences(said, json, originals=sentences)
    if held is None:
        return
    judge = steering.Judge.fit(_written(model, having), _written(model, lacking))
    having, lacking = labels.divide(held)
    moved = lacking.at_most(STEERED)
    found = steering.Report(
        sentences=len(moved),
        judge_having=float(judge(_written(model, having)).double().mean()) if len(having) else None,
        judge_lacking=float(judge(_written(model, lacking)).double().mean()),
        steps=steering.steered(partial(model.decode, labels=model.labels_of(moved)), _means(model, moved), way, judge),
    )
    if json:
        show.json(vars(found) | {"steps": [vars(step) for step in found.steps]})
    else:
        show.steering(found, labels.column, labels.attribute)


def _means(model: TextVAE, split: Split) -> torch.Tensor:
    """(N, D), the posterior means of the sentences, each with its own label where the model needs one."""
    return model.encode(split.texts(), labels=model.labels_of(split)).mode


def _written(model: TextVAE, split: Split) -> list[str]:
    """The sentences as the decoder would write them: what the tokenizer does not know is `<unk>`."""
    return model.tokenizer.decode_batch(split.sequences(range(len(split))))


def describe(name: str) -> None:
    """What a model is."""
    show.description(opened(name))


def _expect_folder(option: str, path: Path) -> None:
    """Refuse a file whose folder is not there before any work is done for it."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")

"""What a model has learnt: scores, a diagnosis, a description."""

import json as json_
from pathlib import Path
from typing import Any

from seqvae import show
from seqvae.commands import series
from seqvae.commands.reading import Held
from seqvae.commands.series import Drawn
from seqvae.data.series.corpus import SeriesSplit
from seqvae.data.text.corpus import Split
from seqvae.errors import ConfigError, check_folder
from seqvae.evaluation import probes
from seqvae.evaluation.evaluate import factors
from seqvae.reports.examine import examine
from seqvae.reports.text_quality import check_packages, evaluate_text
from seqvae.series_vae import SeriesVAE, opened
from seqvae.text_vae import TextVAE
from seqvae.training.machine import keep_freed_memory

SAMPLES = 20  # draws of z for each sentence that a diagnosis is made from


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
        check_folder("--json", json)
    model = opened(name)
    if isinstance(model, SeriesVAE):
        series.refuse({"text": text, "language_model": language_model}, {"text": False, "language_model": None})
        options = {"samples": samples, "seeds": seeds, "refined": refined, "seed": seed}
        return series.evaluate(model, held, folder=name, labels=labels, plot=plot, json=json, **options)
    Drawn(plot=plot).refuse()
    if text:
        check_packages()  # before any work
    judge = None if language_model is None else TextVAE.from_pretrained(language_model)
    if labels and not model.model.latent:
        raise ConfigError("--label-column needs posterior means: a model of kind lm has none")
    split, train, notes = held.read(model)
    columns = {label: split.column(label) for label in labels or (factors(split) if model.model.latent else [])}
    for label, values in columns.items():
        probes.check(label, values)  # before any work
    for note in notes:
        show.remark(note)
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
    split, train, notes = held.read(model) if isinstance(model, TextVAE) else held.read_series(model)
    for note in notes:
        show.remark(note)
    keep_freed_memory()
    found = examine(model, split, train, samples=SAMPLES, seed=seed, folder=name).diagnosis
    if json:
        show.json(vars(found))
    else:
        show.diagnosis(found, at_length=True)


def describe(name: str) -> None:
    """What a model is."""
    show.description(opened(name))

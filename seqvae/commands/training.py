"""`seqvae train`: from options to a run, and what is shown when it is done."""

import dataclasses
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from seqvae import show, show_series
from seqvae.commands.reading import corpus_of, same_content
from seqvae.config import Config, Data, Model, Objective, TargetBy, Training, for_series, for_text
from seqvae.data.series.corpus import SeriesCorpus, SeriesSplit
from seqvae.data.series.sources import is_series
from seqvae.data.text.corpus import Corpus, Split
from seqvae.data.text.sources import located
from seqvae.errors import ConfigError
from seqvae.reports.examine import examine
from seqvae.series_vae import SeriesVAE, opened
from seqvae.text_vae import TextVAE
from seqvae.training import loop, runs
from seqvae.training.build import resolve_all
from seqvae.training.machine import keep_freed_memory
from seqvae.training.runtime import accelerator_for, check_machine, decide_precision, on_cpu

SHOWN = 1000  # held-out sentences scored at the end of a training, at most; `seqvae evaluate` takes all
SHOWN_SAMPLES, SHOWN_REFINED = 20, 50
EXTENDABLE = ("max_epochs", "max_minutes", "patience", "trackers", "precision")  # what a resumed run may change


def train(
    corpus: str | None,
    *,
    kind: Literal["vae", "ae", "lm"],
    target_kl: float | None,
    target_by: TargetBy,
    output: Path | None,
    resume: bool,
    data: Data,
    training: Training,
    model: Model,
    objective: Objective,
) -> None:
    """Train, then show what the model can do."""
    given = Config(
        corpus=located(corpus or "sotu"),
        kind=kind,
        target_kl=target_kl,
        target_by=target_by,
        data=data,
        model=model,
        objective=objective,
        training=training,
    )
    config = resolve_all((for_series if is_series(given.corpus, given.data.column) else for_text)(given))
    PartialState(cpu=on_cpu())
    folder = _agreed(output or (runs.newest() if resume else runs.new(config.corpus)))
    if resume:
        config = _resumed(folder, config, corpus)
    run = trained(config, folder, resume=resume)
    if run.accelerator.is_main_process:
        _finish(opened(folder), run.corpus, folder)


def trained(config: Config, folder: Path, *, resume: bool) -> loop.Run:
    """Train into a new folder, or go on with the run that stands there."""
    PartialState(cpu=on_cpu())
    begins = PartialState().is_main_process and not resume
    with runs.claimed(folder, config) if begins else nullcontext():
        run = _prepared(config, folder, resume)
        if begins:
            runs.begin(folder, run.config)
        elif PartialState().is_main_process and (begun := runs.options_of(folder)).corpus != config.corpus:
            runs.begin(folder, replace(begun, corpus=config.corpus))  # it has moved
        keep_freed_memory()  # only now, since what was freed while reading would be kept too
        show.quiet()
        show.training(run)
    run.accelerator.end_training()
    return run


def _prepared(config: Config, folder: Path, resume: bool) -> loop.Run:
    """Read the corpus and build what is trained."""
    check_machine(config.training)
    with PartialState().main_process_first():  # the others find the tokenized corpus in the cache
        read = corpus_of(config)
    automatic = config.training.precision == "auto"
    config, precision = decide_precision(config)  # which a resumed run keeps
    accelerator = accelerator_for(config, folder)
    run = loop.Run(config, read, folder, resume=resume and runs.has_state(folder), accelerator=accelerator)
    if accelerator.is_main_process:
        for note in [*read.notes, *([precision] if automatic else [])]:
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
    if corpus is not None and given.corpus != stored.corpus:
        config = replace(config, corpus=given.corpus)
        if not same_content(folder, config):
            raise ConfigError(
                f"--resume goes on with corpus {stored.corpus}, not {given.corpus}, which holds something else: "
                "leave the corpus out"
            )
    if given.kind not in (stored.kind, default.kind):
        raise ConfigError(f"--resume goes on with kind = {stored.kind}, not {given.kind}: leave the option out")
    for group in ("data", "model", "objective", "training"):
        ours, theirs, usual = (getattr(c, group) for c in (given, config, default))
        for field in dataclasses.fields(ours):
            asked, was = getattr(ours, field.name), getattr(theirs, field.name)
            if asked not in (was, getattr(usual, field.name)):
                raise ConfigError(f"--resume goes on with {field.name} = {was}, not {asked}: leave the option out")
    return config


def _finish(model: TextVAE | SeriesVAE, corpus: Corpus | SeriesCorpus, folder: Path) -> None:
    """Score and show the trained model, and write its card."""
    split: Split | SeriesSplit | None = corpus.test or corpus.valid
    assert split is not None
    found, some = None, split.at_most(SHOWN)
    if len(some) > 1:
        found = examine(model, some, corpus.train, samples=SHOWN_SAMPLES, refined=SHOWN_REFINED, folder=str(folder))
    scores = found.scores if found else None
    known = model.checkpoint.facts | ({"scores": vars(scores)} if scores else {})
    model = type(model)(replace(model.checkpoint, facts=known))
    model.checkpoint.save(folder)
    model.write_card(folder, scores)
    if found:
        if isinstance(model, TextVAE):
            show.condition(model)
        show.scores(found.scores)
        show.floors(found.floors)
        show.diagnosis(found.diagnosis, at_length=False)
    else:
        show.remark("one held-out sentence is too few for scores: give more text, or a folder with a test file")
    if isinstance(model, SeriesVAE) and isinstance(split, SeriesSplit):
        if model.config.model.latent and len(some) > 1:
            show.scores(model.track(split.at_most(SHOWN)))
        show_series.tour(model, split)
    elif isinstance(model, TextVAE) and isinstance(split, Split):
        show.tour(model, split)
    show.place(folder, *(["--plot samples.png"] if isinstance(model, SeriesVAE) else []))

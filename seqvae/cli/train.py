"""`seqvae train`: from options to a run, and what is shown when it is done."""

from __future__ import annotations

import dataclasses
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from seqvae.cli.shared import FLAT, SWITCH, app
from seqvae.config import Config, Data, Model, Objective, OwnPart, TargetBy, Training, adapt_like
from seqvae.errors import ConfigError

if TYPE_CHECKING:
    from seqvae.training.loop import Run

SCORED = 1000  # held-out sentences scored at the end of a training, at most; `seqvae evaluate` takes all
SAMPLES, REFINED = 20, 50  # of z for each of these sentences, and how many of them are refined
TERMINATED = 128 + 15  # the exit code of a process that SIGTERM has ended
CHANGEABLE = ("max_epochs", "max_minutes", "patience", "trackers", "precision")  # options that a resumed run may change


@app.command(sort_key=1)
def train(
    corpus: str | None = None,
    /,
    *,
    kind: Literal["vae", "ae", "lm"] = "vae",
    target_kl: float | None = None,
    target_by: TargetBy = "controller",
    config: str | None = None,
    output: Path | None = None,
    resume: Annotated[bool, SWITCH] = False,
    data: Annotated[Data | None, FLAT] = None,
    training: Annotated[Training | None, FLAT] = None,
    model: Model | None = None,
    objective: Objective | None = None,
) -> None:
    """Train a model, then print samples, reconstructions, interpolations and scores; `report.html` has more.

    Args:
        corpus: `chitchat` (the default), `sotu` or `grammar`, built in; a file with a sentence a line (also .gz), `-`
            for standard input, .csv, .tsv, .jsonl or .parquet, a folder with train/valid/test files, or `hub:NAME`.
            Or real-valued series: `curves`, built in; a .npz or .npy file, a .parquet file with a column of lists, a
            folder of such.
        kind: `vae`; `ae`, the same with a KL of weight 0; `lm`, the same decoder without a latent, as a baseline.
        target_kl: hold the KL at this many nats per sentence, by a divergence and a weight in place of those given.
        target_by: what holds it: a weight that a `controller` moves, or the multiplier of a `minimum-rate`.
        config: a recipe by its name (`seqvae recipes` lists them), or a TOML file with options, named as here; the
            command line wins.
        output: the model folder; by default a new one below `runs`.
        resume: continue the run in --output (by default the newest one below `runs`) after it was killed or stopped;
            where a corpus is named and --output is missing or empty, begin it.
        data: what is read.
        training: how long and how fast.
        model: sizes and parts.
        objective: what is minimized.
    """
    from seqvae.auto import choose_class
    from seqvae.cli.output import log
    from seqvae.data.text.sources import locate
    from seqvae.training import runs
    from seqvae.training.runtime import join_processes

    given = Config(
        corpus=locate(corpus or "chitchat"),
        kind=kind,
        target_kl=target_kl,
        target_by=target_by,
        data=data or Data(),
        training=training or Training(),
        model=model or Model(),
        objective=objective or Objective(),
    )
    join_processes()
    if resume and output is not None and corpus is not None:  # the same command begins a run and goes on with it
        resume = not share_choice(runs.has_nothing(output))
    named = replace(given, training=replace(given.training, init=None, own_vocabulary=False, freeze=()))
    chosen = choose_class(given.corpus, given.data.column)
    resolved = chosen.resolve(named if resume else given)  # a resumed run needs no model to begin with
    folder = Path(share_choice(str(output or (runs.find_newest() if resume else runs.name_folder(resolved.corpus)))))
    if resume:
        asked = {name: getattr(given.training, name) for name in ("init", "own_vocabulary", "freeze")}
        resolved = resume_config(folder, replace(resolved, training=replace(resolved.training, **asked)), corpus)
    run = run_training(resolved, folder, resume=resume)
    if run.terminated:
        if run.accelerator.is_main_process:
            log(f"seqvae: terminated; to go on, write: seqvae train --resume --output {folder}")
        sys.exit(TERMINATED)
    if run.accelerator.is_main_process:
        report(run, folder)


def run_training(config: Config, folder: Path, *, resume: bool) -> Run:
    """Train into a new folder, or continue the run in it."""
    from accelerate import PartialState

    from seqvae.cli.output import train_with_progress
    from seqvae.training import runs
    from seqvae.training.machine import keep_freed_memory
    from seqvae.training.runtime import join_processes

    join_processes()
    main = PartialState().is_main_process
    begins = main and not resume
    with runs.claim(folder, config) if begins else runs.lock(folder) if main else nullcontext():
        run = prepare(config, folder, resume)
        if begins:
            runs.write_options(folder, run.config)
        elif PartialState().is_main_process:
            begun = runs.read_options(folder)
            now = adapt_like(replace(begun, corpus=config.corpus), run.config)
            if now != begun:  # the corpus has moved, or the run had been killed before it was read
                runs.write_options(folder, now)
        keep_freed_memory()  # only now, since what was freed while reading would be kept too
        train_with_progress(run)
    run.accelerator.end_training()
    return run


def prepare(config: Config, folder: Path, resume: bool) -> Run:
    """Read the corpus and build what is trained."""
    from accelerate import PartialState

    from seqvae.auto import find_class
    from seqvae.cli.output import log
    from seqvae.pretrained import open_init
    from seqvae.training import loop, runs
    from seqvae.training.checkpoint import recover
    from seqvae.training.runtime import check_machine, decide_precision, make_accelerator

    check_machine(config.training)
    with PartialState().main_process_first():  # the others find the tokenized corpus in the cache
        if resume and PartialState().is_main_process:
            recover(folder)
        resumed = resume and runs.has_state(folder)
        init = open_init(config, folder if resumed else None)
        corpus = find_class(config).read_corpus(config, init)
    automatic = config.training.precision == "auto"
    config, precision = decide_precision(config)  # which a resumed run keeps
    accelerator = make_accelerator(config, folder)
    run = loop.Run(config, corpus, folder, resume=resumed, accelerator=accelerator, init=init)
    if accelerator.is_main_process:
        for note in [*corpus.notes, *run.notes, *([precision] if automatic else [])]:
            log(note)
    return run


def share_choice(own: Any) -> Any:
    """Return what the main process has chosen, in all processes."""
    from accelerate.utils import broadcast_object_list

    choice = [own]
    broadcast_object_list(choice)
    return choice[0]


def resume_config(folder: Path, given: Config, corpus: str | None) -> Config:
    """Return the options that the run was started with, but for those that a resumed run may change.

    Raises:
        ConfigError: for any other option that differs.
    """
    from seqvae.auto import has_same_content
    from seqvae.training import runs
    from seqvae.training.build import hand_over, resolve_all
    from seqvae.training.own_parts import get_own_parts

    stored, default = runs.read_options(folder), resolve_all(Config())
    given, default = adapt_like(given, stored), adapt_like(default, stored)
    changes = {name: getattr(given.training, name) for name in CHANGEABLE}
    changes = {k: v for k, v in changes.items() if v != getattr(default.training, k)}
    config = replace(stored, training=replace(stored.training, **changes))
    if corpus is not None and given.corpus != stored.corpus:
        config = replace(config, corpus=given.corpus)
        if not has_same_content(folder, config, get_own_parts(given)):
            raise ConfigError(
                f"--resume continues with corpus {stored.corpus}, not {given.corpus}, which has other content: "
                "leave the corpus out"
            )
    if given.kind not in (stored.kind, default.kind):
        raise ConfigError(f"--resume continues with kind = {stored.kind}, not {given.kind}: leave the option out")
    for group in ("data", "model", "objective", "training"):
        ours, theirs, usual = (getattr(c, group) for c in (given, config, default))
        for field in dataclasses.fields(ours):
            asked, was = getattr(ours, field.name), getattr(theirs, field.name)
            if asked not in (was, getattr(usual, field.name)) and not names_only(asked, was):
                raise ConfigError(f"--resume continues with {field.name} = {was}, not {asked}: leave the option out")
    return hand_over(config, get_own_parts(given))


def names_only(given: Any, stored: Any) -> bool:
    """Tell whether a part of the user's own was named again, its options stored or at their defaults."""
    from seqvae.training.own_parts import find_options

    if not isinstance(given, OwnPart) or given["name"] != stored["name"]:
        return False
    defaults = {name: parameter.default for name, parameter in find_options(given.cls).items()}
    return all(value in (stored.get(name), defaults.get(name, value)) for name, value in given.items())


def report(run: Run, folder: Path) -> None:
    """Score the trained model, write its card and its page, and print examples, the main scores and the diagnosis."""
    from seqvae.auto import load
    from seqvae.cli import output
    from seqvae.cli.interfaces import make_interface
    from seqvae.reports.examine import examine
    from seqvae.reports.page.examples import make_examples
    from seqvae.training.own_parts import get_own_parts

    model = load(folder, parts=get_own_parts(run.config))
    split: Any = run.corpus.test or run.corpus.valid
    some, found = split.at_most(SCORED), None
    if len(some) > 1:
        found = examine(model, some, run.corpus.train, samples=SAMPLES, refined=REFINED, folder=str(folder))
    scores = found.scores if found else None
    facts = model.checkpoint.facts | ({"scores": vars(scores)} if scores else {})
    model = type(model)(replace(model.checkpoint, facts=facts))
    model.generation_config = model.recommend_sampling()
    model.checkpoint.save(folder)
    model.write_card(folder, scores)
    interface, examples = make_interface(model), make_examples(model, split, seed=run.config.training.seed)
    output.print_examples(examples, interface.preview, model.units)
    quality = print_results(model, some, found)
    written = write_page(run, model, folder, split=some, found=found, examples=examples, quality=quality)
    output.print_place(folder, interface.hint, written, latent=model.model.has_latent)


def print_results(model: Any, split: Any, found: Any) -> Any:
    """Print the main scores of a trained model and its diagnosis; return the scores of its reconstructions."""
    from seqvae.cli import output
    from seqvae.reports.page.summary import measure_quality, summarize

    if found is None:
        output.log("one held-out sentence is too few for scores: give more text, or a folder with a test file")
        return None
    quality = measure_quality(model, split, found.table.mean)
    output.print_summary(summarize(model, found, quality), len(split), model.units)
    output.print_diagnosis(found.diagnosis, at_length=False)
    return quality


def write_page(run: Run, model: Any, folder: Path, **parts: Any) -> Path | None:
    """Write the page of a model; log why where it cannot be written, which loses nothing else."""
    from seqvae.cli import output
    from seqvae.errors import SeqVAEError
    from seqvae.reports.page.report import describe_machine, write_report

    try:
        return write_report(model, folder, machine=describe_machine(run.accelerator.device), **parts)
    except SeqVAEError as error:
        output.log(f"no page was written: {error}")
        return None

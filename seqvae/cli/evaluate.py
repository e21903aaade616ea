"""`seqvae evaluate`, `diagnose` and `describe`: what a model has learnt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from seqvae.cli.shared import (
    AT_LEAST_ONE,
    FLAT,
    SWITCH,
    Column,
    FixedSeed,
    Folder,
    Json,
    OwnParts,
    Precision,
    app,
    list_given,
)
from seqvae.errors import ConfigError, check_output

if TYPE_CHECKING:
    from seqvae.cli.interfaces import Interface
    from seqvae.reports.examine import Examination

Split = Annotated[Literal["train", "valid", "test"], Parameter(help="which split of the corpus.")]
ANY_NUMBER = Parameter(validator=cyclopts.validators.Number(gte=0))
DIAGNOSIS_SAMPLES = 20  # of z for each sentence that a diagnosis is made from


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the texts that --text scores are generated.

    Attributes:
        prior_temperature: of the prior that these samples are from: its standard deviations are multiplied by this.
        candidates: generate this many sentences for each of these samples, and keep the one of which the model is
            surest, among those of the same length.
        temperature: of the samples that --text scores: 0 takes the likeliest word each time, 1 samples from the model.
        top_k: these are sampled among the K likeliest words; 0 = all.
        top_p: among the likeliest words that together have this probability.
        min_p: among words with at least this fraction of the probability of the likeliest.
        beam: reconstructions and interpolations are found by a beam search of this width; 0 = greedy.
    """

    prior_temperature: float = 1.0
    candidates: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    beam: int = 0


@app.command(sort_key=7)
def evaluate(
    model: Folder,
    corpus: str | None = None,
    /,
    *,
    split: Split = "test",
    column: Column = None,
    samples: int = 100,
    seeds: Annotated[int, AT_LEAST_ONE] = 1,
    refine: Annotated[int, ANY_NUMBER] = 100,
    text: Annotated[bool, SWITCH] = False,
    sampling: Annotated[Sampling | None, FLAT] = None,
    label_column: list[str] | None = None,
    language_model: str | None = None,
    limit: int | None = None,
    precision: Precision = "fp32",
    seed: FixedSeed = 0,
    plot: Path | None = None,
    output: Path | None = None,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Print held-out scores with their definitions and standard errors, and the diagnosis in one line.

    Several processes share the likelihood: `torchrun --nproc-per-node 2 -m seqvae evaluate MODEL`.

    Args:
        corpus: what to score; by default the corpus of the training. A single file that is not the training corpus is
            scored whole, as `test`.
        samples: number of samples of z for each sentence, for the importance-weighted likelihood.
        seeds: number of seeds that this likelihood is estimated with.
        refine: number of sentences whose q(z|x) is refined by gradient, for the inference gap; 0 = none.
        text: also score generated text: reconstructions, samples from the prior, interpolations. Needs the extra
            `eval`: `pip install "seqvae[eval]"`.
        label_column: a column of labels to be predicted from the posterior means by a linear classifier (for series, a
            column of numbers, by a linear map); may be repeated. By default all factors of `grammar` and `curves`.
        language_model: a model folder of kind `lm`, to score the samples with in place of an n-gram model.
        limit: score at most this many sentences, evenly spread over the split.
        plot: for a model of series, a picture of reconstructions, samples and interpolations to draw (.png, .svg,
            .pdf). Needs the extra `plot`.
        output: the .json file to write the scores to, with the precision of the likelihood.
    """
    from seqvae.cli.inputs import Selection
    from seqvae.cli.interfaces import open_interface
    from seqvae.cli.output import write_json
    from seqvae.cli.processes import Process
    from seqvae.training.precision import evaluate_in

    process = Process()
    if process.world > 1 and corpus == "-":
        raise ConfigError("several processes cannot share standard input: name a file in place of -")
    process.wait()
    if output is not None:
        parts = (Path(model) / name for name in ("config.json", "tokenizer.json"))
        check_output("--output", output, corpus, *parts, ending=".json")
    interface = open_interface(model, part)
    if output is not None and corpus is None:
        check_output("--output", output, interface.model.config.corpus)
    interface.refuse(text=text, language_model=language_model, plot=plot)
    words = check_sampling(sampling or Sampling(), text)
    judge = check_extras(interface, text, language_model, plot, label_column or [])
    held_out, train, notes = Selection(corpus, split, column, limit).read(interface.model)
    columns = interface.read_factors(held_out, label_column or []) if interface.model.model.latent else {}
    options = {"samples": samples, "seeds": seeds, "refined": refine, "seed": seed, "measured_by": process.measure}
    with evaluate_in(precision, interface.model.model):
        found = examine_with_notes(interface, held_out, train, [] if process.rank else notes, folder=model, **options)
    if process.rank:
        return
    results = Results(quiet=json)
    results.values["precision"] = precision
    add_scores(results, interface, held_out, found)
    if columns:
        probed = interface.probe(found.table.mean, held_out, columns)
        results.add({"probes": probed}, interface.print_probes, probed)
    if text:
        add_text_scores(results, interface, held_out, train, {"seed": seed, "language_model": judge} | words)
    finish(results, found)
    if plot is not None:
        interface.plot_overview(plot, held_out)
    if output is not None:
        write_json(output, results.values)


class Results:
    """The results of an evaluation, printed as they come, or all at once as JSON.

    Attributes:
        quiet: whether nothing is printed before the end.
        values: what JSON holds.
    """

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.values: dict[str, Any] = {}

    def add(self, values: Mapping[str, Any], show: Callable[..., None], *arguments: Any) -> None:
        """Add values, and print them by calling `show` with the arguments."""
        self.values |= values
        if not self.quiet:
            show(*arguments)


def check_sampling(sampling: Sampling, text: bool) -> dict[str, Any]:
    """Return the options that texts are generated with; refuse those that cannot be used."""
    from seqvae.latent import ranking
    from seqvae.model.decoding import check_options

    if (given := list_given(sampling)) and not text:
        name, value = next(iter(given.items()))
        option = f"--{name.replace('_', '-')} {value}"
        raise ConfigError(f"{option} is for the texts that --text scores: add --text, or leave it out")
    ranking.check_sampling(**{name: value for name, value in vars(sampling).items() if name != "beam"})
    check_options(beam=sampling.beam)
    return vars(sampling)


def check_extras(
    interface: Interface[Any], text: bool, language_model: str | None, plot: Path | None, labels: list[str]
) -> Any:
    """Refuse before any work what cannot be done; return the language model that scores the samples, if any."""
    from seqvae.reports.series_figures import check_plot
    from seqvae.reports.text_quality import check_packages
    from seqvae.text_vae import TextVAE

    if plot is not None:
        check_plot(plot)
    if text:
        check_packages()
    judge = None if language_model is None else TextVAE.from_pretrained(language_model)
    if labels and not interface.model.model.latent:
        raise ConfigError("--label-column needs posterior means: a model of kind lm has none")
    return judge


def examine_with_notes(
    interface: Interface[Any], split: Any, train: Any, notes: list[str], **options: Any
) -> Examination:
    """Log notes on what is scored, then score and diagnose the model."""
    from seqvae.cli.output import log
    from seqvae.reports.examine import examine
    from seqvae.training.machine import keep_freed_memory

    for note in notes:
        log(note)
    keep_freed_memory()
    return examine(interface.model, split, train, **options)


def add_scores(results: Results, interface: Interface[Any], split: Any, found: Examination) -> None:
    """Add the scores, those of the baselines, and those of the reconstructions where they are always there."""
    from seqvae.cli.output import print_baselines, print_condition, print_scores

    units = interface.model.units
    results.add({}, print_condition, interface.model)
    results.add(vars(found.scores), print_scores, found.scores, units)
    results.add({"baselines": found.baselines}, print_baselines, found.baselines, units)
    if scores := interface.score_reconstructions(split):
        results.add({"reconstructions": vars(scores)}, print_scores, scores, units)


def add_text_scores(
    results: Results, interface: Interface[Any], split: Any, train: Any, options: dict[str, Any]
) -> None:
    """Add the scores of generated text."""
    from seqvae.cli.output import print_scores
    from seqvae.reports.text_quality import evaluate_text

    scores = evaluate_text(interface.model, split, train, **options)
    results.add({"text": vars(scores)}, print_scores, scores)


def finish(results: Results, found: Examination) -> None:
    """Add the diagnosis in one line, and print JSON if that is asked for."""
    from seqvae.cli.output import print_diagnosis, print_json

    results.add({"diagnosis": vars(found.diagnosis)}, lambda: print_diagnosis(found.diagnosis, at_length=False))
    if results.quiet:
        print_json(results.values)


@app.command(sort_key=8)
def diagnose(
    model: Folder,
    corpus: str | None = None,
    /,
    *,
    split: Split = "test",
    column: Column = None,
    limit: int = 1000,
    seed: FixedSeed = 0,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Name a model's state (healthy, collapsed, lagging encoder ...), the evidence for it, and what to try.

    Args:
        corpus: what to score; by default the corpus of the training.
        limit: score at most this many sentences.
    """
    from seqvae.cli.inputs import Selection
    from seqvae.cli.interfaces import open_interface
    from seqvae.cli.output import print_diagnosis, print_json

    interface = open_interface(model, part)
    held_out, train, notes = Selection(corpus, split, column, limit).read(interface.model)
    options = {"samples": DIAGNOSIS_SAMPLES, "seed": seed, "folder": model}
    found = examine_with_notes(interface, held_out, train, notes, **options).diagnosis
    if json:
        print_json(vars(found))
    else:
        print_diagnosis(found, at_length=True)


@app.command(sort_key=11)
def describe(model: Folder, /, *, part: OwnParts = None) -> None:
    """Describe a model: its size, its parts, its corpus and its scores."""
    from seqvae.cli.interfaces import open_interface
    from seqvae.cli.output import print_description

    interface = open_interface(model, part)
    print_description(interface.model, interface.describe())

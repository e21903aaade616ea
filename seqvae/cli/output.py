"""What the commands print: results on standard output, and the rest, such as progress, on standard error."""

import json
import logging
import shlex
import sys
import textwrap
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from seqvae import pretrained
from seqvae.auto import AnyVAE, find_class
from seqvae.errors import ConfigError, write_output
from seqvae.evaluation.probes import SeriesScores
from seqvae.evaluation.scores import Scores, TextScores, format_rows, read_scores
from seqvae.latent.steering import SteeringReport
from seqvae.reports.diagnosis import Diagnosis, bound_information, find_warning
from seqvae.reports.page.examples import STEPS, Examples, format_options
from seqvae.reports.page.summary import Line
from seqvae.training.loop import Run, Validation, fit
from seqvae.training.session import RECENT, format_progress, make_bar
from seqvae.training.trainer import Step

EMPTY = "(empty)"  # stands for a sentence without a word
COLUMNS = 100  # of what is printed after a training
PAUSE = 20  # seconds between two lines of progress where there is no terminal to draw a bar on
HEADINGS: dict[type, str] = {
    Scores: "Held-out scores",
    TextScores: "Scores of generated text",
    SeriesScores: "Scores of reconstructions",
}


def log(text: str) -> None:
    """Print one line on standard error."""
    print(text, file=sys.stderr)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object in a line, in ASCII unless the output holds every character."""
    whole = "utf" in (sys.stdout.encoding or "utf-8").lower()
    print(json.dumps(values, ensure_ascii=not whole))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write one JSON object to the file that --output names.

    Raises:
        ConfigError: if it cannot be written.
    """
    try:
        write_output(path, lambda beside: beside.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}") from None


# -- progress ---------------------------------------------------------------------------------------------------------


def train_with_progress(run: Run) -> None:
    """Train with a progress bar on standard error; one process of several draws it."""
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    main, terminal = run.accelerator.is_main_process, sys.stderr.isatty()
    bar = make_bar(main and terminal)
    recent: deque[tuple[Step, float]] = deque(maxlen=RECENT)
    due = time.monotonic() + PAUSE
    end = float(run.config.objective.weight.get("end", 1.0))
    unit = find_class(run.config).unit
    with bar:
        for event in fit(run):
            if isinstance(event, Validation):
                if main:
                    bar.write(format_validation(event, end, unit, run.kl_weight), file=sys.stderr)
                continue
            recent.append((event, run.trainer.seconds))
            bar.set_postfix_str(format_progress(recent), refresh=False)
            bar.update(event.progress - bar.n)
            if main and not terminal and time.monotonic() > due:
                log(f"{event.progress:.0%}{format_progress(recent)}")
                due = time.monotonic() + PAUSE
    for warning in (run.target_warning, run.overfit_warning):
        if main and warning:
            log(warning)


def format_validation(event: Validation, end: float, unit: str = "sentence", kl_weight: float = 1.0) -> str:
    """Format one line about a validation, and one more if z is ignored.

    Args:
        event: the validation.
        end: the final weight of the KL in the loss.
        unit: of what the numbers are.
        kl_weight: of the KL in what chooses the best model.
    """
    rest = f" + {kl_weight:.2g} KL" if kl_weight else ""
    chosen_by = "" if kl_weight == 1 else f" by reconstruction{rest}"
    kept = f"best so far{chosen_by}" if event.stationary else "kept for now: the objective still changes"
    best = f"  ({kept})" if event.kept else ""
    line = (
        f"step {event.step:,}: validation -ELBO {-event.elbo:.2f} = reconstruction {event.reconstruction:.2f} "
        f"+ KL {event.kl:.2f} nats/{unit}{best}"
    )
    if event.usage is None:
        return line
    ill = find_warning(
        reconstruction=event.reconstruction,
        kl=event.kl,
        rise=event.usage.permuted_nll_increase,
        weight=event.weight,
        end=end,
        information=bound_information(event.usage)[0],
        unit=unit,
    )
    return f"{line}\n  warning: {ill}; `seqvae diagnose` names what to try" if ill else line


# -- scores -----------------------------------------------------------------------------------------------------------


def print_scores(scores: Scores | TextScores | SeriesScores, units: str = "sentences") -> None:
    """Print each score with its standard error and its definition, under the headings of their sections."""
    values = vars(scores)
    number = values.get("sentences", values.get("series"))
    count = "" if number is None else f" ({number:,} {units})"
    print(f"\n{HEADINGS[type(scores)]}{count}")
    for section, group in groupby(format_rows(scores), attrgetter("section")):
        print(f"\n  {section}")
        for row in group:
            print(f"  {row.name:26} {row.value:>18}  {row.definition}")


def print_condition(model: AnyVAE) -> None:
    """Print what the scores of a model that is conditioned on labels mean; nothing for another model."""
    if model.labels:
        meaning = pretrained.explain_conditioning(model.config.data.label_column)
        print(f"\n{meaning}")


def print_baselines(found: Mapping[str, Mapping[str, float]], units: str = "sentences") -> None:
    """Print what baselines score on the same data, if there are any."""
    if found:
        print(f"\n  baselines: models without a latent space, fitted to the training {units}")
    for name, scores in found.items():
        values = ", ".join(f"{score.replace('_', ' ')} {value:,.3f}" for score, value in scores.items())
        print(f"  {name:26} {values}")


def print_probes(found: Sequence[Mapping[str, Any]]) -> None:
    """Print how well labels are predicted from the posterior means."""
    print("\n  probes: accuracy of a linear classifier, cross-validated")
    for probe in found:
        print(
            f"  {probe['label']:26} {probe['accuracy']:.3f} ± {probe['standard_error']:.3f} from the posterior means, "
            f"{probe['bag_of_words']:.3f} from the bag of words, {probe['majority']:.3f} for the most frequent of "
            f"{probe['classes']} labels"
        )


def print_linear_probes(found: Mapping[str, float]) -> None:
    """Print how well numbers are predicted from the posterior means."""
    print("\n  probes: R^2 of a linear map from the posterior means, cross-validated")
    for name, r2 in found.items():
        print(f"  {name:26} {r2:6.3f}")


def print_diagnosis(found: Diagnosis, *, at_length: bool) -> None:
    """Print the state of a model: in a line, or with its evidence and what to try."""
    if not at_length:
        print(f"\ndiagnosis: {found}")
        return
    print(f"{found.state}\n  {found.meaning}")
    for line in found.evidence:
        print(f"  - {line}")
    if found.command:
        print(f"likely to help: {'; or '.join(found.advice)}\n  {found.command}")


def print_steering(found: SteeringReport, column: str, attribute: str) -> None:
    """Print how well sentences are given an attribute."""
    print(f"\nSteering to {column} = {attribute} ({found.sentences:,} held-out sentences without it)")
    with_it, without_it = found.true_positive_rate, found.false_positive_rate
    having = "" if with_it is None else f"{with_it:.3f} of the held-out sentences with it and "
    print(f"  a classifier of words alone finds it in {having}{without_it:.3f} of those without it")
    print("  success: fraction of the decoded sentences in which that classifier finds it")
    print("  content: 1 - word edit distance to the same sentence decoded at strength 0, over the longer of the two")
    print("  strength          success          content")
    for step in found.steps:
        print(
            f"  {step.strength:8.1f}  {step.success:.3f} ± {step.success_standard_error:.3f}  "
            f"{step.content:.3f} ± {step.content_standard_error:.3f}"
        )


def print_comparison(table: str, folder: Path) -> None:
    """Print the table of a comparison, and where the rest of it is."""
    print(table)
    print(f"\ntable, plots and report: {folder}   (open {folder / 'report.html'})")


# -- the end of a training --------------------------------------------------------------------------------------------


def print_examples(examples: Examples, preview: Callable[[Any], str], units: str) -> None:
    """Print samples, reconstructions and walks, as far as there are any.

    Args:
        examples: of a model.
        preview: returns an item as a line of text.
        units: what items are called.
    """
    options, marked = format_options(examples.options), any(pair.exact for pair in examples.reconstructions)
    print(f"\nSamples from the prior{f' ({options})' if options else ''}")
    margin = max((len(label) + 2 for label, _ in examples.samples if label is not None), default=0)
    for label, item in examples.samples:
        print_wrapped(f"  {'' if label is None else label + ':':{margin}}", preview(item))
    if examples.reconstructions:
        print(f"\nReconstructions of held-out {units}{' (=: word for word)' if marked else ''}")
    for pair in examples.reconstructions:
        print_wrapped("   = " if pair.exact else "     ", preview(pair.original))
        if not pair.exact:
            print_wrapped("  -> ", preview(pair.result))
    for walk in examples.walks:
        label = "" if walk.label is None else f", all with label {walk.label}"
        print(f"\nInterpolation between two held-out {units} in {STEPS} steps{label}")
        for item, count in walk.steps:
            print_wrapped("  ", (preview(item) or EMPTY) + (f"  ({count} steps)" if count > 1 else ""))


def print_wrapped(margin: str, text: str) -> None:
    """Print a text of one paragraph behind a margin, broken between words where it is too long for a line."""
    text = text or EMPTY
    if len(margin) + len(text) <= COLUMNS:
        print(margin + text)
        return
    print(textwrap.fill(text, COLUMNS, initial_indent=margin, subsequent_indent=" " * len(margin)))


def print_summary(lines: Sequence[Line], number: int, units: str) -> None:
    """Print the few scores that matter, each with what to compare it with."""
    print(f"\nScores of {number:,} held-out {units}")
    name, value = (max(len(getattr(line, part)) for line in lines) for part in ("name", "value"))
    for line in lines:
        print(f"  {line.name:{name}}  {line.value:{value}}  {line.beside}".rstrip())


def print_place(folder: Path, options: str, report: Path | None, *, latent: bool) -> None:
    """Print where a model and its report are, and commands to try next.

    Args:
        folder: of the model.
        options: those with which a first `seqvae sample` shows most.
        report: the page that was written, if any.
        latent: whether the model has a latent space to walk in.
    """
    page = "" if report is None else f"   (all scores and pictures: {report.name} in it)"
    print(f"\nmodel folder: {folder}{page}\ntry next:")
    for command in ["sample", "interpolate", "explore"] if latent else ["sample", "evaluate"]:
        print(f"  seqvae {command} {shlex.quote(str(folder))} {options if command == 'sample' else ''}".rstrip())


# -- models -----------------------------------------------------------------------------------------------------------


def print_description(model: AnyVAE, rows: Sequence[tuple[str, str]]) -> None:
    """Print what a model is: its size, its parts, its corpus, its scores.

    Args:
        model: the model.
        rows: names and values of what only models of its class have.
    """
    config, facts = model.config, model.checkpoint.facts
    parameters = list(model.model.parameters())
    notes = [("", note) for note in facts.get("notes", [])]
    table = [
        ("corpus", facts.get("corpus", config.corpus)),
        *notes,
        ("kind", config.kind),
        *rows,
        ("parameters", f"{sum(p.numel() for p in parameters):,}, in {len(parameters)} tensors"),
        ("trained for", f"{facts.get('step', 0):,} steps, seed {config.training.seed}"),
        ("latent", f"{config.model.latent} dimensions"),
        ("weights", f"stored in {model.checkpoint.dtype}"),
        ("samples", f"by default with {pretrained.describe_sampling(model)}"),
    ]
    for group in (config.model, config.objective):
        for place, part in vars(group).items():
            if isinstance(part, dict):
                options = ", ".join(f"{name} {value}" for name, value in part.items() if name != "name")
                table.append((place, f"{part['name']}{': ' if options else ''}{options}"))
    for name, value in table:
        print(f"{name:12} {value}")
    if "scores" in facts:
        print_scores(read_scores(facts["scores"]), model.units)

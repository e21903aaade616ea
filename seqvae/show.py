"""What the commands print."""

import json as json_
import shlex
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from seqvae.data.text.corpus import Split
from seqvae.evaluation.probes import SeriesScores
from seqvae.evaluation.scores import Scores, TextScores, restored, rows
from seqvae.pretrained import given, labels
from seqvae.reports.diagnosis import Diagnosis, bracket, warning
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import Sentence, TextVAE
from seqvae.training.loop import Run, Validation, fit
from seqvae.training.trainer import Step

if TYPE_CHECKING:
    from seqvae.evaluation.probes import Probe
    from seqvae.latent.steering import Report

RECENT = 50  # steps that the progress bar averages over
LABELS = 8  # that the tour shows samples of, at most
HEADINGS: dict[type, str] = {TextScores: "Scores of texts", SeriesScores: "Scores of reconstructed series"}
PAUSE = 20  # seconds between two lines of progress where there is no terminal to draw a bar on


def remark(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr)


def quiet() -> None:
    """Keep other libraries' notices out of the progress."""
    import logging
    import warnings

    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)


def training(run: Run) -> None:
    """Train with a progress bar on standard error; one process of several draws it."""
    main, terminal = run.accelerator.is_main_process, sys.stderr.isatty()
    bar = tqdm(
        total=1.0,
        disable=not (main and terminal),
        bar_format="{percentage:3.0f}% |{bar:16}| {elapsed} < {remaining}{postfix}",
        mininterval=0.2,
        file=sys.stderr,
        dynamic_ncols=True,
    )
    recent: deque[tuple[Step, float]] = deque(maxlen=RECENT)
    due = time.monotonic() + PAUSE
    end = float(run.config.objective.weight.get("end", 1.0))
    unit = "series" if run.config.model.observation["name"] == "frames" else "sentence"
    with bar:
        for event in fit(run):
            if isinstance(event, Validation):
                if main:
                    bar.write(validation(event, end, unit), file=sys.stderr)
                continue
            recent.append((event, run.trainer.seconds))
            bar.set_postfix_str(figures(recent), refresh=False)
            bar.update(event.progress - bar.n)
            if main and not terminal and time.monotonic() > due:
                remark(f"{event.progress:.0%}{figures(recent)}")
                due = time.monotonic() + PAUSE
    if main and run.missed:
        remark(run.missed)


def figures(recent: Sequence[tuple[Step, float]]) -> str:
    """The terms that matter, averaged over the recent steps."""
    steps = [step for step, _ in recent]
    sentences = sum(step.report.sentences for step in steps)
    said = sum(step.report.reconstruction * step.report.sentences for step in steps) / sentences
    cost = sum(step.report.kl * step.report.sentences for step in steps) / sentences
    seconds = recent[-1][1] - recent[0][1]
    speed = sum(step.report.tokens for step in steps[1:]) / seconds if seconds else 0.0
    last = steps[-1]
    return (
        f" epoch {last.epoch + 1} step {last.step:,} | reconstruction {said:.1f} + {last.report.weight:.2f} x "
        f"KL {cost:.1f} nats | {speed:,.0f} tokens/s"
    )


def validation(event: Validation, end: float, unit: str = "sentence") -> str:
    """One line about a validation, and one more if z is ignored; `end` is what the weight of the KL rises to."""
    kept = "  kept" if event.kept else ""
    line = (
        f"step {event.step:,}: validation -ELBO {-event.elbo:.2f} = reconstruction {event.reconstruction:.2f} "
        f"+ KL {event.kl:.2f} nats/{unit}{kept}"
    )
    if event.vitals is None:
        return line
    rise = event.vitals.permuted_nll_increase
    ill = warning(
        reconstruction=event.reconstruction,
        kl=event.kl,
        rise=rise,
        weight=event.weight,
        end=end,
        information=bracket(event.vitals)[0],
        series=unit == "series",
    )
    return f"{line}\n  warning: {ill}; `seqvae diagnose` says what to try" if ill else line


def scores(scores: Scores | TextScores | SeriesScores) -> None:
    """Each score with its standard error and its definition, under the headings of their sections."""
    if isinstance(scores, SeriesScores):
        count = f" ({scores.series:,} series)"
    else:
        unit = "series" if isinstance(scores, Scores) and scores.nll_per_frame is not None else "sentences"
        count = "" if scores.sentences is None else f" ({scores.sentences:,} {unit})"
    print(f"\n{HEADINGS.get(type(scores), 'Held-out scores')}{count}")
    for section, group in groupby(rows(scores), attrgetter("section")):
        print(f"\n  {section}")
        for row in group:
            print(f"  {row.name:26} {row.value:>18}  {row.definition}")


def condition(model: TextVAE) -> None:
    """What the scores of a conditional model are scores of; nothing for another model."""
    if model.labels:
        print(f"\n{given(model.config.data.label_column)}")


def floors(floors: Mapping[str, Mapping[str, float]]) -> None:
    """What n-gram models score on the same sentences, if there are any."""
    if not floors:
        return
    words = "unigram" in floors
    told = "that only count words of the training sentences" if words else "without a latent space, fitted to train"
    print(f"\n  floors: models {told}")
    for name, found in floors.items():
        figures = ", ".join(f"{score.replace('_', ' ')} {value:,.3f}" for score, value in found.items())
        print(f"  {name:26} {figures}")


def probes(probes: "Sequence[Probe]") -> None:
    """How well labels are told from the posterior means."""
    print("\n  probes: share of labels that a linear classifier tells, cross-validated")
    for probe in probes:
        print(
            f"  {probe.label:26} {probe.accuracy:.3f} ± {probe.standard_error:.3f} from the posterior means, "
            f"{probe.bag_of_words:.3f} from the bag of words, {probe.majority:.3f} by the commonest of {probe.classes}"
        )


def steering(found: "Report", column: str, attribute: str) -> None:
    """How well sentences are given an attribute."""
    print(f"\nSteering to {column} = {attribute} ({found.sentences:,} held-out sentences without it)")
    having = "" if found.judge_having is None else f"{found.judge_having:.3f} of the held-out sentences with it and "
    print(f"  the judge, a classifier of words alone, sees it in {having}{found.judge_lacking:.3f} of those without it")
    print("  success: share of the decoded sentences that the judge sees it in")
    print("  content: 1 - word edit distance to the same sentence decoded at strength 0, over the longer of the two")
    print("  strength          success          content")
    for step in found.steps:
        print(
            f"  {step.strength:8.1f}  {step.success:.3f} ± {step.success_standard_error:.3f}  "
            f"{step.content:.3f} ± {step.content_standard_error:.3f}"
        )


def diagnosis(found: Diagnosis, *, at_length: bool) -> None:
    """The state of a model: in a line, or with its evidence and what to try."""
    if not at_length:
        print(f"\ndiagnosis: {found}")
        return
    print(f"{found.state}\n  {found.meaning}")
    for line in found.evidence:
        print(f"  - {line}")
    if found.command:
        print(f"likely to help: {'; or '.join(found.advice)}\n  {found.command}")


def table(text: str, folder: Path) -> None:
    """A comparison, and where the rest of it lies."""
    print(text)
    print(f"\ntable, plots and report: {folder}   (open {folder / 'report.html'})")


def json(values: Mapping[str, Any]) -> None:
    """One JSON object in a line, in ASCII unless the output holds every character."""
    whole = "utf" in (sys.stdout.encoding or "utf-8").lower()
    print(json_.dumps(values, ensure_ascii=not whole))


def tour(model: TextVAE, split: Split) -> None:
    """Samples, reconstructions and an interpolation."""
    if model.labels:
        samples_by_label(model)
    else:
        print("\nFive sentences from the prior (temperature 0.5)")
        for text in model.sample(5, seed=0, temperature=0.5):
            print(f"  {text}")
    if not model.config.model.latent:
        return
    chosen, labels = examples(model, split)
    print("\nThree held-out sentences and their reconstructions")
    for original, again in zip(chosen, model.reconstruct(chosen, labels=labels), strict=True):
        print(f"  {original}\n  -> {again}")
    label = None if labels is None else labels[0]
    print(f"\nFrom the first of them to the last in 7 steps{'' if label is None else f', all of them {label}'}")
    for text in model.interpolate(chosen[0], chosen[-1], label=label, steps=7):
        print(f"  {text}")


def samples_by_label(model: TextVAE) -> None:
    """Sentences from the same draws of the prior under each of the commonest labels."""
    shown = sorted(model.labels, key=model.checkpoint.labels.__getitem__, reverse=True)[:LABELS]
    print(f"\nThree sentences from the prior (temperature 0.5) for each {model.config.data.label_column}")
    for label in shown:
        print(f"  {label}:")
        for text in model.sample(3, label=label, seed=0, temperature=0.5):
            print(f"    {text}")


def place(folder: Path, try_: str = "--temperature 0.5") -> None:
    """Where the model lies, and options to sample from it."""
    print(f"\nmodel folder: {folder}   (try: seqvae sample {shlex.quote(str(folder))} {try_})")


def examples(model: TextVAE, split: Split, count: int = 3) -> tuple[list[str], list[str] | None]:
    """Held-out sentences of like, moderate length, without unknown words where there are such; always the same.

    Their labels too, if they have any.
    """
    lengths = split.lengths
    typical = np.argsort(np.abs(lengths - min(8, int(np.median(lengths)))), kind="stable")[:200]
    texts = [model.tokenizer.decode(ids) for ids in split.sequences(typical)]
    known = [place for place, text in enumerate(texts) if "<unk>" not in text] or list(range(len(texts)))
    chosen = known[:: max(1, len(known) // count)][:count]
    return [texts[place] for place in chosen], model.labels_of(split.select(typical[chosen]))


def sentences(said: Sequence[Sentence], as_json: bool, originals: Sequence[str] | None = None) -> None:
    """One sentence a line, or one JSON object a line."""
    for i, sentence in enumerate(said):
        if as_json:
            json(({} if originals is None else {"original": originals[i]}) | vars(sentence))
        else:
            print(sentence.text)


def description(model: TextVAE | SeriesVAE) -> None:
    """What a model is: its size, its parts, its corpus, its scores."""
    config, facts = model.config, model.checkpoint.facts
    parameters = sum(p.numel() for p in model.model.parameters())
    print(f"corpus       {facts.get('corpus', config.corpus)}")
    for note in facts.get("notes", []):
        print(f"             {note}")
    print(f"kind         {config.kind}")
    if isinstance(model, TextVAE):
        if model.labels:
            print(f"labels       {labels(model.checkpoint)}")
        print(f"tokenizer    {model.tokenizer.kind}, {len(model.tokenizer):,} tokens")
    else:
        scaler = model.frames.scaler
        for channel, (mean, std) in enumerate(zip(scaler.mean.tolist(), scaler.std.tolist(), strict=True)):
            print(f"channel {channel:<4} mean {mean:.4g}, standard deviation {std:.4g}")
    print(f"parameters   {parameters:,}, of {len(list(model.model.parameters()))} tensors")
    print(f"trained for  {facts.get('step', 0):,} steps, seed {config.training.seed}")
    print(f"latent       {config.model.latent} dimensions")
    for group in (config.model, config.objective):
        for place, part in vars(group).items():
            if isinstance(part, dict):
                options = ", ".join(f"{name} {value}" for name, value in part.items() if name != "name")
                print(f"{place:12} {part['name']}{': ' if options else ''}{options}")
    if "scores" in facts:
        scores(restored(facts["scores"]))

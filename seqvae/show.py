"""What the commands print."""

import json as json_
import shlex
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from seqvae.card import show
from seqvae.evaluation import Scores, definitions
from seqvae.fitting import Run, Validation, fit
from seqvae.text.corpus import Split
from seqvae.textvae import Sentence, TextVAE
from seqvae.trainer import Step

RECENT = 50  # updates that the progress bar averages over
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
    with bar:
        for event in fit(run):
            if isinstance(event, Validation):
                if main:
                    bar.write(validation(event), file=sys.stderr)
                continue
            recent.append((event, run.trainer.seconds))
            bar.set_postfix_str(figures(recent), refresh=False)
            bar.update(event.progress - bar.n)
            if main and not terminal and time.monotonic() > due:
                remark(f"{event.progress:.0%}{figures(recent)}")
                due = time.monotonic() + PAUSE


def figures(recent: Sequence[tuple[Step, float]]) -> str:
    """The terms that matter, averaged over the recent updates."""
    steps = [step for step, _ in recent]
    sentences = sum(step.report.sentences for step in steps)
    said = sum(step.report.reconstruction * step.report.sentences for step in steps) / sentences
    cost = sum(step.report.kl * step.report.sentences for step in steps) / sentences
    seconds = recent[-1][1] - recent[0][1]
    speed = sum(step.report.tokens for step in steps[1:]) / seconds if seconds else 0.0
    last = steps[-1]
    return (
        f" epoch {last.epoch + 1} update {last.update:,} | reconstruction {said:.1f} + {last.report.weight:.2f} x "
        f"KL {cost:.1f} nats | {speed:,.0f} tokens/s"
    )


def validation(event: Validation) -> str:
    """One line about a validation."""
    kept = "  kept" if event.kept else ""
    return (
        f"update {event.update:,}: validation -ELBO {-event.elbo:.2f} = reconstruction {event.reconstruction:.2f} "
        f"+ KL {event.kl:.2f} nats/sentence{kept}"
    )


def scores(scores: Scores) -> None:
    """Each score with its definition."""
    meaning = definitions()
    print(f"\nHeld-out scores ({scores.sentences:,} sentences)")
    for name, value in vars(scores).items():
        print(f"  {name:26} {show(value):>10}  {meaning[name]}")


def tour(model: TextVAE, split: Split) -> None:
    """Samples, reconstructions and an interpolation."""
    print("\nFive sentences from the prior (temperature 0.5)")
    for text in model.sample(5, seed=0, temperature=0.5):
        print(f"  {text}")
    chosen = examples(model, split)
    print("\nThree held-out sentences and their reconstructions")
    for original, again in zip(chosen, model.reconstruct(chosen), strict=True):
        print(f"  {original}\n  -> {again}")
    print("\nFrom the first of them to the last in 7 steps")
    for text in model.interpolate(chosen[0], chosen[-1], steps=7):
        print(f"  {text}")


def place(folder: Path) -> None:
    """Where the model lies."""
    print(f"\nmodel folder: {folder}   (try: seqvae sample {shlex.quote(str(folder))} --temperature 0.5)")


def examples(model: TextVAE, split: Split, count: int = 3) -> list[str]:
    """Held-out sentences of like, moderate length, without unknown words where there are such; always the same."""
    lengths = split.lengths
    typical = np.argsort(np.abs(lengths - min(8, int(np.median(lengths)))), kind="stable")[:200]
    texts = [model.tokenizer.decode(ids) for ids in split.sequences(typical)]
    known = [text for text in texts if "<unk>" not in text]
    return (known or texts)[:: max(1, len(known or texts) // count)][:count]


def sentences(said: Sequence[Sentence], json: bool, originals: Sequence[str] | None = None) -> None:
    """One sentence a line, or one JSON object a line."""
    for i, sentence in enumerate(said):
        if json:
            original = {} if originals is None else {"original": originals[i]}
            print(json_.dumps(original | vars(sentence), ensure_ascii=False))
        else:
            print(sentence.text)


def description(model: TextVAE) -> None:
    """What a model is: its size, its parts, its corpus, its scores."""
    config, facts = model.config, model.checkpoint.facts
    parameters = sum(p.numel() for p in model.model.parameters())
    print(f"corpus       {facts.get('corpus', config.corpus)}")
    for note in facts.get("notes", []):
        print(f"             {note}")
    print(f"tokenizer    {model.tokenizer.kind}, {len(model.tokenizer):,} tokens")
    print(f"parameters   {parameters:,}, of {len(list(model.model.parameters()))} tensors")
    print(f"trained for  {facts.get('update', 0):,} updates, seed {config.training.seed}")
    print(f"latent       {config.model.latent} dimensions")
    for group in (config.model, config.objective):
        for place, part in vars(group).items():
            if isinstance(part, dict):
                options = ", ".join(f"{name} {value}" for name, value in part.items() if name != "name")
                print(f"{place:12} {part['name']}{': ' if options else ''}{options}")
    if "scores" in facts:
        scores(Scores(**facts["scores"]))

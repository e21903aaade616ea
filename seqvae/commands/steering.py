"""Sentences moved along the direction of an attribute, and how well that works."""

import math
from functools import partial

import torch

from seqvae import show
from seqvae.commands.reading import Labels
from seqvae.data.text.corpus import Split
from seqvae.data.text.unknown import unmentioned
from seqvae.errors import ConfigError
from seqvae.evaluation import text_metrics
from seqvae.latent import steering
from seqvae.text_vae import TextVAE
from seqvae.training.machine import keep_freed_memory

STEERED = 500  # sentences that a report steers, at most


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
        text_metrics.optional("rapidfuzz.distance")  # before any work
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
    with unmentioned():
        return model.encode(split.texts(), labels=model.labels_of(split)).mode


def _written(model: TextVAE, split: Split) -> list[str]:
    """The sentences as the decoder would write them: what the tokenizer does not know is `<unk>`."""
    return model.tokenizer.decode_batch(split.sequences(range(len(split))))

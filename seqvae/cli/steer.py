"""`seqvae steer`: sentences moved along the direction of an attribute, and how well that works."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from seqvae.cli.shared import SWITCH, Column, Folder, Json, Label, OwnParts, Writing, app
from seqvae.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from seqvae.cli.inputs import Attribute
    from seqvae.data.text.corpus import TextSplit
    from seqvae.latent.steering import SteeringReport
    from seqvae.text_vae import TextVAE

STEERED = 500  # sentences that a report steers, at most


@app.command(sort_key=10)
def steer(
    model: Folder,
    /,
    *sentences: str,
    label_column: Annotated[str, Parameter(help="the column of labels, as `tense` of `grammar`.")],
    attribute: str,
    label: Label = None,
    strength: float = 1.5,
    direction: Literal["mean", "logistic"] = "mean",
    corpus: str | None = None,
    column: Column = None,
    report: Annotated[bool, SWITCH] = False,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Give sentences an attribute: decode them after a move along its direction in the latent space.

    Args:
        sentences: to be steered, each between quotes; none is needed with --report.
        attribute: the label that sentences shall get, as `past`.
        strength: how far to move; 1 is as far as sentences with the attribute are from others, below 0 is away from it.
        direction: `mean`, from the mean of the sentences without it to that of those with it, or `logistic`, the normal
            of a linear classifier of the two.
        corpus: labelled sentences to learn from, if not those that the model was trained on.
        report: steer held-out sentences without the attribute at strengths from 0 to 2, and print how many get it, as
            a classifier of their words finds, against how much of their words is kept. Needs the extra `eval`.
    """
    from seqvae.cli.inputs import Attribute
    from seqvae.cli.interfaces import make_interface
    from seqvae.cli.output import print_json, print_steering
    from seqvae.text_vae import TextVAE
    from seqvae.training.machine import keep_freed_memory

    vae = TextVAE.from_pretrained(model, parts=part or ())
    check_steering(vae, list(sentences), label, strength, report)
    wanted = Attribute(label_column, attribute, corpus, column)
    known, held_out = wanted.read(vae, report=report)
    keep_freed_memory()
    vector = learn_direction(vae, wanted, known, direction)
    if sentences:
        means = vae.encode(sentences, labels=label).mode
        generated = vae.generate(means + strength * vector.to(means), labels=label)
        make_interface(vae).write(generated, Writing(json=json), "sentence", originals=sentences)
    if held_out is None:
        return
    found = make_report(vae, wanted, known, held_out, vector)
    if json:
        print_json(vars(found) | {"steps": [vars(step) for step in found.steps]})
    else:
        print_steering(found, label_column, attribute)


def learn_direction(model: TextVAE, wanted: Attribute, known: TextSplit, direction: str) -> torch.Tensor:
    """Learn the direction (D,) of an attribute from the posterior means of sentences, and log its length."""
    from seqvae.cli.output import log
    from seqvae.latent import steering

    having, lacking = wanted.divide(known)
    vector = steering.DIRECTIONS[direction](encode_means(model, having), encode_means(model, lacking))
    log(
        f"{direction} direction of {wanted.label_column} = {wanted.value}: length {float(vector.norm()):.2f}, from "
        f"{len(having):,} sentences with it and {len(lacking):,} others"
    )
    return vector


def check_steering(model: TextVAE, sentences: list[str], label: str | None, strength: float, report: bool) -> None:
    """Refuse before any work what cannot be steered.

    Raises:
        ConfigError: for the first of them.
    """
    from seqvae.evaluation.text_metrics import import_optional

    if not sentences and not report:
        raise ConfigError("no sentence was given: write one or more between quotes, or --report")
    if not all(sentence.strip() for sentence in sentences):
        raise ConfigError("one of the sentences is blank: write words between the quotes")
    if not math.isfinite(strength):
        raise ConfigError(f"--strength {strength}: expected a finite number, as 1.5")
    if report:
        import_optional("rapidfuzz.distance")
    if not model.model.latent:
        raise ConfigError("steering needs a latent space: a model of kind lm has none; train one of kind vae")
    if sentences or label is not None:
        model.number_labels(label, 1)


def make_report(
    model: TextVAE, wanted: Attribute, known: TextSplit, held_out: TextSplit, vector: torch.Tensor
) -> SteeringReport:
    """Steer held-out sentences without the attribute, and let a classifier of words find it in the result."""
    from seqvae.latent import steering

    having, lacking = wanted.divide(known)
    judge = steering.AttributeClassifier.fit(decode_ids(model, having), decode_ids(model, lacking))
    having, lacking = wanted.divide(held_out)
    moved = lacking.at_most(STEERED)
    decode = partial(model.decode, labels=model.read_labels(moved))
    return steering.SteeringReport(
        sentences=len(moved),
        true_positive_rate=float(judge(decode_ids(model, having)).double().mean()) if len(having) else None,
        false_positive_rate=float(judge(decode_ids(model, lacking)).double().mean()),
        steps=steering.evaluate_steering(decode, encode_means(model, moved), vector, judge),
    )


def encode_means(model: TextVAE, split: TextSplit) -> torch.Tensor:
    """Encode sentences, each with its own label where the model needs one: their posterior means (N, D)."""
    from seqvae.data.text.unknown import silence_unknown

    with silence_unknown():
        return model.encode(split.texts(), labels=model.read_labels(split)).mode


def decode_ids(model: TextVAE, split: TextSplit) -> list[str]:
    """Return sentences as the decoder would write them, with `<unk>` for what the tokenizer does not know."""
    return model.tokenizer.decode_batch(split.sequences(range(len(split))))

"""`seqvae steer`."""

from typing import Annotated, Literal

from cyclopts import Parameter

from seqvae.cli.shared import Folder, Json, Label, app


@app.command(sort_key=10)
def steer(
    model: Folder,
    /,
    *sentences: str,
    column: str,
    attribute: str,
    label: Label = None,
    strength: float = 1.5,
    direction: Literal["mean", "logistic"] = "mean",
    corpus: str | None = None,
    text_column: str | None = None,
    report: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Give sentences an attribute: decode them after a move along its direction in the latent space.

    Args:
        sentences: to be steered, each between quotes; none is needed with --report.
        column: the column of labels, as `tense` of `grammar`.
        attribute: the value of it that sentences shall get, as `past`.
        strength: how far to move; 1 is as far as sentences with the attribute lie from others, below 0 is away from it.
        direction: `mean`, from the mean of the sentences without it to that of those with it, or `logistic`, the normal
            of a linear classifier of the two.
        corpus: labelled sentences to learn from, if not those that the model was trained on.
        text_column: the column of that corpus that holds the sentences.
        report: steer held-out sentences without the attribute at strengths from 0 to 2, and show how many get it, as
            a classifier of their words says, against how much of their words is kept. Needs the extra `eval`.
    """
    from seqvae.commands import reading, steering

    labels = reading.Labels(column, attribute, corpus, text_column)
    steering.steer(
        model,
        list(sentences),
        labels,
        label=label,
        strength=strength,
        direction=direction,
        report=report,
        json=json,
    )

"""What a model has learnt."""

from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from seqvae.cli.shared import AT_LEAST_ONE, SEED, Folder, Json, Plot, app


@app.command(sort_key=7)
def evaluate(
    model: Folder,
    corpus: str | None = None,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    column: str | None = None,
    samples: int = 100,
    seeds: Annotated[int, AT_LEAST_ONE] = 1,
    refine: Annotated[int, Parameter(validator=cyclopts.validators.Number(gte=0))] = 100,
    text: Annotated[bool, Parameter(negative="")] = False,
    label_column: list[str] | None = None,
    language_model: str | None = None,
    limit: int | None = None,
    seed: Annotated[int, Parameter(validator=SEED)] = 0,
    plot: Plot = None,
    json: Path | None = None,
) -> None:
    """Held-out scores with their definitions and standard errors, and the doctor's line.

    Args:
        corpus: what to score; by default the corpus that the model was trained on.
        split: which part of it. A single file that is not the training corpus is scored whole.
        column: the column of a table that holds the sentences.
        samples: draws of z for each sentence, for the importance-weighted likelihood.
        seeds: how often that likelihood is estimated, with seeds of its own each.
        refine: sentences whose q(z|x) is refined by gradient, for the inference gap; 0 = none.
        text: also score what the model writes: reconstructions, samples from the prior, interpolations. Needs the
            extra `eval`: `pip install "seqvae[eval]"`.
        label_column: a column of labels to be told from the posterior means by a linear classifier (of series: a column
            of numbers, by a linear map); may be repeated. Of `grammar` and `curves` all factors are, by default. (The
            labels that a model is conditioned on it reads by itself.)
        language_model: a model folder of kind `lm`, to score the samples with in place of an n-gram model.
        limit: score only so many sentences, evenly spread over the split.
        seed: of the draws.
        json: also write the scores to this file.
    """
    from seqvae.commands import measuring, reading

    options = {"samples": samples, "seeds": seeds, "refined": refine, "seed": seed}
    measuring.evaluate(
        model,
        reading.Held(corpus, split, column, limit),
        text=text,
        labels=label_column or [],
        language_model=language_model,
        plot=plot,
        json=json,
        **options,
    )


@app.command(sort_key=8)
def diagnose(
    model: Folder,
    corpus: str | None = None,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    column: str | None = None,
    limit: int = 1000,
    seed: Annotated[int, Parameter(validator=SEED)] = 0,
    json: Json = False,
) -> None:
    """Name a model's state (healthy, collapsed, lagging encoder ...), say why, and what to try.

    Args:
        corpus: what to look at; by default the corpus that the model was trained on.
        split: which part of it.
        column: the column of a table that holds the sentences.
        limit: look at so many sentences at most.
        seed: of all draws.
    """
    from seqvae.commands import measuring, reading

    measuring.diagnose(model, reading.Held(corpus, split, column, limit), seed=seed, json=json)


@app.command(sort_key=11)
def describe(model: Folder, /) -> None:
    """What a model is: its size, its parts, its corpus and its scores."""
    from seqvae.commands import measuring

    measuring.describe(model)

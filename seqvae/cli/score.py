"""`score`: how likely each sentence of a file is, a line each, written as they are found."""

from __future__ import annotations

import sys
from typing import Annotated

from seqvae.cli.shared import (
    AT_LEAST_ONE,
    Column,
    FixedSeed,
    Folder,
    Json,
    Label,
    LabelColumn,
    OwnParts,
    Precision,
    app,
)


@app.command(sort_key=6.5)
def score(
    model: Folder,
    source: str = "-",
    /,
    *,
    samples: Annotated[int, AT_LEAST_ONE] = 100,
    column: Column = None,
    label: Label = None,
    label_column: LabelColumn = None,
    precision: Precision = "fp32",
    json: Json = False,
    seed: FixedSeed = 0,
    part: OwnParts = None,
) -> None:
    """Estimate log p(x) of each sentence of a file: a line with it, in nats, and the sentence, a tab between them.

    The lines are in the order of the file and are written as they are found, so that a large file needs little memory.

    Args:
        source: a file with a sentence a line, or `-` for standard input; for a model of series, a file of series.
        samples: of q(z|x) for each sentence, to weight by importance; the estimate is a lower bound in expectation.
    """
    from seqvae.cli.interfaces import open_interface
    from seqvae.cli.output import print_json
    from seqvae.cli.streaming import read_parts, silence_repeats
    from seqvae.training.precision import evaluate_in

    interface = open_interface(model, part)
    parts = read_parts(interface, source, column=column, label=label, label_column=label_column)
    for number, (items, labels) in enumerate(parts):
        with silence_repeats(number), evaluate_in(precision, interface.model.model):
            values = interface.model.score(items, labels=labels, samples=samples, seed=seed)
        for item, value in zip(items, values.tolist(), strict=True):
            if json:
                print_json({"log_prob": value} | ({"text": item} if isinstance(item, str) else {}))
            else:
                print(f"{value:.3f}", " ".join(interface.preview(item).splitlines()), sep="\t")
        sys.stdout.flush()

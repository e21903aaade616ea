"""`score`: how likely each sentence of a file is, a line each, written as they are found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Annotated, Any

from seqvae.cli.shared import AT_LEAST_ONE, Column, FixedSeed, Folder, Json, Label, LabelColumn, OwnParts, app
from seqvae.errors import CorpusError

ROWS = 1_000  # sentences that are read, scored and written at a time


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
    from seqvae.data.text.unknown import silence_unknown

    interface = open_interface(model, part)
    parts = read_parts(interface, source, column=column, label=label, label_column=label_column)
    for number, (items, labels) in enumerate(parts):
        with silence_unknown() if number else nullcontext():  # one warning is enough
            values = interface.model.score(items, labels=labels, samples=samples, seed=seed)
        for item, value in zip(items, values.tolist(), strict=True):
            if json:
                print_json({"log_prob": value} | ({"text": item} if isinstance(item, str) else {}))
            else:
                print(f"{value:.3f}", " ".join(interface.preview(item).splitlines()), sep="\t")
        sys.stdout.flush()


def read_parts(
    interface: Any, source: str, *, column: str | None, label: str | None, label_column: str | None
) -> Iterator[tuple[list[Any], Any]]:
    """Yield some sentences or series at a time, and their labels; sentences alone are never all in memory.

    Raises:
        ConfigError: as `read_items`.
        CorpusError: for a file that cannot be read, or that holds only blank lines.
    """
    from seqvae.cli.inputs import check_labels, read_items
    from seqvae.cli.interfaces import TextInterface, open_file
    from seqvae.cli.output import log
    from seqvae.cli.streaming import read_blocks

    check_labels(interface, label, label_column)
    if not isinstance(interface, TextInterface) or label_column is not None:
        items, labels = read_items(interface, source, column=column, label=label, label_column=label_column)
        for start in range(0, len(items), ROWS):
            rows = slice(start, start + ROWS)
            yield items[rows], labels[rows] if isinstance(labels, list) else labels
        return
    interface.model.number_labels(label, 1)  # an unknown one is refused before any work
    dataset, name = open_file(source, column)
    count = 0
    for texts in read_blocks(dataset, name, size=ROWS):
        count += len(texts)
        if texts:
            yield texts, label
    if not count:
        raise CorpusError(f"{'standard input' if source == '-' else source} holds only blank lines")
    if blank := len(dataset) - count:
        log(f"{blank:,} blank lines skipped")

"""Encoding a file that is larger than memory: a block of sentences at a time, continued where it was interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqvae.errors import ConfigError, CorpusError, write_atomically

if TYPE_CHECKING:
    import numpy as np

    from seqvae.text_vae import TextVAE

BLOCK = 20_000  # rows of the file that are read and encoded at a time
MANY = 100_000  # rows from which on a file is encoded in blocks


def open_large(
    interface: Any, source: str, column: str | None, label: str | None, label_column: str | None
) -> tuple[Any, str] | None:
    """Open a file of so many sentences that it is encoded in blocks; None for any other, and with a label for each."""
    from seqvae.data.text.sources import open_source
    from seqvae.text_vae import TextVAE

    model = interface.model
    if not isinstance(model, TextVAE) or source == "-" or label_column is not None:
        return None
    if bool(model.labels) != (label is not None) or not model.model.has_latent:
        return None  # refused in other words, where all are read
    opened = open_source(source, column)
    ((split, dataset), *others) = opened.datasets.items()
    return None if others or len(dataset) < MANY else (dataset, opened.columns[split])


def encode_blocks(model: TextVAE, source: Any, column: str, output: Path, *, label: str | None, scale: bool) -> None:
    """Write the posterior means of the sentences of a data set to a .npy file, blank ones left out.

    What is done is kept beside it in `NAME.npy.part`; the same call continues there.

    Args:
        model: encodes.
        source: a data set of `datasets`, memory-mapped.
        column: of the sentences.
        output: the .npy file.
        label: of all sentences, for a model of labels.
        scale: write standard deviations instead.

    Raises:
        CorpusError: if there are only blank lines.
        ConfigError: if the file cannot be written.
    """
    import numpy as np

    from seqvae.training.init import hash_weights

    count = sum(len(texts) for texts in read_blocks(source, column))
    if not count:
        raise CorpusError("the file holds only blank lines")
    part, state = (output.with_name(f"{output.name}.{ending}") for ending in ("part", "state"))
    key = f"{source._fingerprint}|{column}|{count}|{label}|{scale}|{hash_weights(model.model)}"
    blocks, row = _read_state(part, state, key)
    try:
        for number, texts in enumerate(read_blocks(source, column, blocks), blocks + 1):
            if not texts:
                continue
            q = model.encode(texts, labels=label)
            _write_rows(part, (q.stddev if scale else q.mode).numpy().astype(np.float32), row, count)
            row += len(texts)
            done = json.dumps({"key": key, "blocks": number, "row": row})
            write_atomically(state, lambda path, done=done: path.write_text(done, encoding="utf-8"))  # type: ignore[misc]
        os.replace(part, output)
        state.unlink()
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}") from None


def _write_rows(part: Path, rows: np.ndarray, row: int, count: int) -> None:
    """Write rows to an array of `count` in a .npy file, from `row` on, and flush them to the disk; row 0 begins it.

    They are not written through a memory map, since that ends the process where the disk is full.
    """
    import numpy as np

    header = {"descr": "<f4", "fortran_order": False, "shape": (count, rows.shape[1])}
    with open(part, "r+b" if row else "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.seek(row * rows.shape[1] * 4, os.SEEK_CUR)
        file.write(rows.astype("<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())


def read_blocks(source: Any, column: str, start: int = 0, size: int | None = None) -> Iterator[list[str]]:
    """Yield the sentences of each block of `size` rows (None: `BLOCK`) that are not blank, from block `start` on."""
    texts, size = source.data.column(column), size or BLOCK
    for begin in range(start * size, len(source), size):
        yield [text for text in texts.slice(begin, size).to_pylist() if text and text.strip()]


def _read_state(part: Path, state: Path, key: str) -> tuple[int, int]:
    """Return the blocks and the rows that an interrupted call has done; none where it was another one."""
    try:
        done = json.loads(state.read_text(encoding="utf-8"))
        return (done["blocks"], done["row"]) if done["key"] == key and part.is_file() else (0, 0)
    except (OSError, ValueError, LookupError, TypeError):
        return 0, 0

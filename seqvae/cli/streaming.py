"""Files that are larger than memory: read a part at a time, what is found written before the next part is read.

An encoding of a large file is continued where it was interrupted, and several processes may share its blocks, as
`torchrun` starts them: each writes its rows into the same file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqvae.cli.processes import Process
from seqvae.errors import ConfigError, CorpusError, write_atomically

if TYPE_CHECKING:
    import numpy as np

    from seqvae.text_vae import TextVAE
    from seqvae.training.precision import Precision

BLOCK = 20_000  # rows of the file that are read and encoded at a time
MANY = 100_000  # rows from which on a file is encoded in blocks
ROWS = 1_000  # sentences that are read, scored or decoded, and written at a time


# -- a part at a time -------------------------------------------------------------------------------------------------


def read_parts(
    interface: Any, source: str, *, column: str | None, label: str | None, label_column: str | None
) -> Iterator[tuple[list[Any], Any]]:
    """Yield some sentences at a time, and their labels; sentences alone are never all in memory. Series come at once.

    Words that the model does not know are reported of the first part alone: one warning is enough.

    Raises:
        ConfigError: as `read_items`.
        CorpusError: for a file that cannot be read, or that holds only blank lines.
    """
    from seqvae.cli.inputs import check_labels, read_items
    from seqvae.cli.interfaces import TextInterface, open_file
    from seqvae.cli.output import log

    check_labels(interface, label, label_column)
    if not isinstance(interface, TextInterface) or label_column is not None:
        items, labels = read_items(interface, source, column=column, label=label, label_column=label_column)
        size = ROWS if isinstance(interface, TextInterface) else len(items)
        for start in range(0, len(items), size):
            rows = slice(start, start + size)
            yield items[rows], labels[rows] if isinstance(labels, list) else labels
        return
    interface.model.number_labels(label, 1)  # an unknown one is refused before any work
    dataset, name = open_file(source, column)
    count = 0
    for number in range(-(-len(dataset) // ROWS)):
        texts = read_block(dataset, name, number, ROWS)
        count += len(texts)
        if texts:
            yield texts, label
    if not count:
        raise CorpusError(f"{'standard input' if source == '-' else source} holds only blank lines")
    if blank := len(dataset) - count:
        log(f"{blank:,} blank lines skipped")


def read_block(source: Any, column: str, number: int, size: int) -> list[str]:
    """Read the sentences of a block of `size` rows that are not blank."""
    rows = source.data.column(column).slice(number * size, size)
    return [text for text in rows.to_pylist() if text and text.strip()]


def silence_repeats(number: int) -> Any:
    """Silence warnings of unknown words in all parts but the first."""
    from seqvae.data.text.unknown import silence_unknown

    return silence_unknown() if number else nullcontext()


# -- encoding in blocks -----------------------------------------------------------------------------------------------


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
    process = Process()
    if process.rank:
        process.wait()  # the first one converts the file, if it has not been read before
    opened = open_source(source, column)
    if not process.rank:
        process.wait()
    ((split, dataset), *others) = opened.datasets.items()
    return None if others or len(dataset) < MANY else (dataset, opened.columns[split])


def encode_blocks(
    model: TextVAE,
    source: Any,
    column: str,
    output: Path,
    *,
    label: str | None,
    scale: bool,
    precision: Precision = "fp32",
    process: Process | None = None,
) -> None:
    """Write the posterior means of the sentences of a data set to a .npy file, blank ones left out.

    What is done is kept beside it: the rows in `NAME.npy.part`, the numbers of the blocks in `NAME.npy.state`. The same
    call continues there, in as many processes as it may be: each encodes every `world`-th of the blocks that are left.

    Args:
        model: encodes.
        source: a data set of `datasets`, memory-mapped.
        column: of the sentences.
        output: the .npy file.
        label: of all sentences, for a model of labels.
        scale: write standard deviations instead.
        precision: `bf16` computes matrix products in bfloat16.
        process: this one; None is the one that `torchrun` started, if it did.

    Raises:
        CorpusError: if there are only blank lines.
        ConfigError: if the file cannot be written, and for bf16 where layers do not run in it.
    """
    from seqvae.cli.output import log
    from seqvae.training.init import hash_weights
    from seqvae.training.precision import evaluate_in

    process, size = process or Process(), BLOCK
    counts = [len(read_block(source, column, number, size)) for number in range(-(-len(source) // size))]
    if not sum(counts):
        raise CorpusError("the file holds only blank lines")
    part, state = (output.with_name(f"{output.name}.{ending}") for ending in ("part", "state"))
    key = f"{source._fingerprint}|{column}|{size}|{sum(counts)}|{label}|{scale}|{precision}|{hash_weights(model.model)}"
    try:
        if process.rank == 0:
            _prepare(part, state, key, (sum(counts), model.config.model.latent))
        process.wait()
        done = _read_state(state, key) or set()
        left = [number for number, count in enumerate(counts) if count and number not in done]
        process.wait()  # all have read what is left before any adds to it
        for place, number in enumerate(left[process.rank :: process.world]):
            with silence_repeats(place), evaluate_in(precision, model.model):
                q = model.encode(read_block(source, column, number, size), labels=label)
            _write_rows(part, sum(counts[:number]) - sum(counts), (q.stddev if scale else q.mode).numpy())
            with open(state, "a", encoding="utf-8") as file:
                file.write(f"{number}\n")
        process.wait()
        if process.rank == 0:
            os.replace(part, output)
            state.unlink()
    except KeyboardInterrupt:
        if process.rank == 0:
            log(f"interrupted: {part.name} has what is done, the same command goes on from there")
        raise
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}") from None


def _prepare(part: Path, state: Path, key: str, shape: tuple[int, int]) -> None:
    """Begin an array and the list of its blocks that are done, unless a call of the same key was interrupted."""
    import numpy as np

    done = _read_state(state, key)
    if done is None or not part.is_file():
        state.unlink(missing_ok=True)  # before the rows that it speaks of are gone
        with open(part, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)  # type: ignore[no-untyped-call]
            file.truncate(file.tell() + 4 * shape[0] * shape[1])
        done = set()
    lines = "".join(f"{line}\n" for line in (key, *sorted(done)))
    write_atomically(state, lambda path: path.write_text(lines, encoding="utf-8"))


def _read_state(state: Path, key: str) -> set[int] | None:
    """Return the numbers of the blocks that are done; None where there are none of this key."""
    try:
        first, *lines = state.read_text(encoding="utf-8").splitlines(keepends=True)
        return {int(line) for line in lines if line.endswith("\n")} if first == f"{key}\n" else None
    except (OSError, ValueError):
        return None


def _write_rows(part: Path, row: int, found: np.ndarray) -> None:
    """Write rows into the array, from `row` on, counted from the end (-1: the last), and flush them to the disk.

    They are not written through a memory map, since that ends the process where the disk is full.
    """
    with open(part, "r+b") as file:
        file.seek(4 * row * found.shape[1], os.SEEK_END)
        file.write(found.astype("<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())

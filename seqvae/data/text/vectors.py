"""Files of word vectors, read line by line: only the rows of a vocabulary are kept, however large the file is.

Formats, each also compressed by gzip, told apart by their content:

- GloVe: a line is a word and its numbers (https://nlp.stanford.edu/projects/glove/);
- word2vec as text, and fastText's .vec: the same after a line with the number of vectors and their width;
- word2vec as binary: that line, then each word, a space and its numbers as float32, little-endian.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from seqvae.data.text.tokenizer import SPACED_RESERVED, Tokenizer
from seqvae.errors import ConfigError, expand

CHUNK = 1 << 20  # bytes that are read at a time
WIDEST = 2**16
GZIP, FASTTEXT = b"\x1f\x8b", b"\xba\x16\x4f\x2f"  # first bytes; the second are those of a fastText model
STARTS = ("Ġ", "▁")  # of tokens that begin a word, in byte-level BPE and in SentencePiece


@dataclass(frozen=True)
class Layout:
    """How a file is laid out.

    Attributes:
        binary: whether numbers are float32 rather than text.
        width: numbers of a vector.
        count: vectors by its first line; None where it has no such line.
    """

    binary: bool
    width: int
    count: int | None


@dataclass(frozen=True)
class Vectors:
    """The vectors of the tokens of a vocabulary that a file has.

    Attributes:
        ids: (K,) int64.
        values: (K, W) float32.
        other_case: how many of them are those of a word that differs in case.
    """

    ids: np.ndarray
    values: np.ndarray
    other_case: int


def read_vectors(path: str | Path, ids: Mapping[str, int]) -> Vectors:
    """Read the vectors of some words.

    A word that the file does not have takes the vector of the first one there that differs from it in case alone.

    Args:
        path: of the file.
        ids: the words, and the id of each.

    Raises:
        ConfigError: with the number of the line, if the file is missing, damaged, of uneven width, or has no such word.
    """
    path = expand(path)
    layout = inspect_vectors(path)
    exact: dict[int, np.ndarray] = {}
    folded: dict[str, np.ndarray] = {}
    wanted = {word.encode(): id for word, id in ids.items()}
    lower = {word.lower() for word in ids}
    for word, values in _read_rows(path, layout, wanted, lower):
        if (id := wanted.get(word)) is not None:
            exact.setdefault(id, values)
        if (key := word.decode(errors="replace").lower()) in lower:
            folded.setdefault(key, values)
    others = {id: folded[word.lower()] for word, id in ids.items() if id not in exact and word.lower() in folded}
    found = exact | others
    if not found:
        raise ConfigError(
            f"--embeddings {path}: none of the {len(ids):,} words of the vocabulary is in it: expected vectors of the "
            "language of the corpus"
        )
    order = sorted(found)
    return Vectors(np.array(order, np.int64), np.stack([found[id] for id in order]), len(others))


def spell_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the words that single tokens stand for, with their ids; pieces within words stand for none."""
    names = {id: tokenizer.get_token(id) for id in range(len(SPACED_RESERVED), len(tokenizer))}
    if tokenizer.kind in ("bpe", "given"):
        starts = {id: name for id, name in names.items() if name.startswith(STARTS)}
        names = {id: tokenizer.decode([id]) for id, name in (starts or names).items() if not name.startswith("##")}
    words: dict[str, int] = {}
    for id, name in names.items():
        words.setdefault(name.strip(" "), id)
    words.pop("", None)
    return words


# -- the file ----------------------------------------------------------------------------------------------------------


def inspect_vectors(path: Path) -> Layout:
    """Return how a file of vectors is laid out, from its first lines.

    Raises:
        ConfigError: if it is missing, empty, or none.
    """
    try:
        with _open(path) as file:
            first, probe = file.readline(CHUNK), file.read(CHUNK)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if first.startswith(FASTTEXT):
        raise _damaged(path, "is a model of fastText: give its .vec file")
    fields = first.split()
    if not fields:
        raise _damaged(path, "line 1 is empty: expected a word and its numbers")
    if len(fields) != 2 or not all(field.isdigit() for field in fields):
        return Layout(False, _check_width(path, _count_numbers(fields)), None)
    count, width = int(fields[0]), _check_width(path, int(fields[1]))
    line = probe.partition(b"\n")[0].rstrip().split(b" ")
    binary = _count_numbers(line) < width and _is_binary(probe)
    return Layout(binary, width, count)


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as file:
        compressed = file.read(2) == GZIP
    return gzip.open(path, "rb") if compressed else open(path, "rb")  # type: ignore[return-value]


def _count_numbers(fields: list[bytes]) -> int:
    """Return how many of the last fields of a line are numbers, the first, its word, not counted."""
    for place in range(len(fields) - 1, 0, -1):
        try:
            float(fields[place])
        except ValueError:
            return len(fields) - 1 - place
    return max(0, len(fields) - 1)


def _is_binary(probe: bytes) -> bool:
    if any(probe.find(bytes([code])) >= 0 for code in range(9)):
        return True
    try:
        probe[:-4].decode()
    except UnicodeDecodeError:
        return True
    return False


def _check_width(path: Path, width: int) -> int:
    if not 1 <= width <= WIDEST:
        raise _damaged(path, "line 1: expected a word and its numbers, or the number of vectors and their width")
    return width


def _read_rows(
    path: Path, layout: Layout, wanted: Mapping[bytes, int], lower: set[str]
) -> Iterator[tuple[bytes, np.ndarray]]:
    """Yield the words of the file that are wanted, in whatever case, and their vectors."""
    read = 0
    rows = (_split_binary if layout.binary else _split_lines)(path, layout)
    try:
        for word, place, numbers in rows:
            read += 1
            if word in wanted or word.decode(errors="replace").lower() in lower:
                yield word, _parse(path, place, numbers, layout)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, f"is damaged after vector {read:,} ({error})") from None
    if read < (layout.count or 1):
        raise _damaged(path, f"ends after vector {read:,}, and its first line says {layout.count or 1:,}")


def _parse(path: Path, place: str, numbers: bytes, layout: Layout) -> np.ndarray:
    try:
        values = np.frombuffer(numbers, "<f4") if layout.binary else np.array(numbers.split(b" ")).astype(np.float32)
    except ValueError:
        values = np.full(layout.width, np.nan)
    if not np.isfinite(values).all():
        raise _damaged(path, f"{place}: expected {layout.width} numbers")
    return np.array(values, np.float32)


def _split_lines(path: Path, layout: Layout) -> Iterator[tuple[bytes, str, bytes]]:
    """Yield the word of each vector, its place as an error names it, and its numbers as text."""
    width, header = layout.width, layout.count is not None
    with _open(path) as file:
        for place, line in enumerate(file, start=1):
            if (place == 1 and header) or not line.strip():
                continue
            line = line.rstrip()
            word, _, numbers = line.partition(b" ")
            if line.count(b" ") != width:  # a word of GloVe may hold spaces (". . ."), but no number
                word, *last = line.rsplit(b" ", width)
                numbers = b" ".join(last)
                if (found := _count_numbers(line.split(b" "))) != width:
                    raise _damaged(path, f"line {place}: expected a word and {width} numbers, found {found}")
            yield word, f"line {place}", numbers


def _split_binary(path: Path, layout: Layout) -> Iterator[tuple[bytes, str, bytes]]:
    """Yield the word of each vector, its place as an error names it, and its numbers as float32."""
    data, start, size = b"", 0, 4 * layout.width
    with _open(path) as file:
        file.readline(CHUNK)
        for number in range(1, (layout.count or 0) + 1):
            end = data.find(b" ", start)
            if end < 0 or len(data) < end + 1 + size:
                data, start = data[start:] + file.read(CHUNK + size), 0
                end = data.find(b" ")
                if end < 0 or len(data) < end + 1 + size:
                    return
            yield data[start:end].lstrip(b"\n"), f"vector {number:,}", data[end + 1 : end + 1 + size]
            start = end + 1 + size


def _damaged(path: Path, what: str) -> ConfigError:
    return ConfigError(f"--embeddings {path}{',' if what.startswith(('line', 'vector')) else ''} {what}")

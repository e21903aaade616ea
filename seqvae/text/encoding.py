"""Sentences to ids, once: on all cores through `datasets.map`, kept on disk under a name made of all they depend on."""

import contextlib
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import xxhash

from seqvae.batch import END
from seqvae.errors import CheckpointError, CorpusError
from seqvae.text.faults import blame
from seqvae.text.files import cache_folder, quiet, settle
from seqvae.text.pipelines import PIECES
from seqvae.text.splitting import Rows
from seqvae.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset

VERSION = 2  # of the columns below: a change of their meaning must not find the files of the old one
STEP = 10_000
COUNTS = ("words", "characters", "bytes")


def encode(dataset: "Dataset", column: str, tokenizer: Tokenizer, max_length: int, on_disk: bool) -> "Dataset":
    """The data set of what the rows of `dataset` become, row by row.

    Columns, all int32: `ids` (the tokens, then `END`; cut to `max_length` ids, without `END`, where longer), `words`,
    `characters` and `bytes` (whitespace-separated words, Unicode characters and UTF-8 bytes of the normalized text that
    the ids stand for, the end of the line counted as a character and a byte unless cut).

    Raises:
        CorpusError: when the cache cannot be written.
    """
    import datasets

    described = f"{dataset._fingerprint}|{column}|{max_length}|{VERSION}|{tokenizer.to_json()}"
    fingerprint = xxhash.xxh3_128_hexdigest(described.encode())
    whole_number = datasets.Value("int32")
    features = datasets.Features({"ids": datasets.List(whole_number)} | dict.fromkeys(COUNTS, whole_number))
    try:
        with quiet():
            return dataset.with_format("arrow").map(
                lambda table: encode_table(table.column(column), tokenizer, max_length),
                batched=True,
                batch_size=STEP,
                writer_batch_size=STEP,
                remove_columns=dataset.column_names,
                features=features,
                new_fingerprint=fingerprint,
                keep_in_memory=not on_disk,
                cache_file_name=str(cache_folder() / f"ids-{fingerprint}.arrow") if on_disk else None,
                load_from_cache_file=on_disk,
            )
    except OSError as error:
        raise CorpusError(blame("the tokenized corpus", "ids", error)) from None


def trained(rows: Rows, kind: str, vocabulary_size: int, lowercase: bool, split_punctuation: bool) -> Tokenizer:
    """`Tokenizer.train` on the rows, from the cache when it was done before.

    Raises:
        ConfigError: for an unknown kind or a vocabulary too small for it.
        CorpusError: when the cache cannot be written.
    """
    options = f"{kind}|{vocabulary_size}|{lowercase}|{split_punctuation}|{PIECES}|{VERSION}"
    key = xxhash.xxh3_128(f"{rows.dataset._fingerprint}|{rows.column}|{options}".encode())
    key.update(rows.numbers.data)
    try:
        path = cache_folder() / f"tokenizer-{key.hexdigest()}.json"
        if path.exists():
            with contextlib.suppress(CheckpointError):  # left half written, or by another version of the library
                return Tokenizer.load(path)
        tokenizer = Tokenizer.train(rows, kind, vocabulary_size, lowercase, split_punctuation)
        settle(path, tokenizer.save)
    except OSError as error:
        raise CorpusError(blame("the tokenizer", "json", error)) from None
    return tokenizer


def encode_table(column: "pyarrow.ChunkedArray", tokenizer: Tokenizer, max_length: int) -> "pyarrow.Table":
    """One batch of texts to one batch of the four columns."""
    import pyarrow

    texts = [text or "" for text in column.to_pylist()]
    kept = [tokenizer.normalize(text) for text in texts]
    ids = tokenizer.encode_batch(texts)
    ends = np.ones(len(texts), np.int32)
    for row, tokens in enumerate(ids):
        if len(tokens) < max_length:
            tokens.append(END)
        else:
            ids[row], kept[row], ends[row] = tokens[:max_length], tokenizer.head(texts[row], max_length), 0
    words = np.array([text.count(" ") + 1 if text else 0 for text in kept], np.int32)
    characters = np.array([len(text) for text in kept], np.int32)
    sizes = np.array([len(text) if text.isascii() else len(text.encode()) for text in kept], np.int32)
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(ids), np.int32, count=int(offsets[-1]))
    lists = pyarrow.ListArray.from_arrays(offsets, flat)
    return pyarrow.table({"ids": lists, "words": words, "characters": characters + ends, "bytes": sizes + ends})

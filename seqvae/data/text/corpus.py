"""TextCorpus: sentences as ids in three splits, each memory-mapped, with the texts they came from still at hand.

Sentences are encoded once, and kept on disk under a name made of all that their ids depend on.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
import xxhash

from seqvae.config import KINDS, Data
from seqvae.data import corpus as base
from seqvae.data.batch import END, UNKNOWN, Batch
from seqvae.data.corpus import Indices
from seqvae.data.text.columns import check_encoding, take_values
from seqvae.data.text.files import explain, get_cache_folder, silence_datasets
from seqvae.data.text.given import READ_BACK, describe_round_trip, open_tokenizer
from seqvae.data.text.labels import LabelColumn, read_labels
from seqvae.data.text.splits import Rows, Texts, hash_texts, read_splits
from seqvae.data.text.tokenizer import PIECES, Tokenizer
from seqvae.data.text.unknown import advise
from seqvae.data.text.weights import read_weights, scale_weights
from seqvae.errors import CheckpointError, ConfigError, CorpusError, list_names, write_atomically

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


VERSION = 2  # of the columns of `encode`: a change of their meaning must not find the files of the old one
STEP = 10_000  # sentences that are encoded at a time
COUNTS = ("words", "characters", "bytes")
COUNTED = 10_000  # sentences in which unknown words are counted, at most
FEW_WORDS, LONG_WORD = 1.5, 20  # fewer words a sentence, or more characters a word, and they are no words


@dataclass(frozen=True, eq=False)
class TextSplit(base.Split):
    """N sentences as ids; `split[3]` is the fourth one.

    Attributes:
        rows: which rows of the data set they come from, in the order of the split.
        encoded: `ids`, `words`, `characters` and `bytes` of each row of that data set.
        label_column: the labels of these rows; None where no column holds any.
        row_weights: (rows of the data set,) float64, how much each counts in training; None where all count alike.
    """

    rows: Rows
    encoded: "Dataset"
    label_column: LabelColumn | None = None
    row_weights: np.ndarray | None = None

    unit: ClassVar[str] = "sentence"
    units: ClassVar[str] = "sentences"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[int]:
        return self.sequences([range(len(self))[index]])[0]

    def sequences(self, indices: Indices) -> list[list[int]]:
        """Return the ids of some sentences: the tokens, then `END` unless the sentence was truncated."""
        numbers = self._find_rows(indices)
        chunks = np.searchsorted(self._starts, numbers, side="right") - 1
        within = (numbers - self._starts[chunks]).tolist()
        found = []
        for chunk, row in zip(chunks.tolist(), within, strict=True):
            offsets, values = self._chunks[chunk]
            found.append(values[offsets[row] : offsets[row + 1]].tolist())
        return found

    @cached_property
    def keys(self) -> np.ndarray:
        """(N,) uint64, equal for equal sentences once normalized."""
        return self.rows.keys[self.rows.numbers]

    def batch(self, indices: Indices) -> Batch:
        """Return some sentences as a batch, with their labels and weights where they have any."""
        columns = {"labels": self.labels, "weights": self.relative_weights}
        places = np.asarray(indices, np.int64)
        some = {name: torch.from_numpy(column[places]) for name, column in columns.items() if column is not None}
        return replace(Batch.of(self.sequences(indices)), **some)

    def select(self, indices: Indices) -> Self:
        """Return a split of some of the sentences, in the given order."""
        return replace(self, rows=replace(self.rows, numbers=self._find_rows(indices)))

    @cached_property
    def lengths(self) -> np.ndarray:
        """(N,) int32, the number of ids of each sentence, `END` included."""
        return np.concatenate([np.diff(offsets) for offsets, _ in self._chunks])[self.rows.numbers]

    @cached_property
    def complete(self) -> np.ndarray:
        """(N,) bool, false where a sentence was truncated and so has no `END`."""
        last = [values[offsets[1:] - 1] for offsets, values in self._chunks]
        return (np.concatenate(last) == END)[self.rows.numbers]

    @cached_property
    def words(self) -> np.ndarray:
        """(N,) int32, whitespace-separated words of each sentence, as far as its ids go."""
        return self.encoded.data.column("words").to_numpy()[self.rows.numbers]

    @cached_property
    def characters(self) -> np.ndarray:
        """(N,) int32, Unicode characters of each normalized sentence as far as its ids go; 1 more for a real end."""
        return self.encoded.data.column("characters").to_numpy()[self.rows.numbers]

    @cached_property
    def bytes(self) -> np.ndarray:
        """(N,) int32, UTF-8 bytes of each normalized sentence as far as its ids go; 1 more for a real end."""
        return self.encoded.data.column("bytes").to_numpy()[self.rows.numbers]

    @cached_property
    def labels(self) -> np.ndarray | None:
        """(N,) int64, the number of each sentence's label; None without a label column."""
        return None if self.label_column is None else self.label_column.numbers[self.rows.numbers]

    @cached_property
    def weights(self) -> np.ndarray | None:
        """(N,) float64, how much each sentence counts in training; None where all count alike."""
        return None if self.row_weights is None else self.row_weights[self.rows.numbers]

    @cached_property
    def relative_weights(self) -> np.ndarray | None:
        """(N,) float32, the weights divided by their mean; None where all count alike."""
        return None if self.weights is None else scale_weights(self.weights)

    @cached_property
    def unknown_rate(self) -> float:
        """The fraction of the tokens that are `<unk>`, ends not counted, of at most `COUNTED` sentences."""
        some = self.at_most(COUNTED)
        ids = np.fromiter((id for row in some.sequences(range(len(some))) for id in row if id != END), np.int64)
        return float((ids == UNKNOWN).mean()) if len(ids) else 0.0

    @property
    def spaced(self) -> bool:
        """Whether white space splits the sentences into words, as it does not in Chinese or in SMILES."""
        words = int(self.words.sum())
        return words >= FEW_WORDS * len(self) and int(self.characters.sum()) <= LONG_WORD * words

    @property
    def counts(self) -> dict[str, np.ndarray | None]:
        """Words, bytes and characters of each sentence, (N,) each; words are None where no white space splits them."""
        return {"words": self.words if self.spaced else None, "bytes": self.bytes, "characters": self.characters}

    @property
    def columns(self) -> list[str]:
        """Names of the columns of the source, that of the text among them."""
        return self.rows.dataset.column_names

    def column(self, name: str, indices: Indices | None = None) -> list[Any]:
        """Return the values of a column of the source, as labels or factors, for some sentences or for all.

        Raises:
            ConfigError: for a column that the source has not.
            CorpusError: for one that has text which is not UTF-8.
        """
        if name not in self.columns:
            raise ConfigError(f"the corpus has no column {name!r}; its columns are: {list_names(self.columns)}")
        check_encoding("the corpus", self.rows.dataset, name)
        return take_values(self.rows.dataset.data.column(name), self._find_rows(indices))

    def texts(self, indices: Indices | None = None) -> list[str]:
        """Return some sentences, or all, as they are in the source."""
        return take_values(self.rows.dataset.data.column(self.rows.column), self._find_rows(indices))  # read before

    def text(self, index: int) -> str:
        """Return one sentence as it is in the source."""
        return self.texts([index])[0]

    def _find_rows(self, indices: Indices | None) -> np.ndarray:
        """Return the rows of the data set that some sentences, or all, come from."""
        return self.rows.numbers if indices is None else self.rows.numbers[np.asarray(indices, np.int64)]

    @cached_property
    def _chunks(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Views of the memory-mapped ids: row r of a chunk is values[offsets[r] : offsets[r + 1]]."""
        chunks = self.encoded.data.column("ids").chunks
        return [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in chunks if len(chunk)]

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0] + [len(offsets) - 1 for offsets, _ in self._chunks])


@dataclass(frozen=True, eq=False, kw_only=True)
class TextCorpus(base.Corpus[TextSplit]):
    """A corpus of sentences, and the tokenizer that made their ids."""

    tokenizer: Tokenizer

    unit: ClassVar[str] = "sentence"
    units: ClassVar[str] = "sentences"
    observation: ClassVar[str] = "tokens"

    @property
    def size(self) -> int:
        """V, the tokens of the vocabulary: what a model is built for."""
        return len(self.tokenizer)

    @cached_property
    def content(self) -> str:
        """A hash that changes when the sentences, or the way they were divided, do; whatever the tokenizer."""
        return hash_texts({name: split.rows for name, split in self.splits.items()})

    @cached_property
    def unknown_words(self) -> str | None:
        """What to know before a training where many of the held-out words are unknown; None where all is well."""
        if not (held_out := self.valid or self.test):
            return None
        return advise(
            self.tokenizer,
            held_out=held_out.unknown_rate,
            train=self.train.unknown_rate if self.train else 0.0,
            spaced=held_out.spaced,
            characters=float(held_out.characters.mean()),
        )

    def describe_given(self) -> str | None:
        """Say how much of the training sentences a tokenizer that was not trained on them writes back; else None."""
        some = self.train or self.test
        return describe_round_trip(self.tokenizer, some.at_most(READ_BACK).texts()) if some else None

    @cached_property
    def fingerprint(self) -> str:
        """A few letters that change when the sentences, the way they were divided, their ids or labels do."""
        digest = hashlib.sha256(f"{self.content} {self.tokenizer.to_json()}".encode())
        for name, split in self.splits.items():
            digest.update(f"{name} {len(split)} ".encode())
            digest.update(split.lengths.data)
            if (column := split.label_column) is not None and split.labels is not None:
                digest.update(repr((column.column, column.names)).encode() + split.labels.tobytes())
        return digest.hexdigest()[:16]


def load(
    source: Any = "chitchat",
    *,
    column: str | None = None,
    label_column: str | None = None,
    labels: Sequence[str] | None = None,
    weight_column: str | None = None,
    tokenizer: str | Tokenizer = "word",
    pattern: str | None = None,
    vocabulary_size: int = Data.vocabulary_size,
    lowercase: bool | None = None,
    split_punctuation: bool = True,
    normalization: str = "none",
    max_length: int = 128,
    seed: int = 0,
    whole: bool = False,
) -> TextCorpus:
    """Read a corpus, divide it, train a tokenizer on its training sentences alone (or use the one given), encode it.

    Args:
        source: `chitchat`, `sotu`, `grammar`, `-`, `hub:NAME[:CONFIG]`, a file, a folder, or sentences in memory.
        column: the column that holds the text, for files and data sets that have several.
        label_column: the column that holds the labels; a sentence is kept once under each of its labels.
        labels: those of a model, where there is one already; None takes those of the training sentences.
        weight_column: the column that says how much each training sentence counts; None lets all count alike.
        tokenizer: `word`, `bpe`, `char`, `regex`; the path, folder or name of another; or a tokenizer, whose own are
            the options after it.
        pattern: the regular expression of `regex`.
        vocabulary_size: most ids.
        lowercase: whether case is dropped; by default for words only.
        split_punctuation: whether words are split around punctuation.
        normalization: of Unicode: `none`, `nfc` or `nfkc`.
        max_length: most ids of a sentence, its end included; longer ones are truncated.
        seed: of the splits that are drawn, where the source has none.
        whole: take a corpus without splits as it is, all of it as `test`, in its order.

    Raises:
        CorpusError: when the corpus cannot be read or is too small to be split.
        ConfigError: for options that cannot be used.

    >>> corpus = load(["one cat .", "two cats .", "three cats .", "one cat ."])
    >>> corpus.notes[0], len(corpus.train), corpus.tokenizer.decode(corpus.train[0])
    ('1 duplicate sentence dropped', 1, 'two cats .')
    """
    base.check_max_length(max_length, "token")
    training = not isinstance(tokenizer, Tokenizer)
    if not isinstance(tokenizer, Tokenizer) and tokenizer not in KINDS:
        tokenizer = open_tokenizer(tokenizer, lowercase, normalization)
    if isinstance(tokenizer, Tokenizer):
        lowercase, normalization = tokenizer.lowercase, tokenizer.normalization
    elif lowercase is None:
        lowercase = tokenizer == "word"
    same: dict[str, Any] = {"lowercase": lowercase, "normalization": normalization}
    texts = read_splits(source, column=column, label_column=label_column, seed=seed, whole=whole, **same)
    counts, columns = ({}, {}) if label_column is None else read_labels(texts, label_column, labels)
    weights = None if weight_column is None else read_weights(texts, weight_column)
    if not isinstance(tokenizer, Tokenizer):
        sentences = texts.splits["train" if "train" in texts.splits else "test"]
        train = train_tokenizer if texts.on_disk else Tokenizer.train
        options = {"split_punctuation": split_punctuation, "pattern": pattern, **same}
        tokenizer = train(sentences, tokenizer, vocabulary_size, **options)
    corpus = replace(encode_splits(texts, tokenizer, max_length, columns, weights), labels=counts)
    if training:
        corpus.notes.extend(filter(None, [corpus.describe_given(), corpus.unknown_words]))
    return corpus


def train_tokenizer(rows: Rows, kind: str, vocabulary_size: int, **options: Any) -> Tokenizer:
    """Train a tokenizer on the rows as `Tokenizer.train` does, or load it from the cache when that was done before.

    Raises:
        ConfigError: for an unknown kind, a vocabulary too small for it, or a pattern that is none.
        CorpusError: when the cache cannot be written.
    """
    options_key = f"{kind}|{vocabulary_size}|{sorted(options.items())}|{PIECES}|{VERSION}"
    key = xxhash.xxh3_128(f"{rows.dataset._fingerprint}|{rows.column}|{options_key}".encode())
    key.update(rows.numbers.data)
    try:
        path = get_cache_folder() / f"tokenizer-{key.hexdigest()}.json"
        if path.exists():
            with contextlib.suppress(CheckpointError):  # damaged, or of another version of the library
                return Tokenizer.load(path)
        tokenizer = Tokenizer.train(rows, kind, vocabulary_size, **options)
        write_atomically(path, tokenizer.save, shared=True)
    except OSError as error:
        raise CorpusError(explain("the tokenizer", "json", error)) from None
    return tokenizer


def encode_splits(
    texts: Texts,
    tokenizer: Tokenizer,
    max_length: int = 128,
    label_columns: Mapping[int, LabelColumn] = MappingProxyType({}),
    weights: np.ndarray | None = None,
) -> TextCorpus:
    """Encode the splits of `texts`, each data set once, and from the cache when it was encoded before.

    `label_columns` are the labels of each data set, by its `id`, if there are any; `weights` those of all rows of the
    data set that train is of.
    """
    encoded: dict[int, Dataset] = {}
    splits: dict[str, TextSplit] = {}
    notes = list(texts.notes)
    for name, rows in texts.splits.items():
        if id(rows.dataset) not in encoded:
            encoded[id(rows.dataset)] = encode(rows.dataset, rows.column, tokenizer, max_length, texts.on_disk)
        own = weights if name == "train" else None
        splits[name] = TextSplit(rows, encoded[id(rows.dataset)], label_columns.get(id(rows.dataset)), own)
        notes += base.describe_truncated(name, splits[name], max_length, "tokens")
    train, valid, test = (splits.get(name) for name in ("train", "valid", "test"))
    return TextCorpus(train=train, valid=valid, test=test, tokenizer=tokenizer, name=texts.name, notes=notes)


def encode(dataset: "Dataset", column: str, tokenizer: Tokenizer, max_length: int, on_disk: bool) -> "Dataset":
    """Encode the rows of a data set on all cores through `datasets.map`.

    Columns, all int32: `ids` (the tokens, then `END`; truncated to `max_length` ids, without `END`, where longer),
    `words`, `characters` and `bytes` (whitespace-separated words, Unicode characters and UTF-8 bytes of the normalized
    text of these ids, the end of the line counted as a character and a byte unless truncated).

    Raises:
        CorpusError: when the cache cannot be written.
    """
    import datasets

    described = f"{dataset._fingerprint}|{column}|{max_length}|{VERSION}|{tokenizer.to_json()}"
    fingerprint = xxhash.xxh3_128_hexdigest(described.encode())
    whole_number = datasets.Value("int32")
    features = datasets.Features({"ids": datasets.List(whole_number)} | dict.fromkeys(COUNTS, whole_number))
    try:
        with silence_datasets():
            return dataset.with_format("arrow").map(
                lambda table: encode_table(table.column(column), tokenizer, max_length),
                batched=True,
                batch_size=STEP,
                writer_batch_size=STEP,
                remove_columns=dataset.column_names,
                features=features,
                new_fingerprint=fingerprint,
                keep_in_memory=not on_disk,
                cache_file_name=str(get_cache_folder() / f"ids-{fingerprint}.arrow") if on_disk else None,
                load_from_cache_file=on_disk,
            )
    except OSError as error:
        raise CorpusError(explain("the tokenized corpus", "ids", error)) from None


def encode_table(column: "pyarrow.ChunkedArray", tokenizer: Tokenizer, max_length: int) -> "pyarrow.Table":
    """Encode a batch of texts as a batch of the four columns of `encode`."""
    import pyarrow

    texts = [text or "" for text in column.to_pylist()]
    kept = [tokenizer.normalize(text) for text in texts]
    ids = tokenizer.encode_batch(texts)
    ends = np.ones(len(texts), np.int32)
    for row, tokens in enumerate(ids):
        if len(tokens) < max_length:
            tokens.append(END)
        else:
            ids[row], kept[row], ends[row] = tokens[:max_length], tokenizer.truncate(texts[row], max_length), 0
    words = np.array([text.count(" ") + 1 if text else 0 for text in kept], np.int32)
    characters = np.array([len(text) for text in kept], np.int32)
    sizes = np.array([len(text) if text.isascii() else len(text.encode()) for text in kept], np.int32)
    offsets = np.cumsum([0, *map(len, ids)], dtype=np.int32)
    flat = np.fromiter(chain.from_iterable(ids), np.int32, count=int(offsets[-1]))
    lists = pyarrow.ListArray.from_arrays(offsets, flat)
    return pyarrow.table({"ids": lists, "words": words, "characters": characters + ends, "bytes": sizes + ends})

"""Sentences of the Chit Chat Challenge: everyday English that people wrote to each other.

The conversations are in the PyPI package `chitchat-dataset` (MIT licence, Brigham Young University, 2018), whose file
is read without importing the package. A message is split into its sentences; what is not a plain English sentence of 3
to 16 tokens is dropped (`utterances`), and so is one with a rare word and one that was there before. Splits are of
whole conversations. What comes of it is kept in the cache, as reading all of it takes some seconds.
"""

import contextlib
import importlib.metadata
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import xxhash

from seqvae.data.corpus import HELD_OUT
from seqvae.data.text.files import get_cache_folder, hash_file
from seqvae.data.text.utterances import (
    MOST,
    MOST_OF_MESSAGE,
    find_fault,
    split_sentences,
    strip_marks,
    tidy,
    tokenize,
)
from seqvae.errors import CorpusError, write_atomically

if TYPE_CHECKING:
    import pyarrow
    from datasets import Dataset


PACKAGE, FILE = "chitchat-dataset", "chitchat_dataset/dataset.json"
VERSION = 1  # of what is kept in the cache: another way to read must not find the sentences of the old one
KNOWN = 5  # conversations that a word has to occur in: rarer ones are mostly misspelt, names or another language
LEAST_REAL, MOST_MADE = 0.6, 0.2  # fractions: of the words that look real, of the messages that a rule made
SHARES = ("train", "valid", "test")
SHORT, MEDIUM = 6, 9  # tokens at most: about a third of the sentences each, and the rest is long
ROWS = 10_000  # of a block of the tables

Conversation = list[str]  # the messages of both people, in their order
Tokenized = tuple[str, tuple[str, ...]]  # a sentence, or a message, and its tokens

_MADE_BY_RULE = re.compile(r"The [\w-]+(?: [\w-]+){1,2} \w+ \w+ly\.?")  # The odd house meowed clumsily.
_REAL = re.compile(r"(?<!\S)[^\W\d_]{2}")  # the start of a word of two letters or more
_KINDS = {"?": "question", "!": "exclamation"}


def load_splits(options: Collection[str] = ()) -> tuple[dict[str, "Dataset"], bool]:
    """Load train, valid and test, from the cache where they were made before.

    Args:
        options: `messages` for whole messages in place of their sentences, `uncensored` for the rude ones, too.

    Returns:
        the data set of each split with the columns `text`, `kind` (question, statement, exclamation) and `length`
        (short, medium, long); and whether they are kept on disk, which they are unless that cannot be written.

    Raises:
        CorpusError: when the package is not installed, or its file is damaged.
    """
    import datasets
    import pyarrow

    path = find_file()
    key = xxhash.xxh3_128_hexdigest(f"{hash_file(path)}|{sorted(options)}|{VERSION}".encode())
    with contextlib.suppress(Exception):  # not there yet, or damaged
        return _open_tables(key), True
    tables = {split: make_table(some) for split, some in read_sentences(path, options).items()}
    try:
        _keep_tables(key, tables)
        return _open_tables(key), True
    except (OSError, pyarrow.ArrowException):
        memory = datasets.table.InMemoryTable
        return {split: datasets.Dataset(memory(table)) for split, table in tables.items()}, False


def find_file() -> Path:
    """Find the file of the conversations in the package.

    Raises:
        CorpusError: when the package is not installed.
    """
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise CorpusError(f'the corpus chitchat needs the package {PACKAGE}: pip install "seqvae[demo]"') from None
    paths = [Path(str(file.locate())) for file in files if file.match(FILE)]
    if not paths or not paths[0].is_file():
        raise CorpusError(
            f'the package {PACKAGE} has no conversations in it; install it anew: pip install "seqvae[demo]"'
        )
    return paths[0]


def read_conversations(path: Path) -> list[Conversation]:
    """Read the conversations of the package's file, in its order.

    Raises:
        CorpusError: when it is damaged.
    """
    try:
        found = json.loads(path.read_bytes())
        return [[message["text"] for turn in one["messages"] for message in turn] for one in found.values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        again = f"pip install --force-reinstall {PACKAGE}"
        raise CorpusError(f"{path} is damaged, so the corpus chitchat cannot be read: {again}") from None


def read_sentences(path: Path, options: Collection[str] = ()) -> dict[str, list[str]]:
    """Read, tidy, filter and divide: the sentences of each split.

    Raises:
        CorpusError: when the file is damaged.
    """
    whole, rude = "messages" in options, "uncensored" in options
    read: dict[str, tuple[Tokenized, ...]] = {}  # many messages come several times
    conversations: list[list[Tokenized]] = []
    for talk in filter(is_talk, read_conversations(path)):
        for message in talk:
            if message not in read:
                read[message] = tuple(read_message(message, whole=whole, rude=rude))
        conversations.append([one for message in talk for one in read[message]])
    known = find_common_words(conversations)
    kept = [[text for text, tokens in some if known.issuperset(tokens)] for some in conversations]
    return divide([some for some in kept if some])


def is_talk(conversation: Conversation) -> bool:
    """Return whether people talk, rather than hammer on keys or let a program write.

    >>> is_talk(["The odd house meowed clumsily."] * 9), is_talk(["a a a", "d s"]), is_talk(["Hello", "what's up"])
    (False, False, True)
    """
    text = " ".join(conversation)
    made = sum(bool(_MADE_BY_RULE.fullmatch(message.strip())) for message in conversation if "ly" in message)
    return len(_REAL.findall(text)) > LEAST_REAL * len(text.split()) and made <= MOST_MADE * len(conversation)


def read_message(message: str, *, whole: bool = False, rude: bool = False) -> Iterator[Tokenized]:
    """Read the sentences of a message that have no fault, or the whole message.

    >>> [text for text, _ in read_message("im from Utah!! You? where are   you from")]
    ["i'm from Utah!", 'where are you from']
    >>> [text for text, _ in read_message("im from Utah!! You?", whole=True)]
    ["i'm from Utah! You?"]
    """
    text = tidy(message)
    most = MOST_OF_MESSAGE if whole else MOST
    for piece in [strip_marks(text)] if whole else split_sentences(text):
        if piece.count(" ") < most:  # else it has more tokens than that
            tokens = tokenize(piece)
            if find_fault(piece, tokens, most=most, rude=rude) is None:
                yield piece, tuple(tokens)


def find_common_words(conversations: Iterable[list[Tokenized]], at_least: int = KNOWN) -> set[str]:
    """Find the words that occur in at least `at_least` conversations."""
    counts: Counter[str] = Counter()
    for some in conversations:
        counts.update(set().union(*(tokens for _, tokens in some)))
    return {word for word, count in counts.items() if count >= at_least}


def divide(conversations: list[list[str]], *, held_out: float = HELD_OUT, seed: int = 0) -> dict[str, list[str]]:
    """Divide conversations, given as their sentences, into train, valid and test; no sentence comes twice.

    A sentence of valid or test that is in train is dropped, and so is one of test that is in valid.

    >>> divide([["a b c", "A b c!"], ["d e f"]], held_out=0)
    {'train': ['d e f', 'a b c'], 'valid': [], 'test': []}
    """
    order = Random(seed).sample(range(len(conversations)), len(conversations))
    size = round(held_out * len(order))
    parts = {"train": order[2 * size :], "valid": order[:size], "test": order[size : 2 * size]}
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for name in SHARES:
        found[name] = []
        for sentence in (sentence for place in parts[name] for sentence in conversations[place]):
            if (folded := fold(sentence)) not in seen:
                seen.add(folded)
                found[name].append(sentence)
    return found


def fold(sentence: str) -> str:
    """Return what makes two sentences the same: their letters and digits, whatever the case and the marks.

    >>> fold("What about you?") == fold("what about you")
    True
    """
    return " ".join(re.findall(r"[a-z0-9']+", sentence.lower()))


# ---- Labels ----------------------------------------------------------------------------------------------------------


def find_kind(sentence: str) -> str:
    """Return what its last mark makes of a sentence: a question, an exclamation, or else a statement.

    >>> [find_kind(one) for one in ('He said "why?"', "oh no!", "i don't know...", "where are you from")]
    ['question', 'exclamation', 'statement', 'statement']
    """
    return _KINDS.get(sentence.rstrip("\"')")[-1:], "statement")


def find_length(sentence: str) -> str:
    """Return whether a sentence is short, medium or long: up to `SHORT`, up to `MEDIUM`, or more tokens.

    >>> [find_length(" ".join("a" * count)) for count in (6, 7, 9, 10)]
    ['short', 'medium', 'medium', 'long']
    """
    count = len(tokenize(sentence))
    return "short" if count <= SHORT else "medium" if count <= MEDIUM else "long"


# ---- The cache -------------------------------------------------------------------------------------------------------


def make_table(sentences: Sequence[str]) -> "pyarrow.Table":
    """Make the table of a split: its sentences and their labels."""
    import pyarrow

    kinds, lengths = ([find(one) for one in sentences] for find in (find_kind, find_length))
    columns = {"text": sentences, "kind": kinds, "length": lengths}
    return pyarrow.table({name: pyarrow.array(values, pyarrow.string()) for name, values in columns.items()})


def _keep_tables(key: str, tables: dict[str, "pyarrow.Table"]) -> None:
    """Write the tables to the cache, and then the hash of each, by which a damaged one is noticed."""
    paths = _name_files(key)
    for split, table in tables.items():
        write_atomically(paths[split], partial(_write_table, table), shared=True)
    hashes = json.dumps({split: hash_file(paths[split]) for split in tables})
    write_atomically(paths["hashes"], lambda part: part.write_text(hashes, encoding="utf-8"), shared=True)


def _write_table(table: "pyarrow.Table", target: Path) -> None:
    import pyarrow

    with pyarrow.OSFile(str(target), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=ROWS)


def _open_tables(key: str) -> dict[str, "Dataset"]:
    """Open the tables of the cache, memory-mapped; any error where they are not whole."""
    import datasets

    paths = _name_files(key)
    hashes = json.loads(paths["hashes"].read_text(encoding="utf-8"))
    if hashes != {split: hash_file(paths[split]) for split in SHARES}:
        raise ValueError("damaged")
    tables = {split: datasets.table.MemoryMappedTable.from_file(str(paths[split])) for split in SHARES}
    return {split: datasets.Dataset(table, fingerprint=f"{key}{split}") for split, table in tables.items()}


def _name_files(key: str) -> dict[str, Path]:
    folder = get_cache_folder() / f"chitchat-{key}"
    return {split: folder / f"{split}.arrow" for split in SHARES} | {"hashes": folder / "hashes.json"}

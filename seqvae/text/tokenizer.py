"""Words, byte pairs or characters as numbers: everything that decides how a text is cut lies in one tokenizer.json."""

import json
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import tokenizers

from seqvae.batch import END, PADDING, START
from seqvae.errors import CheckpointError, ConfigError, choose, expand
from seqvae.text.pipelines import (
    NORMALIZERS,
    PIECES,
    POINTS,
    RESERVED,
    SPACED,
    count,
    merge,
    normalize,
    recognize,
    sound,
)

KINDS = ("word", "bpe", "char")

_SMALLEST = {"word": len(RESERVED) + 1, "char": len(RESERVED) + 1, "bpe": len(RESERVED) + 256}

REMEMBERED = 200_000  # parts of texts, of which the ids are kept at hand: some 50 MB

# Where word pieces are written without the space between them. Only marks that are pieces by themselves whatever
# stands beside them, and never a letter after a full stop ("a. b" is three pieces, "a.b" one): so cutting the result
# again gives the same pieces.
_CLOSED = re.compile(r" (?=[.,!?;:%)](?: |$))|(?:(?<= [($])|(?<=^[($])) ")


class Tokenizer:
    """Text to ids and back; in every kind ids 0 to 3 are padding, start, end and unknown.

    `word` cuts at whitespace and, unless told otherwise, around punctuation; `bpe` merges bytes and so can write any
    text; `char` makes each Unicode code point a token. A literal `<unk>` in a text is the unknown word of a `word`
    tokenizer; `<s>`, `</s>`, `<pad>` in a text are ordinary words.

    >>> tokenizer = Tokenizer.train(["A cat sat.", "A dog sat, too."], kind="word")
    >>> ids = tokenizer.encode("a cat sat, too.")
    >>> [tokenizer.token(id) for id in ids]
    ['a', 'cat', 'sat', ',', 'too', '.']
    >>> tokenizer.decode(ids)
    'a cat sat, too.'
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        """Wrap a tokenizer of one of our kinds; a `ValueError` says why another cannot serve."""
        self._inner = inner
        self._between = _Between(inner)
        self.kind, self.lowercase, self.split_punctuation = recognize(json.loads(inner.to_str()))

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        kind: str = "word",
        vocabulary_size: int = 10_000,
        lowercase: bool | None = None,
        split_punctuation: bool = True,
    ) -> "Tokenizer":
        """Build a vocabulary of at most `vocabulary_size` ids (the four reserved ones included) from `texts`.

        Args:
            texts: the sentences, read once.
            kind: `word`, `bpe` or `char`.
            vocabulary_size: most ids, the most frequent tokens first, equally frequent ones in code point order.
            lowercase: whether case is dropped; by default for words only.
            split_punctuation: whether words are cut around punctuation; for `word` only.

        Raises:
            ConfigError: for an unknown kind or a vocabulary too small for it.
        """
        choose("tokenizer", kind, KINDS)
        if vocabulary_size < _SMALLEST[kind]:
            raise ConfigError(
                f"a vocabulary of {vocabulary_size} is too small for the {kind} tokenizer: "
                f"it needs at least {_SMALLEST[kind]} ids"
            )
        lowercase = kind == "word" if lowercase is None else lowercase
        make = merge if kind == "bpe" else count
        pattern = POINTS if kind == "char" else PIECES if split_punctuation else SPACED
        return cls(make(map(sound, texts), vocabulary_size, NORMALIZERS[lowercase], pattern))

    def normalize(self, text: str) -> str:
        """The text as the tokenizer sees it: equal results mean the same sentence."""
        return normalize(text, self.lowercase)

    def encode(self, text: str) -> list[int]:
        """The ids of the text, without start and end."""
        return self._inner.encode(sound(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without start and end: of words by those of their parts, else on all cores."""
        if self.kind == "word":  # no piece holds a space, so that what stands between two spaces is cut by itself
            return [list(chain.from_iterable(map(self._between.__getitem__, text.split(" ")))) for text in texts]
        encodings = self._inner.encode_batch_fast([sound(text) for text in texts], add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def head(self, text: str, tokens: int) -> str:
        """The normalized beginning of `text` that its first `tokens` tokens cover."""
        text = sound(text)
        offsets = self._inner.encode(text, add_special_tokens=False).offsets[:tokens]
        return self.normalize(text[: offsets[-1][1]]) if offsets else ""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids` up to the first end; padding and start are skipped, `<unk>` stays visible.

        Raises:
            IndexError: for an id outside the vocabulary.
        """
        kept = []
        for id in map(int, ids):
            if id == END:
                break
            if id not in (PADDING, START):
                kept.append(id)
        if self.kind == "bpe":
            return self._inner.decode(kept, skip_special_tokens=False).removeprefix(" ")
        text = ("" if self.kind == "char" else " ").join(map(self.token, kept))
        return _CLOSED.sub("", text) if self.split_punctuation else text

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """The text of each row of ids."""
        return [self.decode(ids) for ids in batch]

    def __len__(self) -> int:
        return self._inner.get_vocab_size()

    def token(self, id: int) -> str:
        """The name of an id (of a `bpe` id: its bytes in the printable letters of byte-level BPE)."""
        name = self._inner.id_to_token(id) if id >= 0 else None
        if name is None:
            raise IndexError(f"id {id} is outside the vocabulary of {len(self)}")
        return name

    def to_json(self) -> str:
        """The text of tokenizer.json."""
        return self._inner.to_str(pretty=True)

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json to the file `path`."""
        expand(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            CheckpointError: for a missing or damaged file, or one that is not of these tokenizers.
        """
        try:
            text = expand(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise CheckpointError(f"no tokenizer at {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"the tokenizer {path} cannot be read: {_line(error)}") from None
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the Rust side raises bare Exception for whatever is damaged
            raise CheckpointError(f"{path} is not a tokenizer of seqvae or is damaged: {_line(error)}") from None


class _Between(dict[str, list[int]]):
    """The ids of what stands between two spaces, looked up once: the words of a language come again and again."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        super().__init__()
        self.inner = inner

    def __missing__(self, text: str) -> list[int]:
        if len(self) >= REMEMBERED:
            self.clear()
        ids = self[text] = self.inner.encode(sound(text), add_special_tokens=False).ids
        return ids


def _line(error: Exception) -> str:
    return " ".join(str(error).split())

"""Tokenizer: words, byte pairs or characters as ids; one tokenizer.json decides all of how a text is split."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seqvae.config import Data
from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.data.text.spacing import Spacing
from seqvae.errors import CheckpointError, ConfigError, choose, expand

KINDS = ("word", "bpe", "char")

# Pre-tokens never hold a space, so no text can produce the first three names. They are not registered as special
# tokens, for those are searched for in the raw text before it is split.
RESERVED = {"<pad> ": PADDING, "<s> ": START, "</s> ": END, "<unk>": UNKNOWN}
SMALLEST = {"word": len(RESERVED) + 1, "char": len(RESERVED) + 1, "bpe": len(RESERVED) + 256}  # vocabularies

REMEMBERED = 200_000  # parts of texts whose ids are kept: some 50 MB
SPACED_SENTENCES = 10_000  # evenly spread, from which spacing is learnt; up to twice as many

# A letter, with joiners and soft hyphens behind it, which are no letters to a regular expression; and a mark, with all
# that changes how it looks: accents, variation selectors, colours of the skin, tags of a flag.
_WORD = r"\w[\w\x{00AD}\x{200C}\x{200D}\x{2060}]*"
_MARK = r"[^\s\w][\p{M}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]*"

# In turn: a name in angle brackets (<unk>); an address of the web; a word with its inner apostrophes, full stops,
# hyphens and middle dots (don't, U.S, well-known), a number with its commas, either with what makes it an address of
# mail; a dash of several hyphens; the ending of a verb that a treebank splits off ('s); a flag of two letters; or any
# other mark alone, pictures with those that a joiner ties to them.
PIECES = (
    r"</?\w+>"
    r"|https?://[^\s<>]*[\w/]"
    rf"|{_WORD}(?:['’.\-‐‑·]{_WORD}|(?<=\d),(?=\d){_WORD})*(?:@\w+(?:[.\-]\w+)+)?"
    r"|--+|['’](?i:s|t|d|m|ll|re|ve)\b"
    rf"|[\x{{1F1E6}}-\x{{1F1FF}}]{{2}}|{_MARK}(?:\x{{200D}}{_MARK})*[\x{{200C}}\x{{200D}}]*"
)
SPACED = r"[^ ]+"
POINTS = r"[\s\S]"


def _build_normalizer(lowercase: bool) -> normalizers.Normalizer:
    steps = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*steps, normalizers.Lowercase()] if lowercase else steps)


NORMALIZERS = {lowercase: _build_normalizer(lowercase) for lowercase in (False, True)}


def replace_surrogates(text: str) -> str:
    """Return the text with lone surrogates, which no encoding can write, replaced by U+FFFD.

    >>> replace_surrogates("a\\ud800b")
    'a�b'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def normalize(text: str, lowercase: bool = False) -> str:
    """Return the text with runs of whitespace made one space, none at the ends, and in lower case if asked.

    >>> normalize("  A  quiet\\tday ", lowercase=True)
    'a quiet day'
    """
    if text.isascii() and text.isprintable():  # the same result without crossing into Rust, ten times as fast
        text = " ".join(text.split())
        return text.lower() if lowercase else text
    return NORMALIZERS[lowercase].normalize_str(replace_surrogates(text))


def train_vocabulary(
    texts: Iterable[str], size: int, normalizer: normalizers.Normalizer, pattern: str
) -> tokenizers.Tokenizer:
    """Train a tokenizer of the pieces that `pattern` finds most often, at most `size` with the reserved ones."""
    counter = _build_pipeline(models.WordLevel(), normalizer, pattern)
    # One more than there are ids for, as a literal <unk> among the words has its id already.
    trainer = trainers.WordLevelTrainer(vocab_size=size - len(RESERVED) + 1, special_tokens=[], show_progress=False)
    counter.train_from_iterator(texts, trainer)
    counted = counter.get_vocab()
    words = [word for word in sorted(counted, key=counted.__getitem__) if word not in RESERVED]
    vocabulary = RESERVED | {word: id for id, word in enumerate(words[: size - len(RESERVED)], len(RESERVED))}
    return _build_pipeline(models.WordLevel(vocabulary, unk_token="<unk>"), normalizer, pattern)


def _build_pipeline(model: models.Model, normalizer: normalizers.Normalizer, pattern: str) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return inner


def train_merges(texts: Iterable[str], size: int, normalizer: normalizers.Normalizer, _: str) -> tokenizers.Tokenizer:
    """Train a byte-level BPE of at most `size` tokens with the reserved ones; it splits texts in a way of its own."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(RESERVED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return tokenizers.Tokenizer.from_str(json.dumps(json.loads(inner.to_str()) | {"added_tokens": []}))


def recognize(parts: dict) -> tuple[str, bool, bool]:
    """Return kind, lower-casing and punctuation splitting of a tokenizer.json, which `train` must be able to write.

    Raises:
        ValueError: for what it cannot write.
    """
    vocabulary = parts["model"]["vocab"]
    if any(vocabulary.get(name) != id for name, id in RESERVED.items()):
        raise ValueError("its first four ids are not padding, start, end and unknown")
    if parts["added_tokens"] or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("it has added tokens or gaps in its ids")
    lowercase = {json.dumps(_to_parts(normalizer)): lower for lower, normalizer in NORMALIZERS.items()}
    splitting = parts["pre_tokenizer"] or {}
    kinds = {PIECES: ("word", True), SPACED: ("word", False), POINTS: ("char", False)}
    regex = splitting.get("pattern", {}).get("Regex")
    kind = ("bpe", False) if splitting.get("type") == "ByteLevel" else kinds.get(regex)
    lower = lowercase.get(json.dumps(parts["normalizer"]))
    if kind is None or lower is None or (parts["model"]["type"] == "BPE") != (kind[0] == "bpe"):
        raise ValueError("its normalizer, its splitting or its model is none of ours")
    return kind[0], lower, kind[1]


def _to_parts(normalizer: normalizers.Normalizer) -> dict:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = normalizer
    return json.loads(inner.to_str())["normalizer"]


class Tokenizer:
    """Text to ids and back; in every kind ids 0 to 3 are padding, start, end and unknown.

    `word` splits at whitespace and, by default, around punctuation; `bpe` merges bytes and so can write any
    text; `char` makes each Unicode code point a token. A literal `<unk>` in a text is the unknown word of a `word`
    tokenizer; `<s>`, `</s>`, `<pad>` in a text are ordinary words.

    `decode(encode(text))` is `normalize(text)`: whitespace made one space, in lower case where the tokenizer
    has no other. Where words are split around punctuation and none is unknown, this holds for all texts that are spaced
    like most of those that the tokenizer was trained on (see `seqvae.data.text.spacing`); others come back spaced so.

    >>> tokenizer = Tokenizer.train(["A cat sat.", "A dog sat, too."], kind="word")
    >>> ids = tokenizer.encode("a cat sat, too.")
    >>> [tokenizer.get_token(id) for id in ids]
    ['a', 'cat', 'sat', ',', 'too', '.']
    >>> tokenizer.decode(ids)
    'a cat sat, too.'
    """

    def __init__(self, inner: tokenizers.Tokenizer):
        """Wrap a tokenizer of one of our kinds; a `ValueError` says why another cannot serve."""
        self._inner = inner
        self._ids = _Ids(inner)
        parts = json.loads(inner.to_str())
        self.kind, self.lowercase, self.split_punctuation = recognize(parts)
        self._spacing = Spacing.from_decoder(parts["decoder"]) if self.split_punctuation else None

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        kind: str = "word",
        vocabulary_size: int = Data.vocabulary_size,
        lowercase: bool | None = None,
        split_punctuation: bool = True,
    ) -> "Tokenizer":
        """Build a vocabulary of at most `vocabulary_size` ids (the four reserved ones included) from `texts`.

        Args:
            texts: the sentences, read once.
            kind: `word`, `bpe` or `char`.
            vocabulary_size: most ids, the most frequent tokens first, equally frequent ones in code point order.
            lowercase: whether case is dropped; by default for words only.
            split_punctuation: whether words are split around punctuation; for `word` only.

        Raises:
            ConfigError: for an unknown kind or a vocabulary too small for it.
        """
        choose("tokenizer", kind, KINDS)
        if vocabulary_size < SMALLEST[kind]:
            raise ConfigError(
                f"a vocabulary of {vocabulary_size} is too small for the {kind} tokenizer: "
                f"it needs at least {SMALLEST[kind]} ids"
            )
        lowercase = kind == "word" if lowercase is None else lowercase
        make = train_merges if kind == "bpe" else train_vocabulary
        pattern = POINTS if kind == "char" else PIECES if split_punctuation else SPACED
        some: list[str] = []
        inner = make(map(replace_surrogates, keep_some(texts, some)), vocabulary_size, NORMALIZERS[lowercase], pattern)
        if pattern == PIECES and kind == "word":
            split = lru_cache(None)(lambda part: [piece for piece, _ in inner.pre_tokenizer.pre_tokenize_str(part)])
            sentences = ([split(part) for part in normalize(text, lowercase).split(" ")] for text in some)
            inner.decoder = Spacing.learn(sentences, inner.get_vocab()).to_decoder()
        return cls(inner)

    def normalize(self, text: str) -> str:
        """Return the text as the tokenizer sees it: equal results mean the same sentence."""
        return normalize(text, self.lowercase)

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text, without start and end."""
        return self._inner.encode(replace_surrogates(text), add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without start and end: of words by the ids of their parts, else on all cores."""
        if self.kind == "word":  # no piece holds a space, so what is between two spaces is split alone
            return [list(chain.from_iterable(map(self._ids.__getitem__, text.split(" ")))) for text in texts]
        encodings = self._inner.encode_batch_fast(
            [replace_surrogates(text) for text in texts], add_special_tokens=False
        )
        return [encoding.ids for encoding in encodings]

    def find_unknown(self, text: str) -> list[str]:
        """Return the pieces of the text that are not in the vocabulary, as written there; without literal `<unk>`."""
        text = replace_surrogates(text)
        encoding = self._inner.encode(text, add_special_tokens=False)
        pairs = zip(encoding.ids, encoding.offsets, strict=True)
        pieces = [text[start:end] for id, (start, end) in pairs if id == UNKNOWN]
        return [piece for piece in pieces if piece.lower() != "<unk>"]

    def truncate(self, text: str, tokens: int) -> str:
        """Return the normalized beginning of `text` that its first `tokens` tokens cover."""
        text = replace_surrogates(text)
        offsets = self._inner.encode(text, add_special_tokens=False).offsets[:tokens]
        return self.normalize(text[: offsets[-1][1]]) if offsets else ""

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` up to the first end; padding and start are skipped, `<unk>` stays visible.

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
        tokens = [self.get_token(id) for id in kept]
        if self._spacing is None:
            return ("" if self.kind == "char" else " ").join(tokens)
        return " ".join(self._join(kept, tokens, self._spacing.find_joined(tokens)))

    def _join(self, ids: list[int], tokens: list[str], joined: list[bool]) -> Iterator[str]:
        """Yield what is between two spaces, where each token is joined to the one before it or is not."""
        part, start = "", 0
        for place, token in enumerate(tokens):
            # Only what is split into the same pieces again is joined: "a. b" is three of them, "a.b" is one.
            if joined[place] and self._ids[part + token] == ids[start : place + 1]:
                part += token
            else:
                if place:
                    yield part
                part, start = token, place
        if tokens:
            yield part

    def separate_marks(self, texts: Iterable[str]) -> list[str]:
        """Put spaces around every word and mark of texts, alike for all tokenizers but those that split at spaces."""
        if self.kind == "word" and not self.split_punctuation:
            return list(texts)
        splitter = pre_tokenizers.Split(Regex(PIECES), behavior="removed", invert=True)
        return [" ".join(piece for piece, _ in splitter.pre_tokenize_str(text)) for text in texts]

    def decode_batch(self, batch: Iterable[Iterable[int]]) -> list[str]:
        """Return the text of each row of ids."""
        return [self.decode(ids) for ids in batch]

    def __len__(self) -> int:
        return self._inner.get_vocab_size()

    def get_token(self, id: int) -> str:
        """Return the token of an id (of a `bpe` id: its bytes in the printable letters of byte-level BPE).

        Raises:
            IndexError: for an id outside the vocabulary.
        """
        name = self._inner.id_to_token(id) if id >= 0 else None
        if name is None:
            raise IndexError(f"id {id} is outside the vocabulary of {len(self)}")
        return name

    def to_json(self) -> str:
        """Return the text of tokenizer.json."""
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
            raise CheckpointError(f"the tokenizer {path} cannot be read: {_to_line(error)}") from None
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the Rust side raises bare Exception for whatever is damaged
            raise CheckpointError(f"{path} is not a tokenizer of seqvae or is damaged: {_to_line(error)}") from None


def keep_some(texts: Iterable[str], kept: list[str], most: int = SPACED_SENTENCES) -> Iterator[str]:
    """Yield the texts, and keep some of them, evenly spread: all, or `most` to twice as many."""
    step = 1
    for number, text in enumerate(texts):
        if number % step == 0:
            kept.append(text)
            if len(kept) == 2 * most:
                del kept[1::2]
                step *= 2
        yield text


class _Ids(dict[str, list[int]]):
    """The ids of what is between two spaces, looked up once: the words of a language come again and again."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        super().__init__()
        self.inner = inner

    def __missing__(self, text: str) -> list[int]:
        if len(self) >= REMEMBERED:
            self.clear()
        ids = self[text] = self.inner.encode(replace_surrogates(text), add_special_tokens=False).ids
        return ids


def _to_line(error: Exception) -> str:
    return " ".join(str(error).split())

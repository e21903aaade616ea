"""Tokenizer: words, byte pairs or characters as ids; one tokenizer.json decides all of how a text is split."""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seqvae.config import KINDS, Data
from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.data.text.spacing import Spacing
from seqvae.errors import CheckpointError, ConfigError, choose, expand, shorten

# Pre-tokens never hold a space, so no text can produce the first three names. They are not registered as special
# tokens, for those are searched for in the raw text before it is split.
RESERVED = {"<pad> ": PADDING, "<s> ": START, "</s> ": END, "<unk>": UNKNOWN}
# The same names of a tokenizer whose tokens may hold a space; a normalized text never holds two.
SPACED_RESERVED = {"<pad>  ": PADDING, "<s>  ": START, "</s>  ": END, "<unk>": UNKNOWN}
SMALLEST = dict.fromkeys(("word", "char", "regex"), len(RESERVED) + 1) | {"bpe": len(RESERVED) + 256}  # vocabularies

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
GIVEN = "(?:{})(?!\\G)|[\\s\\S]"  # what a pattern matches, unless it is empty; else one character

# Normalizations of Unicode.
FORMS: dict[str, list[normalizers.Normalizer]] = {"none": [], "nfc": [normalizers.NFC()], "nfkc": [normalizers.NFKC()]}


def _build_normalizer(lowercase: bool, normalization: str) -> normalizers.Normalizer:
    form = FORMS[normalization]
    steps: list[normalizers.Normalizer] = [*form, normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*steps, normalizers.Lowercase(), *form] if lowercase else steps)


NORMALIZERS = {(lowercase, form): _build_normalizer(lowercase, form) for lowercase in (False, True) for form in FORMS}


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


def normalize(text: str, lowercase: bool = False, normalization: str = "none") -> str:
    """Return the text with runs of whitespace made one space, none at the ends, in lower case and normalized if asked.

    >>> normalize("  A  quiet\\tday ", lowercase=True)
    'a quiet day'
    """
    if text.isascii() and text.isprintable():  # the same result without crossing into Rust, ten times as fast
        text = " ".join(text.split())
        return text.lower() if lowercase else text
    return NORMALIZERS[lowercase, normalization].normalize_str(replace_surrogates(text))


def train_vocabulary(
    texts: Iterable[str],
    size: int,
    normalizer: normalizers.Normalizer,
    pattern: str,
    reserved: dict[str, int] = RESERVED,
) -> tokenizers.Tokenizer:
    """Train a tokenizer of the pieces that `pattern` finds most often, at most `size` with the reserved ones."""
    counter = _build_pipeline(models.WordLevel(), normalizer, pattern)
    # One more than there are ids for, as a literal <unk> among the words has its id already.
    trainer = trainers.WordLevelTrainer(vocab_size=size - len(RESERVED) + 1, special_tokens=[], show_progress=False)
    counter.train_from_iterator(texts, trainer)
    counted = counter.get_vocab()
    words = [word for word in sorted(counted, key=counted.__getitem__) if word not in reserved]
    vocabulary = reserved | {word: id for id, word in enumerate(words[: size - len(RESERVED)], len(RESERVED))}
    return _build_pipeline(models.WordLevel(vocabulary, unk_token="<unk>"), normalizer, pattern)


def _build_pipeline(model: models.Model, normalizer: normalizers.Normalizer, pattern: str) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return inner


def train_merges(texts: Iterable[str], size: int, normalizer: normalizers.Normalizer) -> tokenizers.Tokenizer:
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


class Traits(NamedTuple):
    """What a tokenizer.json says of its tokenizer."""

    kind: str  # one of `KINDS`, or `given`: not trained here
    lowercase: bool
    normalization: str
    split_punctuation: bool = False


def recognize(inner: tokenizers.Tokenizer) -> Traits:
    """Return the traits of a tokenizer that `Tokenizer.train` or `seqvae.data.text.given.adopt` has made.

    Raises:
        ValueError: for any other.
    """
    parts, vocabulary = json.loads(inner.to_str()), inner.get_vocab()
    spaced = any(name not in RESERVED and name in vocabulary for name in SPACED_RESERVED)
    if any(vocabulary.get(name) != id for name, id in (SPACED_RESERVED if spaced else RESERVED).items()):
        raise ValueError("its first four ids are not padding, start, end and unknown")
    if (parts["added_tokens"] and not spaced) or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("it has added tokens or gaps in its ids")
    normalizer, splitting = parts["normalizer"] or {}, parts["pre_tokenizer"] or {}
    regex = splitting.get("pattern", {}).get("Regex", "")
    known = {PIECES: ("word", True), SPACED: ("word", False), POINTS: ("char", False)}
    kind, split_punctuation = known.get(regex, (None, False))
    if splitting.get("type") == "ByteLevel":
        kind = "bpe"
    before, after = GIVEN.split("{}")
    if spaced:
        kind = "regex" if regex.startswith(before) and regex.endswith(after) else "given"
    if kind == "given":  # ours comes first, then its own
        normalizer = (normalizer.get("normalizers") or [{}])[0]
    lower, form = find_normalization(normalizer)
    if kind is None or (kind != "given" and (parts["model"]["type"] == "BPE") != (kind == "bpe")):
        raise ValueError("its splitting or its model is none of ours")
    if kind == "given":
        lower = inner.normalizer.normalize_str("A").endswith("a")
    return Traits(kind, lower, form, split_punctuation)


def find_normalization(normalizer: dict) -> tuple[bool, str]:
    """Return the key in `NORMALIZERS` of a normalizer of a tokenizer.json.

    Raises:
        ValueError: if it is none of them.
    """
    for key, ours in NORMALIZERS.items():
        if to_parts(ours) == normalizer:
            return key
    raise ValueError("its normalizer is none of ours")


def to_parts(normalizer: normalizers.Normalizer) -> dict:
    """Return a normalizer as a tokenizer.json holds it."""
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = normalizer
    return json.loads(inner.to_str())["normalizer"]


class Tokenizer:
    """Text to ids and back; in every kind ids 0 to 3 are padding, start, end and unknown.

    `word` splits at whitespace and, by default, around punctuation; `bpe` merges bytes and so can write any
    text; `char` makes each Unicode code point a token; `regex` what a pattern matches, and each code point between. A
    literal `<unk>` in a text is the unknown word of a `word` tokenizer; `<s>`, `</s>`, `<pad>` in a text are ordinary
    words. One that was not trained here (see `seqvae.data.text.given`) is of the kind `given`; how it splits a text,
    and what of it comes back, is its own.

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
        self.kind, self.lowercase, self.normalization, self.split_punctuation = recognize(inner)
        decoder = json.loads(inner.to_str())["decoder"]
        self._spacing = Spacing.from_decoder(decoder) if self.split_punctuation else None

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        kind: str = "word",
        vocabulary_size: int = Data.vocabulary_size,
        lowercase: bool | None = None,
        split_punctuation: bool = True,
        *,
        pattern: str | None = None,
        normalization: str = "none",
    ) -> "Tokenizer":
        """Build a vocabulary of at most `vocabulary_size` ids (the four reserved ones included) from `texts`.

        Args:
            texts: the sentences, read once.
            kind: `word`, `bpe`, `char` or `regex`.
            vocabulary_size: most ids, the most frequent tokens first, equally frequent ones in code point order.
            lowercase: whether case is dropped; by default for words only.
            split_punctuation: whether words are split around punctuation; for `word` only.
            pattern: the regular expression of `regex`.
            normalization: of Unicode: `none`, `nfc` or `nfkc`.

        Raises:
            ConfigError: for an unknown kind, a vocabulary too small for it, or a pattern that is none.
        """
        choose("tokenizer", kind, KINDS)
        if vocabulary_size < SMALLEST[kind]:
            raise ConfigError(
                f"a vocabulary of {vocabulary_size} is too small for the {kind} tokenizer: "
                f"it needs at least {SMALLEST[kind]} ids"
            )
        lowercase = kind == "word" if lowercase is None else lowercase
        splitting = {"bpe": "", "char": POINTS, "word": PIECES if split_punctuation else SPACED}
        splitting["regex"] = check_pattern(pattern) if kind == "regex" else ""
        normalizer, reserved = NORMALIZERS[lowercase, normalization], SPACED_RESERVED if kind == "regex" else RESERVED
        some: list[str] = []
        sentences = map(replace_surrogates, keep_some(texts, some))
        if kind == "bpe":
            return cls(train_merges(sentences, vocabulary_size, normalizer))
        inner = train_vocabulary(sentences, vocabulary_size, normalizer, splitting[kind], reserved)
        if kind == "word" and split_punctuation:
            split = lru_cache(None)(lambda part: [piece for piece, _ in inner.pre_tokenizer.pre_tokenize_str(part)])
            parts = ([split(part) for part in normalize(text, lowercase, normalization).split(" ")] for text in some)
            inner.decoder = Spacing.learn(parts, inner.get_vocab()).to_decoder()
        return cls(inner)

    def normalize(self, text: str) -> str:
        """Return the text as the tokenizer sees it: equal results mean the same sentence."""
        return normalize(text, self.lowercase, self.normalization)

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
        text = self.normalize(
            text
        )  # first: offsets in a text that normalization composes cut letters from their accents
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
        if self.kind == "given":
            return self._inner.decode(kept, skip_special_tokens=False).strip(" ")
        tokens = [self.get_token(id) for id in kept]
        if self._spacing is None:
            return ("" if self.kind in ("char", "regex") else " ").join(tokens)
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
        path = expand(path)
        if not path.is_file():  # a link to a device would be read for ever
            raise CheckpointError(f"no tokenizer at {path}")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"the tokenizer {path} cannot be read: {to_line(error)}") from None
        try:
            return cls(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the Rust side raises bare Exception for whatever is damaged
            raise CheckpointError(f"{path} is not a tokenizer of seqvae or is damaged: {to_line(error)}") from None


def check_pattern(pattern: str | None) -> str:
    """Return the regular expression that splits a text into what `pattern` matches, and each character between.

    Raises:
        ConfigError: if it is no regular expression, or none was given.
    """
    whole = GIVEN.format(pattern)
    try:
        for regex in (pattern or "(", whole):
            Regex(regex)
    except Exception as error:  # the Rust side raises bare Exception
        raise ConfigError(
            f"pattern {shorten(pattern)} is no regular expression ({to_line(error)}): expected one such as "
            r"'Cl|Br|\[[^]]*\]'"
        ) from None
    return whole


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


def to_line(error: Exception) -> str:
    """Return what an error says, on one line."""
    return " ".join(str(error).split())

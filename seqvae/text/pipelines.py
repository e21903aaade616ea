"""The pipelines of `tokenizers` that our tokenizers are: normalize, cut, look up; how they are trained and known."""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from seqvae.batch import END, PADDING, START, UNKNOWN

# Pre-tokens never hold a space, so no text can produce the first three names. They are not registered as special
# tokens, for those are searched for in the raw text before it is cut.
RESERVED = {"<pad> ": PADDING, "<s> ": START, "</s> ": END, "<unk>": UNKNOWN}

# A letter, with joiners and soft hyphens behind it, which are no letters to a regular expression; and a mark, with all
# that changes how it looks: accents, variation selectors, colours of the skin, tags of a flag.
_WORD = r"\w[\w\x{00AD}\x{200C}\x{200D}\x{2060}]*"
_MARK = r"[^\s\w][\p{M}\x{1F3FB}-\x{1F3FF}\x{E0020}-\x{E007F}]*"

# In turn: a name in angle brackets (<unk>); an address of the web; a word with its inner apostrophes, full stops,
# hyphens and middle dots (don't, U.S, well-known), a number with its commas, either with what makes it an address of
# mail; a dash of several hyphens; the ending of a verb that a treebank cut off ('s); a flag of two letters; or any
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


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    steps = [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*steps, normalizers.Lowercase()] if lowercase else steps)


NORMALIZERS = {lowercase: _normalizer(lowercase) for lowercase in (False, True)}


def sound(text: str) -> str:
    """The text with lone surrogates, which no encoding can write, replaced by U+FFFD.

    >>> sound("a\\ud800b")
    'a�b'
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def normalize(text: str, lowercase: bool = False) -> str:
    """The text with runs of whitespace made one space, none at the ends, and in lower case if asked.

    >>> normalize("  A  quiet\\tday ", lowercase=True)
    'a quiet day'
    """
    if text.isascii() and text.isprintable():  # the same result without crossing into Rust, ten times as fast
        text = " ".join(text.split())
        return text.lower() if lowercase else text
    return NORMALIZERS[lowercase].normalize_str(sound(text))


def count(texts: Iterable[str], size: int, normalizer: normalizers.Normalizer, pattern: str) -> tokenizers.Tokenizer:
    """A tokenizer of the pieces that `pattern` finds most often in `texts`, at most `size` with the reserved ones."""
    counter = _pipeline(models.WordLevel(), normalizer, pattern)
    # One more than there is room for, as a literal <unk> among the words has its id already.
    trainer = trainers.WordLevelTrainer(vocab_size=size - len(RESERVED) + 1, special_tokens=[], show_progress=False)
    counter.train_from_iterator(texts, trainer)
    counted = counter.get_vocab()
    words = [word for word in sorted(counted, key=counted.__getitem__) if word not in RESERVED]
    vocabulary = RESERVED | {word: id for id, word in enumerate(words[: size - len(RESERVED)], len(RESERVED))}
    return _pipeline(models.WordLevel(vocabulary, unk_token="<unk>"), normalizer, pattern)


def _pipeline(model: models.Model, normalizer: normalizers.Normalizer, pattern: str) -> tokenizers.Tokenizer:
    inner = tokenizers.Tokenizer(model)
    inner.normalizer = normalizer
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    return inner


def merge(texts: Iterable[str], size: int, normalizer: normalizers.Normalizer, _: str) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer of at most `size` tokens with the reserved ones; it has a cut of its own."""
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
    """Kind, lower-casing and punctuation splitting of a tokenizer.json, which must be one that `train` could write."""
    vocabulary = parts["model"]["vocab"]
    if any(vocabulary.get(name) != id for name, id in RESERVED.items()):
        raise ValueError("its first four ids are not padding, start, end and unknown")
    if parts["added_tokens"] or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("it has added tokens or gaps in its ids")
    lowercase = {json.dumps(_parts(normalizer)): lower for lower, normalizer in NORMALIZERS.items()}
    cut = parts["pre_tokenizer"] or {}
    kinds = {PIECES: ("word", True), SPACED: ("word", False), POINTS: ("char", False)}
    kind = ("bpe", False) if cut.get("type") == "ByteLevel" else kinds.get(cut.get("pattern", {}).get("Regex"))
    lower = lowercase.get(json.dumps(parts["normalizer"]))
    if kind is None or lower is None or (parts["model"]["type"] == "BPE") != (kind[0] == "bpe"):
        raise ValueError("its normalizer, its cut or its model is none of ours")
    return kind[0], lower, kind[1]


def _parts(normalizer: normalizers.Normalizer) -> dict:
    inner = tokenizers.Tokenizer(models.BPE())
    inner.normalizer = normalizer
    return json.loads(inner.to_str())["normalizer"]

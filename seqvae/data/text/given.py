"""Tokenizers that were not trained here: an object, a tokenizer.json, another model's, one of the Hugging Face hub.

All models count on ids 0 to 3 being padding, BOS, EOS and the unknown. `adopt` gives a tokenizer these ids, whatever it
had in their place or lacked, and moves the others up. Its own special tokens (`[CLS]`, `<|endoftext|>`) are dropped, so
that no text can produce an end. How it normalizes, splits, merges and decodes stays as it is.
"""

import json
import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tokenizers

from seqvae.config import KINDS, Data, OwnTokenizer
from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.data.text.tokenizer import NORMALIZERS, SPACED_RESERVED, Tokenizer, to_line, to_parts
from seqvae.data.text.vectors import inspect_vectors
from seqvae.errors import ConfigError, choose, expand, shorten, truncate

FILE = "tokenizer.json"
BUILT_IN = Path(__file__).parents[2] / "models"
READ_BACK = 1_000  # sentences of the round trip
# What takes the pieces of a model together, or undoes how a text was split, where a tokenizer does not say.
DECODERS: dict[str, dict[str, Any]] = {
    "ByteLevel": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "Metaspace": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
    "WordPiece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
}


def settle_words(data: Data) -> Data:
    """Return the options of a run with those that a given tokenizer decides: case and normalization; paths whole.

    Raises:
        ConfigError: if there is no such tokenizer or file of vectors, it cannot be used, or another option contradicts
            it.
    """
    if data.embeddings is not None:
        inspect_vectors(path := expand(data.embeddings))
        data = replace(data, embeddings=str(path.resolve()))
    if data.tokenizer in KINDS:
        return data
    found = open_tokenizer(data.tokenizer, data.lowercase, data.normalization)
    name, path = data.tokenizer, expand(data.tokenizer)
    if not isinstance(name, OwnTokenizer) and path.exists():
        name = str(path.resolve())
    normalization: Any = found.normalization
    return replace(data, tokenizer=name, lowercase=found.lowercase, normalization=normalization)


def open_tokenizer(given: str, lowercase: bool | None = None, normalization: str = "none") -> Tokenizer:
    """Return the tokenizer that was given as a path, a folder, a name, or an object (see `OwnTokenizer`).

    Args:
        given: what `--tokenizer` was.
        lowercase: fold to lower case before it; None leaves that to the tokenizer.
        normalization: of Unicode, before it.

    Raises:
        ConfigError: if there is no such tokenizer, it cannot be used, or it does other than the two options say.
    """
    source = given.source if isinstance(given, OwnTokenizer) else _load(given)
    source = getattr(source, "backend_tokenizer", source)  # of the library transformers
    if not isinstance(source, Tokenizer | tokenizers.Tokenizer):
        raise ConfigError(f"tokenizer = {shorten(source)}: expected a tokenizers.Tokenizer, a path or a name")
    try:
        found = source if isinstance(source, Tokenizer) else _wrap(source, bool(lowercase), normalization)
    except ValueError as error:
        raise ConfigError(
            f"the tokenizer {given} cannot be used ({to_line(error)}): give another, or write --tokenizer bpe"
        ) from None
    for option, asked, usual in (("lowercase", lowercase, None), ("normalization", normalization, "none")):
        if asked not in (usual, has := getattr(found, option)):
            raise ConfigError(
                f"option {option} = {str(asked).lower()}: the tokenizer {given} has {str(has).lower()}: leave it out"
            )
    return found


def _wrap(inner: tokenizers.Tokenizer, lowercase: bool, normalization: str) -> Tokenizer:
    try:
        return Tokenizer(_copy(inner))  # of our own make already
    except ValueError:
        return Tokenizer(adopt(inner, lowercase, normalization))


def adopt(inner: tokenizers.Tokenizer, lowercase: bool = False, normalization: str = "none") -> tokenizers.Tokenizer:
    """Return the tokenizer with our four reserved tokens in front, and without its own special tokens.

    Raises:
        ValueError: if it cannot be stored, has no vocabulary, or reads one of the reserved tokens out of a text.
    """
    try:
        parts = json.loads(inner.to_str())
        special = [token["content"] for token in parts["added_tokens"] if token["special"]]
        changed = _renumber(parts, special)
        steps = [to_parts(NORMALIZERS[lowercase, normalization]), *filter(None, [parts["normalizer"]])]
        changed["normalizer"] = {"type": "Sequence", "normalizers": steps}
        found = tokenizers.Tokenizer.from_str(json.dumps(changed))
        ids = set(found.encode(" ".join([*map(str.strip, SPACED_RESERVED), *special]), add_special_tokens=False).ids)
    except Exception as error:  # the Rust side raises bare Exception for whatever it cannot do
        raise ConfigError(
            f"this tokenizer cannot be used ({to_line(error)}): give another, or --tokenizer bpe"
        ) from None
    vocabulary = found.get_vocab()
    if ids & {PADDING, START, END} or sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise ValueError("one of its tokens has two ids, or is a reserved one of ours")
    return found


def _renumber(parts: dict[str, Any], special: Sequence[str]) -> dict[str, Any]:
    """Return a tokenizer.json with our reserved tokens as ids 0 to 3, and the others after them in their order."""
    model = dict(parts["model"])
    unigram = model["type"] == "Unigram"
    names = [name for name, _ in model["vocab"]] if unigram else sorted(model["vocab"], key=model["vocab"].get)
    unknown = names[model["unk_id"]] if unigram and model["unk_id"] is not None else model.get("unk_token")
    dropped = {*special, unknown, *SPACED_RESERVED}
    kept = [name for name in names if name not in dropped]
    if not kept:
        raise ValueError("its vocabulary is empty")
    if unigram:
        scores = dict(model["vocab"])
        lowest = min(scores.values())
        model |= {"vocab": [[name, scores.get(name, lowest)] for name in [*SPACED_RESERVED, *kept]], "unk_id": UNKNOWN}
    else:
        model |= {"vocab": {name: id for id, name in enumerate([*SPACED_RESERVED, *kept])}, "unk_token": "<unk>"}
    numbers = {name: id for id, name in enumerate([*SPACED_RESERVED, *kept])}
    added = []
    for token in parts["added_tokens"]:
        if token["content"] not in dropped:
            added.append(token | {"id": numbers.setdefault(token["content"], len(numbers))})
    split, kind = parts["pre_tokenizer"] or {}, model["type"]
    inside = [split.get("type"), *(part["type"] for part in split.get("pretokenizers", []))]
    decoder = parts["decoder"] or next((DECODERS[name] for name in [*inside, kind] if name in DECODERS), None)
    others = {"added_tokens": added, "decoder": decoder, "model": model}
    return parts | others | dict.fromkeys(("post_processor", "truncation", "padding"))


def describe_round_trip(tokenizer: Tokenizer, texts: Sequence[str]) -> str | None:
    """Return how many of some sentences a given tokenizer writes back as they were, in one line; None for other kinds.

    Args:
        tokenizer: of the training.
        texts: some sentences of the training.
    """
    if tokenizer.kind != "given" or not texts:
        return None
    pairs = [(tokenizer.normalize(text), tokenizer.decode(tokenizer.encode(text))) for text in texts]
    lost = [(text, back) for text, back in pairs if text != back]
    line = f"the given tokenizer has {len(tokenizer):,} tokens; {1 - len(lost) / len(texts):.1%} of "
    line += f"{len(texts):,} sentences come back as they were"
    return f'{line}, not "{truncate(lost[0][0])}", but "{truncate(lost[0][1])}"' if lost else line


# -- where tokenizers are ----------------------------------------------------------------------------------------------


def _load(name: str) -> tokenizers.Tokenizer:
    """Read a tokenizer.json that is named by its path, its folder, a built-in model or a name on the hub."""
    path = expand(name)
    if not path.exists() and (BUILT_IN / name / FILE).is_file():
        path = BUILT_IN / name
    path = path / FILE if path.is_dir() else path
    if not path.exists():
        if get_close_matches(name, KINDS, n=1, cutoff=0.6):
            choose("tokenizer", name, KINDS)
        if path.suffix == ".json" or not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
            raise ConfigError(
                f"--tokenizer {name}: there is no file {path}; expected {', '.join(KINDS)}, a tokenizer.json, a model "
                "folder, or OWNER/NAME on the hub"
            )
        path = _download(name)
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception for whatever is damaged
        raise ConfigError(f"--tokenizer {path} is no tokenizer.json or is damaged ({to_line(error)})") from None


def _download(name: str) -> Path:
    """Return the path of a tokenizer.json of the hub, from the cache where it is there."""
    import huggingface_hub

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    try:
        try:
            return Path(huggingface_hub.hf_hub_download(name, FILE, local_files_only=True))
        except huggingface_hub.errors.LocalEntryNotFoundError:
            logger.setLevel(logging.CRITICAL)  # of a failure we write one line, not one for each try
            return Path(huggingface_hub.hf_hub_download(name, FILE))
    except Exception as error:  # of a dozen types: no network, no such model, no tokenizer.json in it, no permission
        raise ConfigError(
            f"--tokenizer {name} is no file or folder, none of {', '.join(KINDS)}, and could not be fetched from the "
            f"hub ({truncate(error, 100)}): give the path of a tokenizer.json"
        ) from None
    finally:
        logger.setLevel(level)


def _copy(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Return a copy without what only concerns batches of other libraries: padding and truncation."""
    try:
        parts = json.loads(inner.to_str())
    except Exception as error:  # a part that is written in Python cannot be stored
        raise ConfigError(f"the tokenizer cannot be stored ({to_line(error)}): give one of plain parts") from None
    return tokenizers.Tokenizer.from_str(json.dumps(parts | dict.fromkeys(("truncation", "padding"))))

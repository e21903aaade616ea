"""Files of JSON: where the objects stand in them, and the first one that is not as expected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqvae.errors import CorpusError
from seqvae.text.faults import open_text

LONGEST = 1 << 24  # characters of a line


def field_of(shown: str, path: Path) -> str | None:
    """Find the key of the one array that an object holds, as in {"data": [...]}; None for other files.

    Raises:
        CorpusError: for an object that holds several arrays of objects.
    """
    if ".json" not in path.suffixes:
        return None
    with open_text(path) as file:
        first = file.readline(LONGEST)
        if first.lstrip()[:1] != "{" or (_parsed(first) is not None and file.readline(LONGEST).strip()):
            return None
        whole = _parsed(first + file.read())
    if not isinstance(whole, dict):
        return None  # damaged: the reader says how
    lists = {key: value for key, value in whole.items() if isinstance(value, list) and value}
    arrays = [key for key, value in lists.items() if all(isinstance(one, dict) for one in value) or len(whole) == 1]
    if len(arrays) > 1:
        raise CorpusError(
            f"{shown} holds several arrays of objects, {', '.join(arrays)}: expected one; write a file for each"
        )
    return arrays[0] if arrays else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def check_records(shown: str, path: Path, field: str | None, column: str | None) -> None:
    """Refuse the first line that is no object, and the first one that has another thing than a text in the text column.

    Args:
        shown: what to call the file in an error.
        path: the file.
        field: the key of the array of objects, if they stand in an object.
        column: the one that holds the text; None takes `text`, or the only one with any texts.

    Raises:
        CorpusError: if there is one.
    """
    texts: set[str] = set()
    others: dict[str, tuple[str, Any]] = {}
    for place, record in _records(path, field):
        if isinstance(record, json.JSONDecodeError):
            problem = f"{record.msg} at character {record.colno}"
            raise CorpusError(f"{shown} cannot be read as json: {place} is no JSON ({problem})")
        if not isinstance(record, dict):
            hint = 'expected an object, as {"text": "..."}'
            raise CorpusError(f"{shown} cannot be read as json: {place} is {_described(record)}, {hint}")
        for key, value in record.items():
            if isinstance(value, str):
                texts.add(key)
            elif value is not None:
                others.setdefault(key, (place, value))
    chosen = column or ("text" if "text" in texts else next(iter(texts)) if len(texts) == 1 else None)
    if chosen in texts and chosen in others:
        place, value = others[chosen]
        hint = ": put it in double quotes, or leave that line out" if isinstance(value, int | float) else ""
        raise CorpusError(
            f"{shown} has {_described(value)} in column {chosen!r} of {place}, expected a text as elsewhere{hint}"
        )


def _records(path: Path, field: str | None) -> Iterator[tuple[str, Any]]:
    """Each record, or the error in its place, and what to call that place."""
    with open_text(path) as file:
        if field is None and file.read(1) != "[":
            file.seek(0)
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield f"line {number}", json.loads(line)
                    except json.JSONDecodeError as error:
                        yield f"line {number}", error
            return
        file.seek(0)
        try:
            whole = json.load(file)
        except json.JSONDecodeError as error:
            yield f"line {error.lineno}", error
            return
    for number, record in enumerate(whole if field is None else whole[field], 1):
        yield f"object {number}", record


def _described(value: Any) -> str:
    """A value of JSON in a few words."""
    if isinstance(value, bool):
        return json.dumps(value)
    kinds = {"str": "text", "list": "list", "dict": "object"}
    return f"the {kinds.get(type(value).__name__, 'number')} {json.dumps(value, ensure_ascii=False)[:40]}"

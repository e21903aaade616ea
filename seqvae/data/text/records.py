"""Files of JSON: the records that stand in them, the types of their columns, and the first one that is no text."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqvae.data.text.opening import open_text
from seqvae.data.text.tokenizer import sound
from seqvae.errors import CorpusError

if TYPE_CHECKING:
    import pyarrow


LONGEST = 1 << 24  # characters of the first line
LEAST, MOST = -(2**63), 2**63 - 1  # whole numbers that are kept as such


def read_records(shown: str, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read the objects of a file, and where each stands: one a line, an array, or one array in an object.

    A text that stands where an object should is that of the column `text`.

    Raises:
        CorpusError: at the first line that is no JSON, and the first record that is neither an object nor a text.
    """
    try:
        for place, record in _read(shown, path):
            if isinstance(record, str):
                record = {"text": record}
            if not isinstance(record, dict):
                hint = 'expected an object, as {"text": "..."}'
                raise CorpusError(f"{shown} cannot be read as json: {place} is {_describe(record)}, {hint}")
            yield place, record
    except RecursionError:
        raise CorpusError(f"{shown} cannot be read as json: it has objects in objects too many") from None


def _read(shown: str, path: Path) -> Iterator[tuple[str, Any]]:
    with open_text(path) as file:
        first = file.readline(LONGEST)
        while first and not first.strip():
            first = file.readline(LONGEST)
        alone = first.lstrip()[:1] == "{" and ".json" in path.suffixes and not _is_object(first)
        file.seek(0)
        if first.lstrip()[:1] != "[" and not alone:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"line {number}", _parse(shown, line, number)
            return
        whole = _parse(shown, file.read())
    array = _find_array(shown, whole) if isinstance(whole, dict) else whole
    yield from ((f"record {number}", record) for number, record in enumerate(array, 1))


def _is_object(line: str) -> bool:
    """Whether a line is a record of its own, and no object that holds an array of records."""
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return not any(isinstance(value, list) and value and isinstance(value[0], dict) for value in record.values())


def _parse(shown: str, text: str, number: int = 0) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {number or error.lineno}"
        message = f"{place} is no JSON ({error.msg} at character {error.colno})"
        raise CorpusError(f"{shown} cannot be read as json: {message}") from None


def _find_array(shown: str, whole: dict[str, Any]) -> list[Any]:
    """The one array that an object holds, as in {"data": [...]}; the object itself where it holds none of objects."""
    lists = {key: value for key, value in whole.items() if isinstance(value, list) and value}
    arrays = [key for key, value in lists.items() if isinstance(value[0], dict) or len(whole) == 1]
    if len(arrays) > 1:
        names = ", ".join(arrays)
        raise CorpusError(f"{shown} holds several arrays of objects, {names}: expected one; write a file for each")
    return lists[arrays[0]] if arrays else [whole]


def find_types(shown: str, path: Path) -> dict[str, "pyarrow.DataType"]:
    """Find the type of each column from all records: `string` for texts alone, `large_string` for a mixture of kinds.

    Raises:
        CorpusError: as `read_records`.
    """
    import pyarrow

    kinds: dict[str, set[str]] = {}
    for _, record in read_records(shown, path):
        for key, value in record.items():
            kinds.setdefault(sound(key), set()).add(_find_kind(value))
    types = {
        "text": pyarrow.string(),
        "bool": pyarrow.bool_(),
        "whole": pyarrow.int64(),
        "number": pyarrow.float64(),
        "list": pyarrow.list_(pyarrow.string()),
        "object": pyarrow.struct({"json": pyarrow.string()}),
    }
    found = {}
    for key, several in kinds.items():
        several -= {"nothing", "whole"} if "number" in several else {"nothing"}
        one = min(several, default="nothing") if len(several) < 2 else "mixture"
        found[key] = pyarrow.null() if one == "nothing" else types.get(one, pyarrow.large_string())
    return found


def _find_kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "whole" if LEAST <= value <= MOST else "large"
    return {"str": "text", "float": "number", "list": "list", "dict": "object"}.get(type(value).__name__, "nothing")


def make_converter(kind: "pyarrow.DataType") -> Callable[[Any], Any]:
    """Give a function that makes a value of JSON one of the type of its column; what is nested is kept as JSON."""
    import pyarrow

    if pyarrow.types.is_list(kind):
        return lambda value: None if value is None else [as_text(one) for one in value]
    if pyarrow.types.is_struct(kind):
        return lambda value: None if value is None else {"json": json.dumps(value)}
    return as_text if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) else lambda value: value


def as_text(value: Any) -> str | None:
    """Give a text as it is, and any other value as JSON.

    >>> as_text("one"), as_text(1), as_text(None)
    ('one', '1', None)
    """
    return sound(value) if isinstance(value, str) else None if value is None else json.dumps(value)


def refuse_mixture(shown: str, path: Path, column: str) -> None:
    """Refuse the first record that has another thing than a text in the column that should hold one.

    Raises:
        CorpusError: if there is one.
    """
    for place, record in read_records(shown, path):
        value = record.get(column)
        if value is not None and not isinstance(value, str):
            hint = ": put it in double quotes, or leave it out" if isinstance(value, int | float) else ""
            raise CorpusError(
                f"{shown} has {_describe(value)} in column {column!r} of {place}, expected a text as elsewhere{hint}"
            )


def _describe(value: Any) -> str:
    """A value of JSON in a few words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {"str": "text", "list": "list", "dict": "object"}
    return f"the {kinds.get(type(value).__name__, 'number')} {json.dumps(value, ensure_ascii=False)[:40]}"

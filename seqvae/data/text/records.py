"""Records: the objects of a file of JSON, the types of their columns, and the first one that holds no text."""

import json
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

from seqvae.data.text.tokenizer import replace_surrogates
from seqvae.errors import CorpusError, list_names

if TYPE_CHECKING:
    import pyarrow


LONGEST = 1 << 24  # characters of the first line
LEAST, MOST = -(2**63), 2**63 - 1  # the range of whole numbers that are kept as such


def read_records(
    shown: str, file: IO[str], whole: bool, nested: str | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a file, each with its place: one a line, those of an array, or of one array in an object.

    A text in place of an object is that of the column `text`.

    Args:
        shown: what to call the file in an error.
        file: its text, from the beginning.
        whole: whether the file may be one object over many lines, as a .json file.
        nested: a field in objects, as `doc.text`, that becomes a column of that name.

    Raises:
        CorpusError: at the first line that is no JSON, and the first record that is neither an object nor a text.
    """
    try:
        for place, record in _read(shown, file, whole):
            if isinstance(record, str):
                record = {"text": record}
            if not isinstance(record, dict):
                hint = 'expected an object, as {"text": "..."}'
                raise CorpusError(f"{shown} cannot be read as json: {place} is {_describe(record)}, {hint}")
            if nested is not None and nested not in record:
                record = {**record, nested: reach(record, nested)}
            yield place, record
    except RecursionError:
        raise CorpusError(f"{shown} cannot be read as json: it has objects in objects too many") from None


def reach(record: Any, path: str) -> Any:
    """Return a field of objects in objects; None where there is none.

    >>> reach({"doc": {"text": "a cat ."}}, "doc.text")
    'a cat .'
    """
    for name in path.split("."):
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _read(shown: str, file: IO[str], whole: bool) -> Iterator[tuple[str, Any]]:
    first = file.readline(LONGEST)
    while first and not first.strip():
        first = file.readline(LONGEST)
    begins = first.lstrip()[:1]
    file.seek(0)
    if begins != "[" and not (whole and begins == "{" and not _is_record(first)):
        for number, line in enumerate(file, 1):
            if line.strip():
                yield f"line {number}", _parse(shown, line, number)
        return
    value = _parse(shown, file.read())
    array = _find_array(shown, value) if isinstance(value, dict) else value
    yield from ((f"record {number}", record) for number, record in enumerate(array, 1))


def _is_record(line: str) -> bool:
    """Return whether a line is a record by itself, and not an object that holds an array of records."""
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


def _find_array(shown: str, value: dict[str, Any]) -> list[Any]:
    """Return the one array that an object holds, as in {"data": [...]}; [the object] where it holds none of objects."""
    lists = {key: items for key, items in value.items() if isinstance(items, list) and items}
    arrays = [key for key, items in lists.items() if isinstance(items[0], dict) or len(value) == 1]
    if len(arrays) > 1:
        names = list_names(arrays)
        raise CorpusError(f"{shown} holds several arrays of objects, {names}: expected one; write a file for each")
    return lists[arrays[0]] if arrays else [value]


def find_types(shown: str, file: IO[str], whole: bool, nested: str | None = None) -> dict[str, "pyarrow.DataType"]:
    """Find the type of each column from all records: `string` for texts alone, `large_string` for a mixture of kinds.

    Arguments and errors are those of `read_records`.
    """
    import pyarrow

    kinds: dict[str, set[str]] = {}
    for _, record in read_records(shown, file, whole, nested):
        for key, value in record.items():
            kinds.setdefault(replace_surrogates(key), set()).add(_find_kind(value))
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
    """Return the kind of a value of JSON in a word."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "whole" if LEAST <= value <= MOST else "large"
    return {"str": "text", "float": "number", "list": "list", "dict": "object"}.get(type(value).__name__, "nothing")


def make_converter(kind: "pyarrow.DataType") -> Callable[[Any], Any]:
    """Return a function that converts a value of JSON to the type of its column; what is nested is kept as JSON."""
    import pyarrow

    if pyarrow.types.is_list(kind):
        return lambda value: None if value is None else [to_text(item) for item in value]
    if pyarrow.types.is_struct(kind):
        return lambda value: None if value is None else {"json": json.dumps(value)}
    return to_text if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind) else lambda value: value


def to_text(value: Any) -> str | None:
    """Return a text as it is, and any other value as JSON.

    >>> to_text("one"), to_text(1), to_text(None)
    ('one', '1', None)
    """
    return replace_surrogates(value) if isinstance(value, str) else None if value is None else json.dumps(value)


def refuse_mixture(shown: str, file: IO[str], whole: bool, column: str) -> None:
    """Raise a `CorpusError` for the first record with anything but a text in a column; else as `read_records`."""
    for place, record in read_records(shown, file, whole, column if "." in column else None):
        value = record.get(column)
        if value is not None and not isinstance(value, str):
            hint = ": put it in double quotes, or leave it out" if isinstance(value, int | float) else ""
            raise CorpusError(
                f"{shown} has {_describe(value)} in column {column!r} of {place}, expected a text as elsewhere{hint}"
            )


def _describe(value: Any) -> str:
    """Return a value of JSON in a few words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {"str": "text", "list": "list", "dict": "object"}
    return f"the {kinds.get(type(value).__name__, 'number')} {json.dumps(value, ensure_ascii=False)[:40]}"

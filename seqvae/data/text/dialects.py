"""Dialects: how a .csv or .tsv file is written, found from its head, and its rows."""

import contextlib
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from seqvae.errors import CorpusError, list_names

SHOWN = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a vertical bar"}
NO_DELIMITER = "\x1f"  # of a table of one column; no text holds it
READINGS: dict[str, dict[str, Any]] = {
    "quoted": {"strict": True},
    "escaped": {"strict": True, "escapechar": "\\"},
    "literal": {"quoting": csv.QUOTE_NONE},
}
HEAD = 1 << 18  # characters from which the dialect is found
ROWS = 1_000  # rows from which header and kinds of columns are found
LONGEST = 1 << 24  # characters of a cell; a quote that is never closed would else read a whole file into memory

# What columns are often called. Other names are distinguished from texts by the cells below them.
COMMON = """\
abstract answer author body caption category class comment content context date description document headline
id idx index label labels lang language line message name question rating review score sentence sentences sentiment
smiles source split summary target text texts title topic tweet url utterance word words"""
NAMES = frozenset(COMMON.split())
MISSING = frozenset({"na", "n/a", "nan", "null", "none"})  # written for a number that is not known


class BadRowError(ValueError):
    """A row that does not fit a reading of the file: what is wrong in which line."""


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        delimiter: what separates cells.
        readings: keys of `READINGS` by which the head has the same rows, in the order in which they are to be tried.
        names: of the columns.
        skipped: rows above the first one of data: the header, if there is one.
        texts: the columns that hold anything but numbers.
    """

    delimiter: str
    readings: tuple[str, ...]
    names: tuple[str, ...]
    skipped: int
    texts: tuple[str, ...]


def find_dialect(shown: str, file: io.TextIOBase, wanted: str | None = None) -> Dialect:
    """Find the dialect of a table from its head.

    The delimiter is the one by which all rows have the same number of cells. The first row is a header if it looks like
    names of the cells below it, or if it holds the column that is wanted.

    Args:
        shown: what to call the table in an error.
        file: its text, with the ends of lines as they are.
        wanted: the column that the user named.

    Raises:
        CorpusError: for rows of different numbers of cells, and where the rows can be read in several ways.
    """
    head = file.read(HEAD) + file.readline(LONGEST)
    whole = not file.read(1)
    if not head.strip():
        raise CorpusError(f"{shown} is empty")
    if head.startswith("sep="):
        raise CorpusError(f"{shown} begins with {head.split()[0]!r}, which is for spreadsheets: leave that line out")
    delimiter, fitting = _split_head(shown, head, whole)
    rows = next(iter(fitting.values()))[: ROWS + 1]
    if not rows:
        raise CorpusError(f"{shown} is empty")
    readings = tuple(reading for reading, other in fitting.items() if other[: ROWS + 1] == rows)
    first, body = rows[0], rows[1:]
    header = _has_header(first, body, wanted)
    if header is None and (wanted is None or wanted.isdecimal()):
        numbered = list_names(_name_columns([""] * len(first)))
        raise CorpusError(
            f"{shown} needs --column, for its first line may be names or a row like the others: if names, its columns "
            f"are: {list_names(first)}; if a row, they are: {numbered}"
        )
    header = header is not False
    if header and not body:
        raise CorpusError(f"{shown} is empty below the names of its columns, {list_names(first)}")
    names = _name_columns(first if header else [""] * len(first))
    columns = list(zip(*(body if header else rows), strict=True))
    texts = tuple(name for name, cells in zip(names, columns, strict=True) if not _is_numeric(cells))
    return Dialect(delimiter, readings, names, int(header), texts)


def read_rows(lines: Iterable[str], delimiter: str, reading: str, whole: bool = True) -> Iterator[list[str]]:
    """Read the rows of a table, blank lines left out where it has several columns.

    Args:
        lines: its lines, with their ends.
        delimiter: what separates cells.
        reading: a key of `READINGS`: double quotes around cells, with or without backslashes, or only as text.
        whole: whether the lines are all of the table; otherwise the last row may be truncated.

    Raises:
        BadRowError: for a row with more or fewer cells than the first, a quote that does not close at the end of a
            cell, and a quote that makes one row of several.
    """
    lines = _check_escapes(lines) if reading == "escaped" else lines
    limit = csv.field_size_limit(LONGEST)
    try:
        yield from _check_rows(csv.reader(lines, delimiter=delimiter, **READINGS[reading]), delimiter, whole)
    finally:
        csv.field_size_limit(limit)


def _check_rows(reader: Any, delimiter: str, whole: bool) -> Iterator[list[str]]:
    """Yield the rows of a reader of `csv` that are not blank, checked as `read_rows` says."""
    width, line = 0, 1
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if not whole and "unexpected end" in str(error) and width:
                return
            raise BadRowError(_describe_quote(line, reader.line_num, str(error))) from None
        last = reader.line_num
        if width == 1 or len(row) > 1 or "".join(row).strip():
            row = row or [""]
            width = width or len(row)
            _check_row(row, width, line, last, delimiter)
            yield row
        line = last + 1


def _check_row(row: list[str], width: int, line: int, last: int, delimiter: str) -> None:
    """Raise a `BadRowError` if the row of these lines has not `width` cells, or is several rows in one."""
    if len(row) != width:
        cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
        raise BadRowError(
            f"line {line} has {cells} where the first has {width}: expected as many; each cell ends at "
            f"{SHOWN.get(delimiter, 'the end of the line')}, and one that holds that needs double quotes around it"
        )
    if last > line and _holds_rows(row, delimiter):
        raise BadRowError(
            f"a double quote in line {line} closes in line {last}, and each line between is a row: leave that quote "
            'out, or double it ("") in a cell with double quotes around it'
        )


def _describe_quote(line: int, last: int, problem: str) -> str:
    if "limit" in problem:
        return f"a cell of line {line} has more than {LONGEST:,} characters: is a double quote not closed?"
    where = "does not close" if "unexpected end" in problem else f"closes within a cell, in line {last}"
    return (
        f'a double quote in line {line} {where}: leave that quote out, or double it ("") in a cell with double quotes '
        "around it"
    )


def _holds_rows(row: list[str], delimiter: str) -> bool:
    """Return whether the row is several in one, made so by quotes that are text.

    With several columns, each line of it then has as many cells. A comma within a text mostly has a space behind it, or
    ends the line; one that ends a cell has none. With one column, only a space within the quotes can tell, as
    texts have whose marks are written apart.
    """
    if len(row) == 1:
        return row[0][:1] in (" ", "\t") or row[0][-1:] in (" ", "\t")
    *lines, last = re.split(r"\r\n|\r|\n", delimiter.join(row))
    if not lines or any(line.count(delimiter) != len(row) - 1 for line in (*lines, last)):
        return False
    behind = [cell[:1] for line in lines for cell in line.split(delimiter)[1:]]
    return delimiter == "\t" or sum(bool(one.strip()) for one in behind) >= len(behind) / 2


def _check_escapes(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines while backslashes do nothing but mark quotes, so that no backslash of a text is lost."""
    for number, line in enumerate(lines, 1):
        if re.search(r'\\(?!["\\])', line.replace("\\\\", "")):
            raise BadRowError(f"line {number} has a backslash that marks no quote")
        yield line


def _order_readings(head: str) -> list[str]:
    """Return the readings that may fit: quotes are text if some are within cells and none is doubled, as in csv."""
    within = '""' not in head and re.search(r'[^,;\t|\r\n"\\]"[^,;\t|\r\n"]', head)
    readings = ["literal", "quoted"] if within else ["quoted", "literal"]
    return [*readings[:1], "escaped", *readings[1:]] if '\\"' in head else readings


def _split_head(shown: str, head: str, whole: bool) -> tuple[str, dict[str, list[list[str]]]]:
    """Find the delimiter, and the rows of the head by each reading that fits, the best one first."""
    problems: dict[str, str] = {}
    unused: set[str] = set()  # delimiters by which a row is one cell
    readings = _order_readings(head)
    for reading in readings:
        found = {}
        for delimiter in [mark for mark in SHOWN if mark not in unused]:
            try:
                rows = _read_head(head, delimiter, reading, whole)
            except BadRowError as error:
                if reading == "quoted" or delimiter not in problems:
                    problems[delimiter] = str(error)
                continue
            if rows and len(rows[0]) > 1:
                found[delimiter] = rows
            else:
                unused.add(delimiter)
        if len(found) > 1 and "\t" not in found:
            raise CorpusError(
                f"the cells of {shown} may end at {' or at '.join(SHOWN[delimiter] for delimiter in found)}, for each "
                "line has as many of both: write the names of the columns above them, as in: text,label"
            )
        if found:
            delimiter = next(iter(found))
            return delimiter, _read_all(head, delimiter, readings[readings.index(reading) :], whole)
    _check_one_column(shown, head, {mark: problem for mark, problem in problems.items() if mark not in unused})
    return NO_DELIMITER, _read_all(head, NO_DELIMITER, readings, whole)


def _check_one_column(shown: str, head: str, problems: dict[str, str]) -> None:
    """Raise a `CorpusError` if a delimiter by which the rows differ in cells is in the first line, or all lines below.

    A table has one column if its delimiters are in no line, or in some below the first.
    """
    first, *others = (line for line in io.StringIO(head, newline="") if line.strip())
    for delimiter, problem in problems.items():
        counts = {line.count(delimiter) for line in others}
        below = len(others) > 1 and len(counts) == 1 and counts != {0}
        if delimiter in first or below:
            raise CorpusError(
                f"{shown} cannot be read as csv: {problem}; if each line is a sentence, name the file .txt"
            )


def _read_head(head: str, delimiter: str, reading: str, whole: bool) -> list[list[str]]:
    return list(read_rows(io.StringIO(head, newline=""), delimiter, reading, whole))


def _read_all(head: str, delimiter: str, readings: list[str], whole: bool) -> dict[str, list[list[str]]]:
    """Return the rows of the head by each reading that fits it."""
    fitting = {}
    for reading in readings:
        with contextlib.suppress(BadRowError):
            fitting[reading] = _read_head(head, delimiter, reading, whole)
    return fitting


def _has_header(first: Sequence[str], body: list[list[str]], wanted: str | None) -> bool | None:
    """Return whether the first row holds the names of the columns; None if that cannot be decided."""
    first = [cell.strip() for cell in first]
    if wanted in first:
        return True
    if wanted is not None and re.fullmatch(r"column_\d+", wanted):
        return False
    columns = [[cell.strip() for cell in cells if cell.strip()] for cells in zip(*body, strict=True)]
    columns = columns or [[] for _ in first]
    pairs = list(zip(first, columns, strict=True))
    if first == [str(number) for number in range(len(first))] and not all(map(_is_numeric, columns)):
        return True  # as pandas numbers columns without names
    known = any(cell.lower() in NAMES or re.fullmatch(r"[^\W\d]+(_\w+)+", cell) for cell in first)
    numeric = [(cell, cells) for cell, cells in pairs if cell and cells and _is_numeric(cells)]
    numbers = [(cell, _is_number(cell) and not _is_numbered_name(cell, cells)) for cell, cells in numeric]
    if any(number for _, number in numbers):
        years = all(_is_year_alone(cell, cells) for cell, cells in numeric if _is_number(cell))
        return None if known or (years and any(_looks_like_name(cell, cells) for cell, cells in pairs)) else False
    if any(cell.lower() not in MISSING and re.search(r"[^\W\d]", cell) for cell, _ in numbers):
        return True
    if any(_looks_like_others(cell, cells) for cell, cells in pairs):
        return None if known else False
    if known:
        return True
    named = len(set(first)) == len(first) and not any(_is_number(cell) for cell in first)
    return True if named and any(_looks_like_name(cell, cells) for cell, cells in pairs) else None


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number, a date or a time: more digits than letters."""
    digits = sum(character.isdecimal() for character in cell)
    return digits > sum(character.isalpha() for character in cell)


def _is_numbered_name(cell: str, cells: Sequence[str]) -> bool:
    """Return whether a cell is a name such as t10, above numbers without letters."""
    return re.fullmatch(r"[^\W\d]+\d{1,3}", cell) is not None and not any(re.search(r"[^\W\d]", x) for x in cells)


def _is_year_alone(cell: str, cells: Sequence[str]) -> bool:
    """Return whether a cell is a year, and those below are not."""
    year = r"(19|20)\d\d"
    return re.fullmatch(year, cell) is not None and not any(re.fullmatch(year, other) for other in cells)


def _is_numeric(cells: Sequence[str]) -> bool:
    """Return whether a column holds numbers, empty cells aside."""
    return all(_is_number(cell) for cell in cells if cell.strip())


def _looks_like_others(cell: str, cells: list[str]) -> bool:
    """Return whether a cell is like those below it: a label that comes again, or a sentence among sentences."""
    if not cells:
        return len(cell.split()) > 3
    if cell in cells and len(set(cells)) <= len(cells) / 2:
        return True
    words, ends = len(cell.split()), r".*[.!?…。！？][\"'”’»)]*"
    if re.fullmatch(ends, cell) and sum(bool(re.fullmatch(ends, other)) for other in cells) >= len(cells) / 2:
        return True
    return words > 3 and words >= median(len(other.split()) for other in cells) / 2


def _looks_like_name(cell: str, cells: list[str]) -> bool:
    """Return whether a cell is a name above texts: one word, where nearly all below have more."""
    longer = sum(len(other.split()) > 1 for other in cells)
    return len(cell.split()) == 1 and longer >= max(1, 0.9 * len(cells))


def _name_columns(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns; those without one, or with that of an earlier one, are numbered from 1."""
    names: list[str] = []
    for number, cell in enumerate(cells, 1):
        name = cell.strip()
        names.append(name if name and name not in names else f"column_{number}")
    return tuple(names)

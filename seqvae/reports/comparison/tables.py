"""Tables of numbers with their uncertainty, as text for a terminal, Markdown, CSV and JSON."""

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WIDTH = 120  # characters of a line in a terminal, at most
CELL = 60  # characters of a text in a terminal, at most; the other formats have all of it
GAP = "  "  # between two columns
PARTS = ("", "standard_deviation", "standard_error", "low", "high")  # of an estimate, in files


@dataclass(frozen=True)
class Estimate:
    """A number and its uncertainty.

    Attributes:
        mean: over the runs, or the value of the only one.
        standard_deviation: over the runs, of the sample.
        standard_error: over the sentences of the only run.
        interval: the ends of its 95 % interval.
    """

    mean: float
    standard_deviation: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None

    def parts(self) -> dict[str, float]:
        """Return all its numbers that are known, by the names of `PARTS`; the mean has the empty name."""
        low, high = self.interval or (None, None)
        values = (self.mean, self.standard_deviation, self.standard_error, low, high)
        return {name: value for name, value in zip(PARTS, values, strict=True) if value is not None}


Cell = str | Estimate | None


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: in files.
        title: for people.
        definition: of the score, with its unit.
        number_format: of its numbers, as `format` takes it, such as `,.2f`; None for a column of texts.
    """

    name: str
    title: str
    definition: str = ""
    number_format: str | None = None

    def format_cell(self, cell: Cell) -> tuple[str, str]:
        """Format a cell in two parts, the number and its uncertainty, to align both: `("31.02", " ± 0.04")`."""
        if not isinstance(cell, Estimate):
            return cell or "", ""
        if cell.interval is not None:
            return self._format(cell.mean), f" [{', '.join(map(self._format, cell.interval))}]"
        if cell.standard_deviation is not None:
            return self._format(cell.mean), f" ± {self._format(cell.standard_deviation)}"
        if cell.standard_error is not None:
            return self._format(cell.mean), f" ({self._format(cell.standard_error)})"
        return self._format(cell.mean), ""

    def _format(self, value: float) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return f"{value:.2e}" if 1e6 <= abs(value) < math.inf else format(value, self.number_format or "")


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; a cell that a row does not name is empty."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]

    def cells(self, column: Column) -> list[tuple[str, str]]:
        """Format a column from top to bottom, each cell in two parts."""
        return [column.format_cell(row.get(column.name)) for row in self.rows]

    def legend(self) -> dict[str, str]:
        """Return the definitions of the columns by their titles."""
        return {column.title: column.definition for column in self.columns if column.definition}


def to_text(table: Table, width: int = WIDTH) -> str:
    """Format the table for a terminal; columns that do not fit follow in blocks below, each with the first column.

    >>> loss = Column("nll", "-log p(x)", "nats per sentence", ",.2f")
    >>> rows = ({"recipe": "lm", "nll": Estimate(34.1, standard_error=0.2)}, {"recipe": "vae", "nll": Estimate(31.0)})
    >>> print(to_text(Table("Two runs.", (Column("recipe", "recipe"), loss), rows)))
    Two runs.
    <BLANKLINE>
    recipe  -log p(x)
    ------  ------------
    lm      34.10 (0.20)
    vae     31.00
    <BLANKLINE>
    -log p(x)  nats per sentence
    """
    columns = [_align(column, table.cells(column)) for column in table.columns]
    blocks = [_join(block) for block in _split_into_blocks(columns, width)]
    legend = table.legend()
    indent = max(map(len, legend), default=0) + len(GAP)
    notes = [
        textwrap.fill(f"{title:{indent}}{definition}", width, subsequent_indent=" " * indent)
        for title, definition in legend.items()
    ]
    return "\n\n".join([textwrap.fill(table.caption, width), *blocks, *(["\n".join(notes)] if notes else [])])


def _align(column: Column, cells: Sequence[tuple[str, str]]) -> list[str]:
    """Pad title, rule and cells of a column to the same width."""
    if column.number_format is None:
        texts = [textwrap.shorten(head, CELL, placeholder=" ...") for head, _ in cells]
    else:
        left = max(len(head) for head, _ in cells)
        texts = [f"{head:>{left}}{tail}" for head, tail in cells]
    width = max(map(len, [column.title, *texts]))
    return [text.ljust(width) for text in (column.title, "-" * width, *texts)]


def _join(block: Sequence[list[str]]) -> str:
    return "\n".join(GAP.join(line).rstrip() for line in zip(*block, strict=True))


def _split_into_blocks(columns: Sequence[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Yield groups of columns that fit into the width, each with the first column in front."""
    first, block = columns[0], [columns[0]]
    for column in columns[1:]:
        if len(block) > 1 and sum(len(c[0]) + len(GAP) for c in block) + len(column[0]) > width:
            yield block
            block = [first]
        block.append(column)
    yield block


def to_markdown(table: Table) -> str:
    """Format the table in Markdown, with its caption above and the definitions below."""
    rules = ["---" if column.number_format is None else "---:" for column in table.columns]
    cells = ([head + tail for head, tail in table.cells(column)] for column in table.columns)
    lines = [[column.title for column in table.columns], rules, *zip(*cells, strict=True)]
    body = ["| " + " | ".join(map(_escape, line)) + " |" for line in lines]
    legend = [f"- **{_escape(title)}**: {_escape(definition)}" for title, definition in table.legend().items()]
    return "\n".join([_escape(table.caption), "", *body, *(["", *legend] if legend else []), ""])


def _escape(text: str) -> str:
    """Put a text on one line and escape the marks of Markdown in it."""
    text = " ".join(text.split())
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, "\\" + mark)
    return text


def to_records(table: Table) -> list[dict[str, str | float]]:
    """Return the rows as dictionaries in full precision; the parts of `nll` are `nll`, `nll_standard_error` etc."""
    rows: list[dict[str, str | float]] = []
    for row in table.rows:
        record: dict[str, str | float] = {}
        for column in table.columns:
            cell = row.get(column.name)
            if isinstance(cell, Estimate):
                record |= {f"{column.name}_{part}".rstrip("_"): value for part, value in cell.parts().items()}
            elif cell:
                record[column.name] = cell
        rows.append(record)
    return rows


def to_csv(table: Table) -> str:
    """Format the table as comma-separated values in full precision, each part of an estimate in its own column."""
    rows = to_records(table)
    names = [f"{column.name}_{part}".rstrip("_") for column in table.columns for part in PARTS]
    file = io.StringIO()
    writer = csv.DictWriter(file, [name for name in names if any(name in row for row in rows)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def to_json(table: Table) -> str:
    """Format the table as JSON in full precision: caption, definitions by column, rows; null for not finite numbers."""
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in to_records(table)
    ]
    definitions = {column.name: column.definition for column in table.columns if column.definition}
    whole = {"caption": table.caption, "definitions": definitions, "rows": rows}
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

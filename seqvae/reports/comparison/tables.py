"""Tables of numbers that know how sure they are, for a terminal, for Markdown, CSV and JSON."""

import csv
import io
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

WIDTH = 120  # characters of a terminal that a table may take
CELL = 60  # characters that a text may take in a terminal; the other forms have all of it
GAP = "  "


@dataclass(frozen=True)
class Estimate:
    """A number and what is known of its uncertainty.

    Attributes:
        mean: over the runs, or the value of the only one.
        deviation: the sample standard deviation over the runs.
        standard_error: over the sentences of the only run.
        interval: the ends of its 95 % interval.
    """

    mean: float
    deviation: float | None = None
    standard_error: float | None = None
    interval: tuple[float, float] | None = None

    def parts(self) -> dict[str, float]:
        """All numbers in it, the mean under the empty name."""
        low, high = self.interval or (None, None)
        named = {"": self.mean, "deviation": self.deviation, "standard_error": self.standard_error}
        return {name: value for name, value in (named | {"low": low, "high": high}).items() if value is not None}


Cell = str | Estimate | None


@dataclass(frozen=True)
class Column:
    """A column: its name in files, its title for people, what it means, and how a number in it is written.

    Attributes:
        shape: what `format` takes for a number, such as `,.2f`; None for a column of texts.
    """

    name: str
    title: str
    definition: str = ""
    shape: str | None = None

    def written(self, cell: Cell) -> tuple[str, str]:
        """The cell in two parts, so that what is sure stands under what is sure: `("31.02", " ± 0.04")`."""
        if not isinstance(cell, Estimate):
            return cell or "", ""
        if cell.interval is not None:
            return self._number(cell.mean), f" [{', '.join(map(self._number, cell.interval))}]"
        if cell.deviation is not None:
            return self._number(cell.mean), f" ± {self._number(cell.deviation)}"
        if cell.standard_error is not None:
            return self._number(cell.mean), f" ({self._number(cell.standard_error)})"
        return self._number(cell.mean), ""

    def _number(self, value: float) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return f"{value:.2e}" if 1e6 <= abs(value) < math.inf else format(value, self.shape or "")


@dataclass(frozen=True)
class Table:
    """Rows of cells under columns; a cell that a row does not name is empty."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]

    def cells(self, column: Column) -> list[tuple[str, str]]:
        """A column from top to bottom, each cell in two parts."""
        return [column.written(row.get(column.name)) for row in self.rows]

    def legend(self) -> dict[str, str]:
        """What the columns mean, by their titles."""
        return {column.title: column.definition for column in self.columns if column.definition}


def to_text(table: Table, width: int = WIDTH) -> str:
    """The table for a terminal: columns that do not fit beside each other stand below, under the first column again.

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
    laid = [_laid(column, table.cells(column)) for column in table.columns]
    blocks = ["\n".join(GAP.join(line).rstrip() for line in zip(*block, strict=True)) for block in _blocks(laid, width)]
    legend = table.legend()
    indent = max(map(len, legend), default=0) + len(GAP)
    notes = [
        textwrap.fill(f"{title:{indent}}{meaning}", width, subsequent_indent=" " * indent)
        for title, meaning in legend.items()
    ]
    return "\n\n".join([textwrap.fill(table.caption, width), *blocks, *(["\n".join(notes)] if notes else [])])


def _laid(column: Column, cells: Sequence[tuple[str, str]]) -> list[str]:
    """Title, rule and cells of a column, all equally wide."""
    if column.shape is None:
        texts = [textwrap.shorten(head, CELL, placeholder=" ...") for head, _ in cells]
    else:
        left = max(len(head) for head, _ in cells)
        texts = [f"{head:>{left}}{tail}" for head, tail in cells]
    width = max(map(len, [column.title, *texts]))
    return [text.ljust(width) for text in (column.title, "-" * width, *texts)]


def _blocks(laid: Sequence[list[str]], width: int) -> Iterator[list[list[str]]]:
    """Groups of columns that fit into the width, each with the first column in front."""
    first, block = laid[0], [laid[0]]
    for column in laid[1:]:
        if len(block) > 1 and sum(len(c[0]) + len(GAP) for c in block) + len(column[0]) > width:
            yield block
            block = [first]
        block.append(column)
    yield block


def to_markdown(table: Table) -> str:
    """The table in Markdown, with its caption above and what the columns mean below."""
    rules = ["---" if column.shape is None else "---:" for column in table.columns]
    cells = ([head + tail for head, tail in table.cells(column)] for column in table.columns)
    lines = [[column.title for column in table.columns], rules, *zip(*cells, strict=True)]
    body = ["| " + " | ".join(map(_plain, line)) + " |" for line in lines]
    legend = [f"- **{_plain(title)}**: {_plain(meaning)}" for title, meaning in table.legend().items()]
    return "\n".join([_plain(table.caption), "", *body, *(["", *legend] if legend else []), ""])


def _plain(text: str) -> str:
    """`text` on one line, without what Markdown would take for marks of its own."""
    text = " ".join(text.split())
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, "\\" + mark)
    return text


def records(table: Table) -> list[dict[str, str | float]]:
    """The rows as plain dictionaries in full precision; the parts of `nll` are `nll`, `nll_deviation` and so on."""
    flat: list[dict[str, str | float]] = []
    for row in table.rows:
        record: dict[str, str | float] = {}
        for column in table.columns:
            cell = row.get(column.name)
            if isinstance(cell, Estimate):
                record |= {f"{column.name}_{part}".rstrip("_"): value for part, value in cell.parts().items()}
            elif cell:
                record[column.name] = cell
        flat.append(record)
    return flat


def to_csv(table: Table) -> str:
    """The table as comma-separated values in full precision, means and deviations in columns of their own."""
    rows = records(table)
    parts = ("", "_deviation", "_standard_error", "_low", "_high")
    names = [column.name + part for column in table.columns for part in parts]
    file = io.StringIO()
    writer = csv.DictWriter(file, [name for name in names if any(name in row for row in rows)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def to_json(table: Table) -> str:
    """The table as JSON in full precision: caption, definitions by column, rows; what is not finite is null."""
    rows = [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in records(table)
    ]
    meanings = {column.name: column.definition for column in table.columns if column.definition}
    whole = {"caption": table.caption, "definitions": meanings, "rows": rows}
    return json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

"""What the map is coloured by, and which attributes items can be steered towards."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from seqvae.explore.answers import Attribute, Column

MOST_VALUES = 20  # different ones of a column of labels


def make_columns(model: Any, split: Any, bound: Tensor) -> list[Column]:
    """Return length, -ELBO (N,), and each column of the source with 2 to 20 different values, as labels and factors."""
    steps = "frames" if model.unit == "series" else "tokens"
    columns = [
        Column("length", "number", [float(n) for n in split.lengths - split.complete], f"number of {steps}"),
        Column("-ELBO", "number", bound.tolist(), "an upper bound of -log p(x), nats, from one sample of z"),
    ]
    names = split.columns if hasattr(split, "texts") else []
    found = ((name, read_categories(split.column(name))) for name in names if name != split.rows.column)
    columns += [Column(name, "category", values, "a column of the corpus") for name, values in found if values]
    return columns


def read_categories(values: Sequence[Any]) -> list[str]:
    """Return the values as strings, or none unless 2 to 20 of them differ and each is on 2 rows on average.

    >>> read_categories(["past", "present", None, "past", "present"])
    ['past', 'present', '', 'past', 'present']
    >>> read_categories(["a", "b", "c"])
    []
    """
    names = ["" if value is None else str(value).strip() for value in values]
    different = len({name for name in names if name})
    return names if 2 <= different <= min(MOST_VALUES, len(names) // 2) else []


def find_attributes(columns: Sequence[Column]) -> list[Attribute]:
    """Return the values of the columns of labels that 2 items or more have, and 2 or more have not."""
    found = []
    for column in columns:
        counts = Counter(str(value) for value in column.values if value != "") if column.kind == "category" else {}
        total = sum(counts.values())
        found += [Attribute(column.name, v, n) for v, n in sorted(counts.items()) if n >= 2 and total - n >= 2]
    return found

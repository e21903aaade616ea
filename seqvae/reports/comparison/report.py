"""A comparison as one HTML file that loads nothing else: no scripts, no network, readable in light and in dark."""

import base64
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from seqvae.reports.comparison.figures import CAPTIONS
from seqvae.reports.comparison.outcomes import Outcome, group_by_name
from seqvae.reports.comparison.tables import Table

MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
TITLES = {
    "samples": "Samples from the prior",
    "reconstructions": "Reconstructions of held-out sentences",
    "interpolation": "Interpolations, from top to bottom",
}
TextColumn = tuple[str, Sequence[str]]  # head and texts


def to_html(
    title: str,
    table: Table,
    outcomes: Sequence[Outcome],
    figures: Mapping[str, Path],
    notes: Sequence[str] = (),
    *,
    command: str = "",
) -> str:
    """Render the report from `report.html.jinja`.

    Args:
        title: of the page.
        table: the comparison, with its definitions.
        outcomes: the runs; for each recipe the sentences of the first seed that has them are shown.
        figures: SVG or PNG files by name, as `draw_all` returns them; they are embedded in the page.
        notes: a line each, below the title: the corpus, the split, the machine.
        command: that made the report.
    """
    from jinja2 import Environment, PackageLoader

    loader = PackageLoader("seqvae.reports.comparison", ".")
    template = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        "report.html.jinja"
    )
    return template.render(
        title=title,
        table=table,
        notes=notes,
        command=command,
        figures=[_embed(name, path) for name, path in figures.items()],
        texts={title: columns for what, title in TITLES.items() if (columns := _collect_texts(outcomes, what))},
        side_by_side=_align_rows,
    )


def _embed(name: str, path: Path) -> dict[str, str]:
    """Return the caption of an image and its data as a source for HTML."""
    data = base64.b64encode(path.read_bytes()).decode()
    source = f"data:{MIME_TYPES[path.suffix]};base64,{data}"
    return {"caption": CAPTIONS.get(name, name.replace("_", " ")), "source": source}


def _collect_texts(outcomes: Sequence[Outcome], what: str) -> list[TextColumn]:
    """Collect texts of one kind, a column for each recipe; reconstructions have a column of originals before them."""
    columns: list[TextColumn] = []
    originals: Sequence[str] | None = None
    for name, runs in group_by_name(outcomes).items():
        run = next((run for run in runs if run.sentences.get(what)), None)
        if run is None:
            continue
        if what == "reconstructions" and run.sentences.get("originals") != originals:
            originals = run.sentences.get("originals")
            columns.append(("original", originals or []))
        columns.append((name, run.sentences[what]))
    return columns


def _align_rows(columns: Sequence[TextColumn]) -> list[tuple[str, ...]]:
    """Return the texts of all columns row by row, with empty cells where a column is shorter."""
    return list(zip_longest(*(texts for _, texts in columns), fillvalue=""))

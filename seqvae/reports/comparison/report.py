"""A comparison as one HTML file that needs nothing else: no scripts, no network, readable in light and in dark."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from itertools import zip_longest
from pathlib import Path

from seqvae.reports.comparison.figures import CAPTIONS
from seqvae.reports.comparison.outcomes import Outcome, by_name
from seqvae.reports.comparison.tables import Table

STYLE = """
:root { color-scheme: light dark;
  --text: #1b1b1b; --quiet: #5c5c5c; --page: #ffffff; --line: #d4d4d4; --shade: #f4f4f4 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --quiet: #a6a6a6; --page: #17181a; --line: #3c3e42; --shade: #222427 }
}
body { margin: 2rem auto; max-width: 78rem; padding: 0 1.2rem; color: var(--text); background: var(--page);
  font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.25 } h2 { font-size: 1.2rem; margin-top: 2.4rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; margin: 0.6rem 0; font-size: 0.87rem }
.caption { color: var(--quiet); font-size: 0.87rem }
th, td { padding: 0.35rem 1rem 0.35rem 0; text-align: left; vertical-align: top }
thead th { border-bottom: 1.5px solid var(--text); vertical-align: bottom }
tbody th { font-weight: 600 } tbody tr { border-bottom: 1px solid var(--line) }
.scores th { white-space: nowrap } .scores tbody th { position: sticky; left: 0; background: var(--page) }
.scores td:not(.number):last-child { min-width: 16rem }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
.texts { table-layout: fixed; width: 100% } .texts th, .texts td { min-width: 11rem; overflow-wrap: anywhere }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34rem), 1fr)); gap: 1.6rem }
figure { margin: 0 }
img { display: block; width: 100%; height: auto; box-sizing: border-box; padding: 0.7rem; background: #ffffff;
  border: 1px solid var(--line); border-radius: 4px }
figcaption { color: var(--quiet); font-size: 0.87rem; margin-top: 0.4rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.2rem; font-size: 0.87rem }
dt { font-weight: 600 } dd { margin: 0; color: var(--quiet) }
pre { overflow-x: auto; padding: 0.7rem 0.9rem; background: var(--shade); border-radius: 4px; font-size: 0.85rem }
"""
KINDS = {".svg": "image/svg+xml", ".png": "image/png"}


def to_html(
    title: str,
    table: Table,
    outcomes: Sequence[Outcome],
    figures: Mapping[str, Path],
    notes: Sequence[str] = (),
    *,
    command: str = "",
) -> str:
    """The whole report.

    Args:
        title: of the page.
        table: the comparison, with its definitions.
        outcomes: the runs, of whose sentences those of the first seed that has them are shown.
        figures: SVG or PNG files by name, as `draw_all` gives them; they are put into the page.
        notes: a line each, below the title: the corpus, the split, the machine.
        command: that made the report.
    """
    remarks = "".join(f"<li>{escape(note)}</li>" for note in notes)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<ul>{remarks}</ul>" if notes else "",
        f"<pre><code>{escape(command)}</code></pre>" if command else "",
        "<h2>Scores</h2>",
        _scores(table),
        _definitions(table),
        _figures(figures),
        *_all_sentences(outcomes),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _scores(table: Table) -> str:
    """The table of the scores; its first column names the rows."""
    classes = ["" if column.shape is None else ' class="number"' for column in table.columns]
    head = [f'<th scope="col"{c}>{escape(column.title)}</th>' for column, c in zip(table.columns, classes, strict=True)]
    lines = []
    for row in table.rows:
        texts = [escape("".join(column.written(row.get(column.name)))) for column in table.columns]
        cells = [f"<td{c}>{text}</td>" for text, c in zip(texts[1:], classes[1:], strict=True)]
        lines.append(f'<tr><th scope="row">{texts[0]}</th>{"".join(cells)}</tr>')
    return f'<p class="caption">{escape(table.caption)}</p>\n{_table(head, lines, "scores")}'


def _definitions(table: Table) -> str:
    terms = (f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in table.legend().items())
    inside = "\n".join(terms)
    return f"<dl>\n{inside}\n</dl>" if inside else ""


def _figures(figures: Mapping[str, Path]) -> str:
    """The images as data inside the page."""
    shown = []
    for name, path in figures.items():
        data = base64.b64encode(path.read_bytes()).decode()
        caption = escape(CAPTIONS.get(name, name.replace("_", " ")))
        source = f"data:{KINDS[path.suffix]};base64,{data}"
        shown.append(f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}</figcaption></figure>')
    inside = "\n".join(shown)
    return f'<h2>Figures</h2>\n<div class="figures">\n{inside}\n</div>' if shown else ""


def _all_sentences(outcomes: Sequence[Outcome]) -> list[str]:
    """Samples, reconstructions and interpolations, a column for each recipe."""
    titles = {
        "samples": "Samples from the prior",
        "reconstructions": "Reconstructions of held-out sentences",
        "interpolation": "Interpolations, from top to bottom",
    }
    parts = []
    for what, title in titles.items():
        columns: list[tuple[str, Sequence[str]]] = []
        originals: Sequence[str] | None = None
        for name, runs in by_name(outcomes).items():
            run = next((run for run in runs if run.sentences.get(what)), None)
            if run is None:
                continue
            if what == "reconstructions" and run.sentences.get("originals") != originals:
                originals = run.sentences.get("originals")
                columns.append(("original", originals or []))
            columns.append((name, run.sentences[what]))
        if columns:
            parts.append(f"<h2>{title}</h2>\n{_side_by_side(columns)}")
    return parts


def _side_by_side(columns: Sequence[tuple[str, Sequence[str]]]) -> str:
    head = [f'<th scope="col">{escape(name)}</th>' for name, _ in columns]
    rows = zip_longest(*(texts for _, texts in columns), fillvalue="")
    lines = ["<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows]
    return _table(head, lines, "texts")


def _table(head: Sequence[str], lines: Sequence[str], kind: str) -> str:
    """A table that scrolls sideways where the page is too narrow for it."""
    body = "\n".join(lines)
    return (
        f'<div class="wide">\n<table class="{kind}">\n<thead><tr>{"".join(head)}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )

"""The figures of the page, as plain dicts that the browser draws; colours are told apart with any colour vision."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seqvae.explore.answers import Column, Points
from seqvae.reports.figure_style import COLOURS

FAINT = "rgba(128, 136, 146, 0.55)"  # the prior samples, readable on light and on dark
SCALE = [[0, "#0072B2"], [0.5, "#98a4ab"], [1, "#E69F00"]]  # visible on light and on dark, as `COLOURS` are
MANY = 4_000  # points from which on the browser draws with WebGL
WIDTH = 60  # characters of a line of a hover text
LINES = 4  # of a hover text
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
MOST_LABELS = len(COLOURS)  # values of a column that have a colour of their own; the others are grey


def make_map(points: Points, column: Column, layers: Sequence[str]) -> dict[str, Any]:
    """Make the map without what a visitor adds to it.

    Args:
        points: the items and the prior samples; their texts are escaped here.
        column: what colours the items.
        layers: those to show, of `data` and `prior`.

    Returns:
        `traces` and `layout` of Plotly, and what the browser needs for clicks and search: `data` and `prior` with
        x and y, `texts`, and `span`, the width and height of the data.
    """
    xy, kind = np.array(points.xy).round(4), "scattergl" if len(points.xy) > MANY else "scatter"
    traces = []
    if "prior" in layers:
        traces.append(make_prior_layer(points, kind))
    if "data" in layers:
        hovers = np.array([break_lines(text) for text in points.texts], dtype=object)
        traces += colour_points(xy[:, 0], xy[:, 1], hovers, column, kind)
    return {
        "traces": traces,
        "layout": make_map_layout(),
        "data": {"x": xy[:, 0].tolist(), "y": xy[:, 1].tolist()},
        "prior": {"x": [x for x, _ in points.prior_xy], "y": [y for _, y in points.prior_xy]},
        "texts": points.texts,
        "span": [float(max(np.ptp(xy[:, i]), 1e-9)) for i in (0, 1)],
    }


def make_prior_layer(points: Points, kind: str) -> dict[str, Any]:
    """Make the layer of the prior samples, with what decodes there."""
    x, y = np.array(points.prior_xy).round(4).T.tolist()
    return {
        "type": kind,
        "mode": "markers",
        "name": "samples of the prior",
        "x": x,
        "y": y,
        "customdata": [f"sample:{i}" for i in range(len(x))],
        "hovertext": [f"prior sample<br>{break_lines(text)}" for text in points.prior_texts],
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": 6, "symbol": "x-thin", "line": {"width": 1.5, "color": FAINT}},
    }


def colour_points(x: np.ndarray, y: np.ndarray, hovers: np.ndarray, column: Column, kind: str) -> list[dict[str, Any]]:
    """Make a layer with a colour bar for a column of numbers, or a layer for each of its most frequent values."""
    rows = np.arange(len(x))
    if column.kind == "number":
        numbers = np.array(column.values, dtype=float)
        low, high = np.nanquantile(numbers, [0.02, 0.98])
        bar = {"thickness": 9, "len": 0.5, "outlinewidth": 0, "x": 1, "xpad": 4}
        title = {"title": {"text": break_lines(column.name), "side": "right"}}
        scale = {"colorscale": SCALE, "cmin": float(low), "cmax": float(high), "colorbar": bar | title}
        marker = {"color": numbers.round(4).tolist(), **scale}
        return [make_layer(rows, x, y, hovers, kind, column.name, marker) | {"showlegend": False}]
    labels = np.array([str(value) for value in column.values])
    names, counts = np.unique(labels, return_counts=True)
    shown = [str(names[place]) for place in np.argsort(-counts, kind="stable")][:MOST_LABELS]
    layers = []
    for i, name in enumerate(shown):
        look = {"color": COLOURS[i], "symbol": SYMBOLS[i]}  # a symbol too: colour is never alone
        layers.append(make_layer(np.flatnonzero(labels == name), x, y, hovers, kind, name or "(none)", look))
    others = np.flatnonzero(~np.isin(labels, shown))
    return layers + ([make_layer(others, x, y, hovers, kind, "other", {"color": FAINT})] if len(others) else [])


def make_layer(
    rows: np.ndarray, x: np.ndarray, y: np.ndarray, hovers: np.ndarray, kind: str, name: str, marker: dict[str, Any]
) -> dict[str, Any]:
    """Make a layer of points that answer to the mouse with their text."""
    edge = {"width": 0.5, "color": "rgba(255, 255, 255, 0.5)"}
    return {
        "type": kind,
        "mode": "markers",
        "name": break_lines(name, 28),
        "x": x[rows].tolist(),
        "y": y[rows].tolist(),
        "customdata": [f"index:{row}" for row in rows],
        "hovertext": hovers[rows].tolist(),
        "hovertemplate": "%{hovertext}<extra></extra>",
        "marker": {"size": 7, "opacity": 0.85, "line": edge} | marker,
    }


def make_map_layout() -> dict[str, Any]:
    """Make a layout without axes: the two directions of a projection have no unit to read off."""
    axis = {"visible": False, "showgrid": False, "zeroline": False}
    return {
        "margin": {"l": 6, "r": 6, "t": 6, "b": 6},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis,
        "yaxis": axis | {"scaleanchor": "x"},
        "legend": {"orientation": "h", "y": 0.01, "x": 0.01, "bgcolor": "rgba(0,0,0,0)", "itemsizing": "constant"},
        "hoverlabel": {"align": "left", "bgcolor": "#20262c", "bordercolor": "#20262c", "font": {"color": "#ffffff"}},
        "clickmode": "event",
        "clickanywhere": True,  # ground without a point answers too
        "hovermode": "closest",
        "hoverdistance": 12,
    }


def make_curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]], x_title: str, y_title: str
) -> dict[str, Any]:
    """Make a figure of lines with markers, each of its own colour and dash; `series` holds x and y by name."""
    dashes = ("solid", "dash", "dot", "dashdot")
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": html.escape(name),
            "x": list(x),
            "y": list(y),
            "line": {"color": COLOURS[i % len(COLOURS)], "dash": dashes[i % len(dashes)], "width": 2},
            "marker": {"size": 5},
        }
        for i, (name, (x, y)) in enumerate(series.items())
    ]
    axis = {"zeroline": False, "gridcolor": "#dfe3e8", "automargin": True}
    layout = {
        "margin": {"l": 44, "r": 8, "t": 8, "b": 38},
        "height": 210,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": axis | {"title": {"text": x_title}},
        "yaxis": axis | {"title": {"text": y_title}},
        "legend": {"orientation": "h", "y": 1.16, "x": 0, "bgcolor": "rgba(0,0,0,0)"},
        "uirevision": "curves",
        "hovermode": "x unified" if len(traces) > 1 else "closest",
    }
    return {"data": traces, "layout": layout}


def draw_series(values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Draw a series, a list of numbers for each channel, over its frames, as high as a few lines of text."""
    lines = {f"channel {c + 1}": (range(1, len(row) + 1), np.round(row, 4).tolist()) for c, row in enumerate(values)}
    figure = make_curves(lines, "frame", "")
    figure["layout"] |= {"height": 150, "showlegend": len(values) > 1}
    for trace in figure["data"]:
        trace["mode"] = "lines"
    return figure


def break_lines(text: str, width: int = WIDTH) -> str:
    """Escape a text for Plotly, which reads a little HTML, broken into a few lines.

    >>> break_lines("<b>a</b>", 4)
    '&lt;b&gt;a<br>&lt;/b&gt;'
    """
    pieces = textwrap.wrap(text, width) or ["(empty)"]
    shown = pieces[:LINES]
    if len(pieces) > LINES:
        shown[-1] += " ..."
    return "<br>".join(html.escape(piece) for piece in shown)

"""What stands on the page: a map, and five panels beside it. Nothing here computes; ids are what `callbacks` fills.

Text from corpora and visitors only ever becomes the children of components, which the browser does not read as HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dash import dcc, html

TABS = {"place": "Place", "path": "Path", "add": "Arithmetic", "read": "Sentence", "health": "Health"}
STORES = ("place", "pair", "base", "here", "turned", "walked", "found", "sums", "asked", "saved", "cursor")
AUTOMATIC = "as the nearest"  # the label of a point, in a model conditioned on labels
NAMED: dict[str, Any] = {"aria-label": "map of the latent space"}
KEYS: dict[str, Any] = {"aria-label": "points of the map: arrows go to the next one, Enter looks at it"}
LIVE: dict[str, Any] = {"aria-live": "polite"}  # read out by a screen reader when it changes
STEER_HELP = "1 moves by the distance between the mean of the sentences with the attribute and that of the others."
PERIOD = 5_000  # milliseconds between two looks at a run in progress
WAIT = 1_000  # milliseconds between two questions whether a map is computed
PLAY = 700  # milliseconds that a step of a path is shown


def make_layout(
    facts: Mapping[str, str],
    charts: Mapping[str, str],
    columns: Iterable[str],
    attributes: Iterable[str],
    labels: Sequence[str],
    series: bool,
) -> Any:
    """Make the page.

    Args:
        facts: `model`, its name, and `about`, a line on it.
        charts: the maps by name, with what the page calls them.
        columns: what points can be coloured by.
        attributes: what a sentence can be steered to, as `tense = past`; may be empty.
        labels: that sentences can be decoded with; empty but in a model conditioned on labels.
        series: whether the model is one of series, which cannot be typed.
    """
    stores = [dcc.Store(id=name, storage_type="memory") for name in STORES]  # the address holds what is kept
    return html.Div(
        id="page",
        children=[
            dcc.Location(id="url", refresh=False),
            *stores,
            make_header(facts),
            html.Main([make_map_card(charts, columns, series), make_side(attributes, labels, series)]),
        ],
    )


def make_header(facts: Mapping[str, str]) -> Any:
    """Make the line at the top: which model this is, and the link to what is shown."""
    return html.Header(
        [
            html.H1(f"Latent space of {facts['model']}"),
            html.Span(facts["about"], className="soft"),
            html.Button("Copy link", id="share", className="quiet", title="the address of what is shown now"),
        ]
    )


def make_map_card(charts: Mapping[str, str], columns: Iterable[str], series: bool) -> Any:
    """Make the map with its tools: its kind, colour, layers, search, and what the mouse does."""
    search = field("Find", text_input("search", "a word or more", type="search", debounce=False))
    return html.Section(
        id="map-card",
        className="card",
        **NAMED,
        children=[
            html.Div(
                className="toolbar",
                children=[
                    field(
                        "Map", dropdown("chart", [{"label": title, "value": name} for name, title in charts.items()])
                    ),
                    field("Colour", dropdown("colour", columns)),
                    dcc.Checklist(
                        id="layers",
                        options=[{"label": "data", "value": "data"}, {"label": "prior", "value": "prior"}],
                        value=["data", "prior"],
                        className="checks",
                        inline=True,
                    ),
                    search if not series else html.Div(search, className="hidden"),
                    choice("mode", {"look": "Look", "draw": "Draw path"}, "look"),
                ],
            ),
            html.Div(make_graph(), id="keys", tabIndex=0, role="application", **KEYS),
            html.Div(id="hint", className="hint foot", **LIVE),
            html.Div(id="about", className="hint foot"),
            dcc.Interval(id="poll", interval=WAIT, disabled=True),
        ],
    )


def make_graph() -> Any:
    """Make the figure of the map."""
    return dcc.Graph(
        id="map",
        responsive=True,
        config={
            "displaylogo": False,
            "showSendToCloud": False,  # nothing leaves this machine
            "plotlyServerURL": "",
            "scrollZoom": True,
            "displayModeBar": "hover",
            "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d", "toImage", "zoom2d", "pan2d"],
        },
    )


def make_side(attributes: Iterable[str], labels: Sequence[str], series: bool) -> Any:
    """Make the panels, of which the tabs show one."""
    makers = {
        "place": make_place_panel(),
        "path": make_path_panel(series),
        "add": make_arithmetic_panel(attributes, series),
        "read": make_reading_panel(series),
        "health": make_health_panel(),
    }
    tabs = {name: title for name, title in TABS.items() if not (series and name in ("add", "read"))}
    panels = [html.Div(panel, id=f"panel-{name}") for name, panel in makers.items()]
    return html.Aside(
        id="side",
        className="card",
        children=[
            choice("tab", tabs, "place", className="choice tabs"),
            html.Div(
                field("Label", dropdown("label", [AUTOMATIC, *labels])),
                id="labels",
                className="" if labels else "hidden",
            ),
            html.Div(panels, id="panels"),
        ],
    )


def make_place_panel() -> list[Any]:
    """Make the panel of the chosen point: what decodes there, and knobs around it."""
    return [
        html.Div(id="look", **LIVE),
        html.H2("Knobs: the dimensions that vary most; drag one"),
        html.Div(id="live", className="live", **LIVE),
        html.Div(id="knobs"),
        html.Button("Back to the point", id="reset", className="quiet"),
        html.Div(id="near"),
    ]


def make_path_panel(series: bool) -> list[Any]:
    """Make the panel of an interpolation: its ends, its kind, and the slider that plays it."""
    typed = [
        text_input("path-a", "a sentence to start from"),
        text_input("path-b", "a sentence to end at"),
        html.Button("Walk", id="walk", className="do"),
    ]
    return [
        html.P("Choose Draw path above the map and drag, or click two points; or type two sentences.", className="soft")
        if not series
        else html.P("Choose Draw path above the map and drag, or click two points.", className="soft"),
        html.Div(typed, className="hidden" if series else ""),
        html.Div(
            className="row",
            children=[
                choice("kind", {"linear": "Straight", "slerp": "Along the arc"}, "linear"),
                field("Steps", dropdown("steps", ["5", "7", "9", "13", "21"], value="9")),
            ],
        ),
        html.Div(
            id="player",
            className="hidden",
            children=[
                html.Div(id="step-text", className="live", **LIVE),
                html.Div(
                    className="row",
                    children=[
                        html.Button("Play", id="play", className="quiet"),
                        html.Div(slider("step", 0, 8, 1, 0, "step of the path"), className="grow"),
                    ],
                ),
                dcc.Interval(id="tick", interval=PLAY, disabled=True),
            ],
        ),
        html.Div(id="steps-list"),
    ]


def make_arithmetic_panel(attributes: Iterable[str], series: bool) -> list[Any]:
    """Make the panel of sums of sentences, and of a move along an attribute."""
    sums = [
        html.H2("A − B + C"),
        text_input("sum-a", "A: begin with"),
        text_input("sum-b", "B: take away"),
        text_input("sum-c", "C: add"),
        html.Button("Add up", id="add", className="do"),
        html.Div(id="sum", **LIVE),
    ]
    steer = [
        html.H2("Steer a sentence to an attribute"),
        text_input("steer-text", "a sentence; empty: the chosen point"),
        field("Attribute", dropdown("attribute", attributes)),
        field("Strength", html.Div(slider("strength", -2, 2, 0.1, 0, "strength"), className="grow")),
        html.Div(id="steered", className="live", **LIVE),
        html.P(STEER_HELP, className="help"),
    ]
    none = html.P("The corpus has no labels, so there is no attribute to steer to.", className="soft")
    return sums + (steer if attributes else [html.H2("Steer a sentence"), none, html.Div(steer, className="hidden")])


def make_reading_panel(series: bool) -> list[Any]:
    """Make the panel of a sentence of the visitor's own."""
    return [
        html.H2("A sentence of your own"),
        text_input("own", "write a sentence"),
        html.Button("Read", id="read", className="do"),
        html.Div(id="reading", **LIVE),
    ]


def make_health_panel() -> list[Any]:
    """Make the panel of the diagnosis, which takes seconds, and the curves."""
    wait = html.P("100 sentences or series are being scored; this takes some seconds ...", className="soft")
    return [
        html.H2("Diagnosis"),
        html.Div(wait, id="diagnosis", **LIVE),
        html.Div(id="curves"),
        dcc.Interval(id="beat", interval=PERIOD, disabled=True),
    ]


# -- pieces -----------------------------------------------------------------------------------------------------------


def field(label: str, part: Any) -> Any:
    """Put a label before a part."""
    return html.Div([html.Span(label, className="soft"), part], className="field row")


def text_input(name: str, hint: str, **options: Any) -> Any:
    """Make a line to type in; Enter submits it."""
    return dcc.Input(
        **({"type": "text"} | options), id=name, placeholder=hint, value="", maxLength=500, autoComplete="off"
    )


def dropdown(name: str, values: Iterable[Any], value: str | None = None) -> Any:
    """Make a choice of one value out of several, each a string or a dict; the first is chosen."""
    values = list(values)
    first = next(iter(values), None)
    chosen = value or (first["value"] if isinstance(first, dict) else first)
    return dcc.Dropdown(id=name, options=values, value=chosen, clearable=False, searchable=False)


def choice(name: str, values: Mapping[str, str], value: str, className: str = "choice") -> Any:
    """Make a row of radio buttons that looks like one switch."""
    options = [{"label": label, "value": key} for key, label in values.items()]
    return dcc.RadioItems(id=name, options=options, value=value, className=className, inline=True)


def slider(name: Any, low: float, high: float, step: float | None, value: float, title: str) -> Any:
    """Make a slider that answers while it is dragged."""
    return dcc.Slider(
        id=name, min=low, max=high, step=step, value=value, marks=None, updatemode="drag", allow_direct_input=False
    )

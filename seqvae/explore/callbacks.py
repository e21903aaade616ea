"""What answers to what on the page: each answer from its arguments alone, which the visitor's browser holds.

So many visitors at once get right answers: the `Space` is never changed. What needs no model runs in the browser
(`assets/explorer.js`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from dash import ALL, ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update

from seqvae.errors import SeqVAEError
from seqvae.explore.layout import TABS
from seqvae.explore.visit import Visit

TYPED = ("own", "sum-a", "sum-b", "sum-c", "path-a", "path-b", "steer-text", "attribute", "strength")


def connect(app: Dash, visit: Visit, *, follow: bool) -> None:
    """Connect all parts of the page."""
    connect_browser(app)
    connect_map(app, visit)
    connect_path(app, visit)
    connect_sentences(app, visit)
    connect_health(app, visit, follow)


def tell(function: Callable[..., Any]) -> Callable[..., Any]:
    """Show what is wrong with what a visitor gave, in place of the answer (the first of several outputs)."""

    @wraps(function)
    def answer(*given: Any) -> Any:
        try:
            return function(*given)
        except SeqVAEError as error:
            message = html.P(str(error), className="wrong", role="alert")
            outputs = ctx.outputs_list
            return [message, *[no_update] * (len(outputs) - 1)] if isinstance(outputs, list) else message

    return answer


def is_new(store: str, asked: Mapping[str, Any]) -> bool:
    """Tell whether a visitor has just asked: no opened link and no other label moves the chosen point."""
    return ctx.triggered_id == store and bool(asked.get("new"))


def in_browser(app: Dash, name: str, outputs: Any, *inputs: Any, **options: Any) -> None:
    """Let the function `name` of explorer.js answer."""
    app.clientside_callback(ClientsideFunction("explorer", name), outputs, *inputs, **options)


def connect_browser(app: Dash) -> None:
    """Connect what the browser does alone: state and address, clicks, search, the player, the map."""
    again = {"allow_duplicate": True}
    restored = ["place", "pair", "sums", "asked"]
    values = ["tab", "colour", "layers", "kind", "steps", *TYPED, "chart", "label"]
    in_browser(
        app,
        "restore",
        [Output(name, "data", **again) for name in restored] + [Output(name, "value", **again) for name in values],
        Input("url", "hash"),
        prevent_initial_call="initial_duplicate",
    )
    kept = [Input(name, "data") for name in restored] + [Input(name, "value") for name in values]
    in_browser(app, "save", Output("saved", "data"), *kept, Input("turned", "data"), prevent_initial_call=True)
    in_browser(app, "share", Output("share", "children"), Input("share", "n_clicks"))
    in_browser(app, "tabs", [Output(f"panel-{name}", "className") for name in TABS], Input("tab", "value"))
    in_browser(
        app,
        "click",
        [Output("place", "data", **again), Output("pair", "data", **again), Output("tab", "value", **again)],
        Input("map", "clickData"),
        Input("map", "relayoutData"),
        State("mode", "value"),
        State("base", "data"),
        State("pair", "data"),
        prevent_initial_call=True,
    )
    in_browser(app, "search", Output("found", "data"), Input("search", "value"), Input("base", "data"))
    looks: list[Any] = [Input("mode", "value"), Input("found", "data"), Input("search", "value"), Input("pair", "data")]
    looks += [Input("cursor", "data"), State("base", "data")]
    in_browser(app, "hint", Output("hint", "children"), *looks)
    stores = [Input(name, "data") for name in ("base", "here", "turned", "walked", "cursor")]
    shown = [Input("step", "value"), Input("found", "data"), Input("mode", "value"), Input("tab", "value")]
    in_browser(app, "draw", Output("map", "figure"), *stores, *shown, Input("pair", "data"))


def connect_map(app: Dash, visit: Visit) -> None:
    """Connect the layers of the map, the chosen point and its knobs."""

    @app.callback(
        Output("base", "data"),
        Output("poll", "disabled"),
        Output("about", "children"),
        Input("chart", "value"),
        Input("colour", "value"),
        Input("layers", "value"),
        Input("poll", "n_intervals"),
    )
    def draw(chart: str, colour: str, layers: list[str], polls: int | None) -> Any:
        base = visit.draw_base(chart, colour, layers)
        if ctx.triggered_id == "poll" and base["waiting"]:
            return no_update, no_update, no_update
        return base, not base["waiting"], base["about"]

    @app.callback(
        Output("look", "children"),
        Output("near", "children"),
        Output("knobs", "children"),
        Output("here", "data"),
        Input("place", "data"),
        Input("reset", "n_clicks"),
        Input("label", "value"),
    )
    @tell
    def look(place: dict | None, clicks: int | None, label: str | None) -> Any:
        if not place:
            return (no_update,) * 4
        return visit.look(place, visit.read_label(label), turned=ctx.triggered_id != "reset")

    @app.callback(
        Output("live", "children"),
        Output("turned", "data"),
        Input({"type": "knob", "dim": ALL}, "value"),
        State({"type": "knob", "dim": ALL}, "id"),
        State("here", "data"),
        State("label", "value"),
        prevent_initial_call=True,
    )
    @tell
    def turn(values: list[float], ids: list[dict], here: dict | None, label: str | None) -> Any:
        if not here or not ids:
            return no_update, no_update
        turns = {key["dim"]: value for key, value in zip(ids, values, strict=True)}
        return visit.turn(here, turns, visit.read_label(label))


def connect_path(app: Dash, visit: Visit) -> None:
    """Connect the interpolation and its player."""

    in_browser(
        app,
        "askPair",
        Output("pair", "data", allow_duplicate=True),
        Input("walk", "n_clicks"),
        Input("path-a", "n_submit"),
        Input("path-b", "n_submit"),
        State("path-a", "value"),
        State("path-b", "value"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("steps-list", "children"),
        Output("walked", "data"),
        Input("pair", "data"),
        Input("kind", "value"),
        Input("steps", "value"),
        Input("label", "value"),
        prevent_initial_call=True,
    )
    @tell
    def walk(pair: dict | None, kind: str, steps: str, label: str | None) -> Any:
        if not pair or "b" not in pair:
            return [], {"steps": []}
        return visit.walk(pair["a"], pair["b"], int(steps), kind, visit.read_label(label))

    step, walked = Input("step", "value"), Input("walked", "data")
    in_browser(app, "step", [Output("step-text", "children"), Output("player", "className")], step, walked)
    in_browser(app, "length", [Output("step", "max"), Output("step", "value")], walked)
    in_browser(
        app,
        "play",
        [Output("tick", "disabled"), Output("play", "children")],
        Input("play", "n_clicks"),
        State("tick", "disabled"),
    )
    in_browser(
        app,
        "advance",
        Output("step", "value", allow_duplicate=True),
        Input("tick", "n_intervals"),
        State("step", "value"),
        State("step", "max"),
        prevent_initial_call=True,
    )


def connect_sentences(app: Dash, visit: Visit) -> None:
    """Connect sums of sentences, attributes, and a sentence of one's own."""
    names = ("sum-a", "sum-b", "sum-c")

    in_browser(
        app,
        "askSum",
        Output("sums", "data", allow_duplicate=True),
        Input("add", "n_clicks"),
        *[Input(name, "n_submit") for name in names],
        *[State(name, "value") for name in names],
        prevent_initial_call=True,
    )

    @app.callback(
        Output("sum", "children"),
        Output("place", "data", allow_duplicate=True),
        Input("sums", "data"),
        Input("label", "value"),
        prevent_initial_call=True,
    )
    @tell
    def add(asked: dict | None, label: str | None) -> Any:
        if not asked:
            return no_update, no_update
        shown, place = visit.add(asked["texts"], visit.read_label(label))
        return shown, place if is_new("sums", asked) else no_update

    @app.callback(
        Output("steered", "children"),
        Input("steer-text", "value"),
        Input("attribute", "value"),
        Input("strength", "value"),
        Input("here", "data"),
        Input("label", "value"),
        prevent_initial_call=True,
    )
    @tell
    def steer(text: str, attribute: str | None, strength: float, here: dict | None, label: str | None) -> Any:
        return visit.steer(text, here, attribute, strength, visit.read_label(label)) if attribute else no_update

    in_browser(
        app,
        "ask",
        Output("asked", "data", allow_duplicate=True),
        Input("read", "n_clicks"),
        Input("own", "n_submit"),
        State("own", "value"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output("reading", "children"),
        Output("place", "data", allow_duplicate=True),
        Input("asked", "data"),
        Input("label", "value"),
        prevent_initial_call=True,
    )
    @tell
    def read(asked: dict | None, label: str | None) -> Any:
        if not asked:
            return no_update, no_update
        shown, place = visit.read(asked["text"], visit.read_label(label))
        return shown, place if is_new("asked", asked) else no_update


def connect_health(app: Dash, visit: Visit, follow: bool) -> None:
    """Connect the diagnosis and the curves, which are read again while a run is followed."""
    app.layout["beat"].disabled = not follow

    @app.callback(Output("curves", "children"), Input("tab", "value"), Input("beat", "n_intervals"))
    @tell
    def show(tab: str, beats: int | None) -> Any:
        return visit.show_curves() if tab == "health" else no_update

    @app.callback(Output("diagnosis", "children"), Input("tab", "value"))
    @tell
    def diagnose(tab: str) -> Any:
        return visit.show_diagnosis() if tab == "health" else no_update

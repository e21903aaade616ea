"""Answers to what the page asks: numbers and text from a `Space`, put into components.

A place is asked for as `{"index": 3}` (a point of the data), `{"sample": 5}` (a prior sample), `{"xy": [x, y]}` (ground
of the map), `{"z": [...]}` or `{"text": "..."}`; it stands in addresses too, and is checked like any text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from dash import dcc, html

from seqvae.data.text.unknown import silence_unknown
from seqvae.errors import ConfigError, check_whole, shorten
from seqvae.explore import figures
from seqvae.explore.answers import Column, Health, Place, Step
from seqvae.explore.health import read_run
from seqvae.explore.layout import slider

if TYPE_CHECKING:
    from seqvae.explore.space import Space

KNOBS = 8
MOST_STEPS = 101
UNTURNED = 1e-3  # a knob nearer to the point than this has not been turned


class Visit:
    """Answers what a visitor asks of a space; it remembers nothing of anybody.

    Attributes:
        space: what is explored.
        folder: of the run, with its curves; None for a model from elsewhere.
        series: whether the model is one of series, which are drawn and cannot be typed.
        columns: what points can be coloured by, by what the page calls it.
        attributes: what a sentence can be steered to, by what the page calls it, as `tense = past`.
        prior: (M, D), the prior samples of the map.
    """

    def __init__(self, space: Space, folder: Path | None = None, *, seed: int = 0) -> None:
        self.space, self.folder = space, folder
        self.points = space.points()
        self.series = space.model.unit == "series"
        self.columns = name_columns(self.points.columns)
        self.attributes = {f"{found.column} = {found.value}": found for found in space.attributes()}
        self._diagnosing, self._diagnosis = Lock(), list[str]()
        self.prior = self.points.prior_z

    # -- the map ------------------------------------------------------------------------------------------------------

    def draw_base(self, colour: str | None, layers: Sequence[str] | None) -> dict[str, Any]:
        """Draw the layers of the map (see `figures.make_map`)."""
        chosen = self.columns.get(colour or "", self.points.columns[0])
        return figures.make_map(self.points, chosen, layers or [])

    def find(self, place: Any) -> list[float]:
        """Find the point z (D numbers) that a place means.

        Raises:
            ConfigError: for a place that there is not, as of a link of another model.
        """
        kind, value = next(iter(place.items())) if isinstance(place, dict) and place else ("", None)
        if kind == "index" and isinstance(value, int):
            return self.space.locate(index=value)
        if kind == "sample" and isinstance(value, int) and 0 <= value < len(self.prior):
            return self.prior[value]
        if kind == "xy" and is_row(value, 2):
            return self.space.locate(xy=value)
        if kind == "z" and isinstance(value, list) and is_row(value, len(self.prior[0])):
            return value
        if kind == "text" and isinstance(value, str) and not self.series:
            return self.encode(value)
        raise ConfigError(f"there is no place {shorten(place)} in this space: click one on the map")

    def encode(self, text: str) -> list[float]:
        """Encode a sentence of a visitor; in a model of labels, with the first of them."""
        if not text.strip():
            raise ConfigError("write a sentence in each line")
        with silence_unknown():
            return self.space.locate(item=text, label=self.label)

    @property
    def label(self) -> str | None:
        """The label of typed sentences, in a model conditioned on labels."""
        return self.space.model.labels[0] if self.space.model.labels else None

    # -- the chosen point ---------------------------------------------------------------------------------------------

    def look(self, place: Any) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Look at a place: what decodes there, what is near, its knobs, and the point for the browser to hold."""
        z = self.find(place)
        found = self.space.look_at(z=z)
        near = [html.H2(f"Nearest {self.space.model.units}, with distance"), show_neighbours(found)]
        return self.show_place(place, found), near, self.show_knobs(z), pack(found)

    def show_place(self, place: Mapping[str, Any], found: Place) -> list[Any]:
        """Show what decodes at a place, and how likely it is."""
        own: list[Any] = []
        if "index" in place and not self.series:
            own = [html.H2("The sentence"), html.P(self.points.texts[place["index"]], className="text soft")]
        numbers = {
            "log p(x|z) of it": f"{found.log_prob:z.1f} nats",
            "log density under the prior": f"{found.log_prior:z.1f} nats",
            "under the aggregate posterior": f"{found.log_aggregate:z.1f} nats",
        }
        if found.label is not None:
            numbers["decoded with the label"] = found.label
        return [
            *own,
            html.H2("What decodes here"),
            show(found, "text"),
            show_numbers(numbers),
        ]

    def show_knobs(self, z: list[float]) -> list[Any]:
        """Make a slider for each of the most active dimensions, standing where z is."""
        knobs = []
        for knob in self.space.knobs(z, count=KNOBS):
            name = {"type": "knob", "dim": knob.dimension}
            part = slider(name, knob.low, knob.high, None, knob.value, f"dimension {knob.dimension + 1}")
            knobs.append(html.Div([html.Span(f"z {knob.dimension + 1}"), part], className="knob"))
        return knobs

    def turn(self, here: Mapping[str, Any], values: Mapping[int, float]) -> tuple[Any, dict[str, Any]]:
        """Decode the point with some dimensions turned, and return it."""
        z = self.find({"z": here.get("z")})
        turns = {d: v for d, v in values.items() if 0 <= d < len(z) and abs(v - z[d]) > UNTURNED}
        found = self.space.turn(z, turns)
        return show(found), pack(found) | {"turns": {str(d): v for d, v in turns.items()}}

    # -- paths, sums and attributes -----------------------------------------------------------------------------------

    def walk(self, a: Any, b: Any, steps: int, kind: str) -> tuple[Any, dict[str, Any]]:
        """Walk from one place to another: the list of steps, and what the browser plays."""
        check_whole(2, MOST_STEPS, steps=steps)
        found = self.space.walk(self.find(a), self.find(b), steps=steps, spherical=kind == "slerp")
        played = [{"xy": round_row(s.xy), "text": s.text, "hover": figures.break_lines(s.text)} for s in found]
        if self.series:
            shown = [html.Div([html.H2(f"step {i + 1}"), show(step)]) for i, step in enumerate(found)]
            return shown, {"steps": played}
        rows = [(step.text, f"{step.log_prob:z.1f}") for step in found]
        return [html.H2("Each step, with log p(x|z) in nats"), show_list(rows, "steps")], {"steps": played}

    def add(self, a: str, minus: str, plus: str) -> tuple[Any, dict[str, Any]]:
        """Show A - B + C, and return the point."""
        found = self.space.add(self.encode(a), self.encode(minus), self.encode(plus))
        shown = [
            html.H2("A − B + C decodes to"),
            html.Div(show(found), className="live"),
            html.H2("Nearest sentences, with distance"),
            show_neighbours(found),
        ]
        return shown, pack(found)

    def steer(self, text: str | None, here: Mapping[str, Any] | None, attribute: str, strength: float) -> Any:
        """Show a sentence, or the chosen point, moved along the direction of an attribute."""
        if attribute not in self.attributes or not is_row([strength], 1):
            raise ConfigError(f"attribute {shorten(attribute)}: choose one of the list")
        if not (text or "").strip() and not here:
            raise ConfigError("write a sentence, or choose a point on the map")
        z = self.encode(text) if (text or "").strip() else self.find({"z": here["z"]})  # type: ignore
        return show(self.space.steer(z, self.attributes[attribute], strength))

    # -- a sentence of one's own --------------------------------------------------------------------------------------

    def read(self, text: str) -> tuple[Any, dict[str, Any]]:
        """Show what the model makes of a sentence, and return its point."""
        here = pack(self.space.look_at(z=self.encode(text), nearest=1))
        with silence_unknown():
            found = self.space.read(text, label=self.label)
        spread = found.standard_deviation or [0.0]
        numbers = {
            "log p(x)": f"{found.log_prob:z.2f} ± {found.error:z.2f} nats",
            "posterior mean": f"length {math.hypot(*found.mean):z.2f}",
            "posterior standard deviation": f"from {min(spread):z.2f} to {max(spread):z.2f}",
        }
        told = sum(word.without_z - word.with_z for word in found.words)
        shown = [
            html.H2("Its reconstruction"),
            html.Div(found.reconstruction or "(empty)", className="live"),
            html.H2("As the model sees it"),
            show_numbers(numbers),
            html.H2("Surprise of each word with z"),
            show_words([(word.text, word.with_z) for word in found.words]),
            html.H2("... and without z"),
            show_words([(word.text, word.without_z) for word in found.words]),
            html.P(
                f"Stronger colour: more surprising; below, -log p in nats. z told {told:z.1f} nats.", className="soft"
            ),
        ]
        return shown, here

    # -- the model ----------------------------------------------------------------------------------------------------

    def show_diagnosis(self) -> list[Any]:
        """Show the diagnosis; it takes seconds, once for all visitors."""
        with self._diagnosing:
            if not self._diagnosis:
                self._diagnosis = self.space.health(self.folder).diagnosis
        return [html.P(line, className="diagnosis") for line in self._diagnosis]

    def show_curves(self) -> list[Any]:
        """Show the curves of the run, as far as it has come."""
        run = read_run(self.folder) if self.folder is not None else Health()
        if not run.curves:
            return [html.P("No curves: the model's folder has no metrics.jsonl with a validation.", className="soft")]
        plane = figures.make_curves({"validations": (run.rate, run.distortion)}, "rate: KL (nats)", "distortion (nats)")
        parts: list[Any] = [html.H2("Distortion over rate, at each validation"), draw(plane)]
        for name, pairs in run.curves.items():
            steps, values = zip(*pairs, strict=True)
            curve = figures.make_curves({name: (steps, values)}, "step", "")
            parts += [html.H2(f"{name}, at each validation"), draw(curve)]
        return parts


# -- pieces -----------------------------------------------------------------------------------------------------------


def name_columns(columns: Sequence[Column]) -> dict[str, Column]:
    """Name columns for the page: a column of the corpus may be called as one that is computed."""
    named: dict[str, Column] = {}
    for column in columns:
        named[column.name if column.name not in named else f"{column.name} (corpus)"] = column
    return named


def is_row(value: Any, length: int) -> bool:
    """Tell whether a value from the browser is a list of `length` finite numbers of a size that a model can take."""
    return (
        isinstance(value, list)
        and len(value) == length
        and all(isinstance(v, int | float) and math.isfinite(v) and abs(v) < 1e6 for v in value)
    )


def round_row(row: Sequence[float]) -> list[float]:
    """Round the numbers of a point for the browser and for addresses."""
    return [round(value, 4) for value in row]


def pack(found: Place | Step) -> dict[str, Any]:
    """Return a point and its position on the map, for the browser to hold."""
    return {"z": round_row(found.z), "xy": round_row(found.xy)}


def show(found: Place | Step, name: str = "") -> Any:
    """Show what decodes at a point: a sentence, or a drawn series."""
    if found.values is None:
        return html.Span(found.text or "(empty)", className=name)
    return draw(figures.draw_series(found.values), 130)


def show_neighbours(found: Place) -> Any:
    """Show the nearest items of a point, with their distances."""
    return show_list([(near.text, f"{near.distance:z.2f}") for near in found.neighbours])


def draw(figure: dict[str, Any], height: int = 210) -> Any:
    """Draw a small figure, `height` pixels high."""
    return dcc.Graph(figure=figure, config={"displayModeBar": False}, style={"height": f"{height}px"})


def show_numbers(numbers: Mapping[str, str]) -> Any:
    """Show numbers, each after its name."""
    return html.Dl([part for name, value in numbers.items() for part in (html.Dt(name), html.Dd(value))])


def show_list(rows: Sequence[tuple[str, str]], name: str = "") -> Any:
    """Show texts, each with a number."""
    return html.Ol(
        [html.Li([html.Span(text or "(empty)"), html.Span(number, className="number")]) for text, number in rows],
        className=f"list {name}",
    )


def show_words(words: Sequence[tuple[str, float]]) -> Any:
    """Show words on a colour as strong as each surprises, from 0 to 10 nats, with the number below."""
    shown = []
    for word, nats in words:
        strength = min(max(nats, 0.0) / 10, 1.0) * 0.75
        style = {"background": f"rgba(var(--surprise), {strength:z.2f})"}
        shown.append(html.Span([word, html.Small(f"{nats:z.1f}")], className="word", style=style))
    return html.Div(shown, className="words")

"""Answers to what the page asks: numbers and text from a `Space`, put into components.

A place is asked for as `{"index": 3}` (a point of the data), `{"sample": 5}` (a prior sample), `{"xy": [x, y]}` (ground
of the map of principal components), `{"mean": {"3": 0.7, "8": 0.3}}` (of points of the data), `{"z": [...]}` or
`{"text": "..."}`; beside it, `"turns": {"0": 1.5}` are knobs. It stands in addresses too, and is checked like any text.
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
from seqvae.explore.items import list_values
from seqvae.explore.layout import AUTOMATIC, slider
from seqvae.explore.maps import PCA, Maps

if TYPE_CHECKING:
    from seqvae.explore.space import Space

KNOBS = 8
ANCHORS = 5  # items by which a point is placed on a map that has no way from z
MOST_STEPS = 101
PLACE_HELP = (
    "log p(x|z) nearer to 0: the decoder is surer of what it wrote. The densities tell how usual z is, for "
    "the prior and for the {units} of the map. The second much lower than the first: a hole, with none of them near."
)
READING_HELP = (
    "Below each word is its surprise, -log p in nats: 0 is certain, 7 one in a thousand. Without z: averaged over z of "
    "the prior, which know nothing of this sentence. The difference: {told:z.1f} nats."
)
SERIES_HEIGHT = 150  # pixels
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
        labels: of a model conditioned on labels; else empty.
        maps: the other maps of the same points.
    """

    def __init__(self, space: Space, folder: Path | None = None, *, seed: int = 0) -> None:
        self.space, self.folder = space, folder
        self.points = space.points()
        self.series = space.model.unit == "series"
        self.columns = name_columns(self.points.columns)
        self.attributes = {f"{found.column} = {found.value}": found for found in space.attributes()}
        self._diagnosing, self._diagnosis = Lock(), list[str]()
        self.prior, self.labels = self.points.prior_z, list(space.model.labels or ())
        self.maps = Maps(self.points, space.z.double().cpu().numpy(), seed=seed)

    # -- the map ------------------------------------------------------------------------------------------------------

    def draw_base(self, chart: str | None, colour: str | None, layers: Sequence[str] | None) -> dict[str, Any]:
        """Draw the layers of a map (see `figures.make_map`); of that of principal components while another is computed.

        Returns:
            also `chart`, which map it is; `waiting`, whether another one is computed; and `about`, a line below it.
        """
        found = self.maps.get(chart)
        shown = self.points if found is None or isinstance(found, str) else found
        chosen = self.columns.get(colour or "", self.points.columns[0])
        name = PCA if shown is self.points or chart is None else chart
        about = self.describe_map(name, found if isinstance(found, str) else "", chosen)
        if found is None:
            about = f"{self.maps.titles[str(chart)]} is being computed and will stand here in a while. {about}"
        base = figures.make_map(shown, chosen, layers or [])
        base["layout"]["uirevision"] = name  # what a visitor zoomed to stays, on the same map
        return base | {"chart": name, "waiting": found is None, "about": about}

    def describe_map(self, name: str, trouble: str, colour: Column) -> str:
        """Describe what the places and the colours of a map mean."""
        if name == PCA:
            share = sum(self.points.variance)
            line = f"The two principal components, which hold {share:.0%} of the variance of the posterior means."
        else:
            line = f"{self.maps.titles[name]}: near points are near in all dimensions; far ones mean little."
        return " ".join(filter(None, [trouble and f"{trouble}.", line, f"Colour: {colour.about}."]))

    def find(self, place: Any, label: str | None = None) -> list[float]:
        """Find the point z (D numbers) that a place means, without its knobs; `label` is that of a typed sentence.

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
        if kind == "mean" and isinstance(value, dict) and is_row(list(value.values()), len(value)) and value:
            return self.average({str(row): float(weight) for row, weight in value.items()})
        if kind == "z" and isinstance(value, list) and is_row(value, len(self.prior[0])):
            return value
        if kind == "text" and isinstance(value, str) and not self.series:
            return self.encode(value, label)
        raise ConfigError(f"there is no place {shorten(place)} in this space: click one on the map")

    def average(self, weights: Mapping[str, float]) -> list[float]:
        """Average items of the data, given by their rows."""
        total = sum(weights.values())
        if total <= 0 or not all(row.isdigit() and weight >= 0 for row, weight in weights.items()):
            raise ConfigError(f"there is no place {shorten(weights)} in this space: click one on the map")
        points = [self.space.locate(index=int(row)) for row in weights]
        shares = [weight / total for weight in weights.values()]
        mean = [sum(s * v for s, v in zip(shares, column, strict=True)) for column in zip(*points, strict=True)]
        return self.space.turn(mean, {}).z  # a point of the space, also where that is a sphere

    def encode(self, text: str, label: str | None = None) -> list[float]:
        """Encode a sentence of a visitor."""
        if not text.strip():
            raise ConfigError("write a sentence in each line")
        if self.labels and label is None:
            raise ConfigError("this model reads a sentence with its label: choose one at Label, above")
        with silence_unknown():
            return self.space.locate(item=text, label=label)

    def read_label(self, choice: str | None) -> str | None:
        """Read the choice of a label: None is that of the nearest item."""
        if choice in (None, "", AUTOMATIC) or not self.labels:
            return None
        if choice not in self.labels:
            raise ConfigError(f"label {shorten(choice)}: choose one of the list")
        return choice

    # -- the chosen point ---------------------------------------------------------------------------------------------

    def look(
        self, place: Any, label: str | None = None, *, turned: bool = True
    ) -> tuple[Any, Any, Any, dict[str, Any]]:
        """Look at a place: what decodes there, what is near, its knobs, and the point for the browser to hold.

        With `turned`, the knobs stand where the place says; else at the point.
        """
        z = self.find(place, label)
        found = self.space.look_at(z=z, label=label)
        near = [html.H2(f"Nearest {self.space.model.units}, with distance"), show_neighbours(found)]
        turns = place.get("turns") if turned else None
        here = self.pack(found) | {"sample": place.get("sample")}
        return self.show_place(place, found), near, self.show_knobs(z, turns), here

    def show_place(self, place: Mapping[str, Any], found: Place) -> list[Any]:
        """Show what decodes at a place, and how likely it is."""
        own: list[Any] = []
        if "index" in place and self.series:
            values = list_values(self.space.items[place["index"]]) or []
            own = [html.H2("The series"), draw(figures.draw_series(values), SERIES_HEIGHT)]
        elif "index" in place:
            own = [html.H2("The sentence"), html.P(self.points.texts[place["index"]], className="text soft")]
        numbers = {
            "log p(x|z) of it": f"{found.log_prob:z.1f} nats",
            "log density of the prior": f"{found.log_prior:z.1f} nats",
            "of the aggregate posterior": f"{found.log_aggregate:z.1f} nats",
        }
        if found.label is not None:
            numbers["decoded with the label"] = found.label
        return [
            *own,
            html.H2("What decodes here"),
            show(found, "text"),
            show_numbers(numbers),
            html.P(PLACE_HELP.format(units=self.space.model.units), className="help"),
        ]

    def show_knobs(self, z: list[float], turns: Any = None) -> list[Any]:
        """Make a slider for each of the most active dimensions, standing where z is, or where `turns` says."""
        given = turns if isinstance(turns, dict) and is_row(list(turns.values()), len(turns)) else {}
        knobs = []
        for knob in self.space.knobs(z, count=KNOBS):
            name = {"type": "knob", "dim": knob.dimension}
            part = slider(
                name,
                knob.low,
                knob.high,
                None,
                min(max(given.get(str(knob.dimension), knob.value), knob.low), knob.high),
                f"dimension {knob.dimension + 1}",
            )
            knobs.append(html.Div([html.Span(f"z {knob.dimension + 1}"), part], className="knob"))
        return knobs

    def turn(
        self, here: Mapping[str, Any], values: Mapping[int, float], label: str | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Decode the point with some dimensions turned, and return it."""
        z = self.find({"z": here.get("z")})
        turns = {d: v for d, v in values.items() if 0 <= d < len(z) and abs(v - z[d]) > UNTURNED}
        found = self.space.turn(z, turns, label)
        return show(found), self.pack(found) | {"turns": {str(d): v for d, v in turns.items()}}

    def pack(self, found: Place | Step) -> dict[str, Any]:
        """Return a point for the browser to hold: z, its position, and the weights of near items, for other maps."""
        near = self.space.find_nearest(found.z, ANCHORS)
        weights = [1 / max(one.distance, 1e-6) ** 2 for one in near]
        anchors = [[one.index, round(weight / sum(weights), 4)] for one, weight in zip(near, weights, strict=True)]
        return {"z": round_row(found.z), "xy": round_row(found.xy), "near": anchors}

    # -- paths, sums and attributes -----------------------------------------------------------------------------------

    def walk(self, a: Any, b: Any, steps: int, kind: str, label: str | None = None) -> tuple[Any, dict[str, Any]]:
        """Walk from one place to another: the list of steps, and what the browser plays."""
        check_whole(2, MOST_STEPS, steps=steps)
        start, end = self.find(a, label), self.find(b, label)
        found = self.space.walk(start, end, steps=steps, spherical=kind == "slerp", label=label)
        played = [self.pack(s) | {"text": s.text, "hover": figures.break_lines(s.text)} for s in found]
        if self.series:
            shown = [html.Div([html.H2(f"step {i + 1}"), show(step)]) for i, step in enumerate(found)]
            return shown, {"steps": played}
        rows = [(step.text, f"{step.log_prob:z.1f}") for step in found]
        return [html.H2("Each step, with log p(x|z) in nats"), show_list(rows, "steps")], {"steps": played}

    def add(self, texts: Sequence[str], label: str | None = None) -> tuple[Any, dict[str, Any]]:
        """Show A - B + C of three sentences, and return its place."""
        start, less, more = (self.encode(text, label) for text in texts)
        found = self.space.add(start, less, more, label=label)
        shown = [
            html.H2("A − B + C decodes to"),
            html.Div(show(found), className="live"),
            html.H2("Nearest sentences, with distance"),
            show_neighbours(found),
        ]
        return shown, {"z": round_row(found.z)}

    def steer(
        self,
        text: str | None,
        here: Mapping[str, Any] | None,
        attribute: str,
        strength: float,
        label: str | None = None,
    ) -> Any:
        """Show a sentence, or the chosen point, moved along the direction of an attribute."""
        if attribute not in self.attributes or not is_row([strength], 1):
            raise ConfigError(f"attribute {shorten(attribute)}: choose one of the list")
        if not (text or "").strip() and not here:
            raise ConfigError("write a sentence, or choose a point on the map")
        z = self.encode(text or "", label) if (text or "").strip() else self.find({"z": (here or {}).get("z")})
        return show(self.space.steer(z, self.attributes[attribute], strength, label))

    # -- a sentence of one's own --------------------------------------------------------------------------------------

    def read(self, text: str, label: str | None = None) -> tuple[Any, dict[str, Any]]:
        """Show what the model makes of a sentence, and return its place."""
        self.encode(text, label)
        with silence_unknown():
            found = self.space.read(text, label=label)
        spread = found.standard_deviation or [0.0]
        numbers = {
            "log p(x), ± standard error": f"{found.log_prob:z.2f} ± {found.error:z.2f} nats",
            "distance of its mean from 0": f"{math.hypot(*found.mean):z.2f}",
            "standard deviations of q(z|x)": f"{min(spread):z.2f} to {max(spread):z.2f} (the prior's: 1)",
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
            html.P(READING_HELP.format(told=told), className="help"),
        ]
        return shown, {"text": text}

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
            return [
                html.P(
                    "No curves of the training: there is no run's folder with them beside this model.", className="soft"
                )
            ]
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


def show(found: Place | Step, name: str = "") -> Any:
    """Show what decodes at a point: a sentence, or a drawn series."""
    if found.values is None:
        return html.Span(found.text or "(empty)", className=name)
    return draw(figures.draw_series(found.values), SERIES_HEIGHT)


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

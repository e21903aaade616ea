"""The answers of a `Space`: plain numbers, strings and lists, ready for JSON by `dataclasses.asdict`."""

from dataclasses import dataclass, field

Values = list[list[float]] | None  # a series: one list of numbers for each channel; None for a sentence


@dataclass(frozen=True)
class Column:
    """What the map can be coloured by.

    Attributes:
        name: as `length`, `-ELBO` or the name of a column of labels.
        kind: `number`, or `category`.
        values: N numbers, or N strings (empty where a label is missing).
        about: what the values are, with their unit, in a clause.
    """

    name: str
    kind: str
    values: list[float] | list[str]
    about: str


@dataclass(frozen=True)
class Points:
    """The layers of the map.

    Attributes:
        xy: N positions [x, y] of the posterior means; row i is item i of the space.
        texts: N sentences, or series drawn in a line of text; unescaped.
        columns: what they can be coloured by.
        prior_xy: M positions of samples of the prior.
        prior_texts: what decodes there.
        prior_z: their M points of D numbers.
        variance: fraction of the variance of the posterior means along x and along y.
    """

    xy: list[list[float]]
    texts: list[str]
    columns: list[Column]
    prior_xy: list[list[float]]
    prior_texts: list[str]
    prior_z: list[list[float]]
    variance: list[float]


@dataclass(frozen=True)
class Neighbour:
    """An item near a point: its row in the space, its text, and the Euclidean distance in all D dimensions."""

    index: int
    text: str
    distance: float


@dataclass(frozen=True)
class Place:
    """What is at a point.

    Attributes:
        z: D numbers.
        xy: its position on the map.
        text: what decodes there, greedily.
        values: the same as numbers, for a series.
        log_prob: log p(x|z) of that text, nats.
        log_prior: log p(z), nats.
        log_aggregate: log of the mean of q(z|x) over the items of the space, nats.
        neighbours: the nearest items, the nearest first.
        label: that it was decoded with, in a model conditioned on labels; else None.
    """

    z: list[float]
    xy: list[float]
    text: str
    values: Values
    log_prob: float
    log_prior: float
    log_aggregate: float
    neighbours: list[Neighbour]
    label: str | None = None


@dataclass(frozen=True)
class Step:
    """A point of an interpolation: fields as of `Place`."""

    z: list[float]
    xy: list[float]
    text: str
    values: Values
    log_prob: float


@dataclass(frozen=True)
class Knob:
    """A dimension of z to turn.

    Attributes:
        dimension: its number, from 0.
        value: of the point.
        low: least value to turn to: the 1 % quantile of the posterior means, or `value` where that is less.
        high: largest, likewise.
        variance: of the posterior means, by which dimensions are ordered.
    """

    dimension: int
    value: float
    low: float
    high: float
    variance: float


@dataclass(frozen=True)
class Attribute:
    """A value of a column of labels that items can be steered towards, and how many items of the space have it."""

    column: str
    value: str
    count: int


@dataclass(frozen=True)
class Word:
    """The surprise -log p of a token (of a series: of a frame), in nats, with z and with z averaged out."""

    text: str
    with_z: float
    without_z: float


@dataclass(frozen=True)
class Reading:
    """What the model makes of one item.

    Attributes:
        text: the item itself.
        values: the same as numbers, for a series.
        reconstruction: what decodes at its posterior mean.
        reconstruction_values: the same as numbers, for a series.
        mean: of q(z|x), D numbers.
        standard_deviation: of q(z|x), D numbers.
        log_prob: log p(x), nats: the mean of importance-weighted estimates.
        error: standard error of `log_prob` over these estimates, nats.
        words: one for each target, the end of the sentence included.
    """

    text: str
    values: Values
    reconstruction: str
    reconstruction_values: Values
    mean: list[float]
    standard_deviation: list[float]
    log_prob: float
    error: float
    words: list[Word]


@dataclass(frozen=True)
class Health:
    """The state of a training.

    Attributes:
        diagnosis: lines of text; empty while there is no model.
        rate: KL at each validation, nats.
        distortion: reconstruction -E log p(x|z) at each validation, nats.
        curves: name -> [step, value] pairs of the validations: `elbo`, `reconstruction`, `kl`, `weight`.
    """

    diagnosis: list[str] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    distortion: list[float] = field(default_factory=list)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)

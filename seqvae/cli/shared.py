"""The application, the options that several of its commands have, and what happens to a command line before parsing."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter, Token

import seqvae
from seqvae.config import Model, Objective, Part, complete
from seqvae.config.recipes import read_options

SEED = cyclopts.validators.Number(gte=0, lt=2**63)
AT_LEAST_ONE = Parameter(validator=cyclopts.validators.Number(gte=1))
FLAT = Parameter(name="*")  # the options of a dataclass, without its name before theirs
SWITCH = Parameter(negative="")
Folder = Annotated[
    str,
    Parameter(
        help="a model folder, `chitchat` or `chitchat-fluent` (built in), or OWNER/NAME on the Hugging Face hub."
    ),
]
Json = Annotated[bool, Parameter(negative="", help="print JSON instead of plain text: one object a line.")]
Label = Annotated[str | None, Parameter(help="the label of the sentences, for a model trained with --label-column.")]
LabelColumn = Annotated[
    str | None, Parameter(help="the column of a table that holds the labels, in place of one --label for all.")
]
OwnParts = Annotated[
    list[str] | None,
    Parameter(
        name="--part",
        help="`package.module:Class`: a class of your own that the model is made of (see CONTRIBUTING.md); may be "
        "repeated. A folder names such classes, and they are imported only if you name them here.",
    ),
]
Column = Annotated[str | None, Parameter(help="the column of a table that holds the sentences (or series).")]
Seed = Annotated[
    int | None,
    Parameter(validator=SEED, help="of all random numbers: the same seed gives the same result; default a new one."),
]
Precision = Annotated[
    Literal["fp32", "bf16"],
    Parameter(
        help="`bf16` computes matrix products in bfloat16, up to three times as fast on a processor that can; "
        "-log p(x) changes by some 0.002 nats on average, a coordinate of z by a thousandth of its spread.",
    ),
]
FixedSeed = Annotated[int, Parameter(validator=SEED, help="of all random numbers.")]

app = cyclopts.App(
    name="seqvae",
    version=seqvae.__version__,
    help="Variational autoencoders of sentences: train on a text file, sample from the prior, interpolate, evaluate.",
    help_format="markdown",
    result_action="return_value",
    default_parameter=Parameter(consume_multiple=False, negative_iterable=()),
)


@dataclass(frozen=True, kw_only=True)
class Writing:
    """Where generated sentences or series are written.

    Attributes:
        output: for a model of series, the .npz file to write, with all frames as `values`, and `lengths`.
        plot: for a model of series, the picture to draw (.png, .svg, .pdf). Needs the extra `plot`.
        json: print JSON instead of plain text, one object a line.
    """

    output: Path | None = None
    plot: Path | None = None
    json: Annotated[bool, SWITCH] = False


@dataclass(frozen=True, kw_only=True)
class Words:
    """What words sentences are made of.

    Attributes:
        no_repeat: no n-gram of this many tokens comes twice in a sentence; 0 = no limit.
        banned: a word that must not be in the sentences; may be repeated.
        required: a word that must be in the sentences; may be repeated. Where sentences are decoded, it needs --beam.
    """

    no_repeat: int | None = None
    banned: Annotated[list[str] | None, Parameter(name="--ban")] = None
    required: Annotated[list[str] | None, Parameter(name="--require")] = None


@dataclass(frozen=True, kw_only=True)
class Search(Words):
    """How points are decoded by a beam search.

    Attributes:
        beam: width of a beam search; 0 = none.
        n_best: number of sentences of each point, the best first; with --json each has its log p(x|z).
        length_penalty: rank by log p(x|z) / length ** this: 0 = by log p(x|z), 1 = by log p(x|z) per token.
    """

    beam: int = 0
    n_best: int = 1
    length_penalty: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Density:
    """What z is sampled from.

    Attributes:
        source: `prior`, or `aggregate`, a density fitted to the posteriors of up to 10,000 training sentences, which
            has fewer holes. With --json each sentence then has its `confidence`, log q(z) in nats, and the fraction of
            held-out sentences in less likely places.
        density: of the aggregate: one `gaussian`, a `mixture` of them (the default), or a `flow`, which needs
            `pip install 'seqvae[flows]'`.
        components: Gaussians of that mixture, by default 10, or fewer if there are few sentences.
        min_confidence: from 0 to 1: sample z again where it is less likely than this quantile of held-out sentences.
        corpus: sentences to fit to, if not those that the model was trained on.
        column: the column of a table that holds the sentences.
    """

    source: Annotated[Literal["prior", "aggregate"], Parameter(name="--from")] = "prior"
    density: Literal["gaussian", "mixture", "flow"] | None = None
    components: Annotated[int | None, AT_LEAST_ONE] = None
    min_confidence: float | None = None
    corpus: str | None = None
    column: str | None = None


def list_given(options: Any) -> dict[str, Any]:
    """List the options of a dataclass that were given: those that differ from their default."""
    return {f.name: value for f in fields(options) if (value := getattr(options, f.name)) != f.default}


# -- before a command line is parsed ----------------------------------------------------------------------------------


def move_stream_last(arguments: list[str]) -> list[str]:
    """Put `-` (standard input) behind a `--`, since elsewhere it would be taken for an option."""
    if "-" not in arguments or "--" in arguments:
        return arguments
    return [*(argument for argument in arguments if argument != "-"), "--", "-"]


def read_recipe(arguments: list[str]) -> tuple[Callable[..., None], ...]:
    """Read the recipe that --config names, as further arguments that yield to those of the command line."""
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--config":
            if not (value := value or "".join(arguments[i + 1 : i + 2])):
                continue  # cyclopts reports that the option needs a value
            values = spell_out_tables(read_options(value))
            source = cyclopts.config.Dict(values, use_commands_as_keys=False, source=value)
            return MergeParts(values, value), source
    return ()


PLACES = [
    f"{group}.{name}"
    for group, options in (("model", Model()), ("objective", Objective()))
    for name, default in vars(options).items()
    if isinstance(default, dict)
]


def spell_out_parts(arguments: list[str]) -> list[str]:
    """Write a part that is given by its name alone in full: `--model.prior mixture` as `--model.prior.name mixture`.

    >>> spell_out_parts(["--model.prior", "mixture", "--model.latent=8", "--objective.weight=cyclical"])
    ['--model.prior.name', 'mixture', '--model.latent=8', '--objective.weight.name=cyclical']
    """
    names = {f"--{place}": f"--{place}.name" for place in PLACES}
    split = [argument.partition("=") for argument in arguments]
    return [names.get(option, option) + equals + value for option, equals, value in split]


def spell_out_tables(values: dict[str, Any]) -> dict[str, Any]:
    """Write the parts of a TOML file that are given by their name alone in full: `prior = "mixture"`.

    >>> spell_out_tables({"seed": 1, "model": {"latent": 8, "prior": "mixture"}})
    {'seed': 1, 'model': {'latent': 8, 'prior': {'name': 'mixture'}}}
    """
    found = dict(values)
    for place in PLACES:
        group, name = place.split(".")
        if isinstance(found.get(group), dict) and isinstance(found[group].get(name), str):
            found[group] = found[group] | {name: {"name": found[group][name]}}
    return found


@dataclass(frozen=True)
class MergeParts:
    """The options of a file for parts of which the command line names others; cyclopts alone would drop them."""

    values: dict[str, Any]
    source: str

    def __call__(self, app: cyclopts.App, commands: tuple[str, ...], arguments: cyclopts.ArgumentCollection) -> None:
        """Add the file's options to those parts of which the command line names some."""
        for group, defaults in (("model", Model()), ("objective", Objective())):
            for part, default in vars(defaults).items():
                argument, tables = arguments.get(f"--{group}.{part}"), self.values.get(group)
                table = tables.get(part) if isinstance(tables, dict) else None
                if argument is not None and isinstance(default, dict) and isinstance(table, dict):
                    self._merge(argument, table, default)

    def _merge(self, argument: cyclopts.Argument, table: Part, default: Part) -> None:
        given = {token.keys[0]: token.value for token in argument.tokens if token.keys}
        whole = complete(given, complete(table, default))
        for key in (key for key in table if given and key in whole and key not in given):
            argument.append(Token(keyword=key, value=str(table[key]), source=self.source, keys=(key,)))

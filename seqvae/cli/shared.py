"""The application, and the options that several of its commands have."""

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

import seqvae

SEED = cyclopts.validators.Number(gte=0, lt=2**63)
AT_LEAST_ONE = Parameter(validator=cyclopts.validators.Number(gte=1))
Folder = Annotated[str, Parameter(help="A model folder, or OWNER/NAME on the Hugging Face hub.")]
Json = Annotated[bool, Parameter(negative="", help="One JSON object a line instead of plain text.")]
Label = Annotated[str | None, Parameter(help="The label of the sentences, for a model trained with --label-column.")]
LabelColumn = Annotated[
    str | None, Parameter(help="The column of a table that holds their labels, in place of one --label for all.")
]
Output = Annotated[
    Path | None, Parameter(help="Of a model of series: the .npz file to write, with all frames as `values`, `lengths`.")
]
Plot = Annotated[
    Path | None, Parameter(help="Of a model of series: a picture to draw (.png, .svg, .pdf). Needs the extra `plot`.")
]
Seed = Annotated[
    int | None, Parameter(validator=SEED, help="The same seed gives the same text; by default a new one each time.")
]

app = cyclopts.App(
    name="seqvae",
    version=seqvae.__version__,
    help="Variational autoencoders of sentences: train on a text file, sample from the prior, interpolate, measure.",
    help_format="markdown",
    result_action="return_value",
    default_parameter=Parameter(consume_multiple=False, negative_iterable=()),
)

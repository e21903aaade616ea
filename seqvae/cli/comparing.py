"""`seqvae compare`."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from seqvae.cli.shared import AT_LEAST_ONE, app


@app.command(sort_key=9)
def compare(
    first: str,
    /,
    *others: str,
    seeds: Annotated[int, AT_LEAST_ONE] = 3,
    minutes: float | None = None,
    epochs: int | None = None,
    only: tuple[str, ...] = (),
    samples: Annotated[int, AT_LEAST_ONE] = 50,
    limit: int = 2000,
    text: Annotated[bool, Parameter(negative="")] = False,
    output: Path | None = None,
) -> None:
    """Compare trained models, or train recipes and compare those: one table, plots, an HTML report.

    Args:
        first: a model folder, or a TOML file with a table of options for each recipe; one for `seqvae train --config`
            is a recipe by itself.
        others: further model folders, and the file of their corpus if it has moved; beside TOML files, more of them,
            and the corpus to train on.
        seeds: trainings of each recipe, with seeds 0, 1, ...
        minutes: of each training, at most; by default what the recipes say.
        epochs: likewise.
        only: train this recipe; can be given several times, and leaves out those that are not named.
        samples: draws of z for each sentence.
        limit: score so many test sentences at most.
        text: also score what the models write. Needs the extra `eval`.
        output: the folder for trainings, tables, plots and report; by default a new one below `comparisons`. One that
            an interrupted comparison left is gone on with.
    """
    from seqvae.commands import comparing
    from seqvae.reports.comparison.recipes import Budget

    sources, terms = [first, *others], comparing.Terms(samples, limit, text)
    command = shlex.join(["seqvae", *sys.argv[1:]])
    budget = Budget(seeds, minutes, epochs, only)
    comparing.compare(sources, budget=budget, terms=terms, output=output, command=command)

"""`seqvae compare`: trained models, or recipes that are trained first, in one table, with plots and a report."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from seqvae.cli.shared import AT_LEAST_ONE, SWITCH, app


@app.command(sort_key=9)
def compare(
    first: str,
    /,
    *others: str,
    seeds: Annotated[int, AT_LEAST_ONE] = 3,
    max_minutes: float | None = None,
    max_epochs: int | None = None,
    only: tuple[str, ...] = (),
    samples: Annotated[int, AT_LEAST_ONE] = 50,
    limit: int = 2000,
    text: Annotated[bool, SWITCH] = False,
    output: Path | None = None,
) -> None:
    """Compare trained models, or train recipes and compare those: one table, plots, an HTML report.

    Args:
        first: a model folder, or a TOML file with a table of options for each recipe; one for `seqvae train --config`
            is a recipe by itself. Or the name of one in the package: `baselines`, `frontier` and `remedies` hold
            several, the others of `seqvae recipes` one each, but for `chitchat` and `curves`, which name corpora here.
        others: further model folders, and their corpus if it has moved; beside TOML files, more of them,
            and the corpus to train on.
        seeds: number of seeds that each recipe is trained with: 0, 1, ...
        max_minutes: of each training, at most; by default what the recipes have.
        max_epochs: of each training, at most; by default what the recipes have.
        only: train this recipe; can be given several times, and leaves out those that are not named.
        samples: number of samples of z for each sentence, for the importance-weighted likelihood.
        limit: score at most this many test sentences.
        text: also score generated text. Needs the extra `eval`.
        output: the folder for trainings, tables, plots and report; by default a new one below `comparisons`. An
            interrupted comparison in it is continued.
    """
    from seqvae.cli.output import log, print_comparison
    from seqvae.cli.train import run_training
    from seqvae.config.recipes import locate_comparison
    from seqvae.data.corpus import BUILT_IN_SERIES, BUILT_IN_TEXTS
    from seqvae.reports.comparison import run
    from seqvae.reports.comparison.recipes import Budget
    from seqvae.reports.comparison.run import Scoring

    command = shlex.join(["seqvae", *sys.argv[1:]])
    budget, scoring = Budget(seeds, max_minutes, max_epochs, only), Scoring(samples, limit, text)
    work = run.Comparison(scoring, train=run_training, log=log)
    corpora = {*BUILT_IN_TEXTS, *BUILT_IN_SERIES}
    sources = [locate_comparison(source, corpora) for source in (first, *others)]
    print_comparison(*run.compare(sources, work, budget=budget, output=output, command=command))

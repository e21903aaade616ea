"""`seqvae train`."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqvae.cli.shared import app
from seqvae.config import Data, Model, Objective, TargetBy, Training

FLAT = Parameter(name="*")


@app.command(sort_key=1)
def train(
    corpus: str | None = None,
    /,
    *,
    kind: Literal["vae", "ae", "lm"] = "vae",
    target_kl: float | None = None,
    target_by: TargetBy = "controller",
    config: Path | None = None,
    output: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    data: Annotated[Data | None, FLAT] = None,
    training: Annotated[Training | None, FLAT] = None,
    model: Model | None = None,
    objective: Objective | None = None,
) -> None:
    """Train a model and show what it can do.

    Args:
        corpus: `sotu` (the default) or `grammar`, built in; a file with a sentence a line (also .gz), `-` for standard
            input, .csv, .tsv, .jsonl or .parquet, a folder with train/valid/test files, or `hub:NAME`. Or real-valued
            series: `curves`, built in; a .npz or .npy file, a .parquet file with a column of lists, a folder of such.
        kind: `vae`; `ae`, the same with a KL of weight 0; `lm`, the same decoder without a latent, as a baseline.
        target_kl: hold the KL at so many nats per sentence, by a divergence and a weight in place of those given.
        target_by: how: by a weight that a `controller` moves, by the multiplier of a `minimum-rate`, by the distance
            from a `capacity`, or by a floor of `free-bits`; the last two can be met without information in z.
        config: a TOML file with options, named as here; the command line wins.
        output: the model folder; by default a new one below `runs`.
        resume: go on with the run in --output (by default the newest one below `runs`) after it was killed or stopped.
        data: what is read.
        training: how long and how fast.
        model: sizes and parts.
        objective: what is minimized.
    """
    from seqvae.commands import training as command

    command.train(
        corpus,
        kind=kind,
        target_kl=target_kl,
        target_by=target_by,
        output=output,
        resume=resume,
        data=data or Data(),
        training=training or Training(),
        model=model or Model(),
        objective=objective or Objective(),
    )

"""The command line: names, types and help of every option. The work is in `seqvae.commands`, imported when it is due,
so that `seqvae --help` answers without torch.
"""

import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

import seqvae
from seqvae.arguments import recipe, stream_last
from seqvae.config import Data, Model, Objective, Training
from seqvae.errors import SeqVAEError
from seqvae.machine import share_cores
from seqvae.targets import TargetBy

FLAT = Parameter(name="*")
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
    from seqvae import training as command

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


@app.command(sort_key=2)
def sample(
    model: Folder,
    /,
    *,
    number: Annotated[int, Parameter(name=["--number", "-n"])] = 10,
    label: str | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    beam: int = 0,
    allow_unknown: Annotated[bool, Parameter(negative="")] = False,
    source: Annotated[Literal["prior", "aggregate"], Parameter(name="--from")] = "prior",
    density: Literal["gaussian", "mixture", "flow"] | None = None,
    components: Annotated[int | None, AT_LEAST_ONE] = None,
    min_confidence: float | None = None,
    corpus: str | None = None,
    column: str | None = None,
    validator: str | None = None,
    output: Output = None,
    plot: Plot = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Sentences from draws of the prior, or of a density of where the training sentences lie, one a line.

    Args:
        number: how many.
        label: of the sentences, for a model that was trained with --label-column; by default labels are drawn as often
            as the training sentences have them, and --json tells which.
        temperature: 0 takes the likeliest word each time, 1 draws from the model.
        top_k: draw among the K likeliest words; 0 = all.
        top_p: draw among the likeliest words that together have this probability.
        min_p: draw among words at least this share as likely as the likeliest.
        beam: search for the likeliest sentence of each z with a beam of this width, instead of drawing words.
        allow_unknown: let `<unk>` be said.
        source: what z is drawn from: `prior`, or `aggregate`, a density fitted to the posteriors of up to 10,000
            training sentences, which has fewer holes. --json then gives each sentence its `confidence`, log q(z) in
            nats, and the share of held-out sentences that lie in less likely places.
        density: that of the aggregate: one `gaussian`, a `mixture` of them (the default), or a `flow`, which needs
            `pip install 'seqvae[flows]'`.
        components: Gaussians of that mixture, by default 10, or fewer if there are few sentences.
        min_confidence: from 0 to 1: draw z again where it is less likely than this quantile of held-out sentences.
        corpus: the sentences to fit to, if not those that the model was trained on.
        column: the column of a table that holds the sentences.
        validator: for strings of symbols: `package.module:function`, a function of yours that takes a string and says
            whether it is valid. Standard error then tells the shares that are valid, unique among the valid, and novel
            among the unique valid, which is not among the training strings; --json gives each string its `valid`.
    """
    from seqvae import commands, reading

    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "beam": beam}
    origin = reading.Source(source, density, components, min_confidence, corpus, column)
    drawn = commands.Drawn(output, plot)
    commands.sample(
        model,
        number,
        origin,
        drawn,
        label=label,
        validator=validator,
        seed=seed,
        json=json,
        allow_unknown=allow_unknown,
        **options,
    )


@app.command(sort_key=3)
def reconstruct(
    model: Folder,
    source: str = "-",
    /,
    *,
    column: str | None = None,
    label: Label = None,
    label_column: LabelColumn = None,
    beam: int = 0,
    output: Output = None,
    plot: Plot = None,
    json: Json = False,
) -> None:
    """Each sentence of a file decoded from its posterior mean, one a line.

    Args:
        source: a file with a sentence a line, or `-` for standard input; of a model of series, a file of series.
        column: the column of a table that holds the sentences.
        beam: width of a beam search; 0 = greedy.
    """
    from seqvae import commands, reading

    lines = reading.Lines(source, column, label, label_column)
    commands.reconstruct(model, lines, commands.Drawn(output, plot), beam=beam, json=json)


@app.command(sort_key=4)
def interpolate(
    model: Folder,
    start: str | None = None,
    end: str | None = None,
    /,
    *,
    label: Label = None,
    steps: int = 7,
    path: Literal["linear", "slerp"] | None = None,
    output: Output = None,
    plot: Plot = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """Walk from one sentence to another, or between two draws of the prior if none is given.

    Args:
        start: the first sentence; of a model of series, a file whose first series it is.
        end: the last one; of a model of series, a file whose first series it is, by default the last of the other file.
        steps: sentences on the way, the two ends included.
        path: `linear` (default between sentences) or `slerp` (default between draws of the prior, and on a sphere).
    """
    from seqvae import commands

    drawn = commands.Drawn(output, plot)
    commands.interpolate(model, start, end, drawn, label=label, steps=steps, path=path, seed=seed, json=json)


@app.command(sort_key=5)
def encode(
    model: Folder,
    source: str,
    /,
    *,
    output: Path,
    column: str | None = None,
    label: Label = None,
    label_column: LabelColumn = None,
    scale: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Write the posterior means of a file's sentences as a NumPy array (sentences, latent).

    Args:
        source: a file with a sentence a line, or `-` for standard input; of a model of series, a file of series.
        output: the .npy file to write.
        column: the column of a table that holds the sentences.
        scale: write the posterior's standard deviations instead.
    """
    from seqvae import commands, reading

    commands.encode(model, reading.Lines(source, column, label, label_column), output=output, scale=scale)


@app.command(sort_key=6)
def decode(
    model: Folder,
    latents: Path,
    /,
    *,
    label: Label = None,
    temperature: float = 0.0,
    beam: int = 0,
    output: Output = None,
    plot: Plot = None,
    seed: Seed = None,
    json: Json = False,
) -> None:
    """A sentence for each row of a NumPy array, one a line.

    Args:
        latents: a .npy file of shape (sentences, latent), as `seqvae encode` writes it.
        temperature: 0 takes the likeliest word each time, 1 draws from the model.
        beam: width of a beam search; 0 = none.
    """
    from seqvae import commands

    drawn = commands.Drawn(output, plot)
    commands.decode(model, latents, drawn, label=label, temperature=temperature, beam=beam, seed=seed, json=json)


@app.command(sort_key=7)
def evaluate(
    model: Folder,
    corpus: str | None = None,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    column: str | None = None,
    samples: int = 100,
    seeds: Annotated[int, AT_LEAST_ONE] = 1,
    refine: Annotated[int, Parameter(validator=cyclopts.validators.Number(gte=0))] = 100,
    text: Annotated[bool, Parameter(negative="")] = False,
    label_column: list[str] | None = None,
    language_model: str | None = None,
    limit: int | None = None,
    seed: Annotated[int, Parameter(validator=SEED)] = 0,
    plot: Plot = None,
    json: Path | None = None,
) -> None:
    """Held-out scores with their definitions and standard errors, and the doctor's line.

    Args:
        corpus: what to score; by default the corpus that the model was trained on.
        split: which part of it. A single file that is not the training corpus is scored whole.
        column: the column of a table that holds the sentences.
        samples: draws of z for each sentence, for the importance-weighted likelihood.
        seeds: how often that likelihood is estimated, with seeds of its own each.
        refine: sentences whose q(z|x) is refined by gradient, for the inference gap; 0 = none.
        text: also score what the model writes: reconstructions, samples from the prior, interpolations. Needs the
            extra `eval`: `pip install "seqvae[eval]"`.
        label_column: a column of labels to be told from the posterior means by a linear classifier (of series: a column
            of numbers, by a linear map); may be repeated. Of `grammar` and `curves` all factors are, by default. (The
            labels that a model is conditioned on it reads by itself.)
        language_model: a model folder of kind `lm`, to score the samples with in place of an n-gram model.
        limit: score only so many sentences, evenly spread over the split.
        seed: of the draws.
        json: also write the scores to this file.
    """
    from seqvae import commands, reading

    options = {"samples": samples, "seeds": seeds, "refined": refine, "seed": seed}
    commands.evaluate(
        model,
        reading.Held(corpus, split, column, limit),
        text=text,
        labels=label_column or [],
        language_model=language_model,
        plot=plot,
        json=json,
        **options,
    )


@app.command(sort_key=8)
def diagnose(
    model: Folder,
    corpus: str | None = None,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    column: str | None = None,
    limit: int = 1000,
    seed: Annotated[int, Parameter(validator=SEED)] = 0,
    json: Json = False,
) -> None:
    """Name a model's state (healthy, collapsed, lagging encoder ...), say why, and what to try.

    Args:
        corpus: what to look at; by default the corpus that the model was trained on.
        split: which part of it.
        column: the column of a table that holds the sentences.
        limit: look at so many sentences at most.
        seed: of all draws.
    """
    from seqvae import commands, reading

    commands.diagnose(model, reading.Held(corpus, split, column, limit), seed=seed, json=json)


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
        others: further model folders; beside TOML files, more of them, and the corpus to train on.
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
    from seqvae import comparing
    from seqvae.recipes import Budget

    sources, terms = [first, *others], comparing.Terms(samples, limit, text)
    command = shlex.join(["seqvae", *sys.argv[1:]])
    budget = Budget(seeds, minutes, epochs, only)
    comparing.compare(sources, budget=budget, terms=terms, output=output, command=command)


@app.command(sort_key=10)
def steer(
    model: Folder,
    /,
    *sentences: str,
    column: str,
    attribute: str,
    label: Label = None,
    strength: float = 1.5,
    direction: Literal["mean", "logistic"] = "mean",
    corpus: str | None = None,
    text_column: str | None = None,
    report: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Give sentences an attribute: decode them after a move along its direction in the latent space.

    Args:
        sentences: to be steered, each between quotes; none is needed with --report.
        column: the column of labels, as `tense` of `grammar`.
        attribute: the value of it that sentences shall get, as `past`.
        strength: how far to move; 1 is as far as sentences with the attribute lie from others, below 0 is away from it.
        direction: `mean`, from the mean of the sentences without it to that of those with it, or `logistic`, the normal
            of a linear classifier of the two.
        corpus: labelled sentences to learn from, if not those that the model was trained on.
        text_column: the column of that corpus that holds the sentences.
        report: steer held-out sentences without the attribute at strengths from 0 to 2, and show how many get it, as
            a classifier of their words says, against how much of their words is kept. Needs the extra `eval`.
    """
    from seqvae import commands, reading

    labels = reading.Labels(column, attribute, corpus, text_column)
    commands.steer(
        model,
        list(sentences),
        labels,
        label=label,
        strength=strength,
        direction=direction,
        report=report,
        json=json,
    )


@app.command(sort_key=11)
def describe(model: Folder, /) -> None:
    """What a model is: its size, its parts, its corpus and its scores."""
    from seqvae import commands

    commands.describe(model)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a user's mistake is one line on standard error and exit code 2."""
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except SeqVAEError as error:
        print(f"seqvae: {error}", file=sys.stderr)
        sys.exit(2)
    except cyclopts.CycloptsError as error:
        print(f"seqvae: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # `seqvae sample ... | head`
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  or Python tries once more to write what is left
        print("seqvae: no space left on the disk for the output", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _sentence(error: cyclopts.CycloptsError) -> str:
    """What is wrong with the arguments, in one line."""
    if isinstance(error, cyclopts.UnusedCliTokensError) and error.unused_tokens:
        return f"unexpected argument {error.unused_tokens[0]!r}: write text that has spaces between quotes"
    return " ".join(str(error).split())


def _run(arguments: list[str]) -> None:
    share_cores()
    app.config = recipe(arguments)
    if arguments[:1] in ([], ["--help"], ["-h"]):
        app.help_format = "plaintext"  # a list of commands has no more, and reading Markdown takes a third of its time
    app(stream_last(arguments), exit_on_error=False, print_error=False)
    if arguments[:1] == ["train"] and {"--help", "-h"} & set(arguments):
        from seqvae.build import parts_help

        print(parts_help())

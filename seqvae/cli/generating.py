"""Sentences from points of the latent space, and points from sentences."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from seqvae.cli.shared import AT_LEAST_ONE, Folder, Json, Label, LabelColumn, Output, Plot, Seed, app


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
    from seqvae.commands import generating, reading, series

    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "beam": beam}
    origin = reading.Source(source, density, components, min_confidence, corpus, column)
    drawn = series.Drawn(output, plot)
    generating.sample(
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
    from seqvae.commands import generating, reading, series

    lines = reading.Lines(source, column, label, label_column)
    generating.reconstruct(model, lines, series.Drawn(output, plot), beam=beam, json=json)


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
    from seqvae.commands import generating, series

    drawn = series.Drawn(output, plot)
    generating.interpolate(model, start, end, drawn, label=label, steps=steps, path=path, seed=seed, json=json)


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
    from seqvae.commands import generating, reading

    generating.encode(model, reading.Lines(source, column, label, label_column), output=output, scale=scale)


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
    from seqvae.commands import generating, series

    drawn = series.Drawn(output, plot)
    generating.decode(model, latents, drawn, label=label, temperature=temperature, beam=beam, seed=seed, json=json)

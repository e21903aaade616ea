"""`sample`, `reconstruct`, `interpolate`, `encode`, `decode`: sentences from points of the latent space, and back."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from seqvae.cli.shared import (
    FLAT,
    SWITCH,
    Column,
    Density,
    Folder,
    Label,
    LabelColumn,
    OwnParts,
    Precision,
    Search,
    Seed,
    Words,
    Writing,
    app,
    list_given,
)
from seqvae.errors import ConfigError, check_output

if TYPE_CHECKING:
    import numpy as np

    from seqvae.cli.interfaces import Interface

Number = Annotated[int, Parameter(name=["--number", "-n"], help="number of sentences to generate.")]
SampleLabel = Annotated[
    str | None,
    Parameter(
        help="the label of the sentences, for a model trained with --label-column; by default labels are sampled as "
        "often as the training sentences have them, and --json has them."
    ),
]
Validator = Annotated[
    str | None,
    Parameter(
        help="for strings of symbols: `package.module:function`, a function of yours that takes a string and returns "
        "whether it is valid. Standard error then has the fractions that are valid, unique among the valid, and novel "
        "(not among the training strings) among the unique valid; --json has `valid` of each string."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Decoding(Words):
    """How sentences are sampled.

    Attributes:
        prior_temperature: of the prior: its standard deviations are multiplied by this, so that with less than 1 fewer
            samples are far from sentences.
        candidates: generate this many sentences for each, and keep the one of which the model is surest, by
            log p(x|z) per token, among those of the same length.
        temperature: 0 takes the likeliest word each time, 1 samples from the model. For series: of their noise. Where
            neither it nor another of these options is given, the model may recommend some (see `seqvae describe`);
            else it is 1.
        top_k: sample among the K likeliest words; 0 = all, as without it.
        top_p: sample among the likeliest words that together have this probability; 1 = all, as without it.
        min_p: sample among words with at least this fraction of the probability of the likeliest; 0 = all, as without
            it.
        beam: search for the likeliest sentence of each z with a beam of this width, instead of sampling words.
        length_penalty: such a search ranks by log p(x|z) / length ** this: 0 = by log p(x|z), as without it.
        allow_unknown: allow `<unk>` in the sentences.
    """

    prior_temperature: float | None = None
    candidates: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    beam: int | None = None
    length_penalty: float | None = None
    allow_unknown: Annotated[bool, SWITCH] = False


# -- sample -----------------------------------------------------------------------------------------------------------


@app.command(sort_key=2)
def sample(
    model: Folder,
    /,
    *,
    number: Number = 10,
    label: SampleLabel = None,
    decoding: Annotated[Decoding | None, FLAT] = None,
    density: Annotated[Density | None, FLAT] = None,
    validator: Validator = None,
    writing: Annotated[Writing | None, FLAT] = None,
    seed: Seed = None,
    part: OwnParts = None,
) -> None:
    """Generate sentences from samples of the prior, or of a density of the aggregate posterior, one a line.

    Several processes share the sentences: `torchrun --nproc-per-node 2 -m seqvae sample MODEL -n 100000`.
    """
    decoding, density, writing = decoding or Decoding(), density or Density(), writing or Writing()
    check_sample(number, decoding, density, validator)
    from seqvae.cli.interfaces import TextInterface, open_interface
    from seqvae.cli.processes import Process
    from seqvae.latent.ranking import choose_likeliest, repeat_labels

    process = Process()
    interface, options = open_interface(model, part), list_given(decoding)
    words = {name: True for name in options if name not in interface.model.sampling_options}
    aggregate = {"from": density.source == "aggregate"}
    interface.refuse(**words, **aggregate, validator=validator, label=label)
    interface.check(writing)
    options = interface.model.choose_sampling(options)
    candidates, prior_temperature = options.pop("candidates", 1), options.pop("prior_temperature", 1.0)
    shared = process.world > 1 and isinstance(interface, TextInterface)
    if process.rank and not shared:
        return
    if shared:
        drawn = process.gather(secrets.randbits(62))[0]
        seed = drawn if seed is None else seed
    labels = repeat_labels(choose_labels(interface, number, label, seed), candidates)
    z, facts = sample_points(interface, number * candidates, density, labels, seed, prior_temperature)
    if shared:
        options["rows"] = process.choose_rows(len(z))
    generated = interface.model.generate(z, labels=labels, seed=seed, **options)
    if shared:
        generated = [sentence for part in process.gather(generated) for sentence in part]
    if process.rank:
        return
    if candidates > 1:
        kept = choose_likeliest(generated, candidates, labels)
        generated, facts = [generated[row] for row in kept], [facts[row] for row in kept]
    write_samples(interface, generated, facts, writing, validator)


def check_sample(number: int, decoding: Decoding, density: Density, validator: str | None) -> None:
    """Refuse before any work options that cannot be used.

    Raises:
        ConfigError: for the first of them.
    """
    from seqvae.cli.inputs import check_density
    from seqvae.latent.ranking import check_sampling
    from seqvae.reports.validity import load_validator

    if number < 1:
        raise ConfigError(f"--number {number}: expected 1 or more")
    check_sampling(**{name: value for name, value in list_given(decoding).items() if name != "allow_unknown"})
    if density.source == "aggregate" and decoding.prior_temperature is not None:
        raise ConfigError("--prior-temperature is of the prior: leave it out, or leave out --from aggregate")
    check_density(density)
    if validator is not None:
        load_validator(validator)


def choose_labels(interface: Interface[Any], number: int, label: str | None, seed: int | None) -> list[str] | None:
    """Return the label of each sample: the one that is given, else sampled ones; None for a model without labels."""
    if label is None:
        labels: list[str] | None = interface.model.sample_labels(number, seed=seed)
        return labels
    interface.model.number_labels(label, 1)  # an unknown one is refused before any work
    return [label] * number


def sample_points(
    interface: Interface[Any],
    number: int,
    density: Density,
    labels: list[str] | None,
    seed: int | None,
    temperature: float,
) -> tuple[Any, list[dict[str, Any]]]:
    """Sample z (number, D), and return what --json adds to each sample: its label, its confidence.

    The temperature is of the prior; a density is sampled as it was fitted.
    """
    from seqvae.cli.inputs import fit_density
    from seqvae.cli.output import log

    facts: list[dict[str, Any]] = [{}] * number if labels is None else [{"label": label} for label in labels]
    if density.source == "prior":
        return interface.model.sample_prior(number, seed=seed, temperature=temperature), facts
    found = fit_density(interface.model, density)
    points = found.sample(number, seed=seed, min_confidence=density.min_confidence or 0.0)
    error = "" if found.gain_standard_error is None else f" ± {found.gain_standard_error:.2f}"
    log(
        f"density fitted to {found.sentences:,} sentences; samples of q of others are {found.gain:.2f}{error} nats "
        f"likelier under it than under the prior; holes: {found.holes:.2f} ± {found.holes_standard_error:.2f} nats, "
        f"those of the prior {found.holes_prior:.2f} ± {found.holes_prior_standard_error:.2f}"
    )
    confidence = zip(points.log_prob.tolist(), points.quantile.tolist(), strict=True)
    beside = [{"confidence": log_prob, "confidence_quantile": quantile} for log_prob, quantile in confidence]
    return points.z, [one | other for one, other in zip(facts, beside, strict=True)]


def write_samples(
    interface: Interface[Any],
    generated: list[Any],
    facts: list[dict[str, Any]],
    writing: Writing,
    validator: str | None,
) -> None:
    """Write the samples, and log how many of them are valid, unique and novel if there is a validator."""
    from seqvae.cli.inputs import read_training_texts
    from seqvae.cli.output import log
    from seqvae.reports.validity import check_texts, count, load_validator

    if validator is None:
        return interface.write(generated, writing, "sample", facts=facts)
    texts = [sentence.text for sentence in generated]
    valid = check_texts(validator, load_validator(validator), texts)
    facts = [fact | {"valid": verdict} for fact, verdict in zip(facts, valid, strict=True)]
    interface.write(generated, writing, "sample", facts=facts)
    training, reason = read_training_texts(interface.model) if any(valid) else ([], "")
    log(str(count(texts, valid, training)) + (f": {reason}" if reason else ""))


# -- the other verbs --------------------------------------------------------------------------------------------------


@app.command(sort_key=3)
def reconstruct(
    model: Folder,
    source: str = "-",
    /,
    *,
    column: Column = None,
    label: Label = None,
    label_column: LabelColumn = None,
    search: Annotated[Search | None, FLAT] = None,
    writing: Annotated[Writing | None, FLAT] = None,
    part: OwnParts = None,
) -> None:
    """Decode each sentence of a file from its posterior mean, one a line.

    Sentences are written as they are decoded, so that a large file needs little memory.

    Args:
        source: a file with a sentence a line, or `-` for standard input; for a model of series, a file of series.
    """
    from seqvae.cli.interfaces import open_interface
    from seqvae.cli.streaming import read_parts, silence_repeats
    from seqvae.model.decoding import check_options

    writing, options = writing or Writing(), list_given(search or Search())
    check_options(**options)
    interface = open_interface(model, part)
    interface.refuse(**options)
    interface.check(writing, source)
    parts = read_parts(interface, source, column=column, label=label, label_column=label_column)
    for number, (items, labels) in enumerate(parts):
        with silence_repeats(number):
            z = interface.model.encode(items, labels=labels).mode
        generated = interface.model.generate(z, labels=labels, **options)
        originals = [item for item in items for _ in range(options.get("n_best", 1))]
        interface.write(generated, writing, "series", originals=originals)


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
    writing: Annotated[Writing | None, FLAT] = None,
    seed: Seed = None,
    part: OwnParts = None,
) -> None:
    """Interpolate between two sentences, or between two samples of the prior if none is given.

    Args:
        start: the first sentence; for a model of series, a file whose first series it is.
        end: the last one; for a model of series, a file whose first series it is, by default the last of that
            file.
        steps: number of sentences, the two ends included.
        path: `linear` (default between sentences) or `slerp` (default between samples of the prior, and on a sphere).
    """
    from seqvae.cli.interfaces import open_interface

    writing = writing or Writing()
    interface = open_interface(model, part)
    vae = interface.model
    interface.refuse(label=label)
    interface.check(writing)
    ends = interface.read_ends(start, end)
    if ends is None:
        z = vae.sample_prior(2, seed=seed)
        labels = vae.sample_labels(1, seed=seed) if label is None else [label]
        label = labels[0] if labels else None
    else:
        z = vae.encode(ends, labels=label).mode
    path = path or ("slerp" if ends is None else vae.default_path)
    points = interface.model.interpolate_points(z[0], z[1], steps=steps, path=path)
    interface.write(vae.generate(points, labels=label), writing, "step")


@app.command(sort_key=5)
def encode(
    model: Folder,
    source: str,
    /,
    *,
    output: Path | None = None,
    projector: Path | None = None,
    column: Column = None,
    label: Label = None,
    label_column: LabelColumn = None,
    scale: Annotated[bool, SWITCH] = False,
    precision: Precision = "fp32",
    part: OwnParts = None,
) -> None:
    """Write the posterior means of a file's sentences as an array or a table, or for TensorBoard's projector.

    A large file is encoded a block at a time, within constant memory; if it is interrupted, the same command continues.
    Several processes share its blocks: `torchrun --nproc-per-node 2 -m seqvae encode MODEL FILE --output z.npy`.

    Args:
        source: a file with a sentence a line, or `-` for standard input; for a model of series, a file of series.
        output: the file to write: .npy, an array (sentences, latent); .csv, .tsv or .parquet, a table with the columns
            text, label (where there are labels), z0, z1 ...
        projector: a folder for the files of TensorBoard's embedding projector.
        scale: write the posterior's standard deviations instead.
    """
    from seqvae.cli.inputs import read_items
    from seqvae.cli.interfaces import open_interface
    from seqvae.cli.processes import Process
    from seqvae.cli.streaming import encode_blocks, open_large
    from seqvae.reports.latents import check_format, write_projector, write_table
    from seqvae.training.precision import evaluate_in

    if output is None and projector is None:
        raise ConfigError("nothing would be written: expected --output FILE.npy (or .csv ...) or --projector FOLDER")
    if output is not None:
        check_format(output)
        check_output("--output", output, source)
    Process().wait()
    interface = open_interface(model, part)
    if output is not None and output.suffix == ".npy" and projector is None:
        opened = open_large(interface, source, column, label, label_column)
        if opened is not None:
            sentences, name = opened
            return encode_blocks(
                interface.model, sentences, name, output, label=label, scale=scale, precision=precision
            )
    if Process().rank:
        return  # what is not encoded in blocks is the work of the first process
    items, labels = read_items(interface, source, column=column, label=label, label_column=label_column)
    with evaluate_in(precision, interface.model.model):
        q = interface.model.encode(items, labels=labels)
    z = (q.stddev if scale else q.mode).numpy()
    texts = [*items] if all(isinstance(item, str) for item in items) else None
    beside = [labels] * len(z) if isinstance(labels, str) else labels
    if output is not None:
        write_table(output, z, texts, beside)
    if projector is not None:
        write_projector(projector, z, texts, beside)


@app.command(sort_key=6)
def decode(
    model: Folder,
    latents: Path,
    /,
    *,
    label: Label = None,
    temperature: float = 0.0,
    search: Annotated[Search | None, FLAT] = None,
    writing: Annotated[Writing | None, FLAT] = None,
    seed: Seed = None,
    part: OwnParts = None,
) -> None:
    """Decode each row of a NumPy array into a sentence, one a line.

    Sentences are written as they are decoded, so that a large array needs little memory.

    Args:
        latents: a .npy file of shape (sentences, latent), as `seqvae encode` writes it.
        temperature: 0 takes the likeliest word each time, 1 samples from the model.
    """
    import numpy as np

    from seqvae.cli.interfaces import TextInterface, open_interface
    from seqvae.cli.streaming import ROWS
    from seqvae.model.decoding import check_options
    from seqvae.rng import shift_seed

    writing, options = writing or Writing(), list_given(search or Search())
    check_options(temperature=temperature or float("beam" in options), **options)
    interface = open_interface(model, part)
    interface.refuse(label=label, **options)
    interface.check(writing, latents)
    z = read_latents(latents, interface.model.config.model.latent)
    interface.model.number_labels(label, 1)  # an unknown one is refused before any work
    size = ROWS if isinstance(interface, TextInterface) else max(1, len(z))  # series are written to one file
    for number, start in enumerate(range(0, max(1, len(z)), size)):
        own = seed if number == 0 else shift_seed(seed, number)
        rows = np.array(z[start : start + size])
        generated = interface.model.generate(rows, labels=label, temperature=temperature, seed=own, **options)
        interface.write(generated, writing, "row")


def read_latents(path: Path, latent: int) -> np.ndarray:
    """Open points (N, D) of the latent space in a .npy file, which stay on the disk until they are used.

    Raises:
        ConfigError: for a file that holds anything else.
    """
    import numpy as np

    from seqvae.cli.streaming import MANY

    expected = "expected a .npy file as `seqvae encode` writes it"
    try:
        z = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}: {expected}") from None
    except Exception:  # of a damaged header or archive, of half a dozen types
        raise ConfigError(f"{path} is not a NumPy array: {expected}") from None
    if not isinstance(z, np.ndarray):
        raise ConfigError(f"{path} is an archive of arrays: {expected}")
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] != latent:
        raise ConfigError(f"{path} holds {z.dtype} of shape {z.shape}: expected numbers (sentences, {latent})")
    if not all(np.isfinite(z[start : start + MANY]).all() for start in range(0, len(z), MANY)):
        raise ConfigError(f"{path} holds values that are not finite")
    return z

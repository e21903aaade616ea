"""`complete`, `fill`, `paraphrase`, `blend`, `nearest`: what a model of text does with sentences; and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from seqvae.cli.shared import FLAT, Column, Folder, Json, Label, OwnParts, Search, Seed, Words, app, list_given
from seqvae.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seqvae.text_vae import TextVAE

Number = Annotated[int, Parameter(name=["--number", "-n"], help="number of sentences, the best first.")]


@app.command(sort_key=14)
def complete(
    model: Folder,
    prefix: str,
    /,
    *,
    number: Number = 5,
    words: Annotated[Words | None, FLAT] = None,
    label: Label = None,
    seed: Seed = None,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Write sentences that begin with some words, the likeliest for their length first.

    Args:
        prefix: one word or more, such as "my sister".
    """
    vae = open_text_model(model, part)
    write(vae.complete(prefix, number, label=label, seed=seed, **list_given(words or Words())), json)


@app.command(sort_key=15)
def fill(
    model: Folder,
    text: str,
    /,
    *,
    number: Number = 5,
    words: Annotated[Words | None, FLAT] = None,
    label: Label = None,
    seed: Seed = None,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Fill in the blanks of a sentence, the likeliest for its length first.

    Args:
        text: a sentence in which `_` stands for one word and `__` for one or more, such as "i love my _ ."
    """
    vae = open_text_model(model, part)
    write(vae.fill(text, number, label=label, seed=seed, **list_given(words or Words())), json)


@app.command(sort_key=16)
def paraphrase(
    model: Folder,
    text: str,
    /,
    *,
    number: Number = 5,
    temperature: float | None = None,
    label: Label = None,
    seed: Seed = None,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Write other sentences from points around that of a sentence, the nearest and likeliest first.

    Args:
        text: a sentence.
        temperature: the standard deviations of its posterior are multiplied by this; by default 1.3.
    """
    options = {} if temperature is None else {"temperature": temperature}
    write(open_text_model(model, part).paraphrase(text, number, label=label, seed=seed, **options), json)


@app.command(sort_key=17)
def blend(
    model: Folder,
    texts: list[str],
    /,
    *,
    weights: Annotated[list[float] | None, Parameter(name="--weight")] = None,
    search: Annotated[Search | None, FLAT] = None,
    label: Label = None,
    part: OwnParts = None,
) -> None:
    """Decode the weighted mean of several sentences.

    Args:
        texts: two sentences or more.
        weights: one for each, in their order: repeat the option. By default all weigh alike.
    """
    print(open_text_model(model, part).blend(texts, weights, label=label, **list_given(search or Search())))


@app.command(sort_key=18)
def nearest(
    model: Folder,
    text: str,
    corpus: str,
    /,
    *,
    number: Number = 5,
    column: Column = None,
    label: Label = None,
    json: Json = False,
    part: OwnParts = None,
) -> None:
    """Find the sentences of a corpus that are nearest to a sentence, by their posterior means.

    Args:
        text: a sentence.
        corpus: a file, a folder or the name of a corpus, as `seqvae train` takes it.
    """
    write(open_text_model(model, part).nearest(text, corpus, number, label=label, column=column), json)


@app.command(sort_key=19)
def export(model: Folder, folder: Path, /, *, part: OwnParts = None) -> None:
    """Write a model of text as ONNX graphs, with its tokenizer and the lines of Python that use them without torch.

    Args:
        folder: is made if missing.
    """
    from seqvae.auto import load
    from seqvae.cli.output import log
    from seqvae.export import check_exportable, export_onnx

    vae = load(model, parts=part or ())
    check_exportable(vae)
    for path in export_onnx(vae, folder):  # type: ignore[arg-type]
        log(str(path))


def open_text_model(name: str, part: list[str] | None) -> TextVAE:
    """Load a model of text.

    Raises:
        ConfigError: for a model of series.
    """
    from seqvae.auto import load
    from seqvae.text_vae import TextVAE

    model = load(name, parts=part or ())
    if not isinstance(model, TextVAE):
        raise ConfigError(f"{name} is a model of series: expected one of text")
    return model


def write(found: Sequence[Any], json: bool) -> None:
    """Print one sentence a line, or one JSON object a line.

    Raises:
        ConfigError: if there is none.
    """
    from seqvae.cli.output import print_json

    if not found:
        raise ConfigError("no such sentence was found: ask for less, such as with fewer given words")
    for one in found:
        if json:
            print_json(vars(one))
        else:
            print(" ".join(one.text.split("\n")))  # a cell of a table may hold several lines

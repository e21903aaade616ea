"""`seqvae explore`: the latent space of a model as a page in the browser."""

from __future__ import annotations

import time
import webbrowser
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from seqvae.cli.shared import AT_LEAST_ONE, SWITCH, Column, FixedSeed, Folder, OwnParts, app
from seqvae.errors import ConfigError, check_output, expand

if TYPE_CHECKING:
    import socket

    from seqvae.explore.space import Space


@app.command(sort_key=12)
def explore(
    model: Folder,
    /,
    *,
    corpus: str | None = None,
    column: Column = None,
    sentences: Annotated[int, AT_LEAST_ONE] = 2_000,
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65_535))] = 7860,
    host: str = "127.0.0.1",
    open: Annotated[bool, SWITCH] = False,
    follow: Annotated[bool, SWITCH] = False,
    export: Path | None = None,
    seed: FixedSeed = 0,
    part: OwnParts = None,
) -> None:
    """Show the latent space in the browser: a map to click on, paths, knobs, arithmetic, and the state of the model.

    Args:
        corpus: what to draw on the map, if not what the model was trained on.
        sentences: (or series) that are drawn, at most.
        port: of the page; 0 takes a free one.
        host: who can reach the page: by default this machine alone; 0.0.0.0 lets the whole network in.
        open: open the page in the browser.
        follow: read the curves again every few seconds, for a run that is still being trained.
        export: write one HTML file that needs no server, and end.
    """
    from seqvae.explore.app import check_installed, open_socket

    if follow:
        wait_for_model(model)
    if export is not None:
        check_output("--export", export, corpus, ending=".html")
        return write_export(load_space(model, corpus, column, sentences, seed, part), export)
    check_installed()
    opened = open_socket(host, port)
    with opened:
        serve(
            load_space(model, corpus, column, sentences, seed, part), model, opened, seed=seed, open=open, follow=follow
        )


def wait_for_model(name: str) -> None:
    """Wait until a run that was started in a folder has saved its first model."""
    from seqvae.cli.output import log
    from seqvae.training.checkpoint import CONFIG, WEIGHTS
    from seqvae.training.runs import RESOLVED

    folder = expand(name)
    if (folder / RESOLVED).is_file() and not (folder / CONFIG).is_file():
        log(f"waiting for the first model of the run in {folder} ...")
        while not ((folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()):
            time.sleep(1)


def load_space(
    name: str, corpus: str | None, column: str | None, limit: int, seed: int, parts: list[str] | None
) -> Space:
    """Load the model and place what is drawn in its latent space.

    Raises:
        ConfigError: for a model without a latent space, or if the corpus of the training is not there any more.
    """
    from seqvae.auto import load
    from seqvae.cli.inputs import read_splits
    from seqvae.cli.output import log
    from seqvae.explore.space import Space

    model = load(name, parts=parts or ())
    if not model.model.has_latent:
        raise ConfigError("the explorer needs a latent space: a model of kind lm has none; train one of kind vae")
    if corpus is None and column is not None:
        raise ConfigError("--column belongs to --corpus FILE: write that too")
    splits = read_splits(model, corpus, column, "draw")
    split = next(splits[name] for name in ("test", "valid", "train") if name in splits)
    log(f"drawing {min(limit, len(split)):,} {model.units} ...")
    return Space.build(model, split, limit=limit, seed=seed)


def serve(space: Space, name: str, opened: socket.socket, *, seed: int, open: bool, follow: bool) -> None:
    """Serve the page on an open socket until Ctrl+C."""
    import torch

    from seqvae.cli.output import log
    from seqvae.explore.app import build_app, make_server
    from seqvae.explore.visit import Visit

    torch.set_num_threads(1)  # a sentence is decoded no sooner by several, and visitors wait for each other's less
    path = expand(name)
    visit = Visit(space, path if path.is_dir() else None, seed=seed)
    server = make_server(build_app(visit, describe(space, name), follow=follow), opened)
    host, port = opened.getsockname()[:2]
    local = host in ("127.0.0.1", "::1")
    address = f"http://{'127.0.0.1' if local or host in ('0.0.0.0', '::') else host}:{port}"
    log(f"explore {name} at {address} (Ctrl+C ends it)")
    if not local:
        log(f"--host {host}: whoever can reach this machine on port {port} can open the page; it asks for no password")
    if open:
        Thread(target=webbrowser.open, args=(address,), daemon=True).start()  # one in a terminal does not return
    server.serve_forever()


def describe(space: Space, name: str) -> dict[str, str]:
    """Describe the model for the head of the page."""
    model = space.model
    about = f"{model.model.latent} dimensions; {len(space.items):,} {model.units} of {model.config.corpus}"
    return {"model": name, "about": about}


def write_export(space: Space, path: Path) -> None:
    """Write the page that needs no server."""
    from seqvae.cli.output import log
    from seqvae.explore.export import export_page

    export_page(space, path)
    log(f"written: {path}")

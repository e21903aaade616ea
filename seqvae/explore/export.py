"""One self-contained page of a space: a map to hover, search and click, without server or network."""

import base64
import hashlib
import html
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqvae.auto import AnyVAE
from seqvae.errors import ConfigError, write_output
from seqvae.explore.answers import Column, Values
from seqvae.explore.items import list_values, write
from seqvae.explore.space import Space
from seqvae.reports.figure_style import COLOURS

NEIGHBOURS, WALKS, STEPS = 5, 6, 7
FRAMES = 80  # of a series, evenly spaced: a drawn curve needs no more
FILES = Path(__file__).parent / "page"


def export_page(space: Space, path: str | Path) -> Path:
    """Write the page of a space to `path`, and return that."""
    path = Path(path)
    page = render_page(space)
    try:
        write_output(path, lambda beside: beside.write_text(page, encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--export {path} cannot be written: {error.strerror}") from None
    return path


def render_page(space: Space) -> str:
    """Render the page: HTML whose policy forbids every connection and every script but its own."""
    script = (FILES / "export.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "TITLE": html.escape(f"Latent space of {len(space.items):,} {space.model.units}"),
        "ABOUT": html.escape(describe(space)),
        "DIGEST": digest,
        "STYLE": (FILES / "export.css").read_text(encoding="utf-8"),
        "DATA": json.dumps(collect(space), separators=(",", ":")).replace("<", "\\u003c"),  # no text ends the script
        "SCRIPT": script,
    }
    page = (FILES / "export.html").read_text(encoding="utf-8")
    pieces = page.split("@@")  # values are never searched for places of other values
    return "".join(values[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def describe(space: Space) -> str:
    """Describe the map in a line."""
    share = sum(space.points().variance)
    return (
        f"Posterior means in {space.z.shape[1]} dimensions, seen along their two principal components, which hold "
        f"{share:.0%} of the variance. Made by seqvae explore."
    )


def collect(space: Space) -> dict[str, Any]:
    """Collect what the page shows: items, samples of the prior, what to colour by, and interpolations."""
    return {
        "units": space.model.units,
        "series": space.model.unit == "series",
        "hues": COLOURS,
        "columns": collect_columns(space.points().columns),
        "items": collect_items(space),
        "prior": collect_prior(space),
        "walks": collect_walks(space),
    }


def collect_columns(columns: list[Column]) -> list[dict[str, Any]]:
    """Collect what items can be coloured by; a column of the corpus may be called as one that is computed."""
    found: list[dict[str, Any]] = []
    for c in columns:
        name = f"{c.name} (corpus)" if c.name in [one["name"] for one in found] else c.name
        found.append({"name": name, "kind": c.kind, "about": c.about, "values": [shorten(v) for v in c.values]})
    return found


def collect_items(space: Space) -> dict[str, Any]:
    """Collect position, text, what decodes at its point, and the nearest others, of each item."""
    decoded = write(space.model, space.z, space.labels)
    return {
        "xy": round_rows(space.points().xy),
        "texts": space.points().texts,
        "curves": [thin(list_values(item)) for item in space.items],
        "decoded": [found.text for found in decoded],
        "decoded_curves": [thin(found.values) for found in decoded],
        "near": find_neighbours(space.z, space.z, skip=1),
    }


def collect_prior(space: Space) -> dict[str, Any]:
    """Collect position, decoded text and the nearest items, of each sample of the prior."""
    points = space.points()
    z = torch.tensor(points.prior_z).to(space.z)
    series = space.model.unit == "series"
    return {
        "xy": round_rows(points.prior_xy),
        "texts": points.prior_texts,
        "curves": [thin(found.values) for found in write(space.model, z)] if series else [None] * len(z),
        "near": find_neighbours(z, space.z),
    }


def collect_walks(space: Space) -> list[list[dict[str, Any]]]:
    """Interpolate between items that are evenly spaced in their split."""
    chosen = np.unique(np.linspace(0, len(space.items) - 1, WALKS + 1).round().astype(int)).tolist()
    ends = [space.locate(index=i) for i in chosen]
    return [
        [
            {"xy": step.xy, "text": step.text, "curve": thin(step.values), "log_prob": round(step.log_prob, 2)}
            for step in space.walk(a, b, STEPS)
        ]
        for a, b in pairwise(ends)
    ]


def find_neighbours(z: Tensor, items: Tensor, skip: int = 0) -> list[list[list[float]]]:
    """Return index and distance of the items nearest to each row of z, without the first `skip`: the row itself."""
    count = min(NEIGHBOURS + skip, len(items))
    found = torch.cdist(z.double(), items.double()).topk(count, largest=False)
    rows = zip(found.indices[:, skip:].tolist(), found.values[:, skip:].tolist(), strict=True)
    return [[[i, shorten(d)] for i, d in zip(*row, strict=True)] for row in rows]


def thin(values: Values) -> Values:
    """Return at most 80 evenly spaced frames of a series, with 4 digits."""
    if values is None:
        return None
    kept = np.unique(np.linspace(0, len(values[0]) - 1, FRAMES).round().astype(int)).tolist()
    return [[shorten(channel[frame]) for frame in kept] for channel in values]


def round_rows(rows: list[list[float]]) -> list[list[float]]:
    """Round positions to 4 decimals."""
    return np.round(np.array(rows), 4).tolist()  # type: ignore[no-any-return]


def shorten(value: Any) -> Any:
    """Round a number to 4 digits; return a string as it is."""
    return value if isinstance(value, str) else float(f"{value:.4g}")


def show_inline(
    model: AnyVAE, items: Any = None, *, limit: int = 2000, seed: int = 0, height: int = 720
) -> "InlinePage":
    """Make the page of a model for a notebook: see `seqvae.pretrained.Pretrained.explore`."""
    return InlinePage(Space.build(model, items, limit=limit, seed=seed), height)


@dataclass(frozen=True)
class InlinePage:
    """The page of a space for a notebook, which shows it in a frame of its own."""

    space: Space
    height: int = 720

    def _repr_html_(self) -> str:
        """Return a frame with the page, in which it can run its own script and nothing else."""
        page = html.escape(render_page(self.space), quote=True)
        return f'<iframe sandbox="allow-scripts" width="100%" height="{self.height}" srcdoc="{page}"></iframe>'

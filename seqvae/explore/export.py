"""One self-contained page of a space: a map to hover, search and click, without server or network."""

import base64
import hashlib
import html
import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seqvae.explore.items import write
from seqvae.explore.space import Space

NEIGHBOURS, WALKS, STEPS = 5, 6, 7
FILES = Path(__file__).parent / "page"


def export_page(space: Space, path: str | Path) -> Path:
    """Write the page of a space to `path`, and return that."""
    path = Path(path)
    path.write_text(render_page(space), encoding="utf-8")
    return path


def render_page(space: Space) -> str:
    """Render the page: HTML whose policy forbids every connection and every script but its own."""
    script = (FILES / "export.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "TITLE": html.escape(f"A latent space of {len(space.items):,} {space.model.units}"),
        "DIGEST": digest,
        "STYLE": (FILES / "export.css").read_text(encoding="utf-8"),
        "DATA": json.dumps(collect(space)).replace("<", "\\u003c"),  # no text can end the script element
        "SCRIPT": script,
    }
    page = (FILES / "export.html").read_text(encoding="utf-8")
    pieces = page.split("@@")  # values are never searched for places of other values
    return "".join(values[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def collect(space: Space) -> dict[str, Any]:
    """Collect what the page shows: the layers, what decodes at each item, neighbours, and interpolations."""
    decoded = write(space.model, space.z, space.labels)
    chosen = np.unique(np.linspace(0, len(space.items) - 1, WALKS + 1).round().astype(int)).tolist()
    walks = [
        [{"xy": step.xy, "text": step.text, "log_prob": step.log_prob} for step in space.walk(a, b, STEPS)]
        for a, b in ((space.locate(index=i), space.locate(index=j)) for i, j in pairwise(chosen))
    ]
    near = [
        [n.index for n in space.find_nearest(z, NEIGHBOURS + 1) if n.index != i][:NEIGHBOURS]
        for i, z in enumerate(space.z.tolist())
    ]
    return asdict(space.points()) | {"decoded": [found.text for found in decoded], "near": near, "walks": walks}


@dataclass(frozen=True)
class InlinePage:
    """The page of a space for a notebook, which shows it in a frame of its own."""

    space: Space
    height: int = 720

    def _repr_html_(self) -> str:
        page = html.escape(render_page(self.space), quote=True)
        return f'<iframe sandbox="allow-scripts" width="100%" height="{self.height}" srcdoc="{page}"></iframe>'

"""The explorer as an application of Dash, and the server that hands it out.

All its scripts and styles come from this machine: it works without a network.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from seqvae.errors import ConfigError

if TYPE_CHECKING:
    from dash import Dash

    from seqvae.explore.visit import Visit

LOCAL = "127.0.0.1"
MISSING = "the explorer needs Dash: install it with pip install 'seqvae[explore]'"


def check_installed() -> None:
    """Refuse before any work where Dash is not installed.

    Raises:
        ConfigError: with what to install.
    """
    try:
        import dash  # noqa: F401
    except ImportError:
        raise ConfigError(MISSING) from None


def build_app(visit: Visit, facts: Mapping[str, str], *, follow: bool = False) -> Dash:
    """Build the application.

    Args:
        visit: answers what the page asks.
        facts: as of `layout.make_layout`.
        follow: look at the run's metrics again every few seconds.
    """
    from dash import Dash

    from seqvae.explore.callbacks import connect
    from seqvae.explore.layout import make_layout

    app = Dash(
        __name__,
        title=f"{facts['model']}: latent space",
        update_title="",  # the title stays while the page waits for an answer
        serve_locally=True,
        suppress_callback_exceptions=True,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        enable_mcp=False,
    )
    app.layout = make_layout(facts, visit.maps.titles, visit.columns, visit.attributes, visit.labels, visit.series)
    connect(app, visit, follow=follow)
    return app


def open_socket(host: str, port: int) -> socket.socket:
    """Open the socket to be served on, before any other work.

    Raises:
        ConfigError: if the port is in use, or the host is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except (OSError, OverflowError) as error:
        found.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"cannot serve on {host}, port {port} ({reason}): write another --port, as --port {min(port + 1, 65535)}"
        ) from None
    return found


def make_server(app: Any, opened: socket.socket) -> Any:
    """Make the server of Werkzeug, which serves Dash, with a thread for each request, on an open socket."""
    from werkzeug.serving import make_server as make

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request is noise
    host, port = opened.getsockname()[:2]
    return make(host, port, app.server, threaded=True, fd=opened.fileno())

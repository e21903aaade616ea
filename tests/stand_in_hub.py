"""A stand-in for the Hugging Face hub: the few addresses that an upload and a download of one model call."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef" * 2 + "01234567"


class Hub(ThreadingHTTPServer):
    """A hub of one model in memory.

    Attributes:
        created: what was asked for when the repository was made.
        tokens: the values of the header Authorization of what changes something.
        files: name -> content, of the last commit.
        unknown: requests that it has no answer to.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.created: dict[str, Any] = {}
        self.tokens: set[str | None] = set()
        self.files: dict[str, bytes] = {}
        self.unknown: list[str] = []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    """The answers to one connection."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Make a repository, say how files are uploaded, and take a commit."""
        body, place = self.rfile.read(int(self.headers["Content-Length"])), self.path.partition("?")[0]
        if place == "/api/repos/create":
            self.server.tokens.add(self.headers["Authorization"])
            self.server.created = json.loads(body)
            name = "{organization}/{name}".format(**self.server.created)
            return self.answer({"url": f"{self.server.address}/{name}", "id": name})
        if place == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if place == "/api/models/me/mine/preupload/main":
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self.answer({"files": modes})
        if place == "/api/models/me/mine/commit/main":
            self.server.tokens.add(self.headers["Authorization"])
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.server.files = {file["path"]: base64.b64decode(file["content"]) for file in files}
            url = f"{self.server.address}/me/mine/commit/{COMMIT}"
            return self.answer({"success": True, "commitUrl": url, "commitOid": COMMIT})
        self.refuse()

    def do_GET(self) -> None:
        """Describe the model, list its files, and send one of them."""
        place, files = self.path.partition("?")[0], self.server.files
        if place in ("/api/models/me/mine", "/api/models/me/mine/revision/main"):
            return self.answer({"id": "me/mine", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]})
        if place == f"/api/models/me/mine/tree/{COMMIT}":
            entries = [{"type": "file", "path": n, "size": len(c), "oid": hash_file(c)} for n, c in files.items()]
            return self.answer(entries)
        name = place.removeprefix(f"/me/mine/resolve/{COMMIT}/")
        if name in files:
            return self.send(files[name], {"ETag": f'"{hash_file(files[name])}"', "X-Repo-Commit": COMMIT})
        self.refuse()

    do_HEAD = do_GET

    def answer(self, values: Any) -> None:
        """Send JSON."""
        self.send(json.dumps(values).encode(), {"Content-Type": "application/json"})

    def refuse(self) -> None:
        """Send a 404, and remember what was asked for."""
        self.server.unknown.append(f"{self.command} {self.path}")
        self.send(b"", {}, 404)

    def send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        """Send a whole answer; of one to HEAD only its headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def hash_file(content: bytes) -> str:
    """Return the hash by which a cache knows a file."""
    return hashlib.sha1(content).hexdigest()


@contextmanager
def run_hub() -> Iterator[Hub]:
    """Run a hub in a thread."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()

"""Links of a page to files of the repository outside docs lead to the repository in the built site."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ELSEWHERE = (".ipynb", ".py")  # files of docs that are not in the site


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return the page with such links; one to a file that is not there stays, and fails the strict build."""
    folder = Path(page.file.abs_src_path).parent

    def move(match: re.Match[str]) -> str:
        target = (folder / match[1]).resolve()
        outside = not target.is_relative_to(ROOT / "docs") or target.suffix in ELSEWHERE
        if not (outside and target.exists() and target.is_relative_to(ROOT)):
            return match[0]
        return f"]({config.repo_url}/blob/main/{target.relative_to(ROOT).as_posix()}{match[2] or ''})"

    return re.sub(r"\]\((?!https?:)([^)#\s]+)(#[^)]*)?\)", move, markdown)

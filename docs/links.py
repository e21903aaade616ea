"""Hooks of the site: the order of its sections, and links to files outside docs, which lead to the repository."""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ELSEWHERE = (".ipynb", ".py")  # files of docs that are not in the site
# The folders of docs in the order of their tabs, with their titles; pages beside them come last, under one title.
SECTIONS = {
    "tutorial": "Tutorial",
    "howto": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
    "results": "Results",
}
HIDDEN = "guide.md"  # kept for old links


def on_nav(nav: Any, *, files: Any, **_: Any) -> Any:
    """Put the sections in their order: the start page, the folders, and under "Project" the pages beside them."""
    from mkdocs.structure.nav import Section

    start, *pages = [item for item in nav.items if item.is_page and item.file.src_uri != HIDDEN]
    sections = {section.children[0].file.src_uri.split("/")[0]: section for section in nav.items if section.is_section}
    assert sections.keys() <= SECTIONS.keys(), f"a folder of docs without a place in the site: {sections.keys()}"
    for name, section in sections.items():
        section.title = SECTIONS[name]
    start.title = "Start"
    nav.items = [start, *(sections[name] for name in SECTIONS if name in sections), Section("Project", pages)]
    return nav


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

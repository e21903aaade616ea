"""Make the pictures of the explorer: `python docs/explorer_pictures.py`, while `seqvae explore chitchat` is served.

Needs `pip install playwright pillow` and a system's Chromium, as the tests of the explorer do.
"""

import json
import shutil
import sys
import urllib.parse
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).parent / "pictures"
LINE = {"a": {"text": "i like to read books"}, "b": {"text": "what do you do for a living?"}}
VIEWS = {  # file: colour scheme, width, height, and the state that the address holds
    "explorer": ("light", 1440, 900, {"tab": "path", "pair": LINE, "colour": "length"}),
    "explorer-dark": ("dark", 1440, 900, {"tab": "read", "own": "i love my dog", "asked": "i love my dog"}),
}
MORE = {  # to look at, not kept
    "place-light": ("light", 1440, 900, {"tab": "place", "place": {"index": 11}}),
    "health-dark": ("dark", 1440, 900, {"tab": "health"}),
    "sums-light": (
        "light",
        1440,
        900,
        {
            "tab": "add",
            "sum-a": "i like dogs",
            "sum-b": "dogs",
            "sum-c": "cats",
            "sums": ["i like dogs", "dogs", "cats"],
        },
    ),
    "phone-light": ("light", 390, 1600, {"tab": "place"}),
    "phone-dark": ("dark", 390, 1600, {"tab": "path", "pair": LINE}),
}


def take(browser: Browser, address: str, path: Path, view: tuple[str, int, int, dict]) -> None:
    """Take a picture of a state of the page."""
    scheme, width, height, state = view
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(f"{address}/#{urllib.parse.quote(json.dumps({'place': {'index': 11}} | state))}")
    page.wait_for_selector("#look h2", state="attached")
    page.wait_for_timeout(4000 if state["tab"] != "health" else 25000)
    if state["tab"] == "path":
        page.locator("#step [role=slider]").focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(500)
    page.screenshot(path=path)
    Image.open(path).quantize(200).save(path, optimize=True)
    page.close()


def main() -> None:
    """Take all pictures; the address and a folder for more of them may be given."""
    address = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:7860"
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, view in VIEWS.items():
            take(browser, address, FOLDER / f"{name}.png", view)
        for name, view in MORE.items() if len(sys.argv) > 2 else ():
            take(browser, address, Path(sys.argv[2]) / f"{name}.png", view)


if __name__ == "__main__":
    main()

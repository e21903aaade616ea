"""The exported page in a real browser: by mouse, by keys, in a frame.

Needs `pip install playwright` and a system's Chromium: `apt-get install chromium`.
"""

import math
import shutil

import pytest

from seqvae.explore.export import InlinePage, export_page

HOW = "install them with `pip install playwright` and `apt-get install chromium`"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip(f"no Chromium is installed for the tests in a browser: {HOW}", allow_module_level=True)
api = pytest.importorskip("playwright.sync_api", reason=f"Playwright is not installed: {HOW}")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def page(browser):
    """An empty page; at its end no script has failed, and nothing was asked of a network."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    wrong, asked = [], []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: asked.append(request.url))
    yield opened
    opened.close()
    assert not wrong
    assert not [url for url in asked if not url.startswith(("file:", "about:"))]


@pytest.fixture
def open_space(page, tmp_path):
    def open_space(space):
        page.goto(export_page(space, tmp_path / "page.html").as_uri())
        return page

    return open_space


def find(page, kind, row):
    """Return where an item or a sample of the prior is in the window."""
    box = page.locator("#map").bounding_box()
    rows = {"item": "items", "prior": "prior"}[kind]
    x, y = page.evaluate(f"at({rows}.xy[{row}])")
    return box["x"] + x, box["y"] + y


def test_a_click_shows_an_item_and_a_hover_its_text(open_space, text_space):
    page = open_space(text_space)
    page.uncheck("#prior")
    page.mouse.click(*find(page, "item", 4))
    row = int(page.evaluate("location.href").split("item=")[1])
    assert text_space.z[row].tolist() == pytest.approx(text_space.z[4].tolist(), abs=0.05)  # or one that it lies under
    assert page.inner_text(".main-text") == text_space.items[row]
    assert page.inner_text("#hover") == text_space.items[row]
    assert page.locator("#place button").count() == 5
    page.locator("#place button").first.click()
    assert f"item={row}" not in page.evaluate("location.href")


def test_samples_of_the_prior_are_a_layer_to_click_and_to_hide(open_space, text_space):
    page = open_space(text_space)
    assert "sample of the prior" in page.inner_text("#legend")
    points = text_space.points()
    columns = [sorted(range(len(points.prior_xy)), key=lambda i: points.prior_xy[i][axis])[15:-15] for axis in (0, 1)]
    others = [*points.xy, *points.prior_xy]
    alone = {
        i: sorted(math.dist(points.prior_xy[i], other) for other in others)[1] for i in {*columns[0]} & {*columns[1]}
    }
    outer = max(alone, key=alone.__getitem__)
    page.mouse.click(*find(page, "prior", outer))
    assert page.evaluate("location.href").endswith(f"#prior={outer}")
    assert page.inner_text(".main-text") == (points.prior_texts[outer] or "(empty)")
    with_prior = page.locator("#map").screenshot()
    page.uncheck("#prior")
    assert "sample of the prior" not in page.inner_text("#legend")
    assert page.locator("#map").screenshot() != with_prior


def test_keys_move_zoom_and_clear(open_space, space):
    page = open_space(space)
    page.uncheck("#prior")
    page.focus("#map")
    page.keyboard.press("ArrowRight")
    first = page.evaluate("location.href")
    assert "#item=" in first
    page.keyboard.press("ArrowLeft")
    assert "#item=" in page.evaluate("location.href") and page.evaluate("location.href") != first
    page.keyboard.press("+")
    assert page.evaluate("view.zoom") > 1
    page.keyboard.press("Escape")
    assert "#" not in page.evaluate("location.href") and "How to read" in page.inner_text("#place")


def test_search_lists_what_it_highlights(open_space, text_space):
    page = open_space(text_space)
    page.fill("#search", "BIRD ran")
    assert "3 of 36 sentences match" in page.inner_text("#place")
    page.locator("#place button").first.click()
    assert "bird ran" in page.inner_text(".main-text")


def test_labels_are_named_in_the_legend_and_interpolations_listed(open_space, text_space):
    page = open_space(text_space)
    page.select_option("#colour", label="animal")
    assert {"cat", "dog", "bird"} <= set(page.inner_text("#legend").split())
    page.select_option("#walk", index=1)
    assert page.locator("#place button").count() == 7
    page.locator("#place button").nth(3).click()
    assert page.locator("#place button[aria-current=true]").count() == 1


def test_series_are_curves(open_space, series_space):
    page = open_space(series_space)
    page.evaluate("show('item', 3)")
    assert page.locator("#place svg polyline").count() == 7  # itself, what decodes there, and five neighbours
    assert not page.is_visible("#search")


def test_an_address_opens_its_item_and_a_frame_runs_the_page(page, text_space, tmp_path):
    page.goto(export_page(text_space, tmp_path / "page.html").as_uri() + "#item=7")
    assert page.inner_text(".main-text") == text_space.items[7]
    page.goto("about:blank")
    page.set_content(InlinePage(text_space)._repr_html_())
    frame = page.frame_locator("iframe")
    frame.locator("#map").click()
    assert "Nearest sentences" in frame.locator("#place").inner_text()


def test_a_phone_scrolls_in_one_direction_only(open_space, text_space):
    page = open_space(text_space)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

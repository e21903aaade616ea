"""The explorer in a real browser: each of its abilities by clicking, on a model trained in seconds.

Needs `pip install playwright` and a system's Chromium: `apt-get install chromium`.
"""

import json
import re
import shutil
import threading
import urllib.parse

import pytest

from seqvae import TextVAE
from seqvae.errors import ConfigError

HOW = "install them with `pip install playwright` and `apt-get install chromium`"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip(f"no Chromium is installed for the tests in a browser: {HOW}", allow_module_level=True)
api = pytest.importorskip("playwright.sync_api", reason=f"Playwright is not installed: {HOW}")
pytest.importorskip("dash", reason="Dash is not installed: pip install 'seqvae[explore]'")
pytestmark = pytest.mark.slow

SCRIPT, IMAGE = "<script>window.hacked=1</script>", '<img src=x onerror="window.hacked=1">'
TEXTS = [
    f"{subject} {verb} {place} ."
    for subject in ("a cat", "the dog", "one bird", SCRIPT)
    for verb in ("sat", "ran", "sleeps", "eats")
    for place in ("here", "there now", "at home", IMAGE)
]
ROWS = [{"text": text, "tense": "past" if " sat " in text or " ran " in text else "present"} for text in TEXTS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a run on sentences, some of them hostile."""
    place = tmp_path_factory.mktemp("explore")
    (place / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    options = {"column": "text", "latent": 4, "embedding": 8, "max_epochs": 2, "batch_size": 16, "seed": 1}
    TextVAE.fit(str(place / "corpus.jsonl"), output=place / "run", **options)
    return place / "run"


@pytest.fixture(scope="module")
def space(folder):
    from seqvae.explore.space import Space

    model = TextVAE.from_pretrained(folder)
    return Space.build(model, model.load_corpus(str(folder.parent / "corpus.jsonl"), whole=True).test, limit=64)


@pytest.fixture(scope="module")
def address(folder, space):
    """The address of a server of that model."""
    from seqvae.explore.app import build_app, make_server, open_socket
    from seqvae.explore.visit import Visit

    with open_socket("127.0.0.1", 0) as opened:
        app = build_app(Visit(space, folder), {"model": "test", "about": "64 sentences"}, follow=True)
        server = make_server(app, opened)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def room(browser):
    """One visitor's context, which reads the scripts of the page once for all tests."""
    found = browser.new_context(viewport={"width": 1440, "height": 900})
    yield found
    found.close()


@pytest.fixture
def page(room, address):
    """A page that has drawn its first point; no error of a script, no address but the server's."""
    opened = room.new_page()
    wrong, asked = [], []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(address)
    wait(opened)
    yield opened
    assert not wrong
    assert opened.evaluate("window.hacked") is None
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
    opened.close()


def wait(page):
    page.wait_for_selector("#map .points path")
    page.wait_for_selector("#look h2")


def place(page, x, y):
    """The pixel at a fraction of the map's width and height."""
    box = page.locator("#map .nsewdrag").bounding_box()
    return box["x"] + box["width"] * x, box["y"] + box["height"] * y


def state(page):
    return json.loads(urllib.parse.unquote(page.url.partition("#")[2]))


def choose(page, text):
    page.locator(".choice label", has_text=text).click()


def find_item(page):
    """The pixel of an item, from the figure itself."""
    return page.evaluate(
        """() => { const g = document.querySelector('#map .js-plotly-plot'), a = g._fullLayout, t = g.data.find(
        d => d.customdata && d.customdata[0].startsWith('index')), b = g.getBoundingClientRect();
        return [b.left + a.xaxis._offset + a.xaxis.l2p(t.x[7]), b.top + a.yaxis._offset + a.yaxis.l2p(t.y[7])]; }"""
    )


def fill(page, name, text):
    page.locator(f"#{name}").fill(text)


def test_a_click_on_a_point_shows_its_sentence_and_on_empty_ground_what_decodes_there(page):
    page.mouse.click(*place(page, 0.02, 0.03))
    page.wait_for_function("!document.querySelector('#look').textContent.includes('The sentence')")
    assert "xy" in state(page)["place"]
    assert re.search(r"log p\(x\|z\).*nats", page.locator("#look").inner_text(), re.S)
    page.locator(".checks label", has_text="prior").click()
    page.wait_for_function(
        "![...document.querySelectorAll('.legendtext')].some(t => t.textContent == 'samples of the prior')"
    )
    page.mouse.click(*find_item(page))
    page.wait_for_selector("#look >> text=The sentence")
    found = state(page)["place"]["index"]
    assert page.locator("#look p.text").inner_text() == TEXTS[found]
    assert "0.00" in page.locator("#near li").first.inner_text()


def test_the_map_is_coloured_and_searched(page):
    page.locator("#colour").click()
    page.locator(".dash-dropdown-option", has_text="tense").click()
    page.wait_for_selector(".legendtext:has-text('past')")
    fill(page, "search", "DOG")
    page.wait_for_function("document.querySelector('#hint').textContent.startsWith('16 found')")


def test_a_line_that_is_dragged_and_two_typed_sentences_are_walked_and_played(page):
    choose(page, "Draw path")
    page.wait_for_timeout(300)
    page.mouse.move(*place(page, 0.3, 0.3))
    page.mouse.down()
    page.mouse.move(*place(page, 0.5, 0.5), steps=3)
    page.mouse.move(*place(page, 0.7, 0.6), steps=3)
    page.mouse.up()
    page.wait_for_selector("#steps-list li")
    assert page.locator("#steps-list li").count() == 9
    fill(page, "path-a", "a cat sat here .")
    fill(page, "path-b", "the dog eats at home .")
    page.locator("#walk").click()
    page.wait_for_function("decodeURIComponent(location.hash).includes('the dog eats at home')")
    page.locator("#play").click()
    page.wait_for_selector("#steps-list li:nth-child(3).now")
    page.locator("#play").click()
    now = page.locator("#steps-list li.now span").first.inner_text()
    assert page.locator("#step-text").inner_text() == now


def read_turns(turns):
    return {int(dimension): value for dimension, value in turns.items()}


def test_a_knob_changes_the_point_by_the_keyboard(page, space):
    handle = page.locator("#knobs [role=slider]").first
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("decodeURIComponent(location.hash).includes('turns')")
    page.wait_for_timeout(500)
    before = state(page)["place"]["turns"]
    assert len(before) == 1
    assert page.locator("#live").inner_text() == space.turn(space.z[0].tolist(), read_turns(before)).text
    page.locator("#reset").click()
    page.wait_for_function("!decodeURIComponent(location.hash).includes('turns')")


def steer(space, text, attribute, strength):
    return space.steer(space.locate(item=text), attribute, strength).text


def test_sentences_are_added_and_steered(page, space):
    choose(page, "Arithmetic")
    for name, text in (("sum-a", "a cat sat here ."), ("sum-b", "a cat ran here ."), ("sum-c", "the dog ran here .")):
        fill(page, name, text)
    page.locator("#add").click()
    page.wait_for_selector("#sum li")
    fill(page, "steer-text", "the dog ran at home .")
    page.locator("#strength [role=slider]").focus()
    page.keyboard.press("End")
    page.wait_for_function("decodeURIComponent(location.hash).includes('\"strength\":2')")
    expected = steer(space, "the dog ran at home .", ("tense", "past"), 2.0)
    page.wait_for_function("text => document.querySelector('#steered').textContent === text", arg=expected)
    page.locator("#strength [role=slider]").focus()
    page.keyboard.press("Home")
    expected = steer(space, "the dog ran at home .", ("tense", "past"), -2.0)
    page.wait_for_function("text => document.querySelector('#steered').textContent === text", arg=expected)


def test_a_sentence_is_read_word_by_word(page):
    choose(page, "Sentence")
    fill(page, "own", f"a cat ran {IMAGE} .")
    page.keyboard.press("Enter")
    page.wait_for_selector("#reading .words")
    assert page.locator("#reading .words").count() == 2
    assert "±" in page.locator("#reading").inner_text()
    fill(page, "own", "  ")
    page.locator("#read").click()
    assert "write a sentence" in page.locator("#reading .wrong").inner_text()


def test_the_health_of_the_model_follows_its_run(page, folder):
    choose(page, "Health")
    page.wait_for_selector("#curves .js-plotly-plot .point")
    page.wait_for_selector("#diagnosis .diagnosis")
    count = page.locator("#curves .js-plotly-plot").first.locator(".point").count()
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    with open(folder / "metrics.jsonl", "a") as file:
        validations = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        last = next(row for row in reversed(validations) if "elbo" in str(row))
        file.write(json.dumps(last | {"step": line["step"] + 1}) + "\n")
    page.wait_for_function(
        f"document.querySelector('#curves .js-plotly-plot').querySelectorAll('.point').length > {count}", timeout=15000
    )


def test_an_address_brings_the_same_state_back(page, room):
    page.mouse.click(*place(page, 0.03, 0.9))
    page.wait_for_function("decodeURIComponent(location.hash).includes('\"xy\"')")
    choose(page, "Sentence")
    fill(page, "own", "a cat ran here .")
    page.keyboard.press("Enter")
    page.wait_for_selector("#reading .words")
    page.wait_for_function('decodeURIComponent(location.hash).includes(\'"place":{"text"\')')
    other = room.new_page()
    other.goto(page.url)
    other.wait_for_selector("#reading .words")
    assert state(other)["place"] == state(page)["place"]
    assert other.locator("#reading").inner_text() == page.locator("#reading").inner_text()
    other.close()


def test_an_address_brings_a_path_and_turned_knobs_back(room, address, space):
    place = {"index": 3, "turns": {"1": float(space.z[:, 1].quantile(0.9))}}
    pair = {"a": {"index": 0}, "b": {"mean": {"5": 1, "9": 0.5}}}
    kept = {"place": place, "pair": pair, "steps": "5", "tab": "path"}
    other = room.new_page()
    other.goto(f"{address}/#{urllib.parse.quote(json.dumps(kept))}")
    other.wait_for_selector("#steps-list li")
    end = ((space.z[5] + 0.5 * space.z[9]) / 1.5).tolist()
    texts = [step.text for step in space.walk(space.z[0].tolist(), end, 5, spherical=False)]
    assert other.locator("#steps-list li span:first-child").all_inner_texts() == texts
    expected = space.turn(space.z[3].tolist(), read_turns(place["turns"])).text
    other.wait_for_function("text => document.querySelector('#live').textContent === text", arg=expected)
    assert state(other)["place"]["index"] == 3
    assert state(other)["place"]["turns"]["1"] == pytest.approx(place["turns"]["1"], abs=1e-3)
    other.close()


def test_arrows_go_from_point_to_point_and_enter_looks(page):
    page.locator("#keys").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_function("document.querySelector('#hint').textContent.includes('Enter looks at it')")
    named = page.locator("#hint").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_function("!decodeURIComponent(location.hash).includes('\"index\":0')")
    assert TEXTS[state(page)["place"]["index"]] in named


def test_another_map_takes_the_place_of_the_first_when_it_is_computed(page):
    page.locator("#chart").click()
    page.locator(".dash-dropdown-option", has_text="t-SNE").click()
    page.wait_for_function("document.querySelector('#about').textContent.startsWith('t-SNE:')")
    page.wait_for_timeout(300)
    page.mouse.click(*place(page, 0.02, 0.03))
    page.wait_for_function("decodeURIComponent(location.hash).includes('mean')")
    assert len(state(page)["place"]["mean"]) == 5
    page.wait_for_function("!document.querySelector('#look').textContent.includes('The sentence')")


def test_visitors_at_once_get_their_own_answers(browser, room, address, space):
    stranger = browser.new_context()
    pages = [room.new_page(), stranger.new_page()]
    for number, one in enumerate(pages):
        one.goto(f"{address}/#{urllib.parse.quote(json.dumps({'place': {'index': number}}))}")
        wait(one)
    for turn in range(2):
        for number, one in enumerate(pages):
            kept = {"place": {"index": 10 * turn + 2 + number}}
            one.evaluate("place => window.dash_clientside.set_props('place', {data: place})", kept["place"])
        for number, one in enumerate(pages):
            row = 10 * turn + 2 + number
            one.wait_for_function("t => document.querySelector('#look p.text')?.textContent === t", arg=TEXTS[row])
            found = space.look_at(z=space.z[row].tolist())
            assert one.locator("#look span.text").inner_text() == (found.text or "(empty)")
            assert one.locator("#near li").first.locator("span").first.inner_text() == TEXTS[row]
    pages[0].close()
    stranger.close()


def test_a_phone_scrolls_down_only(room, address):
    phone = room.new_page()
    phone.set_viewport_size({"width": 390, "height": 844})
    phone.goto(address)
    wait(phone)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()


def test_a_port_in_use_is_one_line(address):
    from seqvae.explore.app import open_socket

    with pytest.raises(ConfigError, match="another --port"):
        open_socket("127.0.0.1", int(address.rpartition(":")[2]))

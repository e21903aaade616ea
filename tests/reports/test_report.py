"""The report: one well-formed file that loads nothing and escapes all text."""

import base64
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from outcomes import make_runs

from seqvae.reports.comparison.outcomes import compare
from seqvae.reports.comparison.report import to_html

EMPTY = {"meta", "img", "br", "link", "input", "hr"}
IMAGES = {"rate_distortion": ("plot.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "other": ("o.png", b"\x89PNG")}


class Reader(HTMLParser):
    """What is open, which tags and attributes there were, and the texts of each tag."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture
def figures(tmp_path):
    paths = {name: tmp_path / file for name, (file, _) in IMAGES.items()}
    for name, path in paths.items():
        path.write_bytes(IMAGES[name][1])
    return paths


def page(figures=(), outcomes=None, **options):
    outcomes = make_runs() if outcomes is None else outcomes
    return to_html("Recipes <b>", compare(outcomes), outcomes, dict(figures), ["on <SNLI> & more"], **options)


def test_every_tag_is_closed_in_turn(figures):
    assert Reader(page(figures, command="seqvae compare a b")).open == []


def test_nothing_is_loaded_from_elsewhere_and_nothing_is_run(figures):
    text = page(figures)
    read = Reader(text)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(read.tags)
    loads = [value for _, name, value in read.attributes if name in ("src", "href", "srcset", "action")]
    assert len(loads) == 2 and all(value.startswith("data:image/") for value in loads)
    assert "http:" not in text and "https:" not in text and "url(" not in text and "@import" not in text
    assert not [name for _, name, _ in read.attributes if name.startswith("on")]


def test_figures_are_in_the_page_with_their_kind_and_caption(figures):
    read = Reader(page(figures))
    sources = [value for tag, name, value in read.attributes if (tag, name) == ("img", "src")]
    for source, kind, (_, content) in zip(sources, ("svg+xml", "png"), IMAGES.values(), strict=True):
        head, data = source.split(",")
        assert head == f"data:image/{kind};base64" and base64.b64decode(data) == content
    assert (
        read.texts["figcaption"][0].startswith("Reconstruction against KL") and read.texts["figcaption"][1] == "other"
    )


def test_texts_are_shown_as_they_are():
    text = page()
    assert "<unk>" not in text and "a &lt;unk&gt; default &amp; 0" in text
    read = Reader(text)
    assert "a <unk> default & 0" in read.texts["td"]
    assert read.texts["h1"] == ["Recipes <b>"] and read.texts["li"] == ["on <SNLI> & more"]


def test_a_name_with_marks_in_it_breaks_nothing():
    name = '<script>"x"</script>\'&'
    runs = [replace(run, name=name, diagnosis=name) for run in make_runs(seeds=1)]
    read = Reader(page(outcomes=runs))
    assert read.open == [] and "script" not in read.tags and name in read.texts["th"] and name in read.texts["td"]


def test_scores_captions_and_definitions_are_those_of_the_table():
    read, table = Reader(page()), compare(make_runs())
    assert set(table.legend()) == set(read.texts["dt"]) and set(table.legend().values()) == set(read.texts["dd"])
    assert table.caption in read.texts["p"]
    cells = {"".join(column.format_cell(row.get(column.name))) for column in table.columns for row in table.rows}
    assert cells - {""} <= {*read.texts["td"], *read.texts["th"]}


def test_sentences_of_the_recipes_stand_side_by_side_and_shared_originals_once():
    heads = Reader(page()).texts["th"]
    assert heads.count("original") == 1
    assert heads[-7:] == ["original", "autoencoder", "default", "weight-1", "autoencoder", "default", "weight-1"]


def test_originals_that_differ_are_all_shown():
    runs = make_runs()
    other = {"originals": ["something else"], "reconstructions": ["something"]}
    assert (
        Reader(page(outcomes=[*runs, replace(runs[-1], name="new", sentences=other)])).texts["th"].count("original")
        == 2
    )


def test_parts_without_content_are_left_out():
    runs = [replace(run, sentences={}) for run in make_runs()]
    assert Reader(page(outcomes=runs)).texts["h2"] == ["Scores"]
    assert "pre" not in Reader(page(outcomes=runs)).tags

"""The page of a model: well-formed, loads nothing, escapes all text, and has what the model can do."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from seqvae.errors import CheckpointError
from seqvae.reports.examine import examine
from seqvae.reports.page import write_report
from seqvae.reports.page.examples import make_examples
from seqvae.reports.page.report import find_changed_options
from seqvae.reports.page.summary import measure_quality
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE

VOID = {"meta", "link", "input", "br", "img", "hr"}
SMALL = {"latent": 4, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}
NASTY = "</title><script>alert('x')</script>"
WHO, WHAT = ("a", "the", "one", "my"), ("cat", "dog", "hen", "cow", "pig")
WHERE = ("here", "there", "at home", "by the sea", "in a garden", "on a hill", "near us")
SENTENCES = [f"{who} {what} {where} {NASTY}" for who in WHO for what in WHAT for where in WHERE]


class Reader(HTMLParser):
    """Check that every tag is closed in turn; collect the tags, the attributes and the texts of each tag."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


def write_page(model, folder):
    """Write the page of a model with scores of its test split, and read it."""
    corpus = model.load_corpus()
    found = examine(model, corpus.test, corpus.train, samples=2, refined=0)
    quality = measure_quality(model, corpus.test, found.table.mean)
    path = write_report(model, folder, split=corpus.test, found=found, quality=quality, machine="an abacus")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=["plain", "labelled", "normal", "lm", "series"])
def written(request, tmp_path_factory):
    """The model, its kind and its page."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "series":
        waves = np.stack([np.sin(np.arange(30) / (2 + i / 40))[:, None] for i in range(100)])
        np.save(folder / "waves.npy", waves)
        model = SeriesVAE.fit(str(folder / "waves.npy"), output=folder / "model", max_epochs=2, **SMALL)
    else:
        rows = [f'"{text}",{"even" if i % 2 else "odd"}' for i, text in enumerate(SENTENCES)]
        (folder / "own.csv").write_text("\n".join(["text,parity", *rows]) + "\n")
        extra = {"labelled": {"label_column": "parity"}, "normal": {"prior": "normal"}, "lm": {"kind": "lm"}}
        options = (
            SMALL | {"max_epochs": 2, "validate_every": 1, "split_punctuation": False} | extra.get(request.param, {})
        )
        model = TextVAE.fit(str(folder / "own.csv"), output=folder / "model", **options)
    return model, request.param, write_page(model, folder / "model")


def test_every_tag_is_closed_and_nothing_is_loaded_from_elsewhere(written):
    read = Reader(written[2])
    assert not {"link", "iframe", "object", "embed", "base", "img"} & set(read.tags)
    addresses = [value for _, name, value in read.attributes if name in ("src", "href", "xlink:href", "action")]
    assert all(address.startswith("#") for address in addresses)
    assert "url(" not in written[2] and "@import" not in written[2] and "http" not in written[2]
    assert len(written[2]) < 1_000_000


def test_links_within_the_page_lead_somewhere(written):
    read = Reader(written[2])
    ids = [value for _, name, value in read.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for tag, name, value in read.attributes if tag in ("a", "use") and name == "href"} <= set(ids)


def test_text_of_the_corpus_is_escaped(written):
    _, kind, page = written
    assert NASTY not in page and "<script>alert" not in page
    read = Reader(page)
    assert read.tags.count("script") == (kind != "lm")
    if kind != "series":
        assert NASTY in "".join(read.texts["li"])


def test_each_kind_has_its_sections(written):
    _, kind, page = written
    sections = {value for tag, name, value in Reader(page).attributes if tag == "section" and name == "id"}
    always = {"samples", "training", "scores", "options", "facts"}
    latent = {"reconstructions", "walks", "map", "dimensions"}
    assert sections == (always if kind == "lm" else always | latent)


def test_what_is_shown_is_what_the_model_generates(written):
    model, kind, page = written
    examples = make_examples(model, model.load_corpus().test, seed=model.config.training.seed)
    if kind == "series":
        assert Reader(page).attributes.count(("svg", "class", "panel")) == 10 + 5 + 2 * 7
        assert "sentence" not in page
        return
    shown = [text for text in Reader(page).texts["li"] if text.strip()]
    samples = [item or "(empty)" for _, item in examples.samples]
    assert shown[: len(samples)] == samples


def test_the_map_has_every_held_out_item_and_samples_of_the_prior(written):
    model, kind, page = written
    read = Reader(page)
    marks = [value for tag, name, value in read.attributes if tag == "use" and name == "href"]
    if kind == "lm":
        assert not marks
        return
    groups = {"labelled": 2}.get(kind)
    test = model.load_corpus().test
    legend = len([1 for tag, name, value in read.attributes if tag == "use" and name == "class"])
    assert groups in (None, legend)
    prior = marks.count("#mp") - 1  # one is of the legend
    assert 50 < prior <= 250 and len(marks) - prior - 1 - legend == len(test)
    assert any("(sample from the prior)" in title for title in read.texts["title"])


def test_scores_have_their_definitions_and_the_options_their_defaults(written):
    model, kind, page = written
    read = Reader(page)
    names = {"nll", "reconstruction", "nll_per_frame" if kind == "series" else "perplexity_token"}
    names |= {"lm": set(), "series": {"r2"}}.get(kind, {"exact_match", "bleu", "permuted_nll_increase"})
    assert names <= set(read.texts["code"])
    changed = {name: value for name, value, _ in find_changed_options(model)}
    assert changed["model.decoder.hidden"] == "8" and "model.decoder.name" not in changed
    assert ("model.prior.name" in changed) == (kind == "normal")
    assert set(changed) <= set(read.texts["code"])
    text = " ".join(text for texts in read.texts.values() for text in texts)
    assert "importance weighted" in text and "an abacus" in text and "seqvae train" in text


def test_the_kept_model_is_marked_in_the_curves(written):
    model, _, page = written
    step = model.checkpoint.facts["step"]
    assert f"of step {step:,}" in page and f"step {step:,}: " in page


def test_the_page_needs_neither_scores_nor_metrics(written, tmp_path):
    model, _, _ = written
    page = write_report(model, tmp_path).read_text(encoding="utf-8")
    ids = {value for tag, name, value in Reader(page).attributes if name == "id"}
    assert {"samples", "options", "facts"} <= ids and not ids & {"map", "training", "scores", "walks"}


def test_damaged_metrics_are_left_out_and_the_kept_model_need_not_be_the_last(written, tmp_path):
    good = {"kind": "valid", "step": 3, "elbo": -5.0, "reconstruction": 4.0, "kl": 1.0, "weight": 1.0, "kept": True}
    bad = [good | {"step": 4, "elbo": float("nan")}, {"kind": "valid", "step": 5}, good | {"kl": None}]
    later = good | {"step": 9, "kept": False}
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join([*map(json.dumps, [good, later, *bad]), "[1]", '{"kind": "va']) + "\n"
    )
    page = write_report(written[0], tmp_path).read_text(encoding="utf-8")
    assert "of step 3" in page and "step 9: " in page and "NaN" not in page and "nan" not in Reader(page).texts["title"]


def test_a_folder_that_cannot_be_written_is_one_line(written, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        write_report(written[0], tmp_path / "file")

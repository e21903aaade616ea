"""Sentences in whatever a user of pandas, polars, datasets, NumPy or plain Python gives."""

import re
from pathlib import Path

import datasets
import numpy as np
import pandas
import pyarrow
import pytest

from seqvae.data.containers import read_sentences
from seqvae.data.series.corpus import load_series
from seqvae.data.text.corpus import load
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import SeqVAEError
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE

try:
    import polars  # here, as it sets variables of the environment
except ImportError:
    polars = None

LINES = [f"sentence number {i // 10} {i % 10} is here ." for i in range(40)]
COLUMNS = {"id": list(range(40)), "text": LINES, "mood": [i % 2 for i in range(40)]}
FRAME = pandas.DataFrame(COLUMNS)
PARTS = {"train": LINES[:30], "validation": LINES[30:35], "test": LINES[35:]}


class Stream:
    """A table that offers nothing but the interface of Arrow, as polars and others do."""

    columns = tuple(COLUMNS)

    def __arrow_c_stream__(self, requested_schema=None):
        return pyarrow.table(COLUMNS).__arrow_c_stream__(requested_schema)


def of_polars(name, *arguments):
    return getattr(polars, name)(*arguments) if polars else pytest.skip("polars is not installed")


ONES = {
    "list": lambda: LINES,
    "tuple": lambda: tuple(LINES),
    "generator": lambda: (line for line in LINES),
    "keys of a dict": lambda: dict.fromkeys(LINES).keys(),
    "array of str": lambda: np.array(LINES),
    "array of objects": lambda: np.array(LINES, dtype=object),
    "array of one column": lambda: np.array(LINES)[:, None],
    "pandas Series": lambda: FRAME["text"].sample(frac=1, random_state=0).sort_index(),
    "pandas categories": lambda: FRAME["text"].astype("category"),
    "pandas DataFrame": lambda: FRAME,
    "pandas DataFrame with an index": lambda: FRAME.set_index(pandas.Index([f"row {i}" for i in range(40)])),
    "pandas DataFrame of categories": lambda: FRAME.astype({"text": "category"}),
    "one column without a name": lambda: pandas.DataFrame(LINES),
    "polars Series": lambda: of_polars("Series", LINES),
    "polars DataFrame": lambda: of_polars("DataFrame", COLUMNS),
    "polars LazyFrame": lambda: of_polars("LazyFrame", COLUMNS),
    "Arrow table": lambda: pyarrow.table(COLUMNS),
    "Arrow batch": lambda: pyarrow.RecordBatch.from_pydict(COLUMNS),
    "Arrow reader": lambda: pyarrow.table(COLUMNS).to_reader(),
    "Arrow column": lambda: pyarrow.table(COLUMNS)["text"],
    "Arrow views": lambda: pyarrow.table({"text": pyarrow.array(LINES, pyarrow.string_view())}),
    "stream of Arrow": Stream,
    "data set": lambda: datasets.Dataset.from_dict(COLUMNS),
    "data set in another order": lambda: datasets.Dataset.from_dict({"text": LINES[::-1]}).select(range(39, -1, -1)),
    "data set as streamed": lambda: datasets.Dataset.from_dict(COLUMNS).to_iterable_dataset(),
    "column of a data set": lambda: datasets.Dataset.from_dict(COLUMNS)["text"],
    "dict of columns": lambda: COLUMNS,
    "dict of arrays": lambda: {"text": np.array(LINES), "point": np.zeros((40, 3))},
    "list of dicts": lambda: [{"text": line, "id": i} for i, line in enumerate(LINES)],
    "generator of dicts": lambda: ({"text": line} for line in LINES),
}


@pytest.mark.parametrize("make", ONES.values(), ids=ONES)
def test_a_container_of_sentences_is_taken_as_meant_and_in_its_order(make):
    assert read_sentences(make()) == LINES
    assert load(make(), whole=True).test.texts() == LINES


DIVIDED = {
    "dict of lists": lambda: PARTS,
    "dict of data frames": lambda: {name: pandas.DataFrame({"text": part}) for name, part in PARTS.items()},
    "dict of generators": lambda: {name: iter(part) for name, part in PARTS.items()},
    "data sets by split": lambda: datasets.DatasetDict(
        {name: datasets.Dataset.from_dict({"text": part}) for name, part in PARTS.items()}
        | {"unsupervised": datasets.Dataset.from_dict({"text": ["left out"]})}
    ),
    "data sets as streamed": lambda: datasets.IterableDatasetDict(
        {name: datasets.Dataset.from_dict({"text": part}).to_iterable_dataset() for name, part in PARTS.items()}
    ),
}


@pytest.mark.parametrize("make", DIVIDED.values(), ids=DIVIDED)
def test_splits_are_recognized_by_their_names(make):
    corpus = load(make())
    assert [split.texts() for split in corpus.splits.values()] == list(PARTS.values())


@pytest.mark.parametrize("name", ["valid", "validation", "val", "dev"])
def test_validation_sentences_have_many_names_and_a_missing_split_is_drawn(name):
    corpus = load({"train": LINES, name: ["a b ."]})
    assert corpus.valid.texts() == ["a b ."] and len(corpus.test) == 2 and len(corpus.train) == 38


def test_a_table_in_memory_has_its_column_of_text_and_its_labels():
    frame = pandas.DataFrame({"title": ["a b"] * 40, "body": LINES, "mood": pandas.Categorical(["sad", "glad"] * 20)})
    corpus = load(frame, column="body", label_column="mood")
    assert sorted(corpus.labels) == ["glad", "sad"] and set(corpus.train.texts()) < set(LINES)
    assert corpus.train.column("mood") == [corpus.train.label_column.names[i] for i in corpus.train.labels]
    assert load(COLUMNS, label_column="mood").labels.keys() == {"0", "1"}


def refusal(call):
    with pytest.raises(SeqVAEError) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


TWO = pandas.DataFrame({"title": LINES, "body": LINES})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (set(LINES), ["set", "sorted"]),
        (b"a b c", ["bytes"]),
        (None, ["NoneType", "[sentence]"]),
        (7, ["int", "[sentence]"]),
        (np.zeros((3, 2)), ["(3, 2)"]),
        (np.array("a b"), ["()"]),
        (TWO, ["DataFrame", "title, body", "column"]),
        (pandas.DataFrame({"n": [1, 2, 3]}), ["DataFrame", "no column of text", "n"]),
        ({"text": LINES, "label": [0]}, ["dict", "columns of one length"]),
        ({"text": "a b"}, ["dict", "str", "'text'", "list of values"]),
        ({"a b": 3}, ["dict", "int", "'a b'"]),
        ({"train": LINES, "text": LINES}, ["dict", "train, text", "splits", "not both"]),
        ({"one": FRAME, "two": FRAME}, ["dict", "one, two"]),
        (pandas.DataFrame({"text": ["a", 3, "b"]}), ["DataFrame", "table"]),
        (pandas.DataFrame([["a", "b"]], columns=["text", "text"]), ["DataFrame", "text"]),
        ([{"text": "a"}, "b"], ["item 1", "str"]),
        ({}, ["dict"]),
        ([["a", "b"], ["c"]], ["0", "list"]),
        (np.arange(5), ["0", "int"]),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_what_is_no_container_of_sentences_is_refused_in_one_line(given, words):
    message = refusal(lambda: load(given))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA])
def test_a_missing_text_is_refused_with_the_number_of_its_row(missing):
    lines = [*LINES[:3], missing, *LINES[4:]]
    for given in (pandas.DataFrame({"text": lines}), {"text": lines}, pandas.Series(lines), lines):
        assert re.match("(row|sentence) 3 ", refusal(lambda given=given: load(given)))


@pytest.mark.parametrize("given", [{"validation": LINES}, {"train": LINES, "dev": LINES, "valid": LINES}])
def test_splits_must_be_one_of_each_with_a_train(given):
    assert "train split" in refusal(lambda: load(given)) or "two valid" in refusal(lambda: load(given))


def test_a_sentence_in_place_of_a_corpus_is_told_apart_from_a_missing_file():
    assert "[sentence]" in refusal(lambda: load("a cat sat on the mat ."))
    assert "splitlines" in refusal(lambda: load("a cat sat .\na dog ran .\n"))
    assert "splitlines" in refusal(lambda: load("a cat sat " * 999))


# -- models -----------------------------------------------------------------------------------------------------------

SMALL = {"latent": 2, "embedding": 4, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}, "max_epochs": 1}


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(FRAME, label_column="mood", **SMALL)


def test_a_model_reads_tables_and_series_wherever_it_reads_sentences(model):
    whole = model.encode(LINES, labels="0").mean
    for given in (FRAME, FRAME["text"], np.array(LINES), datasets.Dataset.from_dict(COLUMNS)):
        assert model.encode(given, labels="0").mean.equal(whole)
    assert model.score(FRAME[:3], labels="0", samples=2).shape == (3,)
    assert len(model.reconstruct(FRAME["text"][:3], labels="0")) == 3
    parts = datasets.DatasetDict(train=datasets.Dataset.from_dict(COLUMNS))
    for given in (TWO, parts, PARTS, "a b", set(LINES)):
        refusal(lambda given=given: model.encode(given, labels="0"))


@pytest.mark.parametrize(
    "given",
    [
        [0, 1],
        (np.int64(0), np.int64(1)),
        np.array([0, 1]),
        pandas.Series([0, 1]),
        pandas.Categorical([0, 1]),
        ["0", "1"],
    ],
    ids=lambda given: type(given).__name__,
)
def test_labels_of_whole_numbers_are_given_as_they_are_in_the_table(model, given):
    assert model.number_labels(given, 2).tolist() == [0, 1]
    assert model.encode(LINES[:2], labels=given).mean.shape == (2, 2)
    options = {"seed": 1, "max_length": 3, "candidates": 3}
    assert model.sample(2, label=given, **options) == model.sample(2, label=["0", "1"], **options)


@pytest.mark.parametrize("candidates", [1, 3])
def test_labels_that_can_be_read_once_only_go_for_samples(model, candidates):
    options = {"seed": 1, "max_length": 3, "candidates": candidates}
    assert model.sample(2, label=iter([0, 1]), **options) == model.sample(2, label=["0", "1"], **options)


def test_a_wrong_number_of_labels_of_samples_is_counted_in_sentences(model):
    with pytest.raises(SeqVAEError, match="labels given: 3, expected one for each of 2 sentences"):
        model.sample(2, label=[0, 1, 0], candidates=3)


def test_one_label_of_any_kind_goes_for_all(model):
    for given in (1, np.int64(1), np.array(1), "1", np.str_("1")):
        assert model.number_labels(given, 3).tolist() == [1, 1, 1]
        assert model.sample(2, label=given, seed=1, max_length=3) == model.sample(2, label="1", seed=1, max_length=3)
    assert len(model.interpolate(LINES[0], LINES[1], label=0, steps=3, max_length=3)) == 3
    for wrong in (2, True, 0.5, [0], b"0", {"mood": [0, 1]}, {0, 1}, [0, None]):
        refusal(lambda wrong=wrong: model.encode(LINES[:2], labels=wrong))


def test_labels_of_truth_values_are_given_as_they_are():
    model = TextVAE.fit(FRAME.assign(asks=[True, False] * 20), label_column="asks", column="text", **SMALL)
    assert model.labels == ("False", "True")
    assert model.number_labels([True, np.bool_(False)], 2).tolist() == [1, 0]
    assert model.number_labels(pandas.Series([True, False]), 2).tolist() == [1, 0]


def test_a_leading_tilde_is_the_home_folder_in_every_path(model, tmp_path, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for folder in (home, elsewhere):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(elsewhere)
    (home / "c.txt").write_text("\n".join(LINES))
    np.save(home / "s.npy", np.random.default_rng(0).normal(size=(40, 3, 1)))
    fitted = TextVAE.fit("~/c.txt", output="~/m", **SMALL)
    assert fitted.config.corpus == str(home / "c.txt")
    assert TextVAE.fit(Path("~/c.txt"), output=Path("~/n"), **SMALL).config.corpus == str(home / "c.txt")
    fitted.save_pretrained("~/saved")
    fitted.tokenizer.save("~/saved/again.json")
    assert Tokenizer.load("~/saved/again.json").to_json() == fitted.tokenizer.to_json()
    assert TextVAE.from_pretrained("~/saved").sample(1, seed=1) == TextVAE.from_pretrained("~/m").sample(1, seed=1)
    assert SeriesVAE.fit("~/s.npy", output="~/w", **SMALL).config.corpus == str(home / "s.npy")
    assert sorted(path.name for path in home.iterdir()) == ["c.txt", "m", "n", "s.npy", "saved", "w"]
    assert not list(elsewhere.iterdir())


# -- series -----------------------------------------------------------------------------------------------------------

WAVES = [np.sin(np.arange(n) / 2)[:, None] for n in range(3, 33)]
LISTS = [wave[:, 0].tolist() for wave in WAVES]


@pytest.mark.parametrize(
    "given",
    [
        pandas.DataFrame({"id": range(30), "wave": LISTS}),
        pandas.Series(WAVES),
        (wave for wave in WAVES),
        [pandas.DataFrame({"height": wave[:, 0]}) for wave in WAVES],
        datasets.Dataset.from_dict({"wave": LISTS}),
        pyarrow.table({"wave": LISTS}),
        {"wave": LISTS},
        {"values": np.concatenate(WAVES), "lengths": np.array([len(wave) for wave in WAVES])},
    ],
    ids=lambda given: type(given).__name__,
)
def test_series_are_taken_from_tables_and_arrays_as_meant(given):
    assert all(map(np.array_equal, load_series(given, whole=True).test.series(), WAVES))


def test_the_splits_of_series_are_recognized_by_their_names():
    corpus = load_series({"train": WAVES[:20], "val": WAVES[20:25], "test": WAVES[25:]})
    assert [len(split) for split in corpus.splits.values()] == [20, 5, 5]
    assert np.array_equal(corpus.test[0], WAVES[25])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (pandas.DataFrame({"x": [0.1, 0.2], "y": [0.3, 0.4]}), ["DataFrame", "lists", "x, y"]),
        (pandas.DataFrame({"x": LISTS, "y": LISTS}), ["DataFrame", "lists", "column"]),
        (pandas.DataFrame({"text": LINES}), ["DataFrame", "lists"]),
        ({"train": WAVES, "x": WAVES}, ["dict", "not both"]),
        (LINES, ["series 0", "numbers"]),
        (set("ab"), ["set"]),
        (None, ["NoneType"]),
        (b"ab", ["bytes"]),
    ],
)
def test_what_is_no_container_of_series_is_refused_in_one_line(given, words):
    message = refusal(lambda: load_series(given))
    assert all(word in message for word in words), message

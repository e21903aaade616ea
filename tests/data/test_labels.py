"""The labels of a corpus: from a column to numbers, the same for all splits, and what is refused."""

import json
import re

import numpy as np
import pytest
import torch

from seqvae.data.batching import Batches, iterate_by_length
from seqvae.data.text.corpus import load
from seqvae.data.text.labels import MOST
from seqvae.errors import CorpusError

WORDS = ["apple", "bird", "cloud", "door", "engine", "frost", "grape", "hill", "iron", "jar", "kite", "lamp"]


def table(file, rows, name="corpus.jsonl"):
    return file(name, "\n".join(json.dumps(dict(zip(("text", "mood"), row, strict=True))) for row in rows))


def rows(values):
    """A sentence with each of the values, in turn."""
    return [(f"{one} {other} .", values[(i + j) % len(values)]) for i, one in enumerate(WORDS) for j, other in
            enumerate(WORDS)]  # fmt: skip


def read(file, rows, **options):
    return load(table(file, rows), label_column="mood", **options)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["sad", "happy", " happy ", "so\n so"], ["happy", "sad", "so so"]),
        ([3, 1, 20], ["1", "20", "3"]),
        ([True, False], ["False", "True"]),
    ],
)
def test_labels_are_texts_numbers_or_truth_values_in_sorted_order(file, values, names):
    corpus = read(file, rows(values))
    assert list(corpus.labels) == names and sum(corpus.labels.values()) == len(corpus.train)
    for split in corpus.splits.values():
        expected = [" ".join(str(value).split()) for value in split.column("mood")]
        assert [names[number] for number in split.labels] == expected and split.labels.dtype == np.int64


def test_labels_follow_their_sentences_into_selections_and_batches(file):
    corpus = read(file, rows(["a", "b", "c"]))
    split = corpus.train
    some = split.select([5, 2, 9])
    assert some.labels.tolist() == split.labels[[5, 2, 9]].tolist()
    assert len(split.at_most(7).labels) == 7
    for indices, batch in iterate_by_length(split, batch_size=16):
        assert batch.labels.tolist() == split.labels[indices].tolist() and batch.labels.dtype == torch.int64
    batches = Batches(split, batch_size=16, seed=3)
    for indices, batch in zip(batches.plan(1), batches.epoch(1), strict=True):
        assert batch.labels.tolist() == split.labels[indices].tolist()


def test_without_a_label_column_there_are_no_labels(file):
    corpus = load(table(file, rows(["a", "b"])))
    assert corpus.labels == {} and corpus.train.labels is None
    assert all(batch.labels is None for _, batch in iterate_by_length(corpus.train))


def test_the_labels_are_those_of_train_and_others_are_refused_by_name(file):
    for split, moods in (("train", ["a", "b"]), ("valid", ["b", "a"]), ("test", ["a", "zeal"])):
        path = table(file, rows(moods), f"data/{split}.jsonl")
    with pytest.raises(CorpusError, match=r"test sentences .* label 'zeal' in column 'mood'.*: a, b") as caught:
        load(path.rpartition("/")[0], label_column="mood")
    assert "\n" not in str(caught.value)


def test_the_labels_of_a_model_keep_their_numbers_in_another_corpus(file):
    corpus = read(file, rows(["c", "b"]), labels=["a", "b", "c"], whole=True)
    assert corpus.labels == {"a": 0, "b": 72, "c": 72}
    assert sorted(set(corpus.test.labels.tolist())) == [1, 2]
    with pytest.raises(CorpusError, match="none of those that the model was trained with: a, b"):
        read(file, rows(["a", "c"]), labels=["a", "b"], whole=True)


def test_the_fingerprint_of_a_corpus_knows_its_labels(file):
    plain, one = load(table(file, rows(["a", "b"]))), read(file, rows(["a", "b"]))
    moved = read(file, rows(["b", "a"]))
    renamed = read(file, rows(["a", "c"]))
    assert len({corpus.fingerprint for corpus in (plain, one, moved, renamed)}) == 4
    assert read(file, rows(["a", "b"])).fingerprint == one.fingerprint


MANY = [(f"{a} {b} {c} .", f"{a}{b}{c}") for a in WORDS for b in WORDS for c in WORDS]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (rows(["a", None, "b"]), ["have no label in column 'mood'", r"4\d of 130"]),
        (rows(["a", "  ", "b"]), ["have no label"]),
        (rows(["only"]), ["1 different values", "expected 2 to 1,000"]),
        (MANY, ["different values: expected 2 to 1,000", "names or numbers of the sentences"]),
        (rows([0.5, 1.5]), ["holds float"]),
        (rows([["a"], ["b"]]), ["holds list"]),
    ],
    ids=["missing", "blank", "one", "many", "float", "list"],
)
def test_columns_that_are_no_labels_are_refused_in_one_line(file, given, words):
    assert len(MANY) > MOST
    with pytest.raises(CorpusError) as caught:
        read(file, given)
    assert all(re.search(word, str(caught.value)) for word in words) and "\n" not in str(caught.value), caught.value


def test_a_column_that_is_not_there_is_named_with_those_that_are(file):
    with pytest.raises(CorpusError, match="no column 'tense' of labels; its columns are: text, mood"):
        load(table(file, rows(["a", "b"])), label_column="tense")
    with pytest.raises(CorpusError, match=r"its columns are: text$"):
        load(["a b", "c d", "e f"], label_column="tense")


def test_the_factors_of_the_grammar_are_labels():
    corpus = load("grammar", label_column="tense")
    assert list(corpus.labels) == ["future", "past", "present"]
    shares = [count / len(corpus.train) for count in corpus.labels.values()]
    assert shares == pytest.approx([0.2, 0.4, 0.4], abs=0.02)

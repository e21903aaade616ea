"""Data from Python: splits and labels beside the sentences, streams, fields of objects."""

import json

import pytest

from seqvae import TextVAE
from seqvae.data.text.corpus import load
from seqvae.data.text.joining import join_splits
from seqvae.errors import ConfigError, CorpusError

SENTENCES = [f"a {animal} {verb} ." for animal in ("cat", "dog", "bird", "cow") for verb in ("sat", "ran", "ate")]


def test_held_out_sentences_stand_beside_the_training(tmp_path):
    path = tmp_path / "valid.txt"
    path.write_text("a cow slept .\na dog slept .\n")
    corpus = load(join_splits(SENTENCES, valid=path, test=["a bird slept ."]))
    assert (len(corpus.train), corpus.valid.texts()) == (12, ["a cow slept .", "a dog slept ."])
    assert corpus.test.texts() == ["a bird slept ."]
    assert len(load(join_splits(SENTENCES, valid=path)).test) == 1, "drawn from train"


def test_labels_are_a_column():
    labels = ["pet", "pet", "pet", "farm"] * 3
    corpus = load(join_splits(SENTENCES, labels=labels), label_column="label")
    assert sorted(corpus.labels) == ["farm", "pet"]
    split = corpus.train
    number = SENTENCES.index(split.texts()[0])
    assert split.column("label")[0] == labels[number]


def test_fit_takes_all_of_them():
    options = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "max_epochs": 1}
    labels = {"train": [0, 1] * 6, "valid": [1, 0]}
    model = TextVAE.fit(
        SENTENCES, valid=["a cow sat .", "a cow ran ."], labels=labels | {"test": [1]}, test=["a b ."], **options
    )
    assert model.labels == ("0", "1") and model.config.data.label_column == "label"


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"valid": {"train": ["a"], "test": ["b"]}}, CorpusError, "valid = sentences holds the splits train, test"),
        ({"labels": ["x"]}, ConfigError, "labels of train sentences: 1 given, expected one for each of 12"),
        (
            {"labels": ["x"] * 12, "valid": ["a b"]},
            ConfigError,
            "labels were given for train, sentences for train, valid",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(given, kind, words):
    with pytest.raises(kind, match=words):
        join_splits(SENTENCES, **given)


def test_two_validation_splits_are_refused():
    with pytest.raises(CorpusError, match="the training data has a valid split"):
        join_splits({"train": SENTENCES, "valid": ["a b"]}, valid=["a c"])


def test_a_generator_is_stored_as_it_comes():
    source = join_splits(sentence for sentence in SENTENCES)
    assert source.on_disk and source.datasets["train"]["text"][:] == SENTENCES
    assert load(iter(SENTENCES)).content == load(SENTENCES).content
    with pytest.raises(CorpusError, match="sentence 1 is int, not text"):
        load(iter(["a", 1]))


def test_a_field_of_objects_is_named_with_its_path(tmp_path):
    records = [{"doc": {"text": sentence}, "n": 1} for sentence in SENTENCES]
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    for given in (path, records):
        assert load(given, column="doc.text", whole=True).test.texts() == SENTENCES
    with pytest.raises(CorpusError, match=r"doc\.txt"):
        load(path, column="doc.txt")

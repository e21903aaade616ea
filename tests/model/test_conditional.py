"""Conditional models from end to end: they learn what a label decides, and every command knows of labels."""

import csv
import json
import math
from functools import cache

import numpy as np
import pytest
import torch

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.data.text import grammar
from seqvae.data.text.corpus import load
from seqvae.errors import CheckpointError, ConfigError
from seqvae.evaluation.evaluate import find_true_log_probs
from seqvae.training.checkpoint import Checkpoint

VERBS = {"future": "will sit", "past": "sat", "present": "sits"}
ROWS = [
    (f"{subject} {VERBS[tense]} {place} .", tense)
    for subject in ("a cat", "the dog", "one bird", "my cow", "no horse")
    for tense in VERBS
    for place in ("here", "there", "now", "at home", "by day", "by night")
]
SMALL = {
    "latent": 2,
    "embedding": 8,
    "label_size": 4,
    "encoder": {"hidden": 16},
    "decoder": {"hidden": 16, "dropout": 0.0},
    "batch_size": 8,
    "precision": "fp32",
    "learning_rate": 0.02,
    "warmup": 5,
    "max_epochs": 30,
    "noise": {"rate": 0.0},
}
SIZE = [
    "--model.latent",
    "2",
    "--model.embedding",
    "8",
    "--model.label-size",
    "4",
    "--model.encoder.hidden",
    "16",
    "--model.decoder.hidden",
    "16",
    "--model.noise.rate",
    "0",
    "--model.decoder.dropout",
    "0",
    "--batch-size",
    "8",
    "--precision",
    "fp32",
    "--learning-rate",
    "0.02",
    "--warmup",
    "5",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("labelled") / "tenses.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("text", "tense"), *ROWS])
    return path


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("conditional") / "run"
    main(["train", str(corpus), "--label-column", "tense", *SIZE, "--max-epochs", "30", "--output", str(folder)])
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return TextVAE.from_pretrained(folder)


@cache
def trained(corpus, kind, column):
    """A model, trained once; nobody may change it."""
    return TextVAE.fit(corpus, kind=kind, label_column=column, **SMALL)


@pytest.fixture
def run(capsys):
    """Run a command in this process, and return the lines that it printed."""

    def call(*arguments):
        capsys.readouterr()
        main([str(argument) for argument in arguments])
        return capsys.readouterr().out.splitlines()

    return call


def tense(text):
    return "future" if "will" in text else "past" if "sat" in text else "present"


def one_line(call, *words):
    with pytest.raises(ConfigError) as caught:
        call()
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), caught.value


# -- what it learns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vae", "lm"])
def test_samples_have_the_label_that_was_asked_for(kind, corpus):
    model = trained(corpus, kind, "tense")
    assert model.labels == ("future", "past", "present")
    for label in model.labels:
        assert sum(tense(text) == label for text in model.sample(50, label=label, seed=1)) >= 45
    each = ["past", "future"] * 20
    assert (
        sum(tense(text) == label for text, label in zip(model.sample(40, label=each, seed=2), each, strict=True)) > 35
    )
    sampled = model.sample_labels(3000, seed=5)
    total = sum(model.checkpoint.labels.values())
    for label, count in model.checkpoint.labels.items():  # 6 standard deviations of a share are below 0.06
        assert sampled.count(label) / 3000 == pytest.approx(count / total, abs=0.06)
    found = [tense(text) for text in model.sample(50, seed=5)]
    assert sum(a == b for a, b in zip(found, model.sample_labels(50, seed=5), strict=True)) >= 45


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "lm"])
def test_what_the_label_decides_costs_a_conditional_model_nothing(kind, corpus):
    """A word that is one of three to a model without labels is known to one that has them: about log 3 = 1.1 nats."""
    held = {}
    for column in (None, "tense"):
        model = trained(corpus, kind, column)
        labels = None if column is None else [tense for _, tense in ROWS]
        held[column] = -float(model.score([text for text, _ in ROWS], labels=labels, samples=20).mean())
    assert held["tense"] < held[None] - math.log(3) / 2


def test_a_sentence_changes_its_label_and_keeps_the_rest(model):
    """z is encoded with one label and decoded with another."""
    texts, labels = zip(*ROWS, strict=True)
    z = model.encode(texts, labels=labels).mean
    for label in model.labels:
        texts = model.decode(z, labels=label)
        assert sum(tense(text) == label for text in texts) > 0.9 * len(texts)


# -- the interface ----------------------------------------------------------------------------------------------------


def test_labels_are_one_for_all_or_one_for_each(model):
    texts = ["a cat sat here .", "the dog sat now ."]
    q = model.encode(texts, labels="past")
    assert torch.equal(q.mean, model.encode(texts, labels=["past", "past"]).mean)
    assert not torch.equal(q.mean, model.encode(texts, labels=["past", "future"]).mean)
    assert model.reconstruct(texts, labels="past") == model.decode(q.mean, labels="past")
    assert len(model.interpolate(*texts, label="past", steps=4)) == 4
    scores = model.score(texts, labels=["past", "future"], samples=5)
    assert scores[0] == pytest.approx(float(model.score(texts, labels="past", samples=5)[0]), abs=1e-6)
    assert scores[1] < model.score(texts, labels="past", samples=5)[1]
    assert len(model.aggregate([text for text, _ in ROWS], labels=[label for _, label in ROWS]).sample(3).z) == 3


def test_a_label_that_is_missing_wrong_or_of_no_use_is_refused_in_one_line(model, tiny_corpus, training_config):
    z, known = torch.zeros(2, 2), "future, past, present"
    for call in (
        lambda: model.encode(["a"]),
        lambda: model.decode(z),
        lambda: model.reconstruct(["a"]),
        lambda: model.interpolate("a", "b"),
        lambda: model.score(["a"]),
        lambda: model.aggregate(["a", "b"]),
    ):
        one_line(call, "needs a label", "'tense'", known)
    for call in (lambda: model.sample(2, label="pst"), lambda: model.encode(["a"], labels=["pst"])):
        one_line(call, "'pst'", known)
    one_line(lambda: model.decode(z, labels=["past"] * 3), "given: 3", "each of 2")
    plain = TextVAE.fit([text for text, _ in ROWS], **SMALL | {"max_epochs": 1})
    assert plain.labels == () and plain.sample_labels(3) is None
    for call in (
        lambda: plain.sample(1, label="past"),
        lambda: plain.encode(["a"], labels="past"),
        lambda: plain.score(["a"], labels=["past"]),
    ):
        one_line(call, "trained without --label-column")


# -- the model folder -------------------------------------------------------------------------------------------------


def test_labels_come_back_and_a_folder_of_a_model_without_any_does_not_name_them(folder, model, tmp_path):
    assert json.loads((folder / "config.json").read_text())["labels"] == model.checkpoint.labels
    model.save_pretrained(tmp_path / "again")
    again = TextVAE.from_pretrained(tmp_path / "again")
    assert again.checkpoint.labels == model.checkpoint.labels
    assert again.sample(3, label="past", seed=0) == model.sample(3, label="past", seed=0)
    assert "Conditioned on labels: tense: " in (folder / "README.md").read_text()
    assert "label='future'" in (folder / "README.md").read_text()
    plain = TextVAE.fit([text for text, _ in ROWS], output=tmp_path / "plain", **SMALL | {"max_epochs": 1})
    assert "labels" not in json.loads((tmp_path / "plain" / "config.json").read_text()) and not plain.labels


DAMAGES = [
    [],
    {},
    None,
    "past",
    {"past": 1, "future": 2, "present": 3},  # not sorted: the numbers would be those of other labels
    {"future": 1, "past": 0, "present": 3},
    {"future": 1, "past": True, "present": 3},
    {"future": 1, "past": "2", "present": 3},
    {"future": 1, "past": 1e3, "present": 3},
    {"": 1, "past": 2, "present": 3},
    {"fut\nure": 1, "past": 2, "present": 3},
    {"future": 1, "past": 2},  # one fewer than there are vectors
    {f"{number:09}": 1 for number in range(5000)},
]


@pytest.mark.parametrize("labels", DAMAGES, ids=lambda labels: str(labels)[:40])
def test_damaged_labels_are_refused_in_one_line(labels, model, tmp_path):
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"labels": labels}))
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_labels_without_a_label_column_are_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["config"]["data"]["label_column"] = None
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="labels"):
        Checkpoint.load(tmp_path)


# -- the commands -----------------------------------------------------------------------------------------------------


def test_the_tour_of_a_training_shows_samples_of_each_label(corpus, tmp_path, run):
    out = run("train", corpus, "--label-column", "tense", *SIZE, "--max-epochs", 2, "--output", tmp_path / "run")
    start = out.index("Samples from the prior (--prior-temperature 0.6 --temperature 0.3 --candidates 8)")
    samples = out[start + 1 : out.index("", start)]
    assert len(samples) == 9 and {line.split(":")[0].strip() for line in samples} == set(VERBS)
    title = "Interpolation between two held-out sentences in 7 steps, all with label "
    assert any(line.startswith(title) for line in out)


def test_sample_gives_sentences_of_a_label(folder, run):
    out = run("sample", folder, "-n", 20, "--label", "future", "--seed", 1)
    assert sum("will" in line for line in out) >= 17
    found = [json.loads(line) for line in run("sample", folder, "-n", 30, "--seed", 1, "--json")]
    assert {line["label"] for line in found} == set(VERBS)
    assert sum(tense(line["text"]) == line["label"] for line in found) >= 25
    out = run("sample", folder, "--from", "aggregate", "-n", 5, "--label", "past", "--seed", 1, "--json")
    assert {json.loads(line)["label"] for line in out} == {"past"} and "confidence" in out[0]


def test_encode_reconstruct_and_decode_take_labels(folder, model, corpus, tmp_path, run):
    z = tmp_path / "z.npy"
    run("encode", folder, corpus, "--output", z, "--label-column", "tense")
    texts, labels = zip(*ROWS, strict=True)
    assert np.allclose(np.load(z), model.encode(texts, labels=labels).mean.numpy(), atol=1e-5)
    own = run("reconstruct", folder, corpus, "--label-column", "tense")
    assert own == model.reconstruct(texts, labels=labels)
    texts = run("decode", folder, z, "--label", "future")
    assert sum("will" in line for line in texts) > 0.9 * len(texts)
    assert len(run("reconstruct", folder, corpus, "--label", "past", "--column", "text")) == len(ROWS)


def test_interpolate_takes_a_label(folder, run):
    out = run("interpolate", folder, "a cat sat here .", "the dog sat now .", "--label", "past", "--steps", 4)
    assert len(out) == 4 and sum("sat" in line for line in out) >= 3
    assert len(run("interpolate", folder, "--seed", 1)) == 7
    assert run("interpolate", folder, "--seed", 1, "--label", "past") != run(
        "interpolate", folder, "--seed", 1, "--label", "future"
    )


def test_evaluate_diagnose_and_describe_read_the_labels_by_themselves(folder, corpus, run, tmp_path):
    out = run(
        "evaluate",
        folder,
        corpus,
        "--split",
        "train",
        "--samples",
        3,
        "--label-column",
        "tense",
        "--output",
        tmp_path / "s.json",
    )
    scores = json.loads((tmp_path / "s.json").read_text())
    assert any(line.startswith("Each sentence is scored given its label y, the tense") for line in out)
    assert scores["nll"] > 0 and scores["decoder_entropy_prior"] > 0 and scores["inference_gap"] is not None
    assert scores["probes"][0]["label"] == "tense"
    assert run("diagnose", folder, "--split", "train")
    assert any(line.startswith("labels       tense: ") and "past (" in line for line in run("describe", folder))


def test_steer_moves_sentences_of_a_label(folder, run, tmp_path):
    place = ["--label-column", "tense", "--attribute", "past", "--label", "present"]
    assert len(run("steer", folder, "a cat sits here .", *place)) == 1
    assert any(
        "success" in line for line in run("steer", folder, "--label-column", "tense", "--attribute", "past", "--report")
    )


@pytest.mark.slow
def test_a_conditional_and_a_plain_model_are_compared_on_the_same_sentences(corpus, tmp_path, run):
    recipes = tmp_path / "both.toml"
    shared = 'max_epochs = 1\nprecision = "fp32"\n[plain]\n[plain.model]\nlatent = 2\nembedding = 4\n'
    recipes.write_text(shared + '[labelled]\nlabel_column = "tense"\n[labelled.model]\nlatent = 2\nembedding = 4\n')
    out = run("compare", recipes, corpus, "--seeds", 1, "--samples", 2, "--text", "--output", tmp_path / "c")
    assert any("labelled" in line for line in out) and (tmp_path / "c" / "report.html").is_file()


def test_a_resumed_run_goes_on_with_its_labels(corpus, tmp_path, run, refused):
    folder = tmp_path / "run"
    run("train", corpus, "--label-column", "tense", *SIZE, "--max-epochs", 2, "--output", folder)
    run("train", "--resume", "--output", folder, "--max-epochs", 4)
    model = TextVAE.from_pretrained(folder)
    assert model.labels == tuple(VERBS) and len(model.sample(2, label="past")) == 2
    assert "label_column" in refused("train", "--resume", "--output", folder, "--label-column", "text")


def test_mistakes_with_labels_are_one_line(folder, corpus, tmp_path, refused, file):
    z = tmp_path / "z.npy"
    np.save(z, np.zeros((2, 2)))
    known = "future, past, present"
    assert known in refused("sample", folder, "--label", "pst")
    assert known in refused("decode", folder, z)
    assert known in refused("interpolate", folder, "a", "b")
    assert known in refused("steer", folder, "a cat sits here .", "--label-column", "tense", "--attribute", "past")
    for command in (["reconstruct", folder, corpus], ["encode", folder, corpus, "--output", z]):
        assert known in refused(*command) and "--label-column" in refused(*command)
        assert "leave one" in refused(*command, "--label", "past", "--label-column", "tense")
        assert "text, tense" in refused(*command, "--label-column", "mood")
        assert known in refused(*command, "--label-column", "text")
    assert "no column 'tense'" in refused("evaluate", folder, file("plain.txt", "a cat sat here .\n" * 3))
    assert "no column 'mood' of labels" in refused("train", corpus, "--label-column", "mood")
    assert "label_size = 0" in refused("train", corpus, "--label-column", "tense", "--model.label-size", 0)


# -- the grammar ------------------------------------------------------------------------------------------------------


def test_the_exact_probability_of_a_labelled_sentence_is_that_given_its_label(file):
    """p(x|y) = p(x) / p(y) for a factor y that x decides; for another column it is not known."""
    sampled = grammar.sample(60, seed=4)
    rows = [json.dumps({"text": s.text, "log_prob": s.log_prob} | s.factors) for s in sampled]
    path, rate = file("grammar.jsonl", "\n".join(rows)), grammar.FACTORS["tense"]
    options = {"column": "text", "whole": True, "split_punctuation": False}
    plain, split = (load(path, label_column=column, **options).test for column in (None, "tense"))
    assert find_true_log_probs(plain) == [sentence.log_prob for sentence in sampled]
    for given, sentence in zip(find_true_log_probs(split), sampled, strict=True):
        assert given == pytest.approx(sentence.log_prob - math.log(rate[sentence.factors["tense"]]))
    assert find_true_log_probs(load(path, label_column="verb", **options).test) is None

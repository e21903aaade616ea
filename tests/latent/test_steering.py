"""Attribute vectors: directions solved by hand, the classifier, the report, and the command."""

import csv
import json
import math

import pytest
import torch

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.latent import steering
from seqvae.latent.steering import (
    AttributeClassifier,
    check_attribute,
    evaluate_steering,
    fit_logistic,
    hold_out,
    logistic_direction,
    mean_direction,
    split_by_attribute,
)

ROWS = [
    (f"{subject} {verb} {place} .", {"sat": "past", "sits": "present", "sit": ""}[verb])
    for subject in ("a cat", "the dog", "one bird", "my cow")
    for verb in ("sat", "sits", "sit")
    for place in "uvwxyz"
]
SIZE = ["--model.latent", "2", "--model.embedding", "4", "--model.decoder.hidden", "4", "--max-epochs", "1"]

# -- which sentences --------------------------------------------------------------------------------------------------


def test_values_are_compared_as_words_and_missing_ones_are_in_neither_class():
    assert split_by_attribute([1, "1 ", 2, None, "  ", True], "1") == ([0, 1], [2, 5])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["a", "b", "b", None], ["'mood'", "its values are: a, b"]),
        ([None, ""], ["none"]),
        ([f"{n:02}" for n in range(25)], ["and 5 more"]),
        (["past", "a", "b"], ["1 of the sentences", "the value 'past'"]),
        (["past", "past", "a"], ["1 of the sentences", "another value than 'past'"]),
        (["past", "past"], ["0 of the sentences", "another value than 'past'"]),
    ],
)
def test_classes_that_are_too_small_are_refused(values, words):
    with pytest.raises(ConfigError) as error:
        check_attribute("mood", values, "past")
    assert all(word in str(error.value) for word in words), error.value


def test_equal_texts_are_on_one_side_of_the_held_out():
    texts = [f"text {n % 50}" for n in range(100)]
    train, held = hold_out(texts)
    assert sorted(train + held) == list(range(100)) and len(held) == 20
    assert not {texts[row] for row in train} & {texts[row] for row in held}
    assert hold_out(texts) == (train, held)


# -- directions -------------------------------------------------------------------------------------------------------


def test_the_mean_direction_leads_from_one_centre_to_the_other():
    lacking, shift = torch.randn(50, 3), torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(mean_direction(lacking + shift, lacking), shift.double(), rtol=0, atol=1e-6)


def test_logistic_regression_of_two_points_solves_its_equation():
    """At f = 1, y = 1 and f = -1, y = 0 the slope is -2 sigmoid(-w) + l2 w, and b = 0."""
    weights, bias = fit_logistic(torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0]), l2=0.5)
    w = float(weights)
    assert 2 / (1 + math.exp(w)) == pytest.approx(0.5 * w, abs=1e-6) and w > 0
    assert float(bias) == pytest.approx(0, abs=1e-6)


def test_without_features_that_tell_the_bias_is_the_log_odds():
    weights, bias = fit_logistic(torch.zeros(4, 2), torch.tensor([1, 1, 1, 0]))
    assert weights.tolist() == [0, 0] and float(bias) == pytest.approx(math.log(3), abs=1e-5)


def test_the_logistic_direction_leaves_out_what_only_goes_along():
    """The first coordinate tells the classes; the second differs on average, but no more if the first is known."""
    g = torch.Generator().manual_seed(0)
    n = 4000
    target = torch.arange(2 * n) < n
    first = torch.where(target, 1.0, -1.0) + torch.randn(2 * n, generator=g)
    second = first + torch.randn(2 * n, generator=g)
    z = torch.stack([first, second], 1)
    mean, normal = (way(z[target], z[~target]) for way in (mean_direction, logistic_direction))
    assert mean.tolist() == pytest.approx([2, 2], abs=0.1)
    assert normal.tolist() == pytest.approx([2, 0], abs=0.15)
    assert float(normal @ mean) == pytest.approx(float(normal @ normal))  # as long as the means lie apart along it


def test_classes_that_do_not_differ_have_no_direction():
    z = torch.zeros(3, 2)
    assert mean_direction(z, z).tolist() == logistic_direction(z, z).tolist() == [0, 0]


# -- what it is worth -------------------------------------------------------------------------------------------------


def test_the_classifier_uses_the_words_that_predict_the_attribute():
    having, lacking = ["a cat sat.", "a dog sat.", "sat a cow?"], ["a cat sits.", "a dog sits.", "sits a cow?"]
    classifier = AttributeClassifier.fit(having, lacking)
    assert classifier(["The bird SAT .", "the bird sits", "sits, sits!"]).tolist() == [True, False, False]
    assert set(AttributeClassifier.fit(having, lacking, vocabulary=2).vocabulary) == {
        "a",
        ".",
    }  # those in the most texts
    assert "dog" not in AttributeClassifier.fit(["a dog", "a"], ["a", "a"]).vocabulary  # in one text only


def test_success_and_content_of_sentences_moved_by_hand():
    """Along the direction (2, 0) the first word changes at z0 >= 1, and from z0 >= 3 on a second one does."""

    def decode(z):
        return [f"{'x' if a >= 1 else 'o'} {'y' if a >= 3 else 'o'} o o" for a, _ in z.tolist()]

    def classifier(texts):
        return torch.tensor(["x" in text for text in texts])

    means = torch.tensor([[0.0, 5.0], [-1.5, 5.0]])
    steps = evaluate_steering(decode, means, torch.tensor([2.0, 0.0]).double(), classifier, strengths=(0, 1, 1.5))
    assert [(step.strength, step.success, step.content) for step in steps] == [
        (0, 0, 1),
        (1, 0.5, 0.875),
        (1.5, 1, (0.5 + 0.75) / 2),
    ]
    assert steps[1].success_standard_error == pytest.approx(0.5)
    assert steps[1].content_standard_error == pytest.approx(0.125)


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steering")
    with open(folder / "corpus.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "tense"), *ROWS])
    (folder / "plain.txt").write_text("".join(f"{text}\n" for text, _ in ROWS))
    models = [("model", "corpus.csv", "vae"), ("plain", "plain.txt", "vae"), ("lm", "plain.txt", "lm")]
    for name, corpus, kind in models:
        main(["train", str(folder / corpus), *SIZE, "--seed", "1", "--kind", kind, "--output", str(folder / name)])
    return folder


@pytest.fixture
def run(trained, capsys):
    def run_once(name, *arguments):
        capsys.readouterr()
        main(["steer", str(trained / name), *map(str, arguments)])
        return capsys.readouterr()

    return run_once


PAST = ("--label-column", "tense", "--attribute", "past")


def test_strength_0_is_the_reconstruction_and_others_decode_the_moved_mean(run, trained):
    model, given = TextVAE.from_pretrained(trained / "model"), ["a cat sits u .", "the dog sits v ."]
    assert run("model", *given, *PAST, "--strength", 0).out.splitlines() == model.reconstruct(given)
    lines = [json.loads(line) for line in run("model", *given, *PAST, "--strength", -40, "--json").out.splitlines()]
    assert [line["original"] for line in lines] == given
    train = load(str(trained / "corpus.csv"), tokenizer=model.tokenizer, max_length=128).train
    having, lacking = (
        model.encode(train.texts(rows)).mean for rows in split_by_attribute(train.column("tense"), "past")
    )
    means = model.encode(given).mean - 40 * mean_direction(having, lacking).to(having)
    assert [line["text"] for line in lines] == model.decode(means)


@pytest.mark.parametrize("direction", ["mean", "logistic"])
def test_the_log_names_the_sentences_behind_the_direction(run, direction):
    out, err = run("model", "a cat sits u .", *PAST, "--direction", direction)
    assert len(out.splitlines()) == 1
    assert err.startswith(f"{direction} direction of tense = past: length ") and err.count("\n") == 1


def test_a_model_of_plain_text_learns_from_a_file_with_labels(run, trained):
    assert run("plain", "a cat sits u .", *PAST, "--corpus", trained / "corpus.csv").out
    assert "24 sentences with it and 24 others" in run("plain", "a cat", *PAST, "--corpus", trained / "corpus.csv").err


def test_the_report_needs_no_sentence_and_holds_out_what_it_steers(run, trained):
    pytest.importorskip("rapidfuzz")
    out, err = run("plain", *PAST, "--corpus", trained / "corpus.csv", "--report", "--json")
    found = json.loads(out)
    assert [step["strength"] for step in found["steps"]] == list(steering.STRENGTHS)
    assert found["steps"][0]["content"] == 1 and found["true_positive_rate"] == 1 and found["false_positive_rate"] == 0
    train = int(err.rpartition("and ")[2].split()[0])
    assert found["sentences"] == 24 - train > 1
    text = run("plain", "a cat", *PAST, "--corpus", trained / "corpus.csv", "--report").out
    assert f"({found['sentences']} held-out sentences without it)" in text and "1.5" in text


def test_a_report_without_sentences_to_steer_is_refused(refused, trained, file):
    """Held out of six different texts is one."""
    pytest.importorskip("rapidfuzz")
    verbs = {"sat": "p", "sits": "q"}
    rows = "".join(f"a cat {verb} {place} .,{tense}\n" for verb, tense in verbs.items() for place in "uvw")
    line = refused("steer", trained / "plain", "--label-column", "tense", "--attribute", "p", "--report",
                   "--corpus", file("few.csv", "text,tense\n" + rows))  # fmt: skip
    assert "--report" in line and "expected 2 or more" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("lm cat --label-column tense --attribute past", ["kind lm", "latent"]),
        ("model --label-column tense --attribute past", ["no sentence", "--report"]),
        ("model cat --label-column tens --attribute past", ["--label-column tens", "text, tense"]),
        ("plain cat --label-column tense --attribute past", ["--label-column tense", "text", "--corpus FILE"]),
        ("model cat --label-column tense --attribute future", ["--attribute future", "past, present"]),
        ("model cat --label-column tense --attribute past --strength nan", ["--strength nan", "finite"]),
        ("model cat --label-column tense --attribute past --column text", ["--column", "--corpus FILE"]),
        ("model cat --label-column tense --attribute past --corpus nowhere.csv", ["nowhere.csv"]),
        ("model cat --label-column tense --attribute past --corpus two.csv", ["two.csv", "needs --column"]),
        ("model cat --label-column tense --attribute past --direction men", ["men", "mean"]),
        ("model cat --label-column tense", ["--attribute"]),
    ],
)
def test_what_cannot_be_steered_is_refused_in_one_line(refused, trained, monkeypatch, arguments, words):
    monkeypatch.chdir(trained)
    (trained / "two.csv").write_text("one,tense\na cat sat .,past\na cat sits .,present\n")
    line = refused("steer", *arguments.split())
    assert all(word in line for word in words), line


def test_a_blank_sentence_is_refused(refused, trained):
    assert "blank" in refused("steer", trained / "model", " ", *PAST)

"""Diagnoses: of series in any unit, of memorised training sets, and of decoders that ignore an informative z."""

import copy
import random

import numpy as np
import pytest

from seqvae import SeriesVAE, TextVAE
from seqvae.config import Config, resolve
from seqvae.data.batching import iterate_by_length
from seqvae.data.series.corpus import load_series
from seqvae.data.text.corpus import load
from seqvae.evaluation.baselines import score_series_baselines
from seqvae.evaluation.evaluate import evaluate
from seqvae.evaluation.scores import format_rows, read_scores
from seqvae.model.observations.frames import MIN_SIGMA
from seqvae.reports.case import Case
from seqvae.reports.diagnosis import diagnose, find_warning
from seqvae.reports.examine import examine

SMALL = {"embedding": 16, "batch_size": 32, "learning_rate": 0.01, "warmup": 5, "precision": "fp32"}
WORDS = ["cat", "dog", "bird", "child", "aunt", "man", "sees", "likes", "hears", "knows", "wants"]

WELL = {
    "sentences": 100,
    "tokens": 1000,
    "reconstruction": 60.0,
    "kl": 12.0,
    "nll": 70.0,
    "mutual_information_lower": 4.0,
    "mutual_information_upper": 9.0,
    "active_units": 30,
    "permuted_nll_increase": 50.0,
    "train_sentences": 100,
    "train_tokens": 1000,
    "train_reconstruction": 58.0,
}
IGNORED = {"permuted_nll_increase": 0.1, "kl": 1.6, "mutual_information_upper": 1.4}
FRAMES = {"model": {"observation": {"name": "frames"}}}
STATES = {
    "healthy": {},
    "overfitted": {"train_reconstruction": 3.0, "reconstruction": 85.0, "nll": 95.0},
    "under-trained": {"reconstruction": 101.0, "train_reconstruction": 101.0},
    "decoder ignores z": IGNORED | {"mutual_information_lower": 1.2},
    "collapsed": IGNORED | {"kl": 0.3, "mutual_information_lower": 0.0},
    "KL without information": IGNORED | {"mutual_information_lower": 0.0},
    "prior holes": {"nll": 101.0},
    "partly collapsed": {"mutual_information_lower": 0.5, "mutual_information_upper": 1.0},
}


def diagnose_with(figures=(), config=None, baseline=100.0, train_baseline=100.0):
    """Diagnose a model of 32 dimensions and a word dropout of 0.3; `config` has options that differ from these."""
    config = dict(config or {})
    config["model"] = {"latent": 32, "noise": {"rate": 0.3}} | config.get("model", {})
    scores = read_scores(WELL | dict(figures))
    return diagnose(Case(scores, resolve(Config.from_dict(config)), baseline, train_baseline))


# -- the unit of series ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("shift", [-2000.0, -62.0, 4000.0])
def test_the_diagnosis_of_figures_of_series_does_not_depend_on_the_unit(state, shift):
    moved = {name: WELL[name] + shift for name in ("reconstruction", "nll", "train_reconstruction")}
    moved |= {n: v + shift if n in moved else v for n, v in STATES[state].items()}
    one, other = diagnose_with(STATES[state], FRAMES), diagnose_with(moved, FRAMES, 100.0 + shift, 100.0 + shift)
    assert one.state == state and vars(one) == vars(other)


@pytest.fixture(scope="module")
def waves():
    """A model of waves that uses its z, and 80 waves that it was not trained on."""
    g = np.random.default_rng(0)
    series = [np.sin(np.arange(12.0) * w + p)[:, None] for w, p in g.uniform((0.3, 0), (0.9, 6), (260, 2))]
    part = {"hidden": 24, "dropout": 0.0}
    options = {"latent": 2, "encoder": part, "decoder": part, "weight": {"name": "constant", "end": 0.2}}
    return SeriesVAE.fit(series[:180], max_epochs=25, **options, **SMALL), series


@pytest.mark.parametrize("power", [-20, 20])
def test_the_same_series_in_another_unit_have_the_same_diagnosis(waves, power):
    model, series = waves
    twin = copy.deepcopy(model)
    twin.frames.scaler.fit(*(2.0**power * part for part in (twin.frames.scaler.mean, twin.frames.scaler.std)))
    found = []
    for which, unit in ((model, 1.0), (twin, 2.0**power)):
        train, test = (load_series([unit * x for x in s], whole=True).test for s in (series[:180], series[180:]))
        found.append(examine(which, test, train, samples=5, refined=10))
    one, other = found
    assert other.scores.nll - one.scores.nll == pytest.approx(12 * power * np.log(2), abs=1e-3)
    assert one.scores.mutual_information_lower > 1 and one.diagnosis.state == other.diagnosis.state == "healthy"


def test_a_channel_that_never_varies_puts_the_baseline_no_lower_than_a_model_can_come():
    wave = np.sin(np.arange(40.0))[:, None]
    splits = [load_series([wave, -wave, 2 * wave], whole=True).test]
    splits += [load_series([np.hstack([x, np.full_like(x, 7.0)]) for x in splits[0].series()], whole=True).test]
    one, two = (score_series_baselines(split, split)["gaussian"]["nll_per_frame"] for split in splits)
    assert two - one == pytest.approx(np.log(MIN_SIGMA * np.sqrt(2 * np.pi)))


# -- memorised training sets -------------------------------------------------------------------------------------------


def test_a_memorised_training_set_is_overfitted_and_not_under_trained():
    found = diagnose_with({"train_reconstruction": 3.0, "reconstruction": 58.0}, baseline=46.8, train_baseline=46.8)
    assert found.state == "overfitted" and "--max-minutes" not in found.command
    assert "--model.noise.rate 0.5" in found.command and "--model.decoder.dropout" in found.command
    assert found.evidence == [
        "over a unigram model it gains 43.8 nats on training sentences, -11.2 on held-out ones",
        "a training sentence costs 3.0 nats with its z, a held-out one 58.0",
    ]


@pytest.mark.parametrize(
    ("figures", "state"),
    [
        ({"train_reconstruction": 21.0}, "healthy"),  # gains 79 nats there, and 40 here
        ({"train_reconstruction": 19.0}, "overfitted"),
        ({"train_reconstruction": 210.0, "train_tokens": 10_000}, "healthy"),  # of sentences ten times as long
        ({"train_reconstruction": 19.0, "reconstruction_standard_error": 21.0}, "healthy"),
        ({"train_reconstruction": None, "reconstruction": 101.0}, "under-trained"),
    ],
)
def test_where_the_rule_of_overfitting_begins_to_hold(figures, state):
    assert diagnose_with(figures, train_baseline=1000.0 if "train_tokens" in figures else 100.0).state == state


# A default model of 3,450 tweets, of which a 5-gram model knows more: 5 nats were won by word dropout.
TWEETS = {"reconstruction": 112.5, "nll": 113.8, "train_reconstruction": 87.1, "kl": 3.6, "inference_gap": 2.4}


@pytest.mark.parametrize(
    ("figures", "simple", "state"),
    [
        ({}, 106.9, "overfitted"),
        ({}, 113.0, "healthy"),  # by less than a nat
        ({}, None, "healthy"),
        ({"train_reconstruction": 106.0}, 106.9, "healthy"),  # under-trained rather: little is lost
    ],
)
def test_a_quarter_of_the_gain_lost_is_overfitting_where_5_grams_do_better(figures, simple, state):
    scores = read_scores(WELL | TWEETS | {"inference_gap": None} | figures)
    simple = None if simple is None else ("5-gram", simple)
    config = resolve(Config.from_dict({"model": {"latent": 32}}))
    found = diagnose(Case(scores, config, 142.4, 144.0, simple=simple))
    assert found.state == state
    if state == "overfitted":
        assert found.evidence[-1] == "the 5-gram model is better by 6.9 nats (106.9 and 113.8)"
        assert "--model.noise.rate 0.2 --model.decoder.dropout" in found.command


def test_a_model_of_random_sentences_is_overfitted_and_shows_what_its_training_sentences_cost():
    rng = random.Random(0)
    sentences = [" ".join(rng.choices(WORDS, k=6)) for _ in range(60)]
    part = {"hidden": 32, "dropout": 0.0}
    options = {"latent": 4, "encoder": part, "decoder": part, "noise": {"rate": 0.0}, "validate_every": 1000}
    model = TextVAE.fit(sentences[:20], max_epochs=60, **options, **SMALL | {"learning_rate": 0.03})
    train, test = (load(part, tokenizer=model.tokenizer, whole=True).test for part in (sentences[:20], sentences[20:]))
    found = examine(model, test, train, samples=2, refined=0)
    again = evaluate(model.model, iterate_by_length(train), samples=1)
    assert found.scores.train_reconstruction == pytest.approx(again.reconstruction)
    assert found.scores.train_sentences == 20 and found.diagnosis.state == "overfitted"
    assert any(row.name == "train_reconstruction" and "±" in row.value for row in format_rows(found.scores))
    assert examine(model, test, samples=2, refined=0).scores.train_reconstruction is None


# -- z without information, and a decoder that ignores z ---------------------------------------------------------------


def test_a_decoder_beside_an_informative_z_ignores_it():
    found = diagnose_with(IGNORED | {"mutual_information_lower": 1.2, "mutual_information_lower_standard_error": 0.1})
    assert found.state == "decoder ignores z" and "z distinguishes sentences" in found.meaning
    assert "mutual information 1.00 to 1.40 nats (within two standard errors)" in found.evidence
    assert "--model.noise.rate 0.5" in found.command and "weight" not in found.command


@pytest.mark.parametrize(
    "figures", [{"mutual_information_lower": 0.4}, {"mutual_information_lower_standard_error": 0.5}]
)
def test_a_z_without_information_beyond_its_noise_is_kl_without_information(figures):
    found = diagnose_with(IGNORED | {"mutual_information_lower": 1.2} | figures)
    assert found.state == "KL without information" and "does not distinguish sentences" in found.meaning


def test_the_warning_while_training_tells_the_two_apart():
    figures = {"reconstruction": 60.0, "kl": 1.6, "rise": 0.1, "weight": 0.5, "end": 0.5}
    assert "decoder ignores z" in find_warning(**figures, information=1.2)
    assert "KL without information" in find_warning(**figures, information=0.2)
    assert find_warning(**figures | {"reconstruction": -9000.0, "rise": 0.6}, unit="series") is None
    assert find_warning(**figures | {"reconstruction": 9000.0, "rise": 0.6}, unit="series") is None
    assert "costs only 0.10 nats" in find_warning(**figures | {"reconstruction": 9000.0}, unit="series")


# -- a KL that no weight moves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["collapsed", "KL without information", "prior holes", "partly collapsed"])
def test_kappa_is_suggested_where_it_alone_decides_the_kl(state):
    sphere = {"model": {"posterior": {"name": "vmf", "kappa": 40.0}, "prior": {"name": "sphere"}}}
    found = diagnose_with(STATES[state], sphere)
    assert found.state == state and "weight" not in found.command and "free_bits" not in found.command
    assert f"--model.posterior.kappa {20 if 'holes' in state else 80}" in found.command
    assert "kappa" not in diagnose_with(STATES[state]).command

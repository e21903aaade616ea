"""Diagnosis: models made ill on purpose, one for each state, and the thresholds of the rules."""

import dataclasses
import functools
import itertools
import random
import shlex

import pytest
import torch

from seqvae import TextVAE
from seqvae.config import Config, resolve
from seqvae.data.text.corpus import load
from seqvae.evaluation.scores import read_scores
from seqvae.reports.case import Case
from seqvae.reports.diagnosis import STATES, diagnose, find_warning
from seqvae.reports.examine import examine
from seqvae.training.build import build_model

NOUNS, VERBS, TIMES = "cat dog bird child aunt man", "sees likes hears knows", "today here now often"
SENTENCES = [
    " ".join(words) + " ." for words in itertools.product(NOUNS.split(), VERBS.split(), NOUNS.split(), TIMES.split())
]
random.Random(0).shuffle(SENTENCES)
SMALL = {
    "latent": 4,
    "embedding": 24,
    "encoder": {"hidden": 32, "dropout": 0.0},
    "decoder": {"hidden": 48, "dropout": 0.0},
    "noise": {"rate": 0.5},
    "batch_size": 32,
    "learning_rate": 0.01,
    "warmup": 10,
    "precision": "fp32",
}
RISE = {"name": "zero-linear", "zero": 300, "steps": 100, "end": 0.5}


@functools.cache
def trained(**options):
    given = {name: dict(value) if isinstance(value, tuple) else value for name, value in options.items()}
    return TextVAE.fit(SENTENCES[:450], **SMALL | given)


def fit(**options):
    """A model, trained once in each process; None of the callers may change it."""
    return trained(**{k: tuple(v.items()) if isinstance(v, dict) else v for k, v in options.items()})


def altered(model, latent=4, **changes):
    """A copy of a model whose posterior's weight or bias was tampered with, or that has dimensions that nobody uses."""
    config = dataclasses.replace(model.config, model=dataclasses.replace(model.config.model, latent=latent))
    twin = build_model(config, len(model.tokenizer))
    for name, wide in twin.state_dict().items():
        narrow = model.model.state_dict()[name]
        corner = tuple(map(slice, narrow.shape[1:]))
        halves = 2 if name.startswith("posterior") else 1  # means, then log variances
        for target, source in zip(wide.zero_().chunk(halves), narrow.chunk(halves), strict=True):
            target[: len(source), *corner] = source
    with torch.no_grad():
        for name, change in changes.items():
            parameter = getattr(twin.posterior.linear, name)
            parameter.copy_(change(parameter))
    return TextVAE(dataclasses.replace(model.checkpoint, config=config, model=twin))


def state(model):
    known, split = (
        load(part, tokenizer=model.tokenizer, whole=True).test for part in (SENTENCES[:450], SENTENCES[450:])
    )
    return examine(model, split, known, samples=20, refined=40).diagnosis


def test_a_healthy_model():
    assert state(fit(max_epochs=40, weight=RISE)).state == "healthy"


def test_a_model_that_a_large_weight_drove_to_the_prior_is_collapsed():
    found = state(fit(max_epochs=15, weight={"name": "constant", "end": 20.0}))
    assert found.state == "collapsed" and "--objective.weight.end 10" in found.command


def test_a_posterior_that_is_narrow_but_everywhere_the_same_is_kl_without_information():
    collapsed = fit(max_epochs=15, weight={"name": "constant", "end": 20.0})
    narrow = torch.tensor([0.0] * 4 + [-3.0] * 4)
    assert state(altered(collapsed, weight=torch.zeros_like, bias=lambda _: narrow)).state == "KL without information"


@pytest.mark.slow
def test_an_encoder_that_does_not_find_the_z_that_the_decoder_knows_is_lagging():
    healthy = fit(max_epochs=40, weight=RISE)
    behind = torch.tensor([0.3] * 4 + [1.0] * 4)[:, None]
    assert state(altered(healthy, weight=lambda weight: behind * weight)).state == "lagging encoder"


@pytest.mark.slow
def test_an_autoencoder_has_prior_holes():
    found = state(fit(max_epochs=40, kind="ae"))
    assert found.state == "prior holes" and "--kind vae --objective.weight.name linear" in found.command


def test_a_model_that_uses_few_of_its_dimensions_is_partly_collapsed():
    found = state(altered(fit(max_epochs=40, weight=RISE), latent=16))
    assert found.state == "partly collapsed" and found.evidence[0] == "4 of 16 dimensions active"


@pytest.mark.parametrize("options", [{"weight": {"name": "constant", "end": 0.5}}, {"weight": RISE}])
def test_a_model_after_an_epoch_is_under_trained(options):
    assert state(fit(max_epochs=1, learning_rate=1e-4, **options)).state == "under-trained"


def test_a_language_model_has_no_latent():
    found = state(fit(max_epochs=4, kind="lm"))
    assert found.state == "no latent" and not found.command


# -- the rules themselves ----------------------------------------------------------------------------------------------

WELL = {
    "reconstruction": 60.0,
    "kl": 12.0,
    "nll": 70.0,
    "mutual_information_upper": 9.0,
    "active_units": 30,
    "permuted_nll_increase": 50.0,
    "inference_gap": 0.8,
    "decoder_entropy_prior": 2.1,
    "decoder_entropy_posterior": 2.0,
}


def diagnose_with(config=None, baseline=100.0, **figures):
    """Diagnose a model of 32 dimensions; `config` has the sections that differ from the default."""
    config = resolve(Config.from_dict({"model": {"latent": 32}} | (config or {})))
    return diagnose(Case(read_scores(WELL | figures), config, baseline=baseline))


def test_a_healthy_model_needs_no_remedy():
    found = diagnose_with()
    assert (found.state, found.advice, found.command) == ("healthy", [], "")


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"reconstruction": 100.1}, "under-trained"),
        ({"permuted_nll_increase": 0.59, "kl": 0.99}, "collapsed"),
        ({"permuted_nll_increase": 0.59, "kl": 1.0}, "KL without information"),
        (
            {"permuted_nll_increase": 0.61, "kl": 0.99, "mutual_information_upper": 0.9},
            "partly collapsed",
        ),  # 1 % of 60 nats is 0.6
        ({"permuted_nll_increase": 0.49, "kl": 0.9, "reconstruction": 5.0}, "collapsed"),  # half a nat at least
        ({"inference_gap": 6.1}, "lagging encoder"),
        ({"inference_gap": 5.9}, "healthy"),
        ({"inference_gap": 6.1, "inference_gap_standard_error": 3.1}, "healthy"),
        ({"inference_gap": 0.9, "kl": 1.1}, "healthy"),
        ({"decoder_entropy_prior": 2.51}, "prior holes"),
        ({"decoder_entropy_prior": 2.49}, "healthy"),
        ({"decoder_entropy_prior": 2.51, "decoder_entropy_standard_error": 0.3}, "healthy"),
        ({"active_units": 15}, "partly collapsed"),
        ({"active_units": 16}, "healthy"),
        ({"mutual_information_upper": 3.4}, "partly collapsed"),
        ({"mutual_information_upper": 3.6}, "healthy"),
        ({"permuted_nll_increase": 0.1, "kl": 0.5, "inference_gap": 1.6}, "lagging encoder"),
        ({"permuted_nll_increase": 0.1, "kl": 4.1, "inference_gap": 4.9}, "KL without information"),
        ({"nll": 101.0}, "prior holes"),
        ({"mixture_gain": 1.1}, "prior holes"),
        ({"mixture_gain": 0.9}, "healthy"),
        ({"mixture_gain": 1.1, "mixture_gain_standard_error": 0.6}, "healthy"),
        ({"inference_gap": None, "decoder_entropy_prior": None}, "healthy"),
    ],
)
def test_where_the_rules_begin_to_hold(figures, expected):
    assert diagnose_with(**figures).state == expected


def test_a_model_kept_from_before_the_end_of_the_schedule_is_under_trained():
    found = diagnose(Case(read_scores(WELL), Config(), stationary=False))
    assert found.state == "under-trained" and "weight" in found.evidence[0] and "--max-minutes 10" in found.command


@pytest.mark.parametrize("name", [name for name, *_ in STATES if name not in ("healthy", "no latent")])
def test_the_suggested_command_can_be_pasted(name, tmp_path):
    from seqvae.cli import app

    known = {"sentences": 9, "tokens": 90, "train_sentences": 9, "train_tokens": 90, "train_reconstruction": 3.0}
    sick = {
        "unknown words": {"unknown": 0.5, "tokens": 60, "sentences": 10},
        "overfitted": {"reconstruction": 90.0} | known,
        "under-trained": {"reconstruction": 200.0},
        "decoder ignores z": {"permuted_nll_increase": 0.0, "mutual_information_lower": 8.0},
        "collapsed": {"permuted_nll_increase": 0.0, "kl": 0.0},
        "KL without information": {"permuted_nll_increase": 0.0},
        "lagging encoder": {"inference_gap": 9.0},
        "prior holes": {"decoder_entropy_prior": 9.0},
        "partly collapsed": {"active_units": 1},
    }
    (tmp_path / "recipe.toml").touch()
    case = Case(read_scores(WELL | sick[name]), Config(), baseline=100.0, train_baseline=100.0, folder=str(tmp_path))
    found = diagnose(case)
    assert found.state == name and 1 <= len(found.advice) <= 2
    words = shlex.split(found.command)
    assert words[:2] == ["seqvae", "train"]
    _, bound, *_ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    assert bound.arguments["config"] == str(tmp_path / "recipe.toml")


def test_an_autoencoder_whose_decoder_is_sure_of_garbage_has_prior_holes_all_the_same():
    """The figures of an autoencoder of 89,000 sentences."""
    figures = {
        "mutual_information_upper": 233.4,
        "reconstruction": 8.6,
        "kl": 233.4,
        "nll": 235.0,
        "mixture_gain": 135.8,
        "permuted_nll_increase": 145.5,
    }
    sure = {"decoder_entropy_prior": 1.233, "decoder_entropy_posterior": 1.220, "inference_gap": 21.0}
    assert diagnose_with(baseline=46.1, **figures, **sure).state == "prior holes"


def test_nothing_is_suggested_that_was_done_already():
    sick = {"permuted_nll_increase": 0.0, "kl": 0.0}
    done = {"objective": {"weight": {"name": "linear", "end": 0.1}}, "model": {"noise": {"rate": 0.8}}}
    command = diagnose_with(done, **sick).command
    assert "--objective.weight.end" not in command and "--model.noise" not in command
    free = {"objective": {"divergence": {"free_bits": 8.0}}}
    assert "--objective.divergence.free_bits 0" in diagnose_with(free, permuted_nll_increase=0.0).command


def test_training_warns_of_a_collapse_only_once_the_weight_has_risen():
    figures = {"reconstruction": 60.0, "kl": 0.1, "rise": 0.1, "end": 0.5}
    assert find_warning(**figures, weight=0.2) is None
    assert "collapsed" in find_warning(**figures, weight=0.25)
    assert "without information" in find_warning(**figures | {"kl": 5.0}, weight=0.5)
    assert find_warning(**figures | {"rise": 5.0}, weight=0.5) is None

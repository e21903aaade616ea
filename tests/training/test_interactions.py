"""Combinations of parts from several packages."""

import numpy as np
import pytest
import torch

from seqvae import SeriesVAE, TextVAE
from seqvae.config import Config, resolve
from seqvae.errors import ConfigError
from seqvae.model.posteriors import BatchNormGaussian
from seqvae.objective.kl import Controlled

SERIES = [np.cumsum(np.full((2 + i % 5, 2), 0.1 * (i + 1)), axis=0) for i in range(20)]
TEXTS = [f"w{i % 5} w{i % 3} w{i % 7}" for i in range(20)]
SMALL = {"latent": 3, "embedding": 4, "batch_size": 8, "max_epochs": 1, "precision": "fp32"}
SMALL |= {part: {"name": "recurrent", "hidden": 5} for part in ("encoder", "decoder")}
SMALL |= {"weight": {"name": "constant", "end": 1.0}}


@pytest.mark.parametrize("gradient", ["plain", "dreg"])
def test_series_learn_from_the_importance_weighted_bound(gradient):
    model = SeriesVAE.fit(SERIES, update={"name": "importance", "samples": 2, "gradient": gradient}, **SMALL)
    assert len(model.sample(2, seed=0)) == 2


@pytest.mark.parametrize("share", [True, False])
def test_series_of_unequal_lengths_are_learnt_in_half_precision(half, share):
    options = SMALL | {"precision": "bf16", "share_embedding": share}
    model = SeriesVAE.fit(SERIES, **options)
    assert model.score(SERIES[:3], samples=2).isfinite().all()


def test_lagging_refuses_a_prior_that_changes_with_the_encoder():
    with pytest.raises(ConfigError, match="vamp changes with the encoder"):
        TextVAE.fit(TEXTS, update={"name": "lagging"}, prior={"name": "vamp"}, **SMALL)


def test_terms_that_change_with_each_step_do_not_change_in_inner_steps():
    short = {"divergence": {"name": "controlled"}, "update": {"name": "lagging", "window": 2, "steps": 2}}
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        plain = Controlled.forward
        patch.setattr(Controlled, "forward", lambda self, trace: calls.append(self.training) or plain(self, trace))
        TextVAE.fit(TEXTS, **short, **SMALL)
    assert calls[:3] == [False, False, True]


def test_a_fixed_scale_can_be_refined_and_learnt_through():
    update = {"name": "semi-amortized", "steps": 2, "through": True}
    TextVAE.fit(TEXTS, update=update, posterior={"name": "deterministic"}, **SMALL)


@pytest.mark.parametrize("kind", ["ae", "lm"])
@pytest.mark.parametrize("by", ["controller", "minimum-rate"])
def test_a_baseline_does_not_wait_for_a_rate_that_it_does_not_have(kind, by):
    config = resolve(Config(kind=kind, target_kl=8.0, target_by=by))
    assert config.objective.divergence["name"] == "kl"


def test_one_sentence_sampled_several_times_is_a_batch_of_one():
    torch.manual_seed(0)
    posterior = BatchNormGaussian(features=4, latent=3)
    h = torch.randn(1, 4)
    one, several = posterior(h).mean, posterior(h.repeat(5, 1)).mean
    torch.testing.assert_close(several, one.expand(5, 3))  # to rounding, as products of other shapes round otherwise
    assert torch.equal(posterior.running_variance, torch.ones(3))


@pytest.mark.parametrize("divergence", ["mmd", "info"])
def test_a_discrepancy_can_be_learnt_through(divergence):
    update = {"name": "semi-amortized", "steps": 1, "through": True}
    TextVAE.fit(TEXTS, update=update, divergence={"name": divergence}, **SMALL)

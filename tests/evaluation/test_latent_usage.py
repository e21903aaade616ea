"""Latent usage: the same numbers as the evaluation's, from one sample of z for each sentence."""

import pytest
import torch

from seqvae.data.batching import iterate_by_length
from seqvae.evaluation.evaluate import evaluate
from seqvae.evaluation.latent_space import measure_latent_usage


@pytest.fixture(scope="module")
def split(tiny_corpus):
    return tiny_corpus.train


@pytest.fixture
def model(small_model, tiny_corpus):
    return small_model(vocabulary=len(tiny_corpus.tokenizer))


def test_they_are_those_of_the_evaluation(model, split):
    found = vars(measure_latent_usage(model, iterate_by_length(split), seed=3))
    whole = vars(evaluate(model, iterate_by_length(split), words=split.words, bytes=split.bytes, samples=1, seed=3))
    known = {"usage_sentences": whole["sentences"], "usage_kl": whole["kl"]} | whole
    assert found == pytest.approx({name: known[name] for name in found}, rel=1e-9)
    assert found["permuted_nll_increase"] != 0


def test_batches_change_nothing(model, split):
    one, other = (
        vars(measure_latent_usage(model, iterate_by_length(split, batch_size=size), seed=1)) for size in (3, 32)
    )
    assert one == pytest.approx(other, rel=1e-9)


def test_a_model_in_training_stays_so_and_the_random_state_too(model, split):
    model.train()
    before = torch.get_rng_state()
    assert measure_latent_usage(model, iterate_by_length(split)) == measure_latent_usage(
        model.eval(), iterate_by_length(split)
    )
    assert torch.equal(torch.get_rng_state(), before)
    model.train()
    measure_latent_usage(model, iterate_by_length(split))
    assert model.training and model.decoder.training


def test_a_model_without_z_has_none(split, tiny_corpus):
    from seqvae.config import Config
    from seqvae.training.build import build_model

    assert (
        measure_latent_usage(
            build_model(Config.from_dict({"kind": "lm"}), len(tiny_corpus.tokenizer)), iterate_by_length(split)
        )
        is None
    )

"""Weights in training: a sentence of weight 2 is one given twice, weights of 1 change no bit, 0 leaves one out."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqvae import TextVAE
from seqvae.config import Config
from seqvae.data.batch import END, Batch
from seqvae.data.text.corpus import load
from seqvae.data.text.joining import join_splits
from seqvae.errors import ConfigError
from seqvae.model.vae import Trace
from seqvae.training.build import build_model, build_objective, resolve_all
from seqvae.training.updates.importance import importance_loss
from seqvae.training.weighting import drop_weightless, identify

SENTENCES = [f"a {one} {two} ." for one in ("cat", "dog", "bird", "cow") for two in ("sat", "ran", "ate", "hid")]
SIZES = {"latent": 3, "embedding": 6, "encoder": {"hidden": 4}, "decoder": {"hidden": 5}, "max_epochs": 2, "seed": 1}
THREE = [[4, 5, 6, END], [7, 5, END], [6, END]]


def build(**objective):
    weight = {"weight": {"name": "constant", "end": 0.7}}
    config = resolve_all(
        Config.from_dict(
            {"objective": weight | objective, "model": {"latent": 3, "embedding": 6, "prior": {"name": "normal"}}}
        )
    )
    torch.manual_seed(0)
    return build_model(config, 9).double().eval(), build_objective(config, vocabulary=9, sentences=9).double()


def trace_of(model, batch, rows):
    """A pass in which equal sentences have equal samples of z."""
    q = model.encode(batch)
    noise = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))[rows]
    z = q.mean + q.stddev * noise
    return Trace(batch=batch, q=q, p=model.prior(), z=z, log_prob=model.log_prob(batch, z))


def gradients(model, objective, batch, rows, loss_of):
    model.zero_grad()
    objective.zero_grad()
    loss_of(objective, trace_of(model, batch, rows)).backward()
    parameters = [*model.parameters(), *objective.parameters()]
    return torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])


def objective_loss(objective, trace):
    return objective(trace, 1)[0]


OBJECTIVES = {
    "kl": {"divergence": {"name": "kl"}},
    "free bits": {"divergence": {"name": "kl", "free_bits": 0.3, "free_bits_per": "batch"}},
    "free bits per dimension": {"divergence": {"name": "kl", "free_bits": 0.3, "free_bits_per": "dimension"}},
    "controlled": {"divergence": {"name": "controlled", "target": 2.0}},
    "minimum rate": {"divergence": {"name": "minimum-rate", "rate": 2.0, "damping": 1.0}},
    "wasserstein": {"divergence": {"name": "wasserstein"}, "auxiliary": {"name": "bag-of-words"}},
}


@pytest.mark.parametrize("case", OBJECTIVES)
def test_the_gradient_of_weight_2_is_that_of_the_sentence_twice(case):
    model, objective = build(**OBJECTIVES[case])
    weighted = replace(Batch.of(THREE), weights=torch.tensor([2.0, 1.0, 1.0]))
    twice = gradients(*build(**OBJECTIVES[case]), Batch.of([THREE[0], *THREE]), [0, 0, 1, 2], objective_loss)
    found = gradients(model, objective, weighted, [0, 1, 2], objective_loss)
    torch.testing.assert_close(found * 3, twice * 4, rtol=1e-9, atol=1e-12)
    plain = gradients(*build(**OBJECTIVES[case]), Batch.of(THREE), [0, 1, 2], objective_loss)
    assert not torch.allclose(found * 3, plain * 3, rtol=1e-3)


def test_so_is_that_of_the_importance_weighted_bound():
    def loss(objective, trace):
        return importance_loss(trace, 1, 0.7, "plain")[1]

    weighted = replace(Batch.of(THREE), weights=torch.tensor([2.0, 1.0, 1.0]))
    found = gradients(*build(), weighted, [0, 1, 2], loss)
    twice = gradients(*build(), Batch.of([THREE[0], *THREE]), [0, 0, 1, 2], loss)
    torch.testing.assert_close(found * 3, twice * 4, rtol=1e-9, atol=1e-12)


def same(one, other):
    pairs = zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_equal_weights_change_no_bit_and_others_do():
    plain = TextVAE.fit(SENTENCES, **SIZES)
    assert same(plain, TextVAE.fit(SENTENCES, weights=[3] * 16, **SIZES))
    weights = np.arange(1.0, 17.0)
    some = TextVAE.fit(SENTENCES, weights=weights, **SIZES)
    assert not same(plain, some) and same(some, TextVAE.fit(SENTENCES, weights=weights * 4, **SIZES))


def test_a_weight_of_0_leaves_a_sentence_out_and_a_resumed_run_knows_its_weights():
    def read(weights):
        return load(join_splits(SENTENCES, weights=weights), weight_column="weight")

    corpus = read([0, 2] * 8)
    left = drop_weightless(corpus.train)
    assert left.texts() == [text for text in corpus.train.texts() if SENTENCES.index(text) % 2]
    assert set(left.batch(range(len(left))).weights.tolist()) == {1.0}
    others = [read([2, 0] * 8), load(SENTENCES)]
    assert len({identify(one) for one in (corpus, *others)}) == 3 and identify(corpus) == identify(read([0, 2] * 8))


def test_sentences_of_weight_0_do_not_make_a_corpus_large(monkeypatch):
    monkeypatch.setattr(sys.modules["seqvae.config.resolve"], "SMALL_CORPUS", 45)
    few = TextVAE.training(SENTENCES, weights=[1, 0, 0, 0] * 4, **SIZES).run
    many = TextVAE.training(SENTENCES, weights=[1] * 16, **SIZES).run
    assert "fewer than 45" in few.notes[0] and "at least 45" in many.notes[0]


@pytest.mark.parametrize(
    "part",
    [
        {"divergence": "mmd"},
        {"divergence": "info"},
        {"divergence": "sliced-wasserstein"},
        {"divergence": "total-correlation"},
        {"auxiliary": "mutual-information"},
        {"update": "semi-amortized"},
    ],
)
def test_parts_that_have_no_place_for_weights_are_refused_by_name(part):
    (name,) = part.values()
    with pytest.raises(ConfigError, match=f"= {name} does not go with weights of sentences.*write --objective"):
        TextVAE.fit(SENTENCES, weights=[1] * 16, **part, **SIZES)

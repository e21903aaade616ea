"""A mixture fitted to the aggregate posterior in place of the prior."""

from itertools import pairwise

import pytest
import torch

from seqvae import TextVAE
from seqvae.errors import ConfigError
from seqvae.latent.refit import refit_mixture

SENTENCES = [f"{who} {did} {x} ." for who in ("a cat", "the dog", "a bird") for did in ("sat", "ran") for x in "uvwxyz"]
CENTERS = torch.tensor([[-3.0, 0.0], [3.0, 1.0]])


def make_points(count=4000, sigma=0.3):
    generator = torch.Generator().manual_seed(0)
    which = torch.arange(count) % 4 // 3  # three of four belong to the first center
    return CENTERS[which] + 0.4 * torch.randn(count, 2, generator=generator), torch.full((count, 2), sigma)


def test_it_finds_weights_means_and_scales_of_two_clusters():
    means, scales = make_points()
    prior = refit_mixture(means, scales, components=2, iterations=20)
    order = prior.means[:, 0].argsort()
    torch.testing.assert_close(prior.means[order].detach(), CENTERS, rtol=0, atol=0.05)
    torch.testing.assert_close(prior.logits.softmax(0)[order].detach(), torch.tensor([0.75, 0.25]), rtol=0, atol=0.01)
    count, own = torch.tensor([[3000.0], [1000.0]]), 0.4**2 + 0.3**2  # of the means, and of q around each
    expected = (count * own + 5 * (means.var(0) + 0.3**2)) / (count + 5)
    torch.testing.assert_close(prior.log_variances[order].exp().detach(), expected, rtol=0.1, atol=0)


def test_each_iteration_gains_and_the_value_is_the_mean_of_log_p():
    points, values = make_points(), []
    prior = refit_mixture(*points, components=8, iterations=12, observe=lambda _, value: values.append(value))
    assert values[-1] > values[0] + 0.5 and all(b > a - 0.08 for a, b in pairwise(values))
    z = points[0] + points[1] * torch.randn(points[0].shape, generator=torch.Generator().manual_seed(1))
    assert prior().log_prob(z).mean().item() == pytest.approx(values[-1], abs=0.05)


def test_the_seed_decides():
    one, again, other = (refit_mixture(*make_points(200), components=5, seed=seed).means for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_more_components_than_points_are_refused():
    with pytest.raises(ConfigError, match="components = 5: expected at most the number of sentences, 4"):
        refit_mixture(*make_points(4), components=5)


def test_a_model_keeps_all_but_its_prior_and_can_be_saved(tmp_path):
    sizes = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
    model = TextVAE.fit(SENTENCES, max_epochs=2, batch_size=8, precision="fp32", **sizes)
    refitted = model.refit_prior(SENTENCES, components=4)
    assert refitted.config.model.prior == {"name": "mixture", "components": 4, "spread": 0.5}
    assert refitted.reconstruct(SENTENCES[:5]) == model.reconstruct(SENTENCES[:5])
    assert model.config.model.prior["name"] != "mixture" or model.config.model.prior["components"] != 4
    refitted.save_pretrained(tmp_path)
    assert TextVAE.from_pretrained(tmp_path).sample(6, seed=1) == refitted.sample(6, seed=1)


def test_a_posterior_on_a_sphere_and_a_model_of_labels_are_refused():
    sizes = {"latent": 3, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
    model = TextVAE.fit(SENTENCES, max_epochs=1, batch_size=8, prior="sphere", posterior="vmf", **sizes)
    with pytest.raises(ConfigError, match="cannot be fitted again: expected Gaussian posteriors, no labels"):
        model.refit_prior(SENTENCES, components=2)


# -- after a training -------------------------------------------------------------------------------------------------

SIZES = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}
TEXTS = [
    f"{who} {did} {x}{y} ."
    for who in ("a cat", "the dog")
    for did in ("sat", "ran")
    for x in "uvwxyz"
    for y in "abcdefgh"
]


def train(folder=None, refit=6, **options):
    prior = {"name": "mixture", "components": 2, "refit": refit}
    return TextVAE.fit(
        TEXTS, output=folder, prior=prior, batch_size=8, seed=1, **SIZES, **({"max_epochs": 3} | options)
    )


def test_a_training_ends_with_a_mixture_of_the_size_asked_that_is_better_for_held_out_sentences(tmp_path):
    plain, model = train(refit=0), train(tmp_path / "run")
    assert len(plain.model.prior.logits) == 2 and 2 < len(model.model.prior.logits) <= 6
    assert model.config.model.prior["components"] == len(model.model.prior.logits)
    assert torch.equal(plain.encode(TEXTS).mean, model.encode(TEXTS).mean)
    valid = model.load_corpus(TEXTS, whole=False).valid
    with torch.no_grad():
        z = model.encode(valid.texts()).sample((500,))
        assert model.model.prior().log_prob(z).mean() > plain.model.prior().log_prob(z).mean()
    again = TextVAE.from_pretrained(tmp_path / "run")
    assert again.sample(5, seed=2) == model.sample(5, seed=2) and again.checkpoint.facts["step"] > 0


def test_the_better_prior_is_kept(monkeypatch):
    poor = refit_mixture(torch.full((9, 2), 50.0), torch.ones(9, 2), components=6)
    monkeypatch.setattr("seqvae.latent.refit.refit_mixture", lambda *_, **__: poor)
    assert len(train().model.prior.logits) == 2


def test_a_resumed_run_goes_on_with_the_prior_that_it_trained(tmp_path):
    from seqvae.cli import main

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS))
    given = [
        *("train", str(corpus), "--model.latent", "2", "--model.embedding", "8", "--model.encoder.hidden", "8"),
        *("--model.decoder.hidden", "8", "--model.prior.name", "mixture", "--model.prior.components", "2"),
        *("--model.prior.refit", "6", "--batch-size", "8", "--precision", "fp32", "--output", str(tmp_path / "run")),
    ]
    main([*given, "--max-epochs", "2"])
    first = TextVAE.from_pretrained(tmp_path / "run")
    main(["train", "--resume", "--output", str(tmp_path / "run"), "--max-epochs", "4"])
    second = TextVAE.from_pretrained(tmp_path / "run")
    assert len(first.model.prior.logits) > 2 and len(second.model.prior.logits) > 2
    assert second.checkpoint.facts["step"] > first.checkpoint.facts["step"]

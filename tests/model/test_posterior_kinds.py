"""Posteriors: values solved by hand, and each of them through the whole of the package."""

import math

import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from seqvae import TextVAE
from seqvae.config import Config, get_corpus_options
from seqvae.data.batch import Batch
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.model.distributions import kl
from seqvae.model.posteriors import (
    POSTERIORS,
    BatchNormGaussian,
    DiagonalGaussian,
    FactorGaussian,
    LowRankGaussian,
    Posterior,
)
from seqvae.training.build import build_model, resolve_part

SENTENCES = [
    " ".join(f"{s} {v} {p} .".split())
    for s in ("a cat", "the dog", "one bird")
    for v in ("sat", "ran", "ate")
    for p in ("", "here", "there now", "at home")
]
TINY = {
    "latent": 3,
    "embedding": 6,
    "encoder": {"hidden": 8},
    "decoder": {"hidden": 8},
    "weight": {"name": "constant"},
    "batch_size": 8,
    "max_epochs": 4,
    "validate_every": 8,
    "warmup": 0,
    "learning_rate": 0.01,
    "precision": "fp32",
}


def parts(name):
    """The posterior of that name, and the simplest prior on its space."""
    return {"posterior": {"name": name}, "prior": {"name": "sphere" if name == "vmf" else "normal"}}


def standard(latent):
    zeros = torch.zeros(latent, dtype=torch.float64)
    return Independent(Normal(zeros, zeros + 1), 1)


def made(cls, *, seed=0, **options):
    torch.manual_seed(seed)
    return cls(**({"features": 4, "latent": 3} | options)).double()


# Batch normalization


def by_hand(gamma, b):
    """m is h, sigma is 1."""
    posterior = made(BatchNormGaussian, features=1, latent=1, gamma=gamma).requires_grad_(False)
    posterior.means.weight.fill_(1.0)
    posterior.log_variances.weight.zero_()
    posterior.log_variances.bias.zero_()
    posterior.shift.fill_(b)
    return posterior


def test_means_are_normalized_over_the_batch_and_running_statistics_follow():
    posterior = by_hand(gamma=0.5, b=2.0)
    q = posterior(torch.tensor([[1.0], [3.0], [5.0]], dtype=torch.float64))  # mean 3, variance 8/3, unbiased 4
    wanted = [[2 - 0.5 * 1.5**0.5], [2.0], [2 + 0.5 * 1.5**0.5]]
    torch.testing.assert_close(q.mean, torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=0)
    assert float(posterior.running_mean) == pytest.approx(0.3)
    assert float(posterior.running_variance) == pytest.approx(0.9 * 1 + 0.1 * 4)
    alone = posterior.eval()(torch.tensor([[1.6]], dtype=torch.float64)).mean
    assert float(alone) == pytest.approx(2 + 0.5 * 1.3 / 1.3**0.5, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("sentences", [2, 5, 64])
def test_no_weights_bring_the_divergence_of_a_training_batch_below_the_bound(gamma, sentences):
    for seed in range(20):
        posterior = made(BatchNormGaussian, seed=seed, gamma=gamma)
        h = torch.randn(sentences, 4, dtype=torch.float64)
        m = posterior.means(h)
        variance = m.var(0, correction=0)
        bound = (gamma**2 * variance / (variance + 1e-8)).sum() / 2  # eps costs a little
        assert kl(posterior(h), standard(3)).mean() >= bound * (1 - 1e-12)


def test_training_on_the_divergence_alone_ends_at_the_bound():
    posterior, h = made(BatchNormGaussian, gamma=0.6), torch.randn(64, 4).double()
    optimizer = torch.optim.Adam(posterior.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        rate = kl(posterior(h), standard(3)).mean()
        rate.backward()
        optimizer.step()
    assert rate.item() == pytest.approx(3 * 0.36 / 2, rel=1e-2)


def test_a_fresh_encoder_varies_so_much_more_than_eps_that_the_bound_holds():
    """Its means have a variance of about 2e-5: with an eps of 1e-5 a training could fall below the bound."""
    torch.manual_seed(0)
    sizes = {"latent": 32, "encoder": {"hidden": 128}}
    model = build_model(Config.from_dict({"model": sizes | parts("batch-norm")}), vocabulary=500).train()
    batch = Batch.of([[*torch.randint(3, 500, (8,)).tolist(), 2] for _ in range(64)])
    with torch.no_grad():
        assert kl(model.encode(batch), model.prior()).mean() > 0.99 * 32 * 0.36 / 2


def test_a_batch_of_one_sentence_is_trained_on_with_the_running_statistics():
    posterior, h = made(BatchNormGaussian), torch.randn(8, 4).double()
    for _ in range(3):
        posterior(h)
    before = {name: value.clone() for name, value in posterior.state_dict().items()}
    one = posterior(h[:1])
    one.rsample().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in posterior.state_dict().items())
    assert torch.equal(one.mean, posterior.eval()(h[:1]).mean)
    assert posterior.means.weight.grad.any()


def test_in_evaluation_a_sentence_has_the_same_q_in_any_batch_and_in_training_it_has_not():
    posterior, h = made(BatchNormGaussian), torch.randn(8, 4).double()
    assert not torch.allclose(posterior(h).mean[:2], posterior(h[:2]).mean)
    posterior.eval()
    torch.testing.assert_close(posterior(h).mean[:2], posterior(h[:2]).mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_cannot_be_is_refused(gamma):
    with pytest.raises(ConfigError, match=f"gamma = {gamma}: expected a number above 0, such as 0.6"):
        BatchNormGaussian(features=4, latent=2, gamma=gamma)


# Low rank


def test_the_divergence_of_one_factor_in_two_dimensions_is_the_value_by_hand():
    # Sigma = I + u u', u = (1, 1): variances 2, determinant 3; mu = (1, 0): 1/2 (4 + 1 - 2 - log 3).
    q = FactorGaussian(torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, 1), torch.ones(1, 2))
    assert float(kl(q, standard(2))) == pytest.approx((3 - math.log(3)) / 2, rel=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_density_and_the_divergence_are_those_of_the_full_covariance(rank):
    q = made(LowRankGaussian, rank=rank)(2 * torch.randn(6, 4).double())
    covariance = q.cov_factor @ q.cov_factor.mT + torch.diag_embed(q.cov_diag)
    full = MultivariateNormal(q.mean, covariance)
    m, t = torch.randn(3).double(), torch.rand(3).double() + 0.5
    p, z = Independent(Normal(m, t), 1), torch.randn(6, 3).double()
    torch.testing.assert_close(q.log_prob(z), full.log_prob(z), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(kl(q, p), kl_divergence(full, MultivariateNormal(m, torch.diag(t**2))))
    torch.testing.assert_close(q.stddev.square(), covariance.diagonal(dim1=1, dim2=2))


def test_samples_have_the_covariance():
    # 6 different entries at 5 standard errors each: a false alarm once in 290,000 seeds; this seed is fixed.
    q = made(LowRankGaussian)(2 * torch.randn(1, 4).double())
    z = q.sample((50_000,))[:, 0]
    wanted = q.covariance_matrix[0]
    variances = wanted.diagonal()
    error = ((wanted.square() + variances[:, None] * variances) / len(z)).sqrt()
    assert ((torch.cov(z.T) - wanted).abs() < 5 * error).all()
    assert (wanted - torch.diag(variances)).abs().max() > 0.01


def test_without_factors_it_is_the_diagonal_gaussian():
    low, plain, h = made(LowRankGaussian), made(DiagonalGaussian), torch.randn(5, 4).double()
    low.requires_grad_(False).linear.weight[6:] = 0
    low.linear.bias[6:] = 0
    low.linear.weight[:6], low.linear.bias[:6] = plain.linear.weight, plain.linear.bias
    z = torch.randn(5, 3).double()
    torch.testing.assert_close(low(h).log_prob(z), plain(h).log_prob(z))
    torch.testing.assert_close(kl(low(h), standard(3)), kl(plain(h), standard(3)))


def test_another_prior_than_a_diagonal_gaussian_is_estimated_from_the_sample():
    q, z = made(LowRankGaussian)(torch.randn(5, 4).double()), torch.randn(5, 3).double()
    p = Independent(torch.distributions.Laplace(torch.zeros(3).double(), 1.0), 1)
    torch.testing.assert_close(kl(q, p, z), q.log_prob(z) - p.log_prob(z))
    with pytest.raises(NotImplementedError, match="FactorGaussian"):
        kl(q, p)


def test_a_rank_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="rank = 0: expected 1 to"):
        LowRankGaussian(features=4, latent=2, rank=0)


def test_options_are_read_from_text():
    assert resolve_part("model.posterior", {"name": "low-rank", "rank": "3"}) == {"name": "low-rank", "rank": 3}
    assert resolve_part("model.posterior", {"name": "batch-norm", "gamma": "1"}) == {"name": "batch-norm", "gamma": 1.0}


# Each posterior of the catalogue in a whole model


@pytest.fixture(scope="module", params=sorted(POSTERIORS))
def model(request):
    return TextVAE.fit(SENTENCES, **parts(request.param), **TINY)


def name_of(model):
    return model.config.model.posterior["name"]


def test_every_implementation_keeps_the_contract():
    assert all(issubclass(cls, Posterior) for cls in POSTERIORS.values())


def test_training_moves_every_parameter_and_buffer(model):
    torch.manual_seed(model.config.training.seed)
    before = build_model(model.config, len(model.tokenizer)).posterior.state_dict()
    for name, value in model.model.posterior.state_dict().items():
        assert value.isfinite().all() and (value != before[name]).any(), name


def test_every_score_is_there_and_finite(model):
    split = load(SENTENCES, **get_corpus_options(model.config)).valid
    scores = model.evaluate(split, samples=10, refined=4)
    assert (scores.kl_dimensions is None) == (name_of(model) in ("low-rank", "vmf"))
    wanted = (
        "nll elbo kl reconstruction mixture_gain holes mutual_information_lower mutual_information_upper "
        "marginal_kl_lower decoder_entropy_prior permuted_nll_increase effective_sample_size"
    )
    for name in wanted.split():
        assert math.isfinite(getattr(scores, name)), name
    assert (scores.inference_gap is None) == (name_of(model) in ("low-rank", "vmf"))  # it is that of diagonal Gaussians
    assert 0 <= scores.mutual_information_lower <= scores.mutual_information_upper
    assert model.evaluate(split, samples=10, refined=4) == scores


def test_the_scores_of_a_sentence_do_not_depend_on_the_batch_it_stands_in(model):
    whole, alone = model.score(SENTENCES[:6], samples=5), model.score(SENTENCES[3:4], samples=5)
    assert whole.isfinite().all() and (whole < 0).all()
    assert float(whole[3]) == pytest.approx(float(alone[0]), abs=1e-4)


def test_it_samples_interpolates_and_reconstructs(model):
    assert model.sample(4, seed=1) == model.sample(4, seed=1) and len(model.sample(4, seed=1)) == 4
    assert len(model.interpolate(SENTENCES[0], SENTENCES[-1], steps=5)) == 5
    assert len(model.reconstruct(SENTENCES[:2])) == 2
    q = model.encode(SENTENCES[:4])
    assert q.mean.shape == q.stddev.shape == (4, 3) and not q.mean.requires_grad


def test_a_density_is_fitted_to_its_samples(model):
    if name_of(model) == "vmf":
        with pytest.raises(ConfigError, match="is a sphere, to which no density"):
            model.aggregate(SENTENCES)
        return
    aggregate = model.aggregate(SENTENCES, components=2, seed=0)
    assert math.isfinite(aggregate.gain) and aggregate.sample(3, seed=0).z.isfinite().all()


@pytest.mark.parametrize("name", sorted(POSTERIORS))
def test_it_trains_in_reduced_precision(half, name):
    model = TextVAE.fit(SENTENCES, **parts(name), **(TINY | {"max_epochs": 1, "precision": "bf16"}))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.model.posterior.state_dict().values())


@pytest.mark.parametrize("name", sorted(POSTERIORS))
def test_it_trains_on_batches_of_one_sentence(name):
    model = TextVAE.fit(SENTENCES, **parts(name), **(TINY | {"max_epochs": 1, "batch_size": 1}))
    assert model.score(SENTENCES[:2], samples=2).isfinite().all()


@pytest.mark.parametrize("per", ["dimension", "batch"])
def test_free_bits_of_each_dimension_are_refused_where_the_posterior_does_not_factorize(per):
    with pytest.raises(ConfigError, match="total"):
        divergence = {"free_bits": 2.0, "free_bits_per": per}
        TextVAE.fit(SENTENCES, **parts("low-rank"), divergence=divergence, **TINY)

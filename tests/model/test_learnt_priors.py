"""Priors: values solved by hand, where each starts, and each of them through the whole of the package."""

import math
import sys

import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae import TextVAE
from seqvae.config import get_corpus_options
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.model.distributions import kl
from seqvae.model.priors import PRIORS, Flow, LearntGaussian, Mixture
from seqvae.rng import Stream
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
    """The prior of that name; neither `vmf` nor `sphere` goes without the other."""
    return {"prior": {"name": name}} | ({"posterior": {"name": "vmf"}} if name == "sphere" else {})


# Values


def test_a_learnt_gaussian_has_its_mean_and_scale():
    prior = LearntGaussian(latent=2).double().requires_grad_(False)
    prior.mean.copy_(torch.tensor([1.0, -1.0]))
    prior.log_variance.copy_(torch.tensor([0.0, 2 * math.log(2)], dtype=torch.float64))
    # ((z - m) / s)^2 = 1 and 4: -1/2 - 2 - log 2 - log 2 pi
    found = float(prior().log_prob(torch.tensor([2.0, 3.0], dtype=torch.float64)))
    assert found == pytest.approx(-2.5 - math.log(2) - math.log(2 * math.pi), rel=1e-12)


def test_a_mixture_is_the_weighted_sum_of_its_components():
    prior = Mixture(latent=1, components=2).double().requires_grad_(False)
    prior.logits.copy_(torch.tensor([math.log(3), 0.0], dtype=torch.float64))  # weights 3/4 and 1/4
    prior.means.copy_(torch.tensor([[0.0], [2.0]]))
    prior.log_variances.copy_(torch.tensor([[0.0], [2 * math.log(2)]], dtype=torch.float64))  # scales 1 and 2
    peak = 1 / math.sqrt(2 * math.pi)
    wanted = 0.75 * peak + 0.25 * peak / 2 * math.exp(-0.5)  # at z = 0
    assert float(prior().log_prob(torch.zeros(1).double()).exp()) == pytest.approx(wanted, rel=1e-12)


def test_a_mixture_of_one_is_a_gaussian_and_its_estimated_kl_that_of_the_closed_form():
    # 4 rows at 5 standard errors each: a false alarm once in 400,000 seeds; this seed is fixed.
    torch.manual_seed(0)
    mixture, gaussian = (
        prior.double().requires_grad_(False) for prior in (Mixture(latent=3, components=1), LearntGaussian(latent=3))
    )
    gaussian.mean.copy_(mixture.means[0])
    gaussian.log_variance.copy_(mixture.log_variances[0])
    q = Independent(Normal(torch.randn(4, 3).double(), torch.rand(4, 3).double() + 0.2), 1)
    z = q.sample((20_000,))
    torch.testing.assert_close(mixture().log_prob(z), gaussian().log_prob(z), rtol=1e-12, atol=0)
    estimates = kl(q, mixture(), z)
    assert ((estimates.mean(0) - kl(q, gaussian())).abs() < 5 * estimates.std(0) / 20_000**0.5).all()


def test_a_learnt_gaussian_starts_as_the_standard_normal():
    prior, z = LearntGaussian(latent=3)(), torch.linspace(-2, 2, 15).view(5, 3)
    standard = Independent(Normal(torch.zeros(3), torch.ones(3)), 1)
    assert torch.equal(prior.log_prob(z), standard.log_prob(z))


def test_a_mixture_starts_with_components_that_differ_and_about_the_moments_of_the_standard_normal():
    # The mean of 10,000 components within 6 * 0.5 / 100 of 0, their variance within 6 * 0.25 * 2**0.5 / 100 of 1.
    torch.manual_seed(0)
    p = Mixture(latent=4, components=10_000)()
    assert p.component_distribution.mean.unique(dim=0).shape == (10_000, 4)
    assert (p.mean.abs() < 0.03).all() and ((p.variance - 1).abs() < 0.022).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"components": 0}, "components = 0: expected 1 to"),
        ({"spread": 0.0}, "spread = 0.0: expected more than 0 and less than 1"),
        ({"spread": 1.0}, "spread = 1.0: expected"),
        ({"spread": math.nan}, "spread = nan: expected"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Mixture(latent=2, **options)


def test_options_of_the_mixture_are_read_from_text():
    found = resolve_part("model.prior", {"name": "mixture", "components": "3", "spread": "0.2"})
    assert found == {"name": "mixture", "components": 3, "spread": 0.2, "refit": 0}


# Fitting p to samples of a known density


def fitted(prior, z, steps=300):
    """Maximize the mean log density of z, and return it."""
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.05)
    for _ in range(steps):
        optimizer.zero_grad()
        (-prior().log_prob(z).mean()).backward()
        optimizer.step()
    return float(prior().log_prob(z).mean().detach())


def clusters(count=400):
    """Two clusters of 2 dimensions at (-2, 0) and (2, 0), of scale 0.3."""
    torch.manual_seed(0)
    return torch.tensor([[-2.0, 0.0], [2.0, 0.0]]).repeat(count // 2, 1) + 0.3 * torch.randn(count, 2)


def test_a_learnt_gaussian_fits_the_moments():
    z, prior = clusters(), LearntGaussian(latent=2)
    fitted(prior, z)
    p = prior()
    torch.testing.assert_close(p.mean, z.mean(0), rtol=0, atol=1e-2)
    torch.testing.assert_close(p.stddev, z.std(0, correction=0), rtol=2e-2, atol=0)


def test_a_mixture_finds_two_clusters_that_no_gaussian_covers():
    z, standard = clusters(), Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
    normal, gaussian = float(standard.log_prob(z).mean()), fitted(LearntGaussian(latent=2), z)
    mixture = Mixture(latent=2, components=4)
    found = fitted(mixture, z)
    # The truth has -log 2 - log 2 pi - 2 log 0.3 - 1 = -1.12 nats on average (noise of 400 samples); N(0, I) -3.9.
    assert found > gaussian + 1 > normal + 1 and found == pytest.approx(-1.12, abs=0.15)
    assert float(mixture().sample((1000,))[:, 0].abs().sub(2).abs().median()) < 0.3


@pytest.mark.parametrize(("family", "gain"), [("maf", 0.2), ("nsf", 0.5)])  # affine maps do not tear a Gaussian apart
def test_a_flow_finds_two_clusters_that_no_gaussian_covers(family, gain):
    torch.manual_seed(0)
    z, prior = clusters(), Flow(latent=2, family=family, hidden=32)
    start = Independent(Normal(torch.zeros(2), torch.ones(2)), 1).log_prob(z).mean()
    assert float(prior().log_prob(z).mean().detach()) == pytest.approx(float(start), abs=1e-5)  # it starts as N(0, I)
    gaussian, found = fitted(LearntGaussian(latent=2), z), fitted(prior, z, steps=150)
    assert gaussian + gain < found < -1.12 + 0.3  # the truth, see above
    samples = prior().sample((500,))
    assert float(samples[:, 0].abs().sub(2).abs().median()) < 0.6
    torch.testing.assert_close(prior().transform_noise(prior.flow().transform(samples)), samples, rtol=0, atol=1e-3)


def test_a_flow_without_zuko_explains_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ConfigError, match=r"pip install 'seqvae\[flows\]'"):
        Flow(latent=2)


@pytest.mark.parametrize(
    "options",
    [{"transforms": 0}, {"hidden": 0}, {"hidden": 10_000}, {"latent": 5_000}, {"latent": 4_000, "hidden": 4_000}],
)
def test_a_flow_that_cannot_be_is_refused(options):
    with pytest.raises(ConfigError, match=r"expected (1 to|at most)"):
        Flow(**({"latent": 2} | options))


# Each prior of the catalogue in a whole model


@pytest.fixture(scope="module", params=sorted(PRIORS))
def model(request):
    return TextVAE.fit(SENTENCES, **parts(request.param), **TINY)


def test_training_moves_every_parameter_of_the_prior(model):
    torch.manual_seed(model.config.training.seed)
    before = build_model(model.config, len(model.tokenizer)).prior
    for (name, start), end in zip(before.named_parameters(), model.model.prior.parameters(), strict=True):
        assert end.isfinite().all() and (start != end).any(), name


def test_a_prior_that_learns_gives_the_posteriors_a_higher_density_than_where_it_started(model):
    if model.config.model.prior["name"] == "flow":
        return  # which 16 steps do not teach anything: below it is fitted for longer
    torch.manual_seed(model.config.training.seed)
    before, q = build_model(model.config, len(model.tokenizer)).prior, model.encode(SENTENCES)
    with torch.no_grad(), Stream(0):
        z = q.sample((100,))
        gain = model.model.prior().log_prob(z).mean() - before().log_prob(z).mean()
    assert gain > 0 if list(before.parameters()) else gain == 0


def test_every_score_is_there_and_finite(model):
    split = load(SENTENCES, **get_corpus_options(model.config)).valid
    scores = model.evaluate(split, samples=10, refined=4)
    name = model.config.model.prior["name"]
    assert (scores.kl_dimensions is None) == (name not in ("normal", "gaussian"))
    assert (scores.inference_gap is None) == (name == "sphere")  # it is that of diagonal Gaussians
    wanted = (
        "nll elbo kl reconstruction mixture_gain holes mutual_information_lower mutual_information_upper "
        "marginal_kl_lower decoder_entropy_prior permuted_nll_increase effective_sample_size"
    )
    for name in wanted.split():
        assert math.isfinite(getattr(scores, name)), name
    assert 0 <= scores.mutual_information_lower <= scores.mutual_information_upper
    assert model.evaluate(split, samples=10, refined=4) == scores


def test_the_scores_of_a_sentence_do_not_depend_on_the_batch_it_stands_in(model):
    whole, alone = model.score(SENTENCES[:6], samples=5), model.score(SENTENCES[3:4], samples=5)
    assert whole.isfinite().all() and (whole < 0).all()
    assert float(whole[3]) == pytest.approx(float(alone[0]), abs=1e-4)


@pytest.mark.parametrize("name", sorted(PRIORS))
def test_it_trains_in_reduced_precision(half, name):
    model = TextVAE.fit(SENTENCES, **parts(name), **(TINY | {"max_epochs": 1, "precision": "bf16"}))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in model.model.prior.parameters())


@pytest.mark.parametrize("per", ["dimension", "batch"])
def test_free_bits_of_each_dimension_are_refused_where_the_prior_does_not_factorize(per):
    with pytest.raises(ConfigError, match="total"):
        TextVAE.fit(SENTENCES, prior={"name": "mixture"}, divergence={"free_bits": 2.0, "free_bits_per": per}, **TINY)

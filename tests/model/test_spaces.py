"""Posteriors and priors together, and values of those that came after the Gaussian ones."""

import copy
import math
from itertools import cycle

import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.config import Config, get_corpus_options
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.model.distributions import kl
from seqvae.model.posteriors import POSTERIORS, VMF, DeltaGaussian, NarrowGaussian
from seqvae.model.priors import PRIORS
from seqvae.model.spheres import SphericalUniform, VonMisesFisher, log_area, log_bessel
from seqvae.training.build import build_model, resolve_all

SENTENCES = [
    f"{s} {v} {p} ." for s in ("a cat", "the dog", "one bird") for v in ("sat", "ran") for p in ("here", "there", "up")
]
SIZES = {"latent": 3, "embedding": 6, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}
TINY = SIZES | {"batch_size": 8, "max_epochs": 1, "warmup": 0, "weight": {"name": "constant"}}
SPHERICAL = [("vmf", "sphere"), ("vmf", "vamp")]
FLAT = [name for name in POSTERIORS if name != "vmf"], [name for name in PRIORS if name != "sphere"]
PAIRS = [*zip(FLAT[0], cycle(FLAT[1]), strict=False), *SPHERICAL]  # tests/training/test_combinations.py has all of them


# Each posterior and each prior that it goes with


@pytest.mark.parametrize(("posterior", "prior"), PAIRS)
def test_every_pair_trains_scores_samples_interpolates_and_is_saved_and_loaded(posterior, prior, tmp_path):
    model = TextVAE.fit(SENTENCES, posterior={"name": posterior}, prior={"name": prior}, **TINY)
    assert model.checkpoint.facts["step"] == 2
    scores = model.evaluate(load(SENTENCES, **get_corpus_options(model.config)).train, samples=3, refined=2)
    for name in ("nll", "kl", "holes", "mutual_information_lower", "permuted_nll_increase", "mixture_gain"):
        assert math.isfinite(getattr(scores, name)), name
    z0, z1 = model.sample_prior(2, seed=0)
    assert len(model.decode(model.interpolate_points(z0, z1, path="slerp"))) == 7
    assert len(model.interpolate(SENTENCES[0], SENTENCES[1], steps=3)) == 3
    model.save_pretrained(tmp_path)
    loaded = TextVAE.from_pretrained(tmp_path)
    assert loaded.sample(3, seed=2) == model.sample(3, seed=2)
    assert torch.equal(loaded.score(SENTENCES[:2], samples=2), model.score(SENTENCES[:2], samples=2))


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [("vmf", name) for name in PRIORS if name not in ("sphere", "vamp")]
    + [(name, "sphere") for name in POSTERIORS if name != "vmf"],
)
def test_a_sphere_and_a_space_are_not_paired(posterior, prior):
    config = Config.from_dict({"model": {"posterior": {"name": posterior}, "prior": {"name": prior}}})
    with pytest.raises(
        ConfigError, match=f"posterior {posterior} with model.prior {prior}.*write --model.prior.name"
    ) as caught:
        resolve_all(config)
    assert "\n" not in str(caught.value)


# A bound on the scale


@pytest.mark.parametrize(("rate", "latent"), [(5.0, 32), (0.1, 1), (12.0, 2)])
def test_no_weights_bring_the_divergence_below_the_rate_and_training_on_it_ends_there(rate, latent):
    torch.manual_seed(0)
    posterior, h = DeltaGaussian(features=4, latent=latent, rate=rate).double(), torch.randn(16, 4).double()
    p = Independent(Normal(torch.zeros(latent).double(), torch.ones(latent).double()), 1)
    optimizer = torch.optim.Adam(posterior.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        cost = kl(posterior(h), p)
        assert (cost >= rate * (1 - 1e-12)).all()
        cost.sum().backward()
        optimizer.step()
    assert cost.mean().item() == pytest.approx(rate, rel=0.05)
    with torch.no_grad():
        posterior.linear.weight.zero_()
        posterior.linear.bias.copy_(torch.cat([torch.zeros(latent), torch.full((latent,), 1e3)]))
    assert float(kl(posterior(h), p)[0].detach()) == pytest.approx(rate, rel=1e-9)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (DeltaGaussian, {"rate": 0.0}, "rate = 0.0: expected more than 0 and at most 14 nats"),
        (DeltaGaussian, {"rate": 15.0}, "rate = 15.0: expected"),
        (DeltaGaussian, {"low": 1.0}, "low = 1.0: expected more than 0 and less than 1"),
        (NarrowGaussian, {"scale": 0.0}, "scale = 0.0: expected 0.0001 or more"),
        (VMF, {"kappa": 0.0}, "kappa = 0.0: expected more than 0"),
        (VMF, {"kappa": math.nan}, "kappa = nan: expected"),
        (VMF, {"latent": 1}, "latent = 1: expected 2 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(cls, options, message):
    with pytest.raises(ConfigError, match=message):
        cls(**({"features": 4, "latent": 2} | options))


def test_a_point_has_the_divergence_of_its_width():
    # D = 32, mean 0, scale 0.01: 32 (1e-4 / 2 - 1/2 - log 0.01).
    posterior = NarrowGaussian(features=1, latent=32)
    p = Independent(Normal(torch.zeros(32), torch.ones(32)), 1)
    with torch.no_grad():
        posterior.linear.bias.zero_()
    assert kl(posterior(torch.zeros(1, 1)), p).item() == pytest.approx(131.367, abs=1e-2)


# The sphere


def test_areas_are_those_of_the_circle_and_of_balls():
    wanted = [2 * math.pi, 4 * math.pi, 2 * math.pi**2]
    assert [math.exp(log_area(d)) for d in (2, 3, 4)] == pytest.approx(wanted, rel=1e-14)


@pytest.mark.parametrize("x", [0.01, 1.0, 30.0, 1e3, 1e5])
def test_bessel_functions_are_those_of_torch_and_of_half_orders(x):
    exact = torch.tensor(x, dtype=torch.float64)
    scaled = [torch.special.i0e(exact), torch.special.i1e(exact)]
    for order, value in enumerate(scaled):
        assert log_bessel(order, x) == pytest.approx(math.log(value) + x, rel=1e-12, abs=1e-9)
    sinh = x + math.log1p(-math.exp(-2 * x)) - math.log(2)
    assert log_bessel(0.5, x) == pytest.approx(0.5 * math.log(2 / (math.pi * x)) + sinh, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(("dimensions", "kappa"), [(2, 0.5), (3, 5.0), (32, 80.0), (64, 1000.0), (200, 3.0)])
def test_the_mean_and_variance_of_the_cosine_are_those_of_its_density(dimensions, kappa):
    # The angle t to mu has the density C(kappa) area(D - 1) exp(kappa cos t) sin(t)^(D - 2).
    mu = torch.eye(dimensions, dtype=torch.float64)[:1]
    q = VonMisesFisher(mu, kappa)
    t = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)[1:-1]
    outer = log_area(dimensions - 1) if dimensions > 2 else math.log(2)  # the 0-sphere is two points
    z = torch.stack([t.cos(), t.sin(), *[torch.zeros_like(t)] * (dimensions - 2)], dim=1)
    density = (q.log_prob(z) + outer + (dimensions - 2) * t.sin().log()).exp() * (t[1] - t[0])
    mean = (density * t.cos()).sum()
    assert float(mean) == pytest.approx(float(q.mean[0, 0]), abs=1e-4)
    assert float((density * t.cos().square()).sum() - mean**2) == pytest.approx(float(q.variance[0, 0]), abs=1e-4)


@pytest.mark.parametrize("kappa", [0.5, 30.0, 1e4])
@pytest.mark.parametrize("dimensions", [2, 3, 16])
def test_samples_lie_on_the_sphere_and_their_cosines_have_the_moments(dimensions, kappa):
    # Two moments at 5 standard errors, 9 times: a false alarm once in 100,000 seeds; this seed is fixed.
    torch.manual_seed(0)
    mu = torch.nn.functional.normalize(torch.randn(1, dimensions).double(), dim=1)
    q = VonMisesFisher(mu, kappa)
    z = q.sample((20_000,))[:, 0]
    torch.testing.assert_close(z.norm(dim=1), torch.ones(20_000).double(), rtol=0, atol=1e-9)
    for sample, mean in (((z @ mu[0]), (q.mean @ mu[0])[0]), (z[:, 0].square(), q.variance[0, 0] + q.mean[0, 0] ** 2)):
        assert abs(float(sample.mean() - mean)) < 5 * float(sample.std()) / 20_000**0.5


def test_the_divergence_of_two_directions_is_the_same_and_grows_with_the_concentration():
    p = SphericalUniform(torch.zeros(32))
    mu = torch.nn.functional.normalize(torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    rates = [kl(VonMisesFisher(mu, kappa), p) for kappa in (1.0, 20.0, 80.0)]
    assert all(rate[0] == rate[1] for rate in rates)
    # Of the values 4.2459 and 17.8631 an integration of the cosine's density over 2,000,001 angles agrees.
    assert [float(rate[0]) for rate in rates] == pytest.approx([0.015611, 4.245885, 17.863068], abs=1e-5)


def test_a_sample_rotates_with_its_direction():
    """The gradient of the mean of w' z with respect to mu is A w across mu, and 0 along it."""
    torch.manual_seed(0)
    mu = torch.tensor([0.6, 0.8, 0.0], dtype=torch.float64, requires_grad=True)
    unit = mu / mu.norm()
    q = VonMisesFisher(unit, 10.0)
    slope = torch.stack(
        [torch.autograd.grad(q.rsample((40_000,)).mean(0)[i], mu, retain_graph=True)[0] for i in (0, 2)]
    )
    a = float(q.mean[0].detach() / 0.6)
    wanted = a * torch.tensor([[0.64, -0.48, 0.0], [0.0, 0.0, 1.0]]).double()  # rows of I - mu mu'
    torch.testing.assert_close(slope, wanted, rtol=0, atol=0.02)


# Pseudo-inputs


def test_a_vamp_prior_is_the_mean_of_the_posteriors_of_its_inputs_and_shares_their_weights(small_model):
    model = small_model(prior={"name": "vamp", "components": 4, "length": 3})
    q = model.posterior(model.encoder.encode_embeddings(model.prior.inputs, torch.full((4,), 3)))
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    wanted = q.log_prob(z[:, None]).logsumexp(1) - math.log(4)
    torch.testing.assert_close(model.prior().log_prob(z), wanted)
    assert model.prior.encoder is model.encoder and model.prior.posterior is model.posterior
    twin = copy.deepcopy(model)
    assert twin.prior.encoder is twin.encoder is not model.encoder


def test_training_reads_pseudo_inputs_without_dropout_and_leaves_running_statistics_alone(small_model):
    model = small_model(prior={"name": "vamp", "components": 4}, posterior={"name": "batch-norm"}).train()
    before, z = model.posterior.running_mean.clone(), torch.zeros(1, 3).double()
    assert torch.equal(model.prior().log_prob(z), model.prior().log_prob(z))
    assert torch.equal(model.posterior.running_mean, before)
    assert all(part.training for part in model.modules())


def test_a_conditional_model_has_one_vamp_prior_for_all_labels(small_config):
    model = build_model(small_config(prior={"name": "vamp", "components": 4}), 11, labels=3)
    p, z = model.prior(), torch.zeros(2, 3)
    p.log_prob(z).sum().backward()
    assert p.batch_shape == () and model.prior.labels.grad.any() and model.prior.inputs.grad.any()
    assert build_model(small_config(prior={"name": "vamp"}), 11).prior.labels is None


def test_shared_weights_are_stored_once(small_config, tmp_path):
    from seqvae.training.checkpoint import _stored_once

    model = build_model(small_config(prior={"name": "vamp"}), 11)
    assert [name for name in _stored_once(model) if name.startswith("prior.")] == ["prior.inputs"]


# A sphere through the commands


@pytest.fixture(scope="module")
def directions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vmf")
    more = [f"{sentence[:-1]}{word} ." for sentence in SENTENCES for word in ("now", "again", "soon")]
    (folder / "corpus.txt").write_text("\n".join(SENTENCES + more) + "\n")
    sizes = ["--model.latent", "3", "--model.encoder.hidden", "8", "--model.decoder.hidden", "8", "--max-epochs", "2"]
    parts = ["--model.posterior.name", "vmf", "--model.prior.name", "sphere"]
    main(["train", str(folder / "corpus.txt"), *parts, *sizes, "--output", str(folder / "model")])
    return folder / "model"


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "-n", "2"],
        ["interpolate", "a cat sat here .", "the dog ran up ."],
        ["interpolate"],
        ["evaluate", "--text"],
        ["diagnose"],
        ["describe"],
    ],
    ids=" ".join,
)
def test_every_command_takes_a_model_on_the_sphere(arguments, directions, capsys):
    name, *options = arguments
    capsys.readouterr()
    main([name, str(directions), *options])
    assert capsys.readouterr().out


def test_a_density_in_space_is_not_fitted_to_a_sphere(directions, refused):
    assert "is a sphere, to which no density" in refused("sample", directions, "--from", "aggregate")


def test_paths_between_sentences_stay_on_the_sphere(directions):
    model = TextVAE.from_pretrained(directions)
    assert model.default_path == "slerp"
    q = model.encode(SENTENCES[:2])
    points = model.interpolate_points(*q.mode, path=model.default_path)
    torch.testing.assert_close(points.norm(dim=1), torch.ones(7), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.sample_prior(4, seed=0).norm(dim=1), torch.ones(4), rtol=0, atol=1e-5)

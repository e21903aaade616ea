"""Laws of posteriors: (B, H) -> q(z|x)."""

import copy

import pytest
import torch
from covering import pairwise

from seqvae.model.distributions import kl, kl_dimensions
from seqvae.model.posteriors import POSTERIORS

VARIANTS: dict[str, list[dict]] = {
    "batch-norm": [{}, {"gamma": 2.0}],
    "delta": [{}, {"rate": 0.5, "low": 0.2}],
    "deterministic": [{}, {"scale": 0.5}],
    "low-rank": [{}, {"rank": 1}, {"rank": 5}],  # more than there are dimensions, too
    "vmf": [{}, {"kappa": 2.0}],
}
CORRELATED = {"low-rank", "vmf"}
SPHERICAL = {"vmf"}  # whose z has norm 1: laws of the line hold on the circle, those of space on the sphere
CASES = [{"name": name, **options} for name in POSTERIORS for options in VARIANTS.get(name, [{}])]


def names(part):
    return "-".join(str(value) for value in part.values())


@pytest.fixture(params=CASES, ids=names)
def part(request):
    return request.param


@pytest.fixture
def model(part, small_model):
    return small_model(posterior=part)


def vectors(model, rows=4, scale=1.0, seed=0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, model.encoder.features, dtype=torch.float64, generator=g)


def points(model, z):
    """Points of the space that z lies in."""
    return torch.nn.functional.normalize(z, dim=-1) if model.posterior.spherical else z


def test_one_distribution_for_each_sentence(model):
    q = model.posterior(vectors(model))
    assert (q.batch_shape, q.event_shape) == ((4,), (3,))
    z = q.rsample()
    assert z.shape == (4, 3) and q.log_prob(z).shape == (4,)


def test_a_sample_has_a_gradient_to_the_sentence_and_to_every_parameter(model):
    h = vectors(model).requires_grad_()
    (model.posterior(h).rsample() ** 2).sum().backward()
    for tensor in (h, *model.posterior.parameters()):
        assert tensor.grad.isfinite().all() and tensor.grad.any()


def test_each_row_depends_on_its_own_vector_alone(model):
    h = vectors(model)
    q, changed = model.posterior(h), model.posterior(torch.cat([h[:1], 2 * h[1:]]))
    z = points(model, torch.full((4, 3), 0.1, dtype=torch.float64))
    assert torch.equal(q.log_prob(z)[0], changed.log_prob(z)[0])
    assert (q.log_prob(z)[1:] != changed.log_prob(z)[1:]).all()


def test_the_density_integrates_to_one(part, small_model, circle):
    if part["name"] in SPHERICAL:  # there is no line to integrate over
        model = small_model(posterior=part, latent=2, spread=0.2)
        density = model.posterior(vectors(model, rows=3)).log_prob(circle[:, None]).exp()
        torch.testing.assert_close(density.mean(0) * 2 * torch.pi, torch.ones(3).double(), rtol=0, atol=1e-9)
        return
    model = small_model(posterior=part, latent=1, spread=0.2)
    q = model.posterior(vectors(model, rows=3))
    z = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    mass = torch.trapezoid(q.log_prob(z[:, None, None]).exp(), z, dim=0)
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", sorted(SPHERICAL))
def test_the_density_integrates_to_one_on_the_sphere(name, small_model, sphere):
    model = small_model(posterior={"name": name}, spread=0.2)
    area, nodes = sphere
    mass = (area[:, None] * model.posterior(vectors(model, rows=3)).log_prob(nodes[:, None]).exp()).sum(0)
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-6)


def test_the_divergence_from_the_prior_is_never_negative(model):
    # A single estimate may be negative where there is no closed form, a mean of many is not. Closed forms are exact.
    q = model.posterior(vectors(model, rows=200, scale=2.0))
    torch.manual_seed(0)
    divergence = torch.stack([kl(q, model.prior(), q.sample()) for _ in range(50)]).mean(0)
    assert (divergence > 0).all()


def test_the_divergence_from_itself_is_zero(model):
    q = model.posterior(vectors(model))
    torch.testing.assert_close(kl(q, q, q.sample()), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_closed_form_lies_within_monte_carlo_error(model):
    # 4 rows at 5 standard errors each: a false alarm once in 400,000 seeds; this seed is fixed.
    torch.manual_seed(0)
    q, p = model.posterior(vectors(model)), model.prior()
    z = q.sample((20_000,))
    estimates = q.log_prob(z) - p.log_prob(z)
    error = estimates.std(0) / len(estimates) ** 0.5
    assert ((kl(q, p, z[0]) - estimates.mean(0)).abs() < 5 * error).all()


# With correlations log q(z) is no sum over dimensions, and neither is the divergence.
@pytest.mark.parametrize("name", [name for name in POSTERIORS if name not in CORRELATED])
def test_the_divergence_is_the_sum_over_its_dimensions(name, small_model):
    model = small_model(posterior={"name": name})
    q, p = model.posterior(vectors(model)), model.prior()
    torch.testing.assert_close(kl_dimensions(q, p).sum(1), kl(q, p), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", sorted(CORRELATED))
def test_the_divergence_of_correlated_dimensions_is_not_split(name, small_model):
    model = small_model(posterior={"name": name})
    with pytest.raises(NotImplementedError, match="factorize"):
        kl_dimensions(model.posterior(vectors(model)), model.prior())


def test_mean_and_standard_deviation_are_those_of_the_samples(model):
    # 4 rows of 3 dimensions at 5 standard errors each, twice: a false alarm once in 70,000 seeds; this seed is fixed.
    torch.manual_seed(0)
    q = model.posterior(vectors(model))
    z = q.sample((20_000,))
    assert q.mean.shape == q.stddev.shape == (4, 3)
    assert ((z.mean(0) - q.mean).abs() < 5 * q.stddev / len(z) ** 0.5).all()
    assert ((z.std(0) / q.stddev - 1).abs() < 5 / (2 * len(z)) ** 0.5).all()


def test_in_single_precision_the_density_and_the_divergence_are_the_same(model):
    h, z = vectors(model), points(model, 3 * vectors(model, seed=1)[:, :3])
    q, p = model.posterior(h), model.prior()
    wanted = q.log_prob(z), kl(q, p)
    single = copy.deepcopy(model).float()
    q, p = single.posterior(h.float()), single.prior()
    for found, exact in zip((q.log_prob(z.float()), kl(q, p)), wanted, strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-4)


def test_half_precision_around_it_changes_nothing(model):
    h, z = vectors(model).float(), points(model, 3 * vectors(model, seed=1)[:, :3]).float()
    model = copy.deepcopy(model).float()

    def seen():
        torch.manual_seed(0)
        q = model.posterior(h)
        return q.mean, q.stddev, q.rsample(), q.log_prob(z), kl(q, model.prior())

    wanted = seen()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = seen()
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_no_encoder_output_breaks_samples_densities_or_gradients(part, small_model):
    for scale, latent, dtype in pairwise([0.0, 1e3, 1e6], [1, 16], [torch.float32, torch.float64]):
        latent = max(latent, 2) if part["name"] in SPHERICAL else latent
        model = small_model(posterior=part, latent=latent).to(dtype)
        h = vectors(model, rows=16, scale=scale).to(dtype).requires_grad_()
        torch.manual_seed(0)
        q = model.posterior(h)
        z = q.rsample()
        assert z.isfinite().all() and q.log_prob(z).isfinite().all()
        (kl(q, model.prior()).log1p().sum() + z.sum()).backward()
        for tensor in (h, *model.posterior.parameters()):
            assert tensor.grad.isfinite().all()


def test_no_encoder_output_gives_an_infinite_or_zero_scale(model):
    for scale in (0.0, 1e3, 1e6):
        q = model.posterior(vectors(model, scale=scale).float().double())
        assert q.stddev.isfinite().all() and (q.stddev > 0).all() and kl(q, model.prior(), q.sample()).isfinite().all()


def test_the_gaussian_divergence_is_the_formula_of_the_paper(small_model):
    model = small_model(posterior={"name": "gaussian"})
    q = model.posterior(vectors(model))
    mu, s = q.mean, q.stddev
    formula = 0.5 * (mu**2 + s**2 - 1 - (s**2).log()).sum(1)
    torch.testing.assert_close(kl(q, model.prior()), formula, rtol=1e-12, atol=0)

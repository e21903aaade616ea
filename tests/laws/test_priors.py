"""Laws of priors: () -> p(z)."""

import pytest
import torch

from seqvae.config import Config
from seqvae.model.distributions import kl
from seqvae.model.priors import PRIORS, Sphere
from seqvae.rng import Stream
from seqvae.training.build import build_model

VARIANTS: dict[str, list[dict]] = {
    "mixture": [{}, {"components": 3, "spread": 0.9}],
    "flow": [{"family": family, "hidden": 8, "transforms": 2} for family in ("maf", "nsf")],
    "vamp": [{"components": 3}, {"components": 2, "length": 2}],
}
# Their networks ask for values, which meta tensors do not have.
NETWORKS = {"flow", "vamp"}
# Its density is bent by weights, wide ones too sharply for any grid; and the slope of a spline has kinks, which cost a
# trapezoid digits: the error falls slowly with the step, not at once to nothing as with smooth densities.
SPREAD, DIGITS = {"flow": 0.1}, {"flow": 1e-4}
CASES = [{"name": name, **options} for name in PRIORS for options in VARIANTS.get(name, [{}])]


@pytest.fixture(params=CASES, ids=lambda part: "-".join(map(str, part.values())))
def prior(request, small_model):
    spread = SPREAD.get(request.param["name"], 0.5)
    return lambda latent: small_model(prior=request.param, latent=latent, spread=spread).prior.requires_grad_(False)


@pytest.fixture(params=CASES, ids=lambda part: "-".join(map(str, part.values())))
def trained(request, small_model):
    """The prior with parameters that take gradients."""
    return lambda latent: small_model(prior=request.param, latent=latent).prior


def circular(prior):
    """Whether z has norm 1: the circle takes the place of the line, the sphere that of the plane."""
    return prior(2).spherical


@pytest.fixture
def digits(request):
    """How near to 1 an integral has to be."""
    return DIGITS.get(request.node.callspec.params["prior"]["name"], 1e-8)


def grid(bound=18.0, points=1201):
    return torch.linspace(-bound, bound, points, dtype=torch.float64)


def test_one_distribution_over_the_latent_space(prior):
    p = prior(3)()
    assert (p.batch_shape, p.event_shape) == ((), (3,))
    z = p.sample((5,))
    assert z.shape == (5, 3) and p.log_prob(z).shape == (5,)


def test_the_density_integrates_to_one_on_the_line(prior, circle, digits):
    if circular(prior):
        assert prior(2)().log_prob(circle).exp().mean() * 2 * torch.pi == pytest.approx(1, abs=1e-12)
        return
    z = grid()
    assert torch.trapezoid(prior(1)().log_prob(z[:, None]).exp(), z) == pytest.approx(1, abs=digits)


def test_the_density_integrates_to_one_on_the_plane(prior, sphere, digits):
    if circular(prior):
        area, nodes = sphere
        assert (area * prior(3)().log_prob(nodes).exp()).sum() == pytest.approx(1, abs=1e-6)
        return
    z = grid(points=401)
    density = prior(2)().log_prob(torch.cartesian_prod(z, z)).exp().view(401, 401)
    assert torch.trapezoid(torch.trapezoid(density, z), z) == pytest.approx(1, abs=digits)


def test_samples_have_the_moments_of_the_density(prior, circle):
    # Two moments at 5 standard errors: a false alarm once in 900,000 seeds; this seed is fixed.
    torch.manual_seed(0)
    if circular(prior):
        p, z = prior(2)(), circle[:, 0]
        density = p.log_prob(circle).exp() * 2 * torch.pi / len(circle)
    else:
        p, z = prior(1)(), grid()
        density = p.log_prob(z[:, None]).exp() * (z[1] - z[0])
    samples = p.sample((20_000,))[:, 0]
    for power in (1, 2):
        values = samples**power
        exact = (density * z**power).sum()
        assert abs(values.mean() - exact) < 5 * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_have_the_precision_that_the_module_moved_to(prior, dtype):
    assert prior(2).to(dtype)().sample().dtype == dtype


def test_samples_lie_on_the_device_that_the_module_moved_to(prior, request):
    moved = prior(2).to("meta")
    if request.node.callspec.params["prior"]["name"] in NETWORKS:
        assert all(tensor.is_meta for tensor in (*moved.parameters(), *moved.buffers()))
        return
    assert moved().sample().device.type == "meta"


def test_a_table_of_points_is_scored_point_by_point(prior):
    # Measures score (S, B, D) at once: a prior has no batch of its own that this could be mistaken for.
    p, z = prior(3)(), torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([p.log_prob(point) for point in z.flatten(0, 1)])
    torch.testing.assert_close(p.log_prob(z), alone.view(4, 5), rtol=1e-12, atol=0)


def test_each_call_describes_the_same_density_and_each_seed_the_same_samples(prior):
    p, z = prior(2), torch.tensor([0.6, 0.8], dtype=torch.float64)
    samples = []
    for _ in range(2):
        with Stream(3):
            samples.append(p().sample((4,)))
    assert torch.equal(p().log_prob(z), p().log_prob(z)) and torch.equal(*samples)


def test_the_density_carries_gradient_to_the_point_and_to_every_parameter(trained):
    p, z = trained(3), torch.full((2, 3), 0.7, dtype=torch.float64, requires_grad=True)
    p().log_prob(z).sum().backward()
    assert z.grad.isfinite().all() and bool(z.grad.any()) == (
        not isinstance(p, Sphere)
    )  # a uniform density has no slope
    for name, tensor in p.named_parameters():
        if "encoder.embed" not in name:  # the embeddings of words, which are not what a vamp prior reads
            assert tensor.grad.isfinite().all() and tensor.grad.any()


def test_samples_have_no_gradient(trained):
    assert not trained(3)().sample((2,)).requires_grad


@pytest.mark.parametrize("scale", [0.0, 1e3, 1e6])
def test_no_parameter_gives_an_infinite_or_zero_scale(prior, scale):
    p = prior(3)
    for parameter in p.parameters():
        parameter.mul_(scale)
    z = p().sample((5,))
    assert z.isfinite().all() and p().log_prob(z).isfinite().all()


@pytest.mark.parametrize("part", CASES, ids=lambda part: "-".join(map(str, part.values())))
def test_the_latent_space_of_a_language_model_has_one_point_of_log_density_zero(part):
    # Its kind takes the normal prior in place of what needs a dimension, a circle or an encoder.
    p = build_model(Config.from_dict({"kind": "lm", "model": {"prior": part}}), vocabulary=7).prior()
    assert p.sample((2,)).shape == (2, 0)
    torch.testing.assert_close(p.log_prob(torch.zeros(2, 0)), torch.zeros(2), rtol=0, atol=1e-6)


def test_the_divergence_of_a_posterior_is_never_negative_on_average(prior, small_model, random_batch):
    # 5 means of 4,000 samples each where there is no closed form: all are more than 10 standard errors above 0.
    posterior = "vmf" if circular(prior) else "gaussian"
    model = small_model(posterior={"name": posterior}).requires_grad_(False)
    q, p = model.encode(random_batch()), prior(3)()
    torch.manual_seed(0)
    samples = kl(q, p, q.sample((4_000,))).expand(4_000, 5)
    assert (samples.mean(0) > 0).all()


def test_the_normal_prior_is_the_standard_normal(small_model):
    p = small_model(prior={"name": "normal"}, latent=2).prior()
    assert float(p.log_prob(torch.tensor([1.0, -2.0], dtype=torch.float64))) == pytest.approx(-4.3378770664093453)

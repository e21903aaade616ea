"""Generation: paths between points, and points from the prior."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae import TextVAE
from seqvae.errors import ConfigError
from seqvae.latent.paths import PATHS, get_path, linear, sample_prior, slerp
from seqvae.model.decoding import decode
from seqvae.model.observations import Tokens
from seqvae.rng import Stream


class Logits(Tokens):
    """Tokens whose features are logits already."""

    def __init__(self):
        super().__init__(vocabulary=9, embedding=1, features=9, tied=False)
        torch.nn.init.eye_(self.output.weight)


class Shifted(torch.nn.Module):
    """A stand-in for a model: a prior, and a decoder whose words depend on which of 5 slices z lies."""

    latent = conditioning_size = 2
    condition = None

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.observation = Logits()

    def prior(self):
        return Independent(Normal(torch.tensor([0.0, 10.0]), self.scale), 1)

    def decode_step(self, tokens, z, state):
        slices = (z[:, 0].clamp(-2, 2).round() + 2).long()
        place = torch.zeros(len(z), 1) if state is None else state[0]
        word = torch.where(place[:, 0] >= 3, 2, 4 + slices)
        return 50.0 * torch.nn.functional.one_hot(word, 9).float(), (place + 1,)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


# Every path of the catalogue


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 1)])
def test_ends_are_kept_bit_for_bit(name, dtype, shape):
    z0, z1 = draw(*shape, seed=1, dtype=dtype), draw(*shape, seed=2, dtype=dtype)
    points = get_path(name)(z0, z1, 4)
    assert points.shape == (4, *shape)
    assert points.dtype == dtype
    assert torch.equal(points[0], z0)
    assert torch.equal(points[-1], z1)
    assert torch.equal(get_path(name)(z0, z1, 2), torch.stack([z0, z1]))


@pytest.mark.parametrize("name", PATHS)
def test_the_way_back_is_the_way_there_reversed(name):
    z0, z1 = draw(6, 4, seed=1), draw(6, 4, seed=2)
    assert torch.allclose(get_path(name)(z0, z1, 7), get_path(name)(z1, z0, 7).flip(0), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_rows_walk_by_themselves(name):
    z0, z1 = draw(6, 4, seed=1), draw(6, 4, seed=2)
    alone = torch.stack([get_path(name)(a, b, 5) for a, b in zip(z0, z1, strict=True)], dim=1)
    assert torch.allclose(get_path(name)(z0, z1, 5), alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", PATHS)
def test_ends_of_an_interpolation_are_the_reconstructions(name):
    model, z = Shifted(), torch.tensor([[-2.0, 1.0], [2.0, 1.0]])
    generated = decode(model, get_path(name)(z[0], z[1], 5), temperature=0).tokens
    assert [generated[0], generated[-1]] == decode(model, z, temperature=0).tokens
    assert [tokens[0] for tokens in generated] == sorted({tokens[0] for tokens in generated})  # none repeated


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("steps", [1, 0, -3])
def test_fewer_than_two_steps_are_refused(name, steps):
    with pytest.raises(ConfigError, match="from 2 to 1000000"):
        get_path(name)(draw(3), draw(3), steps)


@pytest.mark.parametrize("name", PATHS)
def test_ends_of_two_shapes_are_refused(name):
    with pytest.raises(ValueError, match="one shape"):
        get_path(name)(draw(3), draw(2, 3), 3)


def test_an_unknown_path_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'slerp'"):
        get_path("slrp")


# Straight


def test_linear_moves_evenly():
    z0, z1 = draw(4, seed=1), draw(4, seed=2)
    steps = linear(z0, z1, 6).diff(dim=0)
    assert torch.allclose(steps, ((z1 - z0) / 5).expand(5, -1), rtol=0, atol=1e-12)


# Spherical


def test_slerp_turns_evenly_and_its_norm_changes_evenly():
    z0, z1 = draw(8, seed=1), 3 * draw(8, seed=2)
    points = slerp(z0, z1, 9)
    norms = points.norm(dim=-1)
    assert torch.allclose(norms, torch.linspace(float(z0.norm()), float(z1.norm()), 9).double(), atol=1e-6)
    u = points / norms[:, None]
    angles = (u[1:] * u[:-1]).sum(-1).acos()
    whole = torch.nn.functional.cosine_similarity(z0, z1, dim=0).acos()
    assert torch.allclose(angles, (whole / 8).expand(8), rtol=0, atol=1e-9)


def test_slerp_between_parallel_vectors_is_straight():
    z = draw(6)
    assert torch.allclose(slerp(z, 3 * z, 5), linear(z, 3 * z, 5), rtol=0, atol=1e-9)
    assert torch.allclose(slerp(z, z, 5), z.expand(5, -1), rtol=0, atol=1e-9)
    close = z * (1 + 1e-15) + 1e-14
    assert torch.allclose(slerp(z, close, 5), z.expand(5, -1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_between_opposite_vectors_goes_round_the_sphere(dtype):
    z = draw(6, dtype=dtype)
    points = slerp(z, -2 * z, 5)
    assert torch.allclose(points.norm(dim=-1) / z.norm(), torch.tensor([1, 1.25, 1.5, 1.75, 2]).to(dtype), atol=1e-5)
    assert abs(float(torch.nn.functional.cosine_similarity(points[2], z, dim=0))) < 1e-5
    assert torch.allclose(slerp(torch.tensor([1.0]), torch.tensor([-1.0]), 3), torch.tensor([[1.0], [0], [-1]]))


def test_slerp_from_or_to_zero_is_straight_and_finite():
    zero, z = torch.zeros(4, dtype=torch.float64), draw(4)
    for a, b in ((zero, z), (z, zero), (zero, zero)):
        assert torch.allclose(slerp(a, b, 5), linear(a, b, 5), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e3, 1e30])
def test_slerp_is_finite_at_any_size(size):
    points = slerp(size * draw(5, seed=1).float(), size * draw(5, seed=2).float(), 7)
    assert torch.allclose(points / size, slerp(draw(5, seed=1).float(), draw(5, seed=2).float(), 7), atol=1e-5)


# The prior


def test_prior_draws_repeat_with_their_seed_and_leave_the_global_random_state_alone():
    model, before = Shifted(), torch.get_rng_state()
    first, again, other = (sample_prior(model, 5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert not first.requires_grad
    assert not torch.equal(sample_prior(model, 5), sample_prior(model, 5))


def test_prior_draws_follow_the_prior():
    # Means and scales of 20,000 draws within 6 standard errors: 2 of 10^9 by chance for each (the seed is fixed).
    z, count = sample_prior(Shifted(), 20_000, seed=0), 20_000
    scale = torch.tensor([1.0, 2.0])
    assert ((z.mean(0) - torch.tensor([0.0, 10.0])).abs() < 6 * scale / math.sqrt(count)).all()
    assert ((z.std(0) - scale).abs() < 6 * scale / math.sqrt(2 * count)).all()


def test_points_are_not_made_of_the_random_numbers_that_draw_words_with_the_same_seed():
    model = Shifted()
    with Stream(7):
        assert not torch.equal(model.prior().sample((5,)), sample_prior(model, 5, seed=7))


def test_no_draws_are_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        sample_prior(Shifted(), 0)


def test_a_model_without_a_latent_space_has_no_path():
    texts = [f"a {noun} ." for noun in ("cat", "dog", "bird", "fish") * 6]
    model = TextVAE.fit(texts, kind="lm", max_epochs=1, embedding=8, decoder={"hidden": 8}, precision="fp32")
    with pytest.raises(ConfigError, match="it has no latent space"):
        model.interpolate_points(torch.zeros(0), torch.zeros(0), steps=3)

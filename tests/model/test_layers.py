"""Self-attention and its positions."""

import math

import pytest
import torch

from seqvae.errors import ConfigError
from seqvae.model.layers import Block, apply_rotary


def vectors(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_two_features_are_turned_by_their_position_in_radians():
    turned = apply_rotary(torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64), start=5)
    expected = torch.tensor([[math.cos(t), math.sin(t)] for t in (5, 6, 7)], dtype=torch.float64)
    torch.testing.assert_close(turned, expected)


def test_later_pairs_turn_more_slowly():
    turned = apply_rotary(torch.tensor([[1.0, 1.0, 0.0, 0.0]], dtype=torch.float64), start=3)
    angles = torch.atan2(turned[0, 2:], turned[0, :2])
    torch.testing.assert_close(angles, torch.tensor([3.0, 3.0 / 100], dtype=torch.float64))


@pytest.mark.parametrize("shift", [1, 1000])
def test_products_depend_on_the_difference_of_positions_alone(shift):
    queries, keys = vectors(7, 8), vectors(7, 8, seed=1)
    near = apply_rotary(queries) @ apply_rotary(keys).T
    torch.testing.assert_close(apply_rotary(queries, shift) @ apply_rotary(keys, shift).T, near, rtol=0, atol=1e-10)
    assert (apply_rotary(queries, 1) @ apply_rotary(keys).T - near).abs().max() > 0.1


def test_turning_keeps_lengths_and_the_first_position_as_it_is():
    x = vectors(2, 3, 9, 8)
    torch.testing.assert_close(apply_rotary(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(apply_rotary(x)[..., 0, :], x[..., 0, :])


def test_a_step_that_attends_to_itself_only_depends_on_no_other():
    block = Block(8, heads=2, hidden=10, dropout=0.0, locked=False).double()
    x = vectors(2, 5, 8)
    alone = torch.cat([block(x[:, t : t + 1], torch.ones(1, 1, dtype=torch.bool))[0] for t in range(5)], dim=1)
    torch.testing.assert_close(block(x, torch.eye(5, dtype=torch.bool))[0], alone)


@pytest.mark.parametrize(("width", "heads"), [(8, 3), (6, 2), (5, 1)])
def test_a_width_that_the_heads_do_not_divide_into_pairs_is_refused(width, heads):
    with pytest.raises(ConfigError, match=f"width = {width} with heads = {heads}"):
        Block(width, heads=heads, hidden=10, dropout=0.0, locked=False)

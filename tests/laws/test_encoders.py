"""Laws of encoders: Batch -> (B, H). A class that is added to the catalogue comes under all of them."""

import pytest
import torch
from covering import pairwise

from seqvae.model.encoders import ENCODERS

# Depth and pooling do not meet in the code.
SHAPES = [(layers, "last") for layers in (1, 2, 3)] + [(1, "mean"), (1, "max")]
VARIANTS = {
    "recurrent": [
        {"cell": cell, "layers": layers, "bidirectional": both, "pooling": pooling}
        for cell, (layers, pooling), both in pairwise(("lstm", "gru"), SHAPES, (True, False))
    ],
    "transformer": [
        {"width": 8, "heads": heads, "hidden": 10, "layers": layers, "pooling": pooling}
        for heads, layers, pooling in ((2, 1, "first"), (1, 2, "mean"), (4, 3, "max"), (2, 2, "first"))
    ],
}
CASES = [{"name": name, **options} for name in ENCODERS for options in VARIANTS.get(name, [{}])]


def names(part):
    return "-".join(str(value) for value in part.values())


@pytest.fixture(params=CASES, ids=names)
def encoder(request, small_model):
    return small_model(encoder=request.param, seed=1).encoder


def test_one_vector_of_the_promised_size_for_each_sentence(encoder, random_batch):
    h = encoder(random_batch())
    assert h.shape == (5, encoder.features) and h.isfinite().all()


def test_every_parameter_receives_a_finite_gradient(encoder, random_batch):
    (encoder(random_batch()) ** 2).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_exactly_the_embeddings_of_tokens_that_occur_receive_gradient(encoder, random_batch):
    batch = random_batch((5, 1, 7, 3, 7) * 6)  # enough for each token to be the largest of some maximum
    (encoder(batch) ** 2).sum().backward()
    found = encoder.embed.weight.grad.abs().sum(1).nonzero()[:, 0]
    assert found.tolist() == batch.source[batch.mask].unique().tolist()
    assert found[-1] == len(encoder.embed.weight) - 1


def test_a_batch_is_its_rows_one_by_one(encoder, random_batch):
    batch = random_batch()
    sentences = [batch.targets[row, :n].tolist() for row, n in enumerate(batch.lengths.tolist())]
    alone = torch.cat([encoder(type(batch).of([sentence])) for sentence in sentences])
    torch.testing.assert_close(encoder(batch), alone, rtol=0, atol=1e-12)


def test_rows_of_equal_length_are_their_rows_one_by_one(encoder, random_batch, rows):
    batch = random_batch((4, 4, 4))
    alone = torch.cat([encoder(rows(batch, slice(row, row + 1))) for row in range(3)])
    torch.testing.assert_close(encoder(batch), alone, rtol=0, atol=1e-12)


def test_longer_padding_changes_nothing_whatever_stands_in_it(encoder, random_batch, lengthen):
    batch = random_batch()
    torch.testing.assert_close(encoder(lengthen(batch, 4, fill=7)), encoder(batch), rtol=0, atol=1e-12)


def test_permuting_the_batch_permutes_every_output(encoder, random_batch, rows):
    batch, order = random_batch(), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(encoder(rows(batch, order)), encoder(batch)[order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("part", CASES, ids=names)
def test_a_saved_and_loaded_encoder_gives_the_same_vectors(part, small_model, random_batch):
    one, other = (small_model(encoder=part, seed=seed).encoder for seed in (1, 2))
    before = one(random_batch())
    assert not torch.equal(other(random_batch()), before)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(random_batch()), before)


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("part", CASES[::3], ids=names)
def test_dropout_acts_while_training_alone(part, locked, small_model, random_batch):
    encoder = small_model(encoder=part | {"dropout": 0.5, "locked": locked}).encoder
    batch = random_batch()
    assert torch.equal(encoder(batch), encoder(batch))
    encoder.train()
    assert not torch.equal(encoder(batch), encoder(batch))


@pytest.mark.parametrize("part", CASES, ids=names)
def test_the_order_of_the_words_matters(part, small_model, random_batch):
    encoder = small_model(encoder=part).encoder
    batch = type(random_batch()).of([[4, 5, 6, 2], [6, 5, 4, 2]])
    first, second = encoder(batch)
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("part", CASES, ids=names)
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
def test_half_precision_gives_about_the_same_vectors(weights, part, small_model, random_batch):
    encoder, batch = small_model(encoder=part, spread=0.2).encoder, random_batch()
    before = encoder(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=weights == torch.float32):
        after = encoder.to(weights)(batch)
    assert after.isfinite().all() and (after - before).abs().max() < 0.05


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_pooling_last_is_the_final_state_of_each_direction(cell, both, small_model, random_batch):
    encoder = small_model(encoder={"cell": cell, "layers": 2, "bidirectional": both, "pooling": "last"}).encoder
    batch = random_batch((6, 6))
    _, state = encoder.rnn(encoder.embed(batch.source))
    final = state[0] if cell == "lstm" else state  # (layers * directions, B, H), the top layer last
    top = torch.cat([*final[-2:]] if both else [final[-1]], dim=-1)
    torch.testing.assert_close(encoder(batch), top, rtol=0, atol=1e-12)

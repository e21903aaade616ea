"""Rows of unequal length that a recurrent encoder reads padded: outputs and gradients are those of packed rows."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seqvae.model.encoders import RecurrentEncoder

LENGTHS = torch.tensor([9, 1, 3, 9, 5, 2])


@pytest.mark.parametrize("pooling", ["last", "mean", "max"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_padded_rows_are_read_as_packed_ones_are(cell, layers, bidirectional, pooling):
    torch.manual_seed(0)
    options = {"cell": cell, "layers": layers, "bidirectional": bidirectional, "pooling": pooling}
    encoder = RecurrentEncoder(embed=nn.Identity(), embedding=5, hidden=7, dropout=0.0, **options).double()
    x = torch.randn(6, 9, 5, dtype=torch.float64, requires_grad=True)
    packed = encoder.rnn(pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False))[0]
    expected = encoder._pool(pad_packed_sequence(packed, batch_first=True, total_length=9)[0], LENGTHS)
    found = encoder.encode_embeddings(x, LENGTHS)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    leaves = [x, *encoder.rnn.parameters()]
    gradients = [torch.autograd.grad(value.square().sum(), leaves) for value in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-11)


def test_dropout_between_layers_is_as_frequent_and_off_in_evaluation():
    encoder = RecurrentEncoder(embed=nn.Identity(), embedding=5, hidden=64, layers=2, dropout=0.5, locked=False)
    x = torch.ones(6, 9, 5)
    encoder.eval()
    assert torch.equal(encoder.encode_embeddings(x, LENGTHS), encoder.encode_embeddings(x, LENGTHS))
    encoder.train()
    encoder.dropout.rate = 0.0  # what is left is the dropout between the layers
    seen, second = [], encoder.rnn.all_weights[2][0]
    usual = torch.lstm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            torch, "lstm", lambda x, h, weights, *rest: seen.append((x, weights)) or usual(x, h, weights, *rest)
        )
        encoder.encode_embeddings(x, LENGTHS)
    (between,) = [given for given, weights in seen if weights[0] is second]
    assert 0.4 < float((between == 0).float().mean()) < 0.6

"""The model against the second implementation of its loss, from the same weights, in float64."""

import pytest
import torch
from covering import pairwise
from oracle import END, loss

from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.training.build import build_objective

SENTENCES = [[5, 6, END], [END], [10, 3, 4, 10, END], [7, 7, 7, 8], [9, END]]  # one empty, one truncated, without EOS

B = (True, False)
ENCODERS = [
    {"cell": cell, "hidden": 3, "layers": layers, "bidirectional": both, "pooling": pooling}
    for cell, layers, both, pooling in pairwise(("lstm", "gru"), (1, 2, 3), B, ("last", "mean", "max"))
]
DECODERS = [
    {"cell": cell, "hidden": 4, "layers": layers, "initial_state": first, "every_step": every, "skip": skip}
    for cell, layers, first, every, skip in pairwise(("lstm", "gru"), (1, 2, 3), B, B, B)
    if first or every or skip
]
SIMPLE = {"cell": "lstm", "hidden": 3, "layers": 1, "bidirectional": False, "pooling": "last"}
FULL = {"cell": "lstm", "hidden": 4, "layers": 2, "initial_state": True, "every_step": True, "skip": True}
CASES = [
    *((encoder, FULL, True, False) for encoder in ENCODERS),
    *((SIMPLE, decoder, index % 2 == 0, False) for index, decoder in enumerate(DECODERS)),
    *((SIMPLE, decoder, tied, shared) for decoder in (FULL, DECODERS[0]) for tied in B for shared in B),
]


@pytest.mark.parametrize(("encoder", "decoder", "tied", "shared"), CASES, ids=str)
def test_the_loss_is_that_of_the_loops(encoder, decoder, tied, shared, small_model):
    model = small_model(
        latent=2, embedding=3, encoder=encoder, decoder=decoder, observation={"tied": tied}, share_embedding=shared
    )
    weight = {"name": "constant", "end": 0.7}
    objective = build_objective(Config.from_dict({"objective": {"weight": weight}}))
    torch.manual_seed(3)
    value, _ = objective(model(Batch.of(SENTENCES)), 0)
    torch.manual_seed(3)
    eps = torch.randn(len(SENTENCES), 2, dtype=torch.float64).tolist()
    expected = loss(model, SENTENCES, eps, encoder=encoder, decoder=decoder, tied=tied, weight=0.7)
    assert value.item() == pytest.approx(expected, abs=1e-10)

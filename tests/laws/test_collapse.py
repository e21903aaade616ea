"""Laws of the two ends of the scale: a huge KL weight leaves a language model, no KL weight an autoencoder.

The corpus is 8 equally frequent sentences, so the entropy of the unconditional model is log 8 nats, known exactly.
"""

import math

import pytest
import torch

from seqvae.config import Config
from seqvae.data.batch import END, Batch
from seqvae.model.decoders import DECODERS
from seqvae.model.decoding import decode
from seqvae.model.encoders import ENCODERS
from seqvae.training.build import build_objective

SENTENCES = [[a, b, c, END] for a in (4, 5) for b in (6, 7) for c in (8, 9)]
VARIANTS = {"recurrent": [{"cell": cell, "hidden": 16, "dropout": 0.0} for cell in ("lstm", "gru")]}
VARIANTS["transformer"] = [{"width": 32, "heads": 4, "hidden": 64, "layers": 1, "dropout": 0.0}]
VARIANTS["convolutional"] = [{"width": 32, "hidden": 64, "layers": 2, "dropout": 0.0}]
# How an implementation is trained to the same result: the first learning rate, and a factor of the number of steps.
TRAINING = {"recurrent": (0.04, 1), "transformer": (0.005, 3), "convolutional": (0.005, 3)}


def cases(catalogue):
    return [{"name": name, **options} for name in catalogue for options in VARIANTS.get(name, [{}])]


# Each encoder with some decoder and each decoder with some encoder.
COUNT = max(len(cases(ENCODERS)), len(cases(DECODERS)))
CASES = [tuple(cases(parts)[i % len(cases(parts))] for parts in (ENCODERS, DECODERS)) for i in range(COUNT)]


def names(case):
    return "-".join(str(part.get("cell", part["name"])) for part in case)


@pytest.fixture(scope="module", params=CASES, ids=names)
def learn(request, small_model):
    encoder, decoder = request.param
    rate, longer = TRAINING[decoder["name"]]

    def train(weight, steps):
        options = {"embedding": 8, "latent": 3, "noise": {"rate": 0.0}, "encoder": encoder, "decoder": decoder}
        model = small_model(spread=0.2, **options).float().train()
        schedule = {"name": "constant", "end": weight}
        objective = build_objective(Config.from_dict({"objective": {"weight": schedule}}))
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        batch = Batch.of(SENTENCES)
        torch.manual_seed(0)
        for step in range(steps := steps * longer):
            optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
            loss, _ = objective(model(batch), step)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        return model.eval()

    return train


@pytest.fixture(scope="module")
def autoencoder(learn):
    return learn(weight=0.0, steps=100)


def scores(model):
    """Reconstruction and KL in nats per sentence, over 64 samples of z."""
    torch.manual_seed(1)
    with torch.no_grad():
        trace = model(Batch.of(SENTENCES).repeat(64))
    return float(trace.reconstruction.mean()), float(trace.kl.mean())


def test_a_huge_weight_leaves_no_divergence_and_the_reconstruction_of_a_language_model(learn):
    reconstruction, kl = scores(learn(weight=1000.0, steps=100))
    assert kl < 1e-3
    assert reconstruction == pytest.approx(math.log(len(SENTENCES)), abs=0.05)


def test_no_weight_gives_the_autoencoder(autoencoder):
    reconstruction, kl = scores(autoencoder)
    assert reconstruction < 0.05
    assert kl > math.log(len(SENTENCES))  # what it takes to distinguish eight sentences


def test_a_tiny_corpus_is_learnt_by_heart(autoencoder):
    with torch.no_grad():
        z = autoencoder.encode(Batch.of(SENTENCES)).mean
    assert decode(autoencoder, z, temperature=0.0).tokens == SENTENCES

"""What should hold on a GPU, where there is one: the same numbers as on the processor, in bf16, by the fused LSTM."""

import warnings
from dataclasses import replace

import pytest
import torch

from seqvae import TextVAE
from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.data.batching import ordered
from seqvae.data.text.corpus import load
from seqvae.evaluation.likelihood import measure
from seqvae.model.decoding import decode
from seqvae.training.build import build_model
from seqvae.training.loop import Run, fit
from seqvae.training.runtime import accelerator_for, precision

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def corpus():
    return load("grammar", vocabulary_size=400)


@pytest.fixture
def model(corpus):
    torch.manual_seed(0)
    return build_model(Config.from_dict({"model": {"observation": {"name": "tokens", "head_size": 50}}}), corpus.size)


def test_the_likelihood_is_that_of_the_processor(model, corpus):
    some = corpus.valid.at_most(100)
    here, there = (measure(model.to(device), ordered(some), samples=20).nll for device in ("cpu", "cuda"))
    torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-2)


def test_training_learns_in_bf16_where_the_gpu_has_it(corpus):
    config = Config.from_dict({"training": {"max_epochs": 1}})
    assert precision("auto", torch.device("cuda"))[0] == ("bf16" if torch.cuda.is_bf16_supported(False) else "fp32")
    run = Run(config, corpus, accelerator=accelerator_for(config, None))
    losses = [step.report.loss for step in fit(run) if hasattr(step, "report")]
    assert next(run.model.parameters()).is_cuda
    assert losses[-1] < 0.7 * losses[0]


def test_recurrent_layers_stay_fused(model):
    """torch warns where the weights do not lie in one piece, and each call has to gather them."""
    batch = Batch.of([[4, 5, 6, 2], [7, 8, 9, 2]])
    batch = replace(batch, **{name: value.cuda() for name, value in vars(batch).items() if torch.is_tensor(value)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.cuda().train()(batch).reconstruction.sum().backward()


def test_the_same_seed_says_the_same_in_batches_of_any_size(model):
    z = torch.randn(40, model.latent, generator=torch.Generator().manual_seed(0)).cuda()
    whole, part = (decode(model.cuda(), some, generator=torch.Generator().manual_seed(3)) for some in (z, z[:7]))
    assert part.tokens == whole.tokens[:7]


def test_a_model_trained_there_is_read_here(corpus, tmp_path):
    TextVAE.fit("grammar", max_epochs=1, output=tmp_path / "model")
    assert len(TextVAE.from_pretrained(tmp_path / "model").sample(3, seed=0)) == 3

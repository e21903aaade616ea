"""What a GPU can break: devices of masks and generators, bf16, fused layers, files that are read without one.

Each test compares the GPU with the processor, or asks that there be no tensor on the wrong side. Without a GPU they are
skipped; `SEQVAE_TEST_DEVICE=cpu` runs them with the processor in its place, to see that they are right themselves.
"""

import copy
import itertools
import os
import warnings
from importlib.util import find_spec

import pytest
import torch

from seqvae import SeriesVAE, TextVAE
from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.data.batching import iterate_by_length
from seqvae.data.series.corpus import load_series
from seqvae.data.text.corpus import load
from seqvae.evaluation.evaluate import score_split
from seqvae.evaluation.likelihood import estimate_mixture_nll, measure
from seqvae.latent.density import fit_aggregate
from seqvae.latent.paths import sample_prior
from seqvae.model.decoding import beam_search, decode
from seqvae.model.distributions import get_gaussian_parameters, kl
from seqvae.model.frame_decoding import decode_frames
from seqvae.rng import Stream
from seqvae.training.build import CATALOGUES, build_model
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.loop import Run, fit
from seqvae.training.precision import choose_precision, measure_bf16
from seqvae.training.runtime import make_accelerator

DEVICE = torch.device(os.environ.get("SEQVAE_TEST_DEVICE", "cuda"))
ABSENT = DEVICE.type == "cuda" and not torch.cuda.is_available()
pytestmark = [
    pytest.mark.skipif(ABSENT, reason="needs a GPU"),
    pytest.mark.filterwarnings("ignore:.*TF32"),  # said when switches are set, whichever
]

SMALL = {
    "latent": 4,
    "embedding": 16,
    "encoder": {"name": "recurrent", "hidden": 16},
    "decoder": {"name": "recurrent", "hidden": 16},
    "prior": {"name": "normal"},
    "observation": {"name": "tokens", "head_size": 8},
}
TRAINING = {"batch_size": 8, "warmup": 2, "precision": "fp32", "max_epochs": 2}
SPHERE = {"posterior": {"name": "vmf"}, "prior": {"name": "sphere"}}
PARTS = [
    (place, name)
    for place, catalogue in CATALOGUES.items()
    for name in catalogue
    if place != "objective.weight" and name != "frames"
]


@pytest.fixture(autouse=True)
def single_precision():
    """Products in fp32 itself, as on the processor: cuDNN takes TF32 by default."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [switch.allow_tf32 for switch in switches]
    for switch in switches:
        switch.allow_tf32 = False
    yield
    for switch, value in zip(switches, before, strict=True):
        switch.allow_tf32 = value


@pytest.fixture(scope="module")
def corpus():
    """Sentences of 2 to 10 words, of a vocabulary of more than one cluster."""
    words = [f"w{number}" for number in range(60)]
    lines = [" ".join(words[(7 * i + j * j) % 60] for j in range(2 + i % 9)) for i in range(200)]
    return load(list(dict.fromkeys(lines)), max_length=16)


def configure(model=None, objective=None, **training):
    return Config.from_dict(
        {"model": SMALL | (model or {}), "objective": objective or {}, "training": TRAINING | training}
    )


def start(config, corpus, folder=None, resume=False):
    return Run(config, corpus, folder, resume=resume, accelerator=make_accelerator(config, folder))


def train(config, corpus, steps=3):
    """A model after some steps, where it was trained."""
    run = start(config, corpus)
    for _ in itertools.islice(run.trainer.steps(), steps):
        pass
    run.accelerator.unwrap_model(run.trainer.wrapped, keep_fp32_wrapper=False)
    return run.model.eval()


def need_zuko():
    if find_spec("zuko") is None:  # to import it here would switch off torch's checks
        pytest.skip("needs zuko")


def on_both(model):
    """The model on the processor and on the device."""
    return [copy.deepcopy(model).to(device).eval() for device in ("cpu", DEVICE)]


@pytest.fixture(scope="module")
def trained(corpus):
    """A model that has learnt a little, on the processor."""
    return train(configure({"encoder": {"name": "recurrent", "hidden": 32}}), corpus, steps=40).cpu()


def assert_close(there, here, rtol=1e-3, atol=1e-4):
    torch.testing.assert_close(there.cpu().double(), here.cpu().double(), rtol=rtol, atol=atol)


# Training


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@pytest.mark.parametrize(("place", "name"), PARTS)
def test_every_part_trains_and_scores_as_on_the_processor(place, name, kind, corpus, request):
    if kind == "bf16" and DEVICE.type == "cpu":
        request.getfixturevalue("half")
    if name == "flow":
        need_zuko()
    group, field = place.split(".")
    parts = SPHERE if name in ("vmf", "sphere") else {field: {"name": name}}
    if "hidden" in SMALL.get(field, {}):
        parts = {field: {"name": name, "hidden": 16}}
    if field == "observation":
        parts = {field: SMALL[field]}
    config = configure(**{group: parts}, precision=kind)
    model = train(config, corpus)
    assert {p.device.type for p in model.parameters()} == {DEVICE.type}
    assert all(p.isfinite().all() for p in model.parameters())
    some = corpus.valid.at_most(10)
    here, there = (measure(side, iterate_by_length(some), samples=4) for side in on_both(model))
    assert there.nll.isfinite().all()
    if (
        get_gaussian_parameters(model.encode(some.batch(range(4)).to(DEVICE))) is not None
    ):  # others draw from the device's generator
        assert_close(there.nll, here.nll, atol=2e-3)
        assert_close(there.kl, here.kl, atol=2e-3)
    z = sample_prior(model, 3, seed=0)
    assert z.device.type == DEVICE.type
    assert len(decode(model, z, max_length=5).tokens) == 3


def test_losses_and_gradients_are_those_of_the_processor(trained, corpus):
    batch = corpus.train.batch(range(20))
    assert batch.lengths.unique().numel() > 1  # packed, with masks
    noise = torch.randn(20, trained.latent)
    found = []
    for side, device in zip(on_both(trained), ("cpu", DEVICE), strict=True):
        some = batch.to(device)
        for layer in (side.encoder.rnn, side.decoder.rnn):
            layer.train()  # cuDNN has no gradients otherwise
        q = side.encode(some)
        z = q.mean + q.stddev * noise.to(device)
        scores = side.log_prob(some, z)
        assert (scores[~some.mask] == 0).all()
        (kl(q, side.prior(), z) - scores.sum(1)).mean().backward()
        found.append((scores, [p.grad for p in side.parameters() if p.grad is not None]))
    (here, slopes), (there, others) = found
    assert_close(there, here)
    for one, other in zip(others, slopes, strict=True):
        assert_close(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_training_learns(kind, corpus, request):
    if kind == "bf16" and DEVICE.type == "cpu":
        request.getfixturevalue("half")
    run = start(configure(precision=kind, max_epochs=10, learning_rate=0.01), corpus)
    losses = [step.report.loss for step in fit(run) if hasattr(step, "report")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert {p.dtype for p in run.model.parameters()} == {torch.float32}


def test_auto_measures_where_the_gpu_has_bf16():
    if DEVICE.type != "cuda":
        pytest.skip("on a processor tests/training/test_precision.py")
    faster = choose_precision("auto", DEVICE, lambda: 0.5)[0]
    assert faster == ("bf16" if torch.cuda.is_bf16_supported(False) else "fp32")
    assert choose_precision("auto", DEVICE, lambda: 1.0)[0] == "fp32"
    assert measure_bf16(Config(), DEVICE) > 0


@pytest.mark.parametrize("options", [{}, {"weight_dropout": 0.5}, {"layers": 2, "every_layer": True}])
def test_recurrent_layers_stay_fused(options, corpus):
    """torch warns where the weights do not lie in one piece, and each call has to gather them."""
    model = build_model(configure({"decoder": SMALL["decoder"] | options}), corpus.size).to(DEVICE).train()
    batch = Batch.of([[4, 5, 6, 2], [7, 8, 2]]).to(DEVICE)
    with warnings.catch_warnings():
        if not options.get("weight_dropout"):  # whose weights are new at each step
            warnings.simplefilter("error")
        model(batch).reconstruction.sum().backward()


def test_a_run_goes_on_and_its_model_is_read_on_the_processor(corpus, tmp_path):
    for epochs in (1, 2):
        run = start(configure(max_epochs=epochs), corpus, tmp_path, resume=epochs == 2)
        began = run.trainer.step
        for _ in fit(run):
            pass
    assert 0 < began < run.trainer.step
    model = Checkpoint.load(tmp_path).model
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    for name, weight in run.model.state_dict().items():
        assert torch.equal(weight.cpu(), model.state_dict()[name])
    read = TextVAE.from_pretrained(tmp_path)
    assert len(read.sample(3, seed=0)) == len(read.reconstruct(["w1 w2 w3"] * 3)) == 3


def test_labels_condition_a_model(tmp_path):
    rows = {"text": [f"w{i % 7} w{i % 5} w{i % 3}" for i in range(105)], "kind": ["a", "b", "c"] * 35}
    model = TextVAE.fit(rows, label_column="kind", output=tmp_path / "model", **SMALL, **TRAINING)
    assert len(model.sample(4, label="b", seed=0)) == 4


# Use


def test_the_streams_of_a_device_repeat_and_leave_the_global_one_alone(trained):
    model = copy.deepcopy(trained).to(DEVICE)
    state = torch.get_rng_state(), *([torch.cuda.get_rng_state()] if DEVICE.type == "cuda" else [])
    one, same, other = (sample_prior(model, 5, seed=seed) for seed in (1, 1, 2))
    with Stream(3):
        again = torch.rand(3, device=DEVICE)
    with Stream(3):
        assert torch.equal(torch.rand(3, device=DEVICE), again)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    after = torch.get_rng_state(), *([torch.cuda.get_rng_state()] if DEVICE.type == "cuda" else [])
    assert all(map(torch.equal, state, after))


def test_sentences_are_those_of_the_processor(trained):
    here, there = on_both(trained)
    z = torch.randn(40, trained.latent, generator=torch.Generator().manual_seed(0))
    for options in ({"temperature": 0.0}, {"beam": 4}, {}, {"top_p": 0.9, "temperature": 0.7}, {"top_k": 3}):
        draws = [torch.Generator().manual_seed(3) for _ in range(2)]
        ours, theirs = (
            decode(side, z, max_length=8, generator=g, **options) for side, g in zip((there, here), draws, strict=True)
        )
        same = [a == b for a, b in zip(ours.tokens, theirs.tokens, strict=True)]
        assert sum(same) >= 38, options  # two words may be equally likely but for rounding
        assert_close(ours.log_prob[same], theirs.log_prob[same])


def test_the_same_seed_gives_the_same_sentences_in_batches_of_any_size(trained):
    model = copy.deepcopy(trained).to(DEVICE)
    z = torch.randn(40, model.latent, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    whole, part = (decode(model, some, generator=torch.Generator().manual_seed(3)) for some in (z, z[:7]))
    assert part.tokens == whole.tokens[:7]
    beams, few = (beam_search(model, some, 3, max_length=8).tokens for some in (z, z[:7]))
    assert few == beams[:7]


@pytest.mark.parametrize("density", ["gaussian", "mixture", "flow"])
def test_a_density_of_the_aggregate_posterior_gives_points_to_decode(density, trained, corpus):
    if density == "flow":
        need_zuko()
    model = copy.deepcopy(trained).to(DEVICE)
    batches = [batch for _, batch in iterate_by_length(corpus.train.at_most(60))]
    found = fit_aggregate(model, batches, density=density)
    points = found.sample(5, seed=0)
    assert len(decode(model, points.z, max_length=5).tokens) == 5
    assert points.log_prob.isfinite().all()


def test_all_scores_are_those_of_the_processor(trained, corpus):
    some = corpus.valid.at_most(12)
    here, there = (score_split(side, some, samples=8, refined=4)[0] for side in on_both(trained))
    for name, value in vars(here).items():
        if isinstance(value, int | float) and not name.startswith(("holes", "decoder_entropy")):
            assert getattr(there, name) == pytest.approx(value, rel=1e-2, abs=1e-2), name
    mixed = [estimate_mixture_nll(side, iterate_by_length(some), samples=8) for side in on_both(trained)]
    assert_close(mixed[1], mixed[0], rtol=1e-2)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_series_train_and_unroll(kind, request):
    if kind == "bf16" and DEVICE.type == "cpu":
        request.getfixturevalue("half")
    generator = torch.Generator().manual_seed(0)
    series = [torch.randn(5 + i % 4, 2, generator=generator).cumsum(0).numpy() for i in range(80)]
    corpus = load_series(series)
    model = train(
        configure({"observation": {"name": "frames"}, "noise": {"name": "word-dropout", "rate": 0.0}}, precision=kind),
        corpus,
    )
    here, there = (measure(side, iterate_by_length(corpus.valid), samples=4).nll for side in on_both(model))
    assert_close(there, here, atol=1e-2)
    z = sample_prior(model, 5, seed=0)
    for temperature in (0.0, 1.0):
        found = decode_frames(
            model, z, temperature=temperature, max_length=9, generator=torch.Generator().manual_seed(0)
        )
        assert len(found.series) == 5
    assert len(decode_frames(model, z, frames=[2, 3, 4, 5, 6]).series) == 5


# device=

SENTENCES = [f"w{i % 7} w{i % 5} w{i % 3}" for i in range(105)]


def test_a_model_is_trained_loaded_and_used_on_the_device_that_is_named(tmp_path):
    name = str(DEVICE)
    model = TextVAE.fit(SENTENCES, device=name, output=tmp_path / "model", **SMALL, **TRAINING)
    again = TextVAE.from_pretrained(tmp_path / "model", device=name)
    here = TextVAE.from_pretrained(tmp_path / "model")
    assert {p.device.type for p in here.model.parameters()} == {"cpu"}
    for there in (model, again):
        assert {p.device.type for p in there.model.parameters()} == {DEVICE.type}
        q = there.encode(SENTENCES[:9])
        assert q.mean.device.type == DEVICE.type
        assert_close(q.mean, here.encode(SENTENCES[:9]).mean)
        assert_close(there.score(SENTENCES[:9], samples=4), here.score(SENTENCES[:9], samples=4), atol=2e-3)
        assert len(there.sample(3, seed=0)) == len(there.reconstruct(SENTENCES[:3])) == 3
        assert len(there.interpolate(*SENTENCES[:2], steps=4)) == 4
        assert len(there.decode(there.aggregate(SENTENCES, density="gaussian").sample(3, seed=0).z)) == 3
        there.save_pretrained(tmp_path / "copy")
        assert there.refit_prior(SENTENCES, components=3).sample_prior(2, seed=0).device.type == DEVICE.type
    tuned = TextVAE.fit(SENTENCES, device=name, init=model, max_epochs=1, precision="fp32")
    assert {p.device.type for p in tuned.model.parameters()} == {DEVICE.type}


def test_a_model_of_series_is_trained_and_used_on_the_device_that_is_named():
    generator = torch.Generator().manual_seed(0)
    series = [torch.randn(5 + i % 4, 2, generator=generator).cumsum(0).numpy() for i in range(80)]
    options = {key: part for key, part in SMALL.items() if key != "observation"}
    model = SeriesVAE.fit(series, device=str(DEVICE), **options, **TRAINING)
    assert model.encode(series[:4]).mean.device.type == DEVICE.type
    assert len(model.sample(3, seed=0)) == len(model.reconstruct(series[:3])) == 3
    model.score_reconstructions(model.load_corpus(series, whole=True).test)

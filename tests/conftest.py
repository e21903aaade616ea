"""Fixtures of several tests: small models, batches and corpora."""

import re
from dataclasses import replace

import pytest
import torch

from seqvae.cli import main
from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.training.build import build_model
from seqvae.training.precision import supports_bf16

VOCABULARY = 11
SPHERICAL = {"posterior": "vmf", "prior": "sphere"}
SMALL = {  # the parts of a small model where a test does not name others; the KL to this prior has a closed form
    "encoder": {"name": "recurrent", "hidden": 4, "dropout": 0.3},
    "prior": {"name": "normal"},
    "decoder": {"name": "recurrent", "hidden": 5, "dropout": 0.3},
    "observation": {"name": "tokens"},
    "noise": {"name": "word-dropout", "rate": 0.3},
}
MIXTURE = {"components": 10, "refit": 0}
RISE = {"name": "linear", "end": 0.5, "steps": 1500}


def _fill_in(given, part):
    """The options of `part` under those given; a part of another name comes with its own."""
    return part | given if given.get("name", part["name"]) == part["name"] else given


def _small_config(**options):
    """A configuration of a tiny model; `encoder`, `decoder` ... are parts, the other options those of [model]."""
    names = [options.get(place, {}).get("name") for place in ("posterior", "prior")]
    if names in (["vmf", None], [None, "sphere"]):  # neither goes without the other
        options |= {place: {"name": name} | options.get(place, {}) for place, name in SPHERICAL.items()}
    for place, part in SMALL.items():
        given = options.pop(place, {})
        options[place] = _fill_in(given, part)
    if options["prior"]["name"] == "mixture":
        options["prior"] = MIXTURE | options["prior"]
    return Config.from_dict({"model": {"latent": 3, "embedding": 6} | options})


def _small_model(*, seed=0, spread=0.5, vocabulary=VOCABULARY, labels=0, **options):
    """A tiny model in float64 and evaluation mode, with weights so large that all outputs depend on all inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(_small_config(**options), vocabulary, labels).double().eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=spread)
    return model


def _random_batch(lengths=(5, 1, 7, 3, 7), *, seed=0, vocabulary=VOCABULARY, labels=None):
    """Sentences of random words, each with its end; the last id of the vocabulary occurs."""
    g = torch.Generator().manual_seed(seed)
    sequences = [[*torch.randint(3, vocabulary, (n - 1,), generator=g).tolist(), 2] for n in lengths]
    longest = max(sequences, key=len)
    longest[0] = vocabulary - 1
    return replace(Batch.of(sequences), labels=None if labels is None else torch.tensor(labels))


def _lengthen(batch, steps, fill=0):
    """The same sentences in a wider batch; `fill` is the value of all padding."""
    width = batch.targets.shape[1] + steps
    counts = torch.arange(width) < batch.lengths[:, None]

    def wide(ids):
        return torch.nn.functional.pad(ids, (0, steps)).masked_fill(~counts, fill)

    return Batch(wide(batch.source), wide(batch.inputs), wide(batch.targets), batch.lengths, labels=batch.labels)


def _rows(batch, index):
    """Some rows of a batch, in that order, as wide as before."""
    return Batch(batch.source[index], batch.inputs[index], batch.targets[index], batch.lengths[index])


@pytest.fixture(scope="session")
def half():
    """For tests that compute in bf16: skips them on processors that cannot."""
    if not supports_bf16(torch.device("cpu")):
        pytest.skip("this processor has no AVX512, without which LSTM layers do not run in bf16")


@pytest.fixture(scope="session")
def circle():
    """(N, 2): points at even angles, over which the mean of a smooth function times 2 pi is its integral."""
    angle = torch.arange(2000, dtype=torch.float64) * 2 * torch.pi / 2000
    return torch.stack([angle.cos(), angle.sin()], dim=1)


@pytest.fixture(scope="session")
def sphere():
    """(N,) areas and (N, 3) points of a grid over the unit sphere: middles in height, even angles around."""
    height, angle = (torch.arange(n, dtype=torch.float64) / n for n in (16000, 60))
    h, a = torch.cartesian_prod(2 * height + 1 / 16000 - 1, 2 * torch.pi * angle).T
    r = (1 - h.square()).sqrt()
    return torch.full_like(h, 4 * torch.pi / len(h)), torch.stack([r * a.cos(), r * a.sin(), h], dim=1)


@pytest.fixture(scope="session")
def small_config():
    return _small_config


@pytest.fixture(scope="session")
def small_model():
    return _small_model


@pytest.fixture(scope="session")
def random_batch():
    return _random_batch


@pytest.fixture(scope="session")
def lengthen():
    return _lengthen


@pytest.fixture(scope="session")
def rows():
    return _rows


@pytest.fixture(scope="session")
def tiny_corpus():
    """36 short sentences with a vocabulary of 14, in memory: 32 train, 2 valid, 2 test."""
    from seqvae.data.text.corpus import load

    subjects, verbs, places = (
        ("a cat", "the dog", "one bird"),
        ("sat", "ran", "ate"),
        ("", "here", "there now", "at home"),
    )
    sentences = [" ".join(f"{s} {v} {p} .".split()) for s in subjects for v in verbs for p in places]
    return load(sentences, max_length=20)


@pytest.fixture(scope="session")
def training_config(small_config):
    """A whole configuration of a short run, every option explicit that decides its length."""

    def make(model=None, objective=None, **training):
        config = small_config(**(model or {})).to_dict()
        terms = dict(objective or {})
        terms["weight"] = _fill_in(terms.get("weight", {}), RISE)
        defaults = {"batch_size": 8, "max_epochs": 3, "precision": "fp32", "warmup": 2, "learning_rate": 0.01}
        return Config.from_dict(config | {"objective": terms, "training": defaults | training})

    return make


@pytest.fixture
def refused(capsys):
    """The one line on standard error of a command that ends with code 2 without a result."""

    def run(*arguments):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (stop.value.code, out) == (2, "")
        assert re.fullmatch(r"seqvae: [^\n]+\n", err), err
        return err

    return run


@pytest.fixture
def file(tmp_path):
    """Write a file of this name and content, and return its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write

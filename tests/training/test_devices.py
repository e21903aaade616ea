"""`device=`: where a model is trained, and where it is afterwards."""

import numpy as np
import pytest
import torch
from accelerate import PartialState

from seqvae import SeriesVAE, TextVAE
from seqvae.errors import ConfigError
from seqvae.training import runtime
from seqvae.training.devices import choose_device, list_devices

SENTENCES = ["a cat sat .", "a dog sat .", "a cat ran .", "a dog ran ."] * 9
SMALL = {"latent": 2, "max_epochs": 1, "precision": "fp32"}


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, as far as its list of devices goes."""
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)


@pytest.fixture
def fresh_state():
    """Accelerate's choice of a device, as it was before."""
    yield
    runtime.place_process(None)


@pytest.mark.usefixtures("two_gpus")
def test_devices_are_chosen_among_those_that_are_there():
    assert list_devices() == ["cpu", "cuda:0", "cuda:1"]
    assert choose_device(None) is None
    for name in ("cpu", "cuda", "cuda:1", torch.device("cuda:0")):
        assert choose_device(name) == torch.device(name)
    for name in ("cuda:2", "xpu", "gpu", "", "meta"):
        with pytest.raises(ConfigError, match="this machine has cpu, cuda:0, cuda:1; write one of these") as caught:
            choose_device(name)
        assert "\n" not in str(caught.value)


def test_a_device_that_is_not_there_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: None)
    for call in (
        lambda: TextVAE.fit("no-such-file.txt", device="cuda"),
        lambda: SeriesVAE.fit("no-such-file.npz", device="cuda"),
        lambda: TextVAE.from_pretrained("no-such-folder", device="cuda"),
    ):
        with pytest.raises(ConfigError, match="device = 'cuda': this machine has cpu; write one of these"):
            call()


@pytest.mark.usefixtures("two_gpus", "fresh_state")
def test_accelerate_computes_on_the_device_and_forgets_it_afterwards():
    runtime.place_process(torch.device("cuda:1"))
    assert PartialState().device == torch.device("cuda:1")
    runtime.place_process(torch.device("cpu"))
    assert PartialState().device == torch.device("cpu")
    runtime.place_process(torch.device("cuda:1"))
    runtime.place_process(None)
    assert PartialState().device != torch.device("cuda:1")


def test_on_the_processor_a_model_is_trained_and_used():
    model = TextVAE.fit(SENTENCES, device="cpu", **SMALL)
    assert {p.device.type for p in model.model.parameters()} == {"cpu"} and PartialState().device.type == "cpu"
    usual = TextVAE.fit(SENTENCES, **SMALL)
    if not torch.cuda.is_available():
        assert model.sample(5, seed=0) == usual.sample(5, seed=0)
    waves = [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]
    assert len(SeriesVAE.fit(waves, device="cpu", **SMALL).sample(2, seed=0)) == 2


def test_to_returns_the_model_itself():
    model = TextVAE.from_pretrained("chitchat", device="cpu")
    assert model.to("cpu") is model.to(None) is model

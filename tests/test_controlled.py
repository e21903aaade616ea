"""Terms that hold the KL at a rate: how they move, when they count as settled, and what is kept of them."""

import math

import pytest
import torch
from accelerate import Accelerator

from seqvae.build import make, resolve_all
from seqvae.config import Config, to_toml
from seqvae.errors import ConfigError
from seqvae.fitting import Run, fit
from seqvae.terms import Controlled, MinimumRate
from seqvae.textvae import config_of
from seqvae.vae import Trace


class Rate(Trace):
    """A trace of which only the KL is known."""

    def __init__(self, kl):
        self.__dict__ |= {"kl": torch.as_tensor(kl, dtype=torch.float64), "z": torch.zeros(len(kl), 2)}


def test_the_weight_rises_by_the_relative_distance_above_the_target_and_falls_below_it():
    term = Controlled(target=8.0, start=0.5, gain=0.1)
    assert term(Rate([12.0, 20.0])).tolist() == pytest.approx([12 * 0.5 * math.exp(0.05), 20 * 0.5 * math.exp(0.05)])
    assert float(term.log_weight.exp()) == pytest.approx(0.5 * math.exp(0.1 * 8 / 16))
    term = Controlled(target=8.0, start=0.5, gain=0.1)
    term(Rate([2.0]))
    assert float(term.log_weight.exp()) == pytest.approx(0.5 * math.exp(-0.1 * 6 / 8))


def test_the_multiplier_rises_only_below_the_rate_and_never_below_zero():
    term = MinimumRate(rate=8.0, step=0.08)
    assert term(Rate([10.0])).tolist() == [10.0] and float(term.multiplier) == 0
    assert term(Rate([3.0, 5.0])).tolist() == pytest.approx([3 + 0.04 * 4, 5 + 0.04 * 4])
    assert float(term.multiplier) == pytest.approx(0.01 * 4)


@pytest.mark.parametrize("target", [2.0, 5.0, 10.0, 20.0])
def test_a_model_that_answers_the_weight_is_brought_to_the_target(target):
    """Its KL follows 30 / (1 + 10 w) with a delay, as a model's follows what it is asked for."""
    term, kl = Controlled(target=target), 0.1
    for _ in range(2000):
        term(Rate([kl]))
        kl += 0.02 * (30 / (1 + 10 * float(term.log_weight.exp())) - kl)
    assert kl == pytest.approx(target, rel=0.05) and term.settled


def test_it_is_settled_only_near_its_target():
    term = Controlled(target=8.0)
    assert not term.settled
    for kl, expected in ((8.0, True), (100.0, False)):
        term(Rate([kl]))
        assert term.settled is expected


def test_batches_of_unequal_length_do_not_unsettle_it():
    """A quarter of the target is the deviation seen between batches of Tatoeba; this seed is fixed."""
    term, generator = Controlled(target=6.0), torch.Generator().manual_seed(0)
    seen = []
    for draw in 6.0 + 1.5 * torch.randn(3000, generator=generator):
        term(Rate([float(draw)]))
        seen.append(term.settled)
    assert all(seen[500:])


@pytest.mark.parametrize("name", ["controlled", "minimum-rate"])
def test_an_evaluation_moves_nothing(name):
    term = make("objective.divergence", {"name": name}).eval()
    before = {key: value.clone() for key, value in term.state_dict().items()}
    term(Rate([3.0]))
    assert before and all(torch.equal(value, term.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("options", [{"target": 0.0}, {"target": math.inf}, {"start": -1.0}, {"gain": 0.0}])
def test_rates_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match="expected more than 0"):
        Controlled(**options)


def test_target_kl_is_short_for_the_controlled_divergence():
    config = resolve_all(config_of({"target_kl": 5.0, "divergence": {"name": "controlled", "gain": 0.02}}))
    assert config.objective.divergence == {"name": "controlled", "target": 5.0, "start": 0.1, "gain": 0.02}
    assert config.objective.weight == {"name": "constant", "end": 1.0}
    assert Config.from_dict(config.to_dict()) == config and "target_kl = 5.0" in to_toml(config)
    with pytest.raises(ConfigError, match="target_kl"):
        Config.from_dict({"target_kl": 0.0})


SMALL = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}


def test_a_resumed_run_goes_on_with_the_weight_that_it_had(tiny_corpus, tmp_path):
    def run(folder, epochs, resume=False):
        options = {"target_kl": 1.0, "batch_size": 8, "validate_every": 4, "max_epochs": epochs}
        config = resolve_all(config_of(SMALL | options))
        made = Run(config, tiny_corpus, folder, resume=resume, accelerator=Accelerator(mixed_precision="no"))
        for event in fit(made):
            if not resume and epochs == 4 and getattr(event, "update", 0) == 9:
                break  # killed
        return made

    whole = run(tmp_path / "whole", 3)
    part = run(tmp_path / "part", 4)
    assert float(part.objective.divergence.log_weight) != float(whole.objective.divergence.log_weight)
    again = run(tmp_path / "part", 3, resume=True)
    assert torch.equal(again.objective.divergence.log_weight, whole.objective.divergence.log_weight)
    assert torch.equal(again.objective.divergence.mean, whole.objective.divergence.mean)

"""Building: names and options of the configuration to objects, wrong ones refused before any work."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.errors import ConfigError
from seqvae.model.encoders import ENCODERS, Encoder
from seqvae.schedules import SCHEDULES, Schedule
from seqvae.training.build import CATALOGUES, build_model, build_objective, make, resolve_all, resolve_part

ENTRIES = [(place, name) for place, catalogue in CATALOGUES.items() for name in catalogue]


def config_with(place, part, base):
    """The small configuration with one part set."""
    group, field = place.split(".")
    values = base.to_dict()
    values[group][field] = part
    for one, other in (("vmf", "sphere"), ("sphere", "vmf")):  # neither goes without the other
        if part["name"] == one:
            values["model"]["prior" if one == "vmf" else "posterior"] = {"name": other}
    return Config.from_dict(values)


@pytest.mark.parametrize(("place", "name"), ENTRIES)
def test_every_entry_of_every_catalogue_builds_and_takes_a_step(place, name, small_config, random_batch):
    config = config_with(place, {"name": name}, small_config())
    batch = Batch.of_frames([np.ones((n, 11)) for n in (3, 1)]) if name == "frames" else random_batch()
    loss, _ = build_objective(config, vocabulary=11, sentences=9)(build_model(config, 11)(batch), 0)
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize("place", CATALOGUES)
def test_every_entry_survives_plain_values(place, small_config):
    for name in CATALOGUES[place]:
        config = resolve_all(config_with(place, {"name": name}, small_config()))
        again = Config.from_dict(config.to_dict())
        assert again == config and resolve_all(again) == config, name


@pytest.mark.parametrize("place", CATALOGUES)
def test_every_resolved_entry_has_all_its_options(place):
    """A resolved part holds each option, so that a stored configuration does not change with the code."""
    for name, cls in CATALOGUES[place].items():
        part = resolve_part(place, {"name": name})
        if dataclasses.is_dataclass(cls):
            assert part == {"name": name} | {f.name: f.default for f in dataclasses.fields(cls)}
        for option, value in part.items():
            assert option == "name" or isinstance(value, (bool, int, float, str, type(None)))


@pytest.mark.parametrize("place", CATALOGUES)
def test_an_unknown_name_is_refused_with_the_nearest_and_all_known(place):
    name = next(iter(CATALOGUES[place]))
    with pytest.raises(ConfigError) as caught:
        make(place, {"name": name[:-1] + "x"})
    assert f"did you mean '{name}'" in str(caught.value) and place in str(caught.value)
    assert all(known in str(caught.value) for known in CATALOGUES[place])


@pytest.mark.parametrize(
    ("place", "part", "near"),
    [
        ("model.encoder", {"name": "recurrent", "hiden": 3}, "hidden"),
        ("model.decoder", {"name": "recurrent", "every_stp": True}, "every_step"),
        ("model.observation", {"name": "tokens", "tyed": True}, "tied"),
        ("model.noise", {"name": "word-dropout", "rat": 0.1}, "rate"),
        ("objective.divergence", {"name": "kl", "free_bit": 1}, "free_bits"),
        ("objective.weight", {"name": "linear", "step": 1}, "steps"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(place, part, near):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        resolve_part(place, part)


@pytest.mark.parametrize("size", ["embedding", "latent", "embed"])
def test_what_the_neighbours_decide_is_no_option(size):
    with pytest.raises(ConfigError, match=size):
        resolve_part("model.encoder", {"name": "recurrent", size: 3})


@pytest.mark.parametrize("name", ["gaussian", "normal"])
def test_a_class_without_options_refuses_every_one(name):
    place = {"gaussian": "model.posterior", "normal": "model.prior"}[name]
    with pytest.raises(ConfigError, match="args"):
        resolve_part(place, {"name": name, "args": 1})


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("model.encoder", {"name": "recurrent", "hidden": "many"}),
        ("model.encoder", {"name": "recurrent", "hidden": 2.5}),
        ("model.encoder", {"name": "recurrent", "hidden": None}),
        ("model.encoder", {"name": "recurrent", "hidden": [3]}),
        ("model.encoder", {"name": "recurrent", "bidirectional": "perhaps"}),
        ("model.encoder", {"name": "recurrent", "cell": "rnn"}),
        ("model.encoder", {"name": "recurrent", "pooling": 3}),
        ("model.noise", {"name": "word-dropout", "rate": "often"}),
        ("objective.weight", {"name": "linear", "steps": "1e3x"}),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_option(place, part):
    option = next(key for key in part if key != "name")
    with pytest.raises(ConfigError, match=f"{place}.{option}"):
        resolve_part(place, part)


@pytest.mark.parametrize(("option", "value"), [("hidden", 0), ("hidden", -1), ("layers", 0), ("layers", -2)])
@pytest.mark.parametrize("place", ["encoder", "decoder"])
def test_a_size_below_one_is_refused_by_the_name_of_its_option(place, option, value, small_config):
    with pytest.raises(ConfigError, match=option):
        build_model(resolve_all(small_config(**{place: {option: value}})), 11)


def test_words_of_the_command_line_become_what_the_constructor_asks_for():
    part = {"name": "recurrent", "hidden": "7", "bidirectional": "no", "dropout": "0", "cell": "gru"}
    resolved = resolve_part("model.encoder", part)
    assert {k: resolved[k] for k in part} == {**part, "hidden": 7, "bidirectional": False, "dropout": 0.0}


def test_the_same_seed_gives_the_same_weights(small_config):
    def weights(seed):
        torch.manual_seed(seed)
        return build_model(small_config(), 11).state_dict()

    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("latent", [1, 5])
def test_the_latent_size_reaches_every_part(latent, small_config, random_batch):
    trace = build_model(small_config(latent=latent), 11)(random_batch())
    assert trace.z.shape == trace.q.mean.shape == (5, latent) and trace.p.event_shape == (latent,)


# -- one line in a catalogue is all that a new class needs ------------------------------------------------------------


class BagOfWords(Encoder):
    """A stranger's encoder, with an option of its own."""

    def __init__(self, *, embed: nn.Module, embedding: int, power: int = 1) -> None:
        super().__init__()
        self.embed, self.power, self.features = embed, power, embedding

    def encode_embeddings(self, embedded, lengths):
        within = torch.arange(embedded.shape[1]) < lengths[:, None]
        return torch.where(within[..., None], embedded, 0).sum(1) ** self.power


@dataclasses.dataclass(frozen=True, kw_only=True)
class Staircase(Schedule):
    """A stranger's schedule."""

    end: float = 1.0
    stairs: int = 3

    def __call__(self, update: int) -> float:
        return self.end * min(1, update // 100 / self.stairs)

    @property
    def annealing_steps(self) -> int:
        return 100 * self.stairs


def test_a_class_added_to_a_catalogue_is_reachable_with_its_options(monkeypatch, small_config, random_batch):
    monkeypatch.setitem(ENCODERS, "bag", BagOfWords)
    config = Config.from_dict(resolve_all(small_config(encoder={"name": "bag", "power": "2"})).to_dict())
    model = build_model(config, 11)
    assert isinstance(model.encoder, BagOfWords) and model.encoder.power == 2
    assert model(random_batch()).log_prob.isfinite().all()


def test_a_schedule_added_to_its_catalogue_is_reachable_with_its_options(monkeypatch):
    monkeypatch.setitem(SCHEDULES, "staircase", Staircase)
    config = Config.from_dict({"objective": {"weight": {"name": "staircase", "stairs": 4}}})
    assert build_objective(config).weight == Staircase(stairs=4)


def test_an_option_that_may_be_missing_is_named_none_or_a_number():
    for given, expected in ((None, None), ("none", None), ("0.5", 0.5)):
        part = resolve_part("model.decoder", {"name": "recurrent", "output_dropout": given})
        assert part["output_dropout"] == expected

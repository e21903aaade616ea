"""The configuration: frozen, complete, plain, and strict about names and values."""

import dataclasses
import json
import tomllib

import pytest

from seqvae.config import Config, Data, Model, Objective, Training, completed, to_toml
from seqvae.errors import ConfigError

FULL = {
    "corpus": "some file.txt",
    "data": {"column": "täxt", "tokenizer": "bpe", "vocabulary_size": 500, "lowercase": False, "max_length": 30},
    "model": {"latent": 7, "encoder": {"cell": "gru", "layers": 2}, "noise": {"rate": 0.25}, "share_embedding": True},
    "objective": {"divergence": {"free_bits": 4.0, "floor": "total"}, "weight": {"name": "cyclical", "cycles": 3}},
    "training": {"seed": 9, "max_epochs": 2, "max_minutes": 0.5, "learning_rate": 1e-5, "trackers": ["a", "b"]},
}


@pytest.fixture(params=[{}, FULL], ids=["defaults", "full"])
def config(request):
    return Config.from_dict(request.param)


def test_no_values_are_all_the_defaults():
    assert Config.from_dict({}) == Config()


def test_it_survives_plain_values(config):
    assert Config.from_dict(config.to_dict()) == config


def test_it_survives_json(config):
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_it_survives_toml(config):
    values = tomllib.loads(to_toml(config))
    groups = {group: values.pop(group, {}) for group in ("model", "objective")}
    for group in (Data, Training):
        names = {field.name for field in dataclasses.fields(group)}
        groups[group.__name__.lower()] = {name: values.pop(name) for name in names & values.keys()}
    assert values == {"kind": config.kind}
    assert Config.from_dict(groups | values | {"corpus": config.corpus}) == config


@pytest.mark.parametrize("group", [Config, Data, Model, Objective, Training])
def test_it_cannot_be_changed(group):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(group(), dataclasses.fields(group)[0].name, 1)


def test_two_configurations_share_no_part():
    one, other = Config(), Config()
    one.model.encoder["hidden"] = 3
    assert "hidden" not in other.model.encoder


def test_the_given_values_are_not_changed():
    values = json.loads(json.dumps(FULL))
    Config.from_dict(values)
    assert values == FULL


@pytest.mark.parametrize(
    ("values", "near"),
    [
        ({"modell": {}}, "model"),
        ({"model": {"latnt": 3}}, "latent"),
        ({"data": {"tokeniser": "word"}}, "tokenizer"),
        ({"objective": {"wieght": {}}}, "weight"),
        ({"training": {"max_epoch": 3}}, "max_epochs"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(values, near):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        Config.from_dict(values)


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        *[("training", name, 0) for name in ("batch_size", "learning_rate", "clip", "max_epochs", "max_minutes")],
        *[("training", name, -1) for name in ("weight_decay", "warm_up", "patience", "validate_every", "max_epochs")],
        ("training", "cool_down", 1.5),
        ("training", "learning_rate", float("nan")),
        ("training", "cool_down", float("nan")),
        ("model", "latent", 0),
        ("model", "embedding", -3),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_option(group, option, value):
    with pytest.raises(ConfigError, match=option):
        Config.from_dict({group: {option: value}})


@pytest.mark.parametrize(
    ("group", "option", "value"),
    [
        ("model", "latent", "many"),
        ("model", "latent", 2.5),
        ("model", "latent", None),
        ("model", "encoder", "recurrent"),
        ("model", "encoder", 7),
        ("objective", "weight", 0.5),
        ("training", "batch_size", "big"),
        ("training", "learning_rate", None),
        ("training", "seed", "lucky"),
        ("data", "max_length", "long"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_the_name_of_its_option(group, option, value):
    with pytest.raises(ConfigError, match=option):
        Config.from_dict({group: {option: value}})


@pytest.mark.parametrize("values", [{"model": 3}, {"model": None}, {"training": []}, {"data": "x"}], ids=str)
def test_a_section_that_is_no_table_is_refused_by_its_name(values):
    with pytest.raises(ConfigError, match=next(iter(values))):
        Config.from_dict(values)


def test_options_of_a_part_keep_the_name_and_the_other_options_of_the_default():
    config = Config.from_dict({"objective": {"weight": {"end": 0.5}}})
    assert config.objective.weight == {**Objective().weight, "end": 0.5}


def test_another_tenant_takes_none_of_the_options_of_the_default():
    default = {"name": "linear", "updates": 9}
    assert completed({"name": "constant", "end": 2.0}, default) == {"name": "constant", "end": 2.0}

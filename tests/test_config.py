"""The configuration: frozen, complete, plain, and strict about names and values."""

import dataclasses
import json
import re
import tomllib

import numpy as np
import pytest
import torch

from seqvae.config import (
    Config,
    Data,
    Model,
    Objective,
    Training,
    adapt_like,
    adapt_to_corpus,
    complete,
    describe_adaptation,
    resolve,
    to_toml,
)
from seqvae.errors import ConfigError
from seqvae.pretrained import build_config
from seqvae.training.build import resolve_all

FULL = {
    "corpus": "some file.txt",
    "data": {"column": "täxt", "tokenizer": "bpe", "vocabulary_size": 500, "lowercase": False, "max_length": 30},
    "model": {"latent": 7, "encoder": {"cell": "gru", "layers": 2}, "noise": {"rate": 0.25}, "share_embedding": True},
    "objective": {
        "divergence": {"free_bits": 4.0, "free_bits_per": "total"},
        "weight": {"name": "cyclical", "cycles": 3},
    },
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
    assert resolve(Config.from_dict(groups | values | {"corpus": config.corpus})) == resolve(config)


@pytest.mark.parametrize("group", [Config, Data, Model, Objective, Training])
def test_it_cannot_be_changed(group):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(group(), dataclasses.fields(group)[0].name, 1)


def test_two_configurations_share_no_part():
    one, other = Config(), Config()
    one.model.encoder["hidden"] = 3
    assert other.model.encoder["hidden"] == Model().encoder["hidden"] == 192


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
        *[("training", name, -1) for name in ("weight_decay", "warmup", "patience", "validate_every", "max_epochs")],
        ("training", "decay", 1.5),
        ("training", "learning_rate", float("nan")),
        ("training", "decay", float("nan")),
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
    config = resolve(Config.from_dict({"objective": {"weight": {"end": 0.5}}}))
    assert config.objective.weight == {**Objective().weight, "end": 0.5}


@pytest.mark.parametrize(
    "options", [{}, {"kind": "ae"}, {"kind": "lm"}, {"target_kl": 5.0}, {"observation": {"name": "frames"}}], ids=str
)
def test_a_configuration_is_resolved_purely_and_once_for_all(options):
    config = build_config({"encoder": {"layers": 2}, **options})
    before = config.to_dict()
    whole = resolve(config)
    assert config.to_dict() == before and resolve(whole) == whole
    assert whole.model.encoder == {"name": "recurrent", "hidden": 192, "dropout": None, "layers": 2}
    for group in (whole.model, whole.objective):
        assert all("name" in part for part in vars(group).values() if isinstance(part, dict))


def test_a_part_may_be_its_name_alone():
    assert Model(prior="mixture").prior == {"name": "mixture"}
    assert resolve(Config(objective=Objective(weight="linear"))).objective.weight == Objective().weight


def test_another_implementation_takes_none_of_the_options_of_the_default():
    default = {"name": "linear", "steps": 9}
    assert complete({"name": "constant", "end": 2.0}, default) == {"name": "constant", "end": 2.0}


def test_two_configurations_of_the_same_groups_leave_them_alone_and_are_independent():
    model, objective, training, data = Model(encoder={"layers": 2}), Objective(), Training(), Data()
    groups = {"model": model, "objective": objective, "training": training, "data": data}
    before = json.dumps({name: dataclasses.asdict(group) for name, group in groups.items()})
    plain = Config(**groups)
    for options in ({"kind": "lm"}, {"kind": "ae"}, {"target_kl": 5.0}):
        assert resolve(Config(**groups, **options)) != resolve(plain)
    assert json.dumps({name: dataclasses.asdict(group) for name, group in groups.items()}) == before
    one, other = Config(**groups), Config(**groups)
    assert one == other == plain
    one.model.encoder["hidden"] = one.objective.divergence["free_bits"] = 3
    assert other == plain and json.dumps({name: dataclasses.asdict(g) for name, g in groups.items()}) == before


def test_a_part_given_as_a_dictionary_is_not_kept_as_that_dictionary():
    given = {"layers": 2}
    Config(model=Model(encoder=given)).model.encoder["layers"] = 3
    assert given == {"layers": 2}


# -- values from Python ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"latent": np.int64(3)}, 3),
        ({"seed": np.uint8(3)}, 3),
        ({"learning_rate": np.float64(0.5)}, 0.5),
        ({"learning_rate": np.float32(0.5)}, 0.5),
        ({"exact_length": np.bool_(True)}, True),
        ({"target_kl": np.float32(8)}, 8.0),
        ({"max_epochs": torch.tensor(3)}, 3),
        ({"encoder": {"hidden": np.int64(5)}}, 5),
        ({"encoder": {"dropout": np.float32(0.5)}}, 0.5),
        ({"encoder": {"bidirectional": np.bool_(False)}}, False),
    ],
    ids=str,
)
def test_numbers_of_numpy_and_torch_are_numbers(options, value):
    config, (name, given) = resolve_all(build_config(options)), *options.items()
    found = next(getattr(c, name) for c in (config, config.data, config.model, config.training) if hasattr(c, name))
    found = found[next(iter(given))] if isinstance(given, dict) else found
    assert found == value and type(found) is type(value)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


TABLE = np.arange(99).reshape(9, 11)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        *[({"latent": value}, "a whole number") for value in (True, None, "8", 8.0, np.float64(8), [8], TABLE)],
        *[({"learning_rate": value}, "a number") for value in (True, None, "8", [8.0], TABLE)],
        *[({"exact_length": value}, "true or false") for value in (1, None, "yes")],
        *[({"trackers": value}, "a list of texts") for value in ("wandb", [1], {"wandb": 1})],
        *[({"encoder": value}, "a table") for value in (["recurrent"], 3, None, TABLE, len, lambda: 3)],
        *[({"encoder": {"hidden": value}}, "a whole number") for value in (True, None, 8.0, [8], TABLE, "a\nb")],
        *[({"encoder": {"dropout": value}}, "a number") for value in (True, [0.1], TABLE)],
        *[({"encoder": {"bidirectional": value}}, "true or false") for value in (2, None, [True], TABLE)],
        *[({"encoder": {"cell": value}}, "known: gru, lstm") for value in (None, 3, ["gru"], TABLE)],
        *[({"encoder": {"name": value}}, "known: recurrent, tr") for value in (None, 3, ["recurrent"], TABLE, "a\nb")],
        ({"encoder": {3: 4}}, "unknown option"),
        *[({"kind": value}, "known: ae, lm, vae") for value in (None, 3, ["vae"], TABLE)],
        *[({"tokenizer": value}, "known: bpe, char, regex, word") for value in (None, 3, ["word"])],
        *[({"target_kl": value}, "a number") for value in ("8", True, [8], TABLE)],
        *[({"target_by": value}, "known: controller, minimum-rate") for value in (None, 3)],
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", " ".join(str(value).split()))[:40],
)
def test_a_value_of_python_that_cannot_be_is_refused_in_one_line(options, expected):
    with pytest.raises(ConfigError, match=expected) as caught:
        resolve_all(build_config(options))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "make",
    [
        lambda: Training(batch_size="8"),
        lambda: Training(learning_rate=None),
        lambda: Data(max_length=[3]),
        lambda: Model(latent="3"),
        lambda: Objective(weight=0.5),
        lambda: Config(model=3),
        lambda: Config(model={"latent": 3}),
        lambda: Config(corpus=None),
        lambda: Config(kind=None),
    ],
)
def test_a_group_that_is_made_by_hand_has_the_same_rules(make):
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value)


# -- what the size of the corpus decides -------------------------------------------------------------------------------


def regularization(config):
    model, weight = config.model, config.objective.weight
    return model.encoder.get("dropout"), model.decoder.get("dropout"), weight.get("end")


@pytest.mark.parametrize(
    ("tokens", "expected"), [(999_999, (0.3, 0.3, 0.5)), (1_000_000, (0.15, 0.15, 0.6)), (10, (0.3, 0.3, 0.5))]
)
def test_the_default_regularization_is_that_of_the_size_of_the_corpus(tokens, expected):
    for given in (Config(), resolve_all(Config())):
        adapted = adapt_to_corpus(given, tokens)
        assert regularization(given) == (None, None, None)
        assert regularization(adapted) == expected
        assert adapt_to_corpus(adapted, 10) == adapt_to_corpus(adapted, 10**9) == adapted


def test_what_was_given_stays_whatever_the_size_of_the_corpus():
    given = build_config({"encoder": {"dropout": 0.05}, "decoder": {"hidden": 32}, "weight": {"end": 0.32}})
    assert regularization(adapt_to_corpus(given, 10)) == (0.05, 0.3, 0.32)
    others = build_config({"encoder": "transformer", "decoder": "transformer", "weight": "constant"})
    assert regularization(adapt_to_corpus(resolve_all(others), 10)) == regularization(resolve_all(others))
    assert regularization(adapt_to_corpus(build_config({"decoder": {"dropout": 0.0}}), 10))[1] == 0.0


def test_none_leaves_an_option_to_the_corpus_on_the_command_line_too():
    given = build_config({"encoder": {"name": "transformer", "dropout": "none"}, "weight": {"end": "none"}})
    assert regularization(adapt_to_corpus(resolve_all(given), 10)) == (0.3, 0.3, 0.5)
    with pytest.raises(ConfigError, match="hidden"):
        resolve_all(build_config({"encoder": {"hidden": "none"}}))


@pytest.mark.parametrize(("kind", "end"), [("ae", 0.0), ("lm", 1.0)])
def test_the_weight_of_a_baseline_does_not_depend_on_the_size_of_the_corpus(kind, end):
    config = resolve_all(Config(kind=kind))
    adapted = adapt_to_corpus(config, 10)
    assert regularization(adapted)[2] == end
    assert adapted.model.prior == config.model.prior and adapted.objective == config.objective
    assert adapt_to_corpus(resolve(Config(target_kl=8.0)), 10).objective.weight == {"name": "constant", "end": 1.0}


@pytest.mark.parametrize("target", [0.5, "prior", None])
def test_an_option_named_target_is_that_of_the_kl_only_where_the_controller_has_it(target):
    assert Config(objective=Objective(divergence={"name": "my_terms:Mine", "target": target})).kl_target is None
    assert Config(objective=Objective(divergence={"name": "controlled", "target": 3})).kl_target == 3.0


def test_what_was_chosen_is_said_in_one_clause():
    reason = "fewer than 1,000,000 training tokens"
    assert describe_adaptation(Config(), 10) == f"dropout 0.3, KL weight to 0.5: {reason}"
    large = "dropout 0.15, KL weight to 0.6: at least 1,000,000 training frames"
    assert describe_adaptation(Config(), 10**6, "frames") == large
    part = build_config({"encoder": {"dropout": 0.1}})
    assert describe_adaptation(part, 10) == f"decoder dropout 0.3, KL weight to 0.5: {reason}"
    assert describe_adaptation(resolve(Config(kind="ae")), 10) == f"dropout 0.3: {reason}"
    assert describe_adaptation(adapt_to_corpus(Config(), 10), 10) is None


def test_a_run_that_goes_on_keeps_its_numbers_whatever_the_size_of_the_corpus():
    begun = adapt_to_corpus(build_config({"encoder": {"dropout": 0.1}}), 10)
    assert regularization(adapt_like(Config(), begun)) == (0.1, 0.3, 0.5)
    assert adapt_like(build_config({"encoder": {"dropout": 0.2}}), begun).model.encoder["dropout"] == 0.2

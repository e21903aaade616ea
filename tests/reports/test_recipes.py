"""Files of recipes: what is trained, in which order, and what is refused."""

from pathlib import Path

import pytest

from seqvae.config import adapt_to_corpus
from seqvae.errors import ConfigError
from seqvae.reports.comparison.recipes import Budget, plan

CONFIGS = Path(__file__).parents[2] / "configs"

RECIPES = """
max-epochs = 3
tokenizer = "char"

[language-model]
kind = "lm"
max_epochs = 2

[wide]
batch_size = 16
[wide.model]
latent = 64
[wide.model.noise]
rate = 0.5
[wide.objective.weight]
name = "cyclical"
"""


def planned(file, text=RECIPES, **options):
    return plan([Path(file("recipes.toml", text))], "some.txt", Budget(**{"seeds": 2} | options))


def test_every_recipe_gets_its_first_seed_before_any_gets_its_second(file):
    found = [(name, config.training.seed) for name, config in planned(file)]
    assert found == [("language-model", 0), ("wide", 0), ("language-model", 1), ("wide", 1)]


def test_options_are_those_of_a_config_file_over_what_stands_before_the_tables(file):
    (_, lm), (_, wide), *_ = planned(file)
    assert (lm.kind, lm.model.latent, lm.training.max_epochs) == ("lm", 0, 2)
    assert (wide.kind, wide.model.latent, wide.training.max_epochs, wide.training.batch_size) == ("vae", 64, 3, 16)
    assert wide.model.noise["rate"] == 0.5 and wide.objective.weight["name"] == "cyclical"
    assert {config.data.tokenizer for config in (lm, wide)} == {"char"}
    assert {config.corpus for config in (lm, wide)} == {"some.txt"}


def test_minutes_and_epochs_hold_for_all(file):
    assert {config.training.max_minutes for _, config in planned(file, minutes=0.5)} == {0.5}
    assert {config.training.max_epochs for _, config in planned(file, epochs=7)} == {7}
    assert {config.training.max_epochs for _, config in planned(file)} == {2, 3}


def test_only_those_that_are_named_are_trained(file):
    assert {name for name, _ in planned(file, only=["wide"])} == {"wide"}
    with pytest.raises(ConfigError, match="'broad'"):
        planned(file, only=["broad"])


def test_the_recipes_that_come_with_the_package_can_be_planned():
    found = dict(plan([CONFIGS / "baselines.toml"], "sotu", Budget()))
    assert [config.kind for config in found.values()] == ["lm", "ae", "vae", "vae"]
    weights = [found[name].objective.weight for name in ("vae", "vae-weight-1")]
    assert [(weight["name"], weight["end"]) for weight in weights] == [("linear", 0.5), ("constant", 1.0)]
    assert found["vae"].model == found["vae-weight-1"].model


@pytest.mark.parametrize(("name", "least"), [("remedies.toml", 15), ("frontier.toml", 6)])
def test_remedies_differ_in_nothing_but_the_remedy(name, least):
    found = dict(plan([CONFIGS / name], "sotu", Budget()))
    first, *others = found.values()
    assert len(found) >= least and first.kind == "lm"
    for config in others:
        assert (config.training, config.data, config.kind) == (first.training, first.data, "vae")
        assert (config.model.latent, config.model.encoder) == (32, first.model.encoder)
        assert {**config.model.decoder, "every_step": True, "skip": True} == first.model.decoder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = ", "cannot be read as TOML"),
        ("max_epochs = 3", "has no recipe"),
        ("[a]\nepochs = 3", "recipe a .*epochs"),
        ("[a.model.encoder]\nname = 'perceiver'", "recipe a .*perceiver"),
        ("[a]\nmax_epochs = 'x'", "recipe a .*max_epochs = 'x'"),
        ("[a]\nmodel = 3", "recipe a .*model = 3"),
    ],
)
def test_what_cannot_be_is_refused_with_the_name_of_its_recipe(text, words, file):
    with pytest.raises(ConfigError, match=words):
        planned(file, text)


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="there is no file"):
        plan([Path("nowhere.toml")], "sotu", Budget())


def test_what_stands_outside_of_the_recipes_holds_for_each(file):
    text = """
    [model.encoder]
    name = "recurrent"
    hidden = 9
    [objective.divergence]
    name = "controlled"
    target = 3.0
    [plain.objective.divergence]
    name = "kl"
    [wide.model.encoder]
    layers = 2
    """
    (_, plain), (_, wide) = planned(file, text, seeds=1)
    assert (plain.model.encoder["hidden"], plain.objective.divergence["name"]) == (9, "kl")
    assert [wide.model.encoder[option] for option in ("hidden", "layers")] == [9, 2]
    assert wide.objective.divergence["target"] == 3.0


def test_a_file_for_the_training_command_is_one_recipe_of_its_name():
    found = dict(plan([CONFIGS / "skip2019.toml", CONFIGS / "baselines.toml"], "sotu", Budget()))
    assert next(iter(found)) == "skip2019" and len(found) == 5 and found["skip2019"].model.encoder["hidden"] == 512


def test_two_recipes_of_one_name_are_refused(file):
    one, other = (Path(file(name, "[a]\nseed = 1")) for name in ("one.toml", "other.toml"))
    with pytest.raises(ConfigError, match="two recipes have the name a"):
        plan([one, other], "sotu", Budget())


@pytest.mark.parametrize("name", ["baselines", "remedies", "frontier"])
def test_the_recipes_that_come_with_the_package_do_not_depend_on_the_size_of_the_corpus(name):
    for recipe, config in plan([CONFIGS / f"{name}.toml"], "grammar", Budget()):
        assert adapt_to_corpus(config, tokens=10) == config, recipe

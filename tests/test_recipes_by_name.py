"""Recipes of the package by their names: `--config NAME`, `fit(config=NAME)`, `seqvae recipes`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from seqvae.cli import main
from seqvae.cli.shared import read_recipe
from seqvae.config import recipes
from seqvae.config.recipes import add_recipe, find_recipe, list_recipes, locate_comparison
from seqvae.errors import ConfigError
from seqvae.pretrained import build_config

CONFIGS = Path(__file__).parents[1] / "configs"


def test_all_files_of_configs_are_recipes_with_a_line_on_each():
    found = list_recipes()
    assert {recipe.path for recipe in found} == set(CONFIGS.glob("*.toml"))
    assert [recipe.name for recipe in found if recipe.command == "compare"] == ["baselines", "frontier", "remedies"]
    for recipe in found:
        assert len(recipe.summary) > 15 and recipe.summary[0] not in "(:." and "seqvae train" not in recipe.summary
        assert recipe.source == "ours" or recipe.name.endswith(recipe.year), recipe


def test_year_and_source_are_those_of_the_publication():
    by_name = {recipe.name: recipe for recipe in list_recipes()}
    assert by_name["bnvae2020"].year == "2020"
    assert by_name["bnvae2020"].source == "Zhu et al., https://arxiv.org/abs/2004.12585"
    assert by_name["bnvae2020"].summary.startswith("the posterior means are normalized over the batch")
    assert by_name["transformer"].source == "ours", "it only cites whose layers it has"


def test_a_file_of_the_user_goes_before_the_recipe_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("bnvae2020", "bnvae2020.toml", "configs/bnvae2020.toml"):
        assert find_recipe(name) == CONFIGS / "bnvae2020.toml"
    (tmp_path / "bnvae2020").write_text("latent = 3")
    assert find_recipe("bnvae2020") == Path("bnvae2020")


def test_an_installed_package_has_them_in_itself(tmp_path, monkeypatch):
    (tmp_path / "seqvae" / "recipes").mkdir(parents=True)
    (tmp_path / "seqvae" / "recipes" / "mine.toml").write_text("# Ours: of mine. More.\nseed = 1")
    monkeypatch.setattr(recipes, "PACKAGE", tmp_path / "seqvae")
    assert [(recipe.name, recipe.summary) for recipe in list_recipes()] == [("mine", "of mine")]


def test_fit_takes_a_recipe_and_the_other_options_win():
    config = build_config({"config": "bnvae2020", "latent": 8, "batch_size": 4, "posterior": {"gamma": 0.5}})
    assert (config.model.latent, config.training.batch_size, config.training.learning_rate) == (8, 4, 0.004)
    assert config.model.posterior == {"name": "batch-norm", "gamma": 0.5}
    assert config.model.prior == {"name": "normal"}, "of the recipe"
    assert build_config({"config": "bnvae2020", "posterior": "gaussian"}).model.posterior == {"name": "gaussian"}


def test_the_command_finds_it_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    merge, _ = read_recipe(["train", "--config", "best"])
    assert merge.values["target_kl"] == 5.7


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("bnvae", "unknown recipe 'bnvae'; did you mean 'bnvae2020'?"),
        ("mine.toml", "--config mine.toml: no such file"),
        ("there/best", "--config there/best: no such file"),
        ("remedies", "compare them with `seqvae compare remedies`"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        add_recipe(name, {})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_files_to_compare_have_names_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate_comparison("remedies") == str(CONFIGS / "remedies.toml")
    assert locate_comparison("bnvae2020") == str(CONFIGS / "bnvae2020.toml")
    assert locate_comparison("chitchat", {"chitchat"}) == "chitchat", "the corpus, not the recipe"
    (tmp_path / "remedies").mkdir()
    assert locate_comparison("remedies") == "remedies"


@pytest.mark.parametrize(("name", "near"), [("remedeis", "remedies"), ("bnvae202", "bnvae2020"), ("best2", "best")])
def test_a_slip_in_the_name_of_a_recipe_to_compare_is_named(name, near, refused):
    assert f"unknown recipe '{name}'; did you mean '{near}'?" in refused("compare", name, "sotu")


@pytest.mark.parametrize("source", ["sotu", "runs/remedeis", "owner/best", "somewhere", "hub:best", "test"])
def test_what_is_no_recipe_stays_as_it_is(source):
    assert locate_comparison(source, {"sotu"}) == source


def test_the_list_and_a_recipe_are_printed(capsys):
    main(["recipes"])
    assert "  bnvae2020        2020  Zhu et al., https://arxiv.org/abs/2004.12585\n" in capsys.readouterr().out
    main(["recipes", "bnvae2020"])
    assert tomllib.loads(capsys.readouterr().out) == tomllib.loads((CONFIGS / "bnvae2020.toml").read_text())
    with pytest.raises(SystemExit, match="2"):
        main(["recipes", "bnvae"])
    assert "did you mean 'bnvae2020'?" in capsys.readouterr().err


def test_listing_needs_no_torch():
    code = "import sys; from seqvae.cli import main; main(['recipes']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=CONFIGS.parent)

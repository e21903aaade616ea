"""The recipes in configs/ for `seqvae train --config`: each is understood to the last option, and trains."""

import json
import math
import re
import tomllib
from pathlib import Path

import pytest

from seqvae.cli import main, train
from seqvae.config import Config, adapt_to_corpus

# For `seqvae compare` (see test_recipes.py), and for series.
OTHERS = ("baselines.toml", "remedies.toml", "frontier.toml", "curves.toml")
FILES = sorted(path for path in (Path(__file__).parents[1] / "configs").glob("*.toml") if path.name not in OTHERS)
NAMES = [path.stem for path in FILES]


class Enough(Exception):
    """The options are known."""


@pytest.fixture
def resolved(tmp_path, monkeypatch):
    """The whole configuration that the command makes of a file, without training."""
    monkeypatch.chdir(tmp_path)

    def run(path):
        found = []

        def stop(config, folder, *, resume):
            found.append(config)
            raise Enough

        monkeypatch.setattr(train, "run_training", stop)
        with pytest.raises(Enough):
            main(["train", "grammar", "--config", str(path)])
        return found[0].to_dict()

    return run


def test_there_are_recipes():
    assert len(FILES) >= 12


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_each_option_of_a_recipe_reaches_the_configuration(path, resolved):
    given, config = tomllib.loads(path.read_text()), resolved(path)
    for name, value in given.items():
        if name in ("model", "objective"):
            for option, part in value.items():
                known = config[name][option]
                assert (part.items() <= known.items()) if isinstance(part, dict) else part == known, option
        else:
            assert {**config["data"], **config["training"], **config}[name] == value, name


def test_a_recipe_names_its_source_and_its_command():
    for path in FILES:
        comment = " ".join(line[1:] for line in path.read_text().splitlines() if line.startswith("#"))
        assert f"seqvae train CORPUS --config configs/{path.name}" in comment
        if path.stem in ("best", "chitchat"):  # which follow nobody
            assert comment.startswith(" Ours: "), path
            continue
        assert re.search(r"https://arxiv\.org/abs/\d{4}\.\d{5}", comment), path
        assert re.search(r"not followed", comment, re.I) or path.stem in ("bowman2016", "cyclical2019"), path


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_recipe_does_not_depend_on_the_size_of_the_corpus(path, resolved):
    config = Config.from_dict(resolved(path))
    assert adapt_to_corpus(config, 10) == config, "a recipe gives its dropout and the end of its KL weight"


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_recipe_trains(path, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "SCORED", 50)  # what is scored at the end is not the matter here
    main(["train", "grammar", "--config", str(path), "--max-minutes", "1", "--output", str(tmp_path / "model")])
    facts = json.loads((tmp_path / "model" / "config.json").read_text())
    assert facts["facts"]["update"] > 1 and math.isfinite(facts["facts"]["scores"]["elbo"])

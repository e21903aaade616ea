"""The blocks of README.md do what they say: Python runs, TOML is a recipe, and commands are understood."""

import os
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest

import seqvae
from seqvae.cli import app
from seqvae.cli.shared import move_stream_last, read_recipe
from seqvae.config import Config
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.training.build import resolve_all

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
# Short trainings of small models, where a block does not say otherwise.
SHORT = {"max_epochs": 1, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}
LABELLED = [
    (f"{who} {what} here .", tense) for who in "abcdefghijkl" for tense, what in (("past", "was"), ("future", "be"))
]


def blocks(language):
    found = [text for name, text in BLOCKS if name == language]
    assert found
    return found


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the files that the blocks name."""
    monkeypatch.chdir(tmp_path)
    Path("my.txt").write_text("".join(f"sentence number {i} , another one .\n" for i in range(60)))
    Path("tenses.csv").write_text("text,tense\n" + "".join(f"{text},{tense}\n" for text, tense in LABELLED))
    for cls in (seqvae.TextVAE, seqvae.SeriesVAE):
        fit = cls.fit.__func__
        short = classmethod(lambda cls, data, fit=fit, **options: fit(cls, data, **SHORT | options))
        monkeypatch.setattr(cls, "fit", short)
    seqvae.TextVAE.fit("tenses.csv", label_column="tense", output="tenses")


def test_every_block_of_python_runs(place):
    names = {"arrays": [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]}
    for text in blocks("python"):
        exec(compile(text, str(README), "exec"), names)


def test_every_block_of_toml_is_a_recipe(place):
    for text in blocks("toml"):
        Path("recipe.toml").write_text(text)
        values = tomllib.loads(text)
        if "model" in values or "objective" in values:
            resolve_all(Config.from_dict(values))
        else:
            assert len(plan([Path("recipe.toml")], "my.txt", Budget(seeds=1))) == len(values) - 1


def test_every_command_is_understood(monkeypatch):
    monkeypatch.chdir(README.parent)  # where the recipes are
    commands = [part for text in blocks("sh") for line in text.splitlines() for part in line.split("&&")]
    commands = [shlex.split(command, comments=True) for command in commands]
    ours = [words[1:] for words in commands if words and words[0] == "seqvae"]
    assert len(ours) > 5
    for words in ours:
        monkeypatch.setattr(app, "config", read_recipe(words))
        app.parse_args(move_stream_last(words), exit_on_error=False, print_error=False)
    assert all(words[0] in ("seqvae", "pip", "python", "pytest") for words in commands if words)
    assert os.path.isfile("train.py")


def test_the_version_has_one_source():
    assert 'dynamic = ["version"]' in (README.parent / "pyproject.toml").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", seqvae.__version__)

"""The documents do what they say: Python runs, TOML is a recipe, commands, options and links are there."""

import re
import shlex
import tomllib
from pathlib import Path

import cyclopts
import numpy as np
import pytest

import seqvae
from seqvae.cli import app
from seqvae.cli.shared import move_stream_last, read_recipe
from seqvae.config import Config
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.training.build import CATALOGUES, resolve_all

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "docs/guide.md")
PAGES = (*DOCUMENTS, "docs/results/README.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
OTHERS = {"--cpu", "--nproc_per_node", "--num_processes"}  # options of torchrun and accelerate
# Short trainings of small models, where a block does not say otherwise.
SHORT = {"max_epochs": 1, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}
LABELLED = [
    (f"{who} {what} here .", tense) for who in "abcdefghijkl" for tense, what in (("past", "was"), ("future", "be"))
]

each_document = pytest.mark.parametrize("document", DOCUMENTS)
each_page = pytest.mark.parametrize("page", PAGES)


def find_blocks(document, language):
    """Find the blocks of a language, of which each document has some."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[document], re.M | re.S)
    assert found
    return found


def parse(words):
    """Read a command line as the command does, without running it."""
    app.config = read_recipe(words)
    return app.parse_args(move_stream_last(words), exit_on_error=False, print_error=False)


@pytest.fixture
def commands(monkeypatch):
    """Restore the application after lines were parsed."""
    monkeypatch.setattr(app, "config", app.config)


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


@each_document
def test_every_block_of_python_runs(document, place):
    names = {"arrays": [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]}
    for text in find_blocks(document, "python"):
        exec(compile(text, document, "exec"), names)


@each_document
def test_every_block_of_toml_is_a_recipe(document, place, commands):
    for text in find_blocks(document, "toml"):
        Path("recipe.toml").write_text(text)
        values = tomllib.loads(text)
        if "model" in values or "objective" in values:
            _, bound, _ = parse(["train", "--config", "recipe.toml"])
            groups = {name: part for name, part in bound.arguments.items() if name in vars(Config())}
            resolve_all(Config(**groups))
        else:
            assert len(plan([Path("recipe.toml")], "my.txt", Budget(seeds=1))) == len(values) - 1


@each_page
def test_every_command_is_understood(page, commands, monkeypatch):
    monkeypatch.chdir(ROOT)  # where the recipes are
    lines = [line for text in find_blocks(page, "sh") for line in text.splitlines()]
    parts = [part for line in lines for part in re.split("&&|[|]", line)]
    calls = [words for part in parts if (words := shlex.split(part, comments=True))]
    assert {words[0] for words in calls} <= {"seqvae", "pip", "python", "pytest", "cat"}
    ours = [words[1:] for words in calls if words[0] == "seqvae"]
    assert len(ours) >= 4
    for words in ours:
        parse(words)
    assert (ROOT / "train.py").is_file()


@each_page
def test_every_option_is_one(page):
    known = {"--help", "--version", *OTHERS}
    for name in app:
        if not name.startswith("-"):
            found: cyclopts.ArgumentCollection = app[name].assemble_argument_collection()
            known |= {option for argument in found for option in argument.names}
    for option in re.findall(r"(?<![-\w])--[a-z][\w.-]*\w", TEXTS[page]):
        place = ".".join(option.removeprefix("--").split(".")[:2])
        if place in CATALOGUES:
            options = {p for cls in CATALOGUES[place].values() for p in cls.__init__.__annotations__}
            assert option.split(".")[-1] in options | {"name"}, option
        else:
            assert option in known, option


@each_page
def test_every_link_to_a_file_or_heading_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        path, _, heading = target.partition("#")
        file = ROOT / page if not path else (ROOT / page).parent / path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target


def test_the_version_has_one_source():
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", seqvae.__version__)

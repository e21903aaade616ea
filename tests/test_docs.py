"""The documents do what they say: Python and commands run, TOML is a recipe, options and links are there.

Each page runs in a folder of its own, its Python in one namespace, in which these wait:
texts `mine.txt` = `my.txt` and `tenses.csv` (columns text, tense), `smiles.txt`, series `series.npz` and `arrays`,
functions `my_checks.py`, `recipes.toml`, `configs`; models `my-model`, `model`, `runs/mine`, `runs/lm`, `tenses`,
`runs/tenses`, `my-series`, `runs/series`. Trainings are shortened, the corpora built in replaced by these files.
"""

import io
import json
import re
import runpy
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import cyclopts
import numpy as np
import pytest

import seqvae
from seqvae.cli import app, main
from seqvae.cli.shared import move_stream_last, read_recipe
from seqvae.config import Config
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.training.build import CATALOGUES, resolve_all

ROOT = Path(__file__).parents[1]
RECORDS = ("log.md", "performance.md", "architecture.md", "results/README.md")  # what was done, not what to do
FOUND = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", *(page for page in FOUND if page.removeprefix("docs/") not in RECORDS))
PAGES = (*DOCUMENTS, "docs/results/README.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
OTHERS = {"--cpu", "--nproc_per_node", "--num_processes"}  # options of torchrun and accelerate
# Short trainings of small models, where a block does not say otherwise.
SHORT = {"max_epochs": 1, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}
LABELLED = [
    (f"{who} {what} here .", tense) for who in "abcdefghijkl" for tense, what in (("past", "was"), ("future", "be"))
]
LIMITS = ("--max-epochs", "--max-minutes", "--model.encoder.hidden", "--model.decoder.hidden", "--precision")
SMALL = ["--max-epochs", "1", "--model.encoder.hidden", "8", "--model.decoder.hidden", "8", "--precision", "fp32"]
REPLACED = {"chitchat": "mine.txt", "sotu": "mine.txt", "grammar": "tenses.csv", "curves": "series.npz"}
KNOWN = {"seqvae", "pip", "python", "pytest", "cat", "torchrun", "accelerate", "head"}
PARSED = {"compare", "explore"}  # run by tests of their own; here only understood

each_document = pytest.mark.parametrize("document", [page for page in DOCUMENTS if "```" in TEXTS[page]])
each_page = pytest.mark.parametrize("page", PAGES)


def find_blocks(page, language):
    """Find the blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[page], re.M | re.S)


def find_commands(page):
    """Find the calls in the shell blocks of a page, each as its words."""
    lines = [line for text in find_blocks(page, "sh") for line in text.replace("\\\n", " ").splitlines()]
    calls = [[]]
    for word in [word for line in lines for word in [*shlex.split(line, comments=True), "&&"]]:
        if word in ("&&", "|", ";"):
            calls.append([])
        else:
            calls[-1].append(word)
    return [call for call in calls if call]


def parse(words):
    """Read a command line as the command does, without running it."""
    app.config = read_recipe(words)
    return app.parse_args(move_stream_last(words), exit_on_error=False, print_error=False)


@pytest.fixture
def commands(monkeypatch):
    """Restore the application after lines were parsed."""
    monkeypatch.setattr(app, "config", app.config)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with the files and models that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    who, does, where = (
        ("a cat", "the dog", "one bird", "we"),
        ("sat", "ran", "ate", "slept"),
        ("", "here", "at home", "now"),
    )
    text = "".join(" ".join(f"{a} {b} {c} .".split()) + "\n" for a in who for b in does for c in where)
    for name in ("mine.txt", "my.txt"):
        (folder / name).write_text(text)
    (folder / "tenses.csv").write_text("text,tense\n" + "".join(f"{text},{tense}\n" for text, tense in LABELLED))
    (folder / "smiles.txt").write_text("".join("C" * n + "O\n" for n in range(1, 40)))
    (folder / "my_checks.py").write_text("def is_valid(text):\n    return len(text) > 3\n")
    (folder / "recipes.toml").write_text('max_minutes = 5\n[language-model]\nkind = "lm"\n[vae]\n')
    lengths = np.arange(16, 40)
    np.savez(folder / "series.npz", values=np.sin(np.arange(lengths.sum()) / 2)[:, None], lengths=lengths)
    (folder / "configs").symlink_to(ROOT / "configs")
    prepare_models(folder)
    return folder


def prepare_models(folder):
    """Train the models that the pages name, each in its folder."""
    tenses, mine, series = (str(folder / name) for name in ("tenses.csv", "mine.txt", "series.npz"))
    for name, cls, corpus, options in (
        ("my-model", seqvae.TextVAE, tenses, {"column": "text"}),
        ("runs/mine", seqvae.TextVAE, mine, {}),
        ("tenses", seqvae.TextVAE, tenses, {"label_column": "tense"}),
        ("my-series", seqvae.SeriesVAE, series, {}),
    ):
        cls.fit(corpus, output=folder / name, **SHORT | options)
    main(limit(["train", mine, "--kind", "lm", "--output", str(folder / "runs/lm")]))
    for name, source in {"model": "my-model", "runs/tenses": "tenses", "runs/series": "my-series"}.items():
        shutil.copytree(folder / source, folder / name)


@pytest.fixture
def place(prepared, tmp_path, monkeypatch):
    """A copy of that folder in which a page runs, and trainings are short where a block does not say otherwise."""
    shutil.copytree(prepared, tmp_path / "page", symlinks=True)
    monkeypatch.chdir(tmp_path / "page")
    monkeypatch.syspath_prepend(tmp_path / "page")
    for cls in (seqvae.TextVAE, seqvae.SeriesVAE):
        fit = cls.fit.__func__
        short = classmethod(lambda cls, data, fit=fit, **options: fit(cls, data, **SHORT | options))
        monkeypatch.setattr(cls, "fit", short)


def limit(words):
    """Return the words of a command of a page such that it takes no more than seconds."""
    if words[0] != "train":
        return words
    kept = [word for i, word in enumerate(words) if word not in LIMITS and words[i - 1] not in LIMITS]
    kept = [REPLACED.get(word, word) for word in kept]
    if kept[1:2] == [] or kept[1].startswith("--"):
        kept.insert(1, "mine.txt")
    return kept + SMALL


@each_document
def test_every_command_and_every_block_of_python_runs(document, place, commands, monkeypatch):
    for call in find_commands(document):
        words = call[1:] if call[0] == "seqvae" else ["train", *call[2:]] if call[:2] == ["python", "train.py"] else []
        if words and words[0] not in PARSED and "--resume" not in words:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("mine.txt").read_bytes())))
            if "--output" in words and words[0] == "train":  # the page makes the model that waits under this name
                shutil.rmtree(words[words.index("--output") + 1], ignore_errors=True)
            main(limit(words))
    names = {"arrays": [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]}
    for text in find_blocks(document, "python"):
        exec(compile(text, document, "exec"), names)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs(notebook, place):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 3
    names = {}
    for text in code:
        exec(compile(text, notebook.name, "exec"), names)


@pytest.mark.parametrize("name", ("commands", "options", "parts", "scores"))
def test_what_the_code_knows_is_on_its_page(name, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["seqvae"])  # how it was called is in the usage lines
    reference = runpy.run_path(str(ROOT / "docs" / "reference.py"))
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8")
    assert reference["renew"](name, page) == page, "write it anew: python docs/reference.py"


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
    calls = find_commands(page)
    assert {words[0] for words in calls} <= KNOWN
    ours = [words[1:] for words in calls if words[0] == "seqvae"]
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
        if place in CATALOGUES and option != f"--{place}":
            options = {p for cls in CATALOGUES[place].values() for p in cls.__init__.__annotations__}
            assert option.split(".")[-1] in options | {"name"}, option
        else:
            assert option in known or place in CATALOGUES, option


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

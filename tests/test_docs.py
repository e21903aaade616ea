"""The documents do what they say: Python and commands run, TOML is a recipe, options and links are there.

Each page runs in a folder of its own, its blocks in their order, its Python in one namespace. In the folder wait:
texts `mine.txt` = `my.txt` and `tenses.csv` (columns text, tense), `smiles.txt`, series `series.npz` and `arrays`,
code `my_checks.py` and `my_parts.py`, `recipes.toml`, `configs`; models `my-model`, `model`, `runs/mine`, `runs/lm`,
`tenses`, `runs/tenses`, `my-series`, `runs/series`. Trainings are shortened, the corpora built in replaced by these.
"""

import io
import json
import re
import runpy
import shlex
import shutil
import sys
import textwrap
import tomllib
from itertools import pairwise
from pathlib import Path

import cyclopts
import numpy as np
import pytest

import seqvae
from seqvae.cli import app, main
from seqvae.cli.shared import move_stream_last, read_recipe
from seqvae.config import Config
from seqvae.latent import density
from seqvae.reports.comparison.recipes import Budget, plan
from seqvae.training.build import CATALOGUES, find_options, resolve_all

ROOT = Path(__file__).parents[1]
RECORDS = ("log.md", "performance.md", "reliability.md", "architecture.md", "results/")  # what was done, not what to do
FOUND = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", *(page for page in FOUND if not page.removeprefix("docs/").startswith(RECORDS)))
PAGES = (*DOCUMENTS, "docs/results/README.md", "CONTRIBUTING.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in PAGES}
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
# Options of torchrun, accelerate, ruff, mkdocs and pytest, and of the part in CONTRIBUTING.md.
TORCHRUN = "--nnodes --nproc-per-node --max-restarts --standalone --rdzv-backend --rdzv-endpoint --rdzv-id"
OTHERS = {*TORCHRUN.split(), "--cpu", "--num-processes", "--check", "--strict", "--randomly-seed", "--quicker"} | {
    "--model.prior.freedom"
}
# Pages without a block that runs; each other one has at least one, so that none of them vanishes unseen.
TALK = {
    "guide",
    "tutorial/index",
    "howto/index",
    "explanation/bound",
    "explanation/checks",
    "explanation/collapse",
    "explanation/cpus",
} | {f"reference/{name}" for name in ("api", "commands", "files", "models", "parts", "scores", "training")}
# Short trainings of small models: in Python where a block does not say otherwise, of a command always.
SIZES = {"embedding": 8, "latent": 4, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
SHORT = SIZES | {"max_epochs": 1, "precision": "fp32"}
SMALL = {"--max-epochs": "1", "--precision": "fp32", "--model.embedding": "8", "--model.latent": "4"} | {
    f"--model.{part}.hidden": "8" for part in ("encoder", "decoder")
}
LABELLED = [
    (f"{who} {what} {where} .", tense)
    for who in "abcdefghijkl"
    for where in ("here", "there", "home", "away", "out")
    for tense, what in (("past", "was"), ("future", "be"))
]
REPLACED = {
    "chitchat": "mine.txt",
    "sotu": "mine.txt",
    "grammar": "tenses.csv",
    "curves": "series.npz",
    "reviews.csv": "tenses.csv",
}
KNOWN = {"seqvae", "pip", "python", "pytest", "cat", "torchrun", "accelerate", "head"}
PARSED = {"compare", "explore"}  # run by tests of their own; here only understood

RESULTS = "results/README.md"
# The pictures of docs, each with the page that shows it and the command there that made it.
MADE = {
    "pictures/explorer.png": ("explorer.md", "python docs/explorer_pictures.py"),
    "pictures/explorer-dark.png": ("explorer.md", "python docs/explorer_pictures.py"),
    "architecture.svg": ("architecture.md", "python docs/architecture.py"),
    "growth.png": ("performance.md", "python -m benchmarks.growth --output docs"),
    "results/curves/overview.png": (RESULTS, "seqvae evaluate model --samples 50 --plot overview.png"),
    "results/tatoeba-baselines/rate_distortion.png": (RESULTS, "seqvae compare configs/baselines.toml tatoeba"),
    "results/tatoeba-remedies/nll_against_information.png": (RESULTS, "seqvae compare configs/remedies.toml tatoeba"),
    "results/sotu-remedies/nll_against_information.png": (RESULTS, "seqvae compare configs/remedies.toml sotu"),
    "results/tatoeba-frontier/nll_against_information.png": (RESULTS, "seqvae compare configs/frontier.toml tatoeba"),
    **{
        f"results/rates/{corpus}.png": ("results/rates.md", "seqvae compare language-model kl-1 kl-3 kl-5.7 kl-8")
        for corpus in ("tatoeba", "chitchat", "long")
    },
}

each_document = pytest.mark.parametrize("document", [page for page in DOCUMENTS if page[5:-3] not in TALK])
each_page = pytest.mark.parametrize("page", PAGES)


def find_blocks(page, *languages):
    """Find the blocks of some languages in the order of the page, each with its language."""
    found = re.findall(rf"^( *)```({'|'.join(languages)})\n(.*?)^\1```$", TEXTS[page], re.M | re.S)
    return [(language, textwrap.dedent(text)) for _, language, text in found]


def find_commands(text):
    """Find the calls in a shell block, each as its words."""
    calls = [[]]
    for line in text.replace("\\\n", " ").splitlines():
        for word in [*shlex.split(line, comments=True), "&&"]:
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
    (folder / "my_parts.py").write_text(find_blocks("CONTRIBUTING.md", "python")[0][1])
    (folder / "recipes.toml").write_text('max_minutes = 5\n[language-model]\nkind = "lm"\n[vae]\n')
    lengths = np.resize(np.arange(16, 40), 72)
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
    monkeypatch.setattr(density, "MAX_SAMPLES", 1_000)  # of a mixture of ten, which takes ten times as long otherwise
    for cls in (seqvae.TextVAE, seqvae.SeriesVAE):
        monkeypatch.setattr(cls, "fit", classmethod(shorten(cls.fit.__func__)))


def shorten(fit):
    """Return `fit` with short trainings, whose folder is that of the page: the model that waits there is deleted."""

    def fit_briefly(cls, data, **options):
        if "output" in options and not Path(options["output"]).is_absolute():
            shutil.rmtree(options["output"], ignore_errors=True)
        return fit(cls, data, **SHORT | options)

    return fit_briefly


def limit(words):
    """Return the words of a command of a page such that it takes no more than seconds."""
    if words[0] != "train":
        return words
    limits = {*SMALL, "--max-minutes", "--trackers"}  # trackers are packages of their own
    kept = [word for i, word in enumerate(words) if word not in limits and words[i - 1] not in limits]
    kept = [word if before == "--config" else REPLACED.get(word, word) for before, word in pairwise(["", *kept])]
    if kept[1:2] == [] or kept[1].startswith("--"):
        kept.insert(1, "mine.txt")
    return kept + [word for pair in SMALL.items() for word in pair]


def run_command(call, monkeypatch):
    """Run a command of a page in this process, unless it is one that is only parsed."""
    words = call[1:] if call[0] == "seqvae" else ["train", *call[2:]] if call[:2] == ["python", "train.py"] else []
    if words and words[0] not in PARSED and "--resume" not in words:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("mine.txt").read_bytes())))
        if "--output" in words and words[0] == "train":  # the page makes the model that waits under this name
            shutil.rmtree(words[words.index("--output") + 1], ignore_errors=True)
        main(limit(words))


@pytest.mark.slow
@each_document
def test_every_command_and_every_block_of_python_runs(document, place, commands, monkeypatch):
    names = {"__name__": "__main__", "arrays": [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]}
    for language, text in find_blocks(document, "sh", "python"):
        if language == "python":
            exec(compile(text, document, "exec"), names)
        else:
            for call in find_commands(text):
                run_command(call, monkeypatch)


def test_only_the_pages_that_are_named_have_no_block():
    pages = {page[5:-3] for page in DOCUMENTS if not find_blocks(page, "sh", "python", "toml")}
    assert pages == {page for page in TALK if (ROOT / "docs" / f"{page}.md").exists()}


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs(notebook, place):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 3
    names = {"__name__": "__main__"}
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
    for _, text in find_blocks(document, "toml"):
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
    calls = [call for _, text in find_blocks(page, "sh") for call in find_commands(text)]
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
    for place, catalogue in CATALOGUES.items():
        options = {name.replace("_", "-") for cls in catalogue.values() for name in find_options(cls)}
        known |= {f"--{place}", *(f"--{place}.{name}" for name in options | {"name"})}
    for option in re.findall(r"(?<![-\w])--[a-z][\w.-]*\w", TEXTS[page]):
        assert option.replace("_", "-") in known, option


@each_page
def test_every_link_to_a_file_or_heading_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        path, _, heading = target.partition("#")
        file = ROOT / page if not path else (ROOT / page).parent / path
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], target


def test_every_picture_is_made_by_a_command_on_its_page():
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg", ".jpg", ".gif")]
    assert {path.relative_to(ROOT / "docs").as_posix() for path in pictures} == MADE.keys()
    for picture, (page, command) in MADE.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        assert command in text, command
        assert f"]({(ROOT / 'docs' / picture).relative_to((ROOT / 'docs' / page).parent).as_posix()})" in text, picture


def test_the_version_has_one_source():
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()
    assert re.fullmatch(r"\d+\.\d+\.\d+", seqvae.__version__)

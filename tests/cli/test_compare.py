"""`seqvae compare`: trains recipes, continues after an interruption, and puts runs side by side."""

import itertools
import json
import shutil
import sys
from dataclasses import replace

import pytest

from seqvae.cli import main
from seqvae.reports.comparison.run import OUTCOME, check_begun, find_differences, keep_choices, name_folders
from seqvae.training.runs import read_options

RECIPES = """
max_epochs = 1
precision = "fp32"
[lm]
kind = "lm"
[lm.model.decoder]
hidden = 8
[vae]
[vae.model]
latent = 2
[vae.model.encoder]
hidden = 8
[vae.model.decoder]
hidden = 8
"""
FILES = {"table.md", "table.csv", "table.json", "report.html", "rate_distortion.png", "training_curves.svg"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    words = itertools.product(["cat", "dog", "bird", "child"], ["sat", "ran", "ate"], ["here", "there", "home", "now"])
    path = tmp_path_factory.mktemp("corpus") / "small.txt"
    path.write_text("\n".join(f"the {a} {b} {c} ." for a, b, c in words) + "\n")
    return path


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "two.toml"
    path.write_text(RECIPES)
    return path


@pytest.fixture(scope="module")
def whole(corpus, recipes, tmp_path_factory):
    """A whole comparison."""
    folder = tmp_path_factory.mktemp("compared") / "it"
    main(["compare", str(recipes), str(corpus), "--seeds", "2", "--samples", "3", "--output", str(folder)])
    return folder


def again(recipes, corpus, folder, *options):
    main(["compare", str(recipes), str(corpus), "--seeds", "2", "--samples", "3", "--output", str(folder), *options])


def test_it_trains_each_recipe_with_each_seed_and_writes_table_plots_and_report(whole):
    assert {f"{recipe}/seed-{seed}" for recipe in ("lm", "vae") for seed in (0, 1)} == {
        str(path.parent.relative_to(whole)) for path in whole.glob("*/*/model.safetensors")
    }
    assert FILES.issubset(path.name for path in whole.iterdir())
    rows = {row["recipe"]: row for row in json.loads((whole / "table.json").read_text())["rows"]}
    assert list(rows) == ["lm", "vae", "unigram", "5-gram"]
    assert rows["vae"]["runs"] == 2 and rows["lm"]["kl"] == 0 and rows["unigram"]["nll"] > 0
    assert "difference_low" in rows["vae"] and "difference_low" not in rows["lm"]


def test_what_is_whole_is_not_done_again(whole, corpus, recipes, capsys):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/*/*") if path.is_file()}
    table = (whole / "table.csv").read_text()
    again(recipes, corpus, whole)
    assert before == {path: path.stat().st_mtime_ns for path in whole.glob("*/*/*") if path.is_file()}
    assert (whole / "table.csv").read_text() == table and "begins" not in capsys.readouterr().err


def test_a_comparison_that_was_killed_continues_where_it_was(whole, corpus, recipes, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    (folder / "vae" / "seed-1" / OUTCOME).unlink()  # trained, not scored
    shutil.rmtree(folder / "vae" / "seed-0")  # not begun
    again(recipes, corpus, folder)
    err = capsys.readouterr().err
    assert err.count("begins") == 1 and err.count("continues") == 1
    ours, theirs = (json.loads((f / "table.json").read_text())["rows"] for f in (whole, folder))
    for one, other in zip(ours, theirs, strict=True):
        assert one["nll"] == pytest.approx(other["nll"], rel=1e-6)


def test_a_precision_that_was_left_open_is_that_of_the_training(whole):
    folder = whole / "vae" / "seed-0"
    config = read_options(folder)
    free = replace(config, training=replace(config.training, precision="auto"))
    assert keep_choices(folder, free) == config and check_begun(folder, keep_choices(folder, free))
    assert keep_choices(whole / "none", free) == free


def test_runs_of_other_options_are_not_mixed_in(whole, corpus, recipes, file, tmp_path, refused):
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    other = file("other.toml", RECIPES.replace("latent = 2", "latent = 3"))
    assert "model.latent" in refused("compare", other, corpus, "--seeds", "2", "--output", folder)


def test_models_of_other_tokens_are_compared_by_what_does_not_depend_on_them(whole, corpus, tmp_path):
    kept, tiny = ["--lowercase", "--max-epochs", "1", *TINY], tmp_path / "letters"
    main(["train", str(corpus), "--tokenizer", "char", *kept, "--output", str(tiny)])
    folder = tmp_path / "both"
    main(["compare", str(whole / "lm" / "seed-0"), str(tiny), "--samples", "2", "--text", "--output", str(folder)])
    word, letters, *_ = json.loads((folder / "table.json").read_text())["rows"]
    assert (
        word["forward_perplexity"] > 1
        and word["nll"] > 0
        and letters["nll"] > 0
        and letters.get("forward_perplexity") is None
    )
    assert letters["difference"] == pytest.approx(letters["nll"] - word["nll"], abs=1e-6)


def test_models_that_read_other_text_are_refused(whole, corpus, tmp_path, capsys):
    other = tmp_path / "cased"
    unlike = ["--tokenizer", "char", "--max-length", "9", "--max-epochs", "1", *TINY]
    main(["train", str(corpus), *unlike, "--output", str(other)])
    with pytest.raises(SystemExit):
        main(["compare", str(whole / "lm" / "seed-0"), str(other), "--output", str(tmp_path / "x")])
    assert "agree in lowercase, column, label_column and max_length" in capsys.readouterr().err


def test_trained_models_are_compared_as_they_are(whole, tmp_path, capsys):
    folder = tmp_path / "models"
    models = [str(whole / name / "seed-0") for name in ("lm", "vae")]
    main(["compare", *models, "--samples", "3", "--output", str(folder)])
    out = capsys.readouterr().out
    assert "-log p(x)" in out and str(folder) in out and FILES.issubset(path.name for path in folder.iterdir())
    assert not list(folder.glob("*/*"))


def test_the_corpus_of_models_may_be_a_folder_that_has_moved(tmp_path, monkeypatch, capsys):
    who = ("cat", "dog", "bird", "child", "man")
    lines = [f"the {a} {b} here ." for a in who for b in ("sat", "ran", "ate", "was")]
    (tmp_path / "before").mkdir()
    for split, rows in (("train", lines[:12]), ("valid", lines[12:16]), ("test", lines[16:])):
        (tmp_path / "before" / f"{split}.txt").write_text("\n".join(rows) + "\n")
    for name in ("one", "two"):
        options = ["--max-epochs", "1", "--kind", "lm", "--model.decoder.hidden", "8", "--precision", "fp32"]
        main(["train", str(tmp_path / "before"), "--output", str(tmp_path / name), *options])
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path)
    main(["compare", "one", "two", "after", "--samples", "2", "--output", "out"])
    assert (tmp_path / "out" / "table.md").is_file()


def test_models_of_different_text_are_refused(whole, corpus, tmp_path, refused):
    other = tmp_path / "other.txt"
    other.write_text(corpus.read_text().replace("cat", "cow"))
    main(["train", str(other), "--max-epochs", "1", "--output", str(tmp_path / "other"), *TINY])
    assert "different text" in refused(
        "compare", whole / "vae" / "seed-0", tmp_path / "other", "--output", tmp_path / "x"
    )


TINY = ["--model.encoder.hidden", "4", "--model.decoder.hidden", "4"]


def test_arguments_that_make_no_comparison_are_refused(recipes, corpus, whole, tmp_path, refused):
    output = ["--output", tmp_path / "x"]
    assert "two or more" in refused("compare", whole / "vae" / "seed-0", *output)
    assert "one corpus" in refused("compare", recipes, corpus, corpus, *output)
    assert "no model folder" in refused("compare", tmp_path / "a", tmp_path / "b", *output)
    assert "no file" in refused("compare", tmp_path / "none.toml", *output)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("package", "extra"), [("sacrebleu", "eval"), ("matplotlib", "plot"), ("scipy", "plot")])
def test_a_missing_package_is_named_before_any_training(
    package, extra, recipes, corpus, tmp_path, refused, monkeypatch
):
    monkeypatch.setitem(sys.modules, package, None)
    assert f"seqvae[{extra}]" in refused("compare", recipes, corpus, "--text", "--output", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_folders_of_one_name_keep_their_paths():
    assert name_folders(["a/seed-0", "b/seed-0", "c"]) == ["a/seed-0", "b/seed-0", "c"]
    assert name_folders(["runs/a", "runs/b"]) == ["a", "b"]


def test_differences_are_named_by_their_place():
    assert find_differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}}) == {"a.c", "d"}

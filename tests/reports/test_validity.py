"""Validity of strings: the user's validator, and the fractions that are valid, unique and novel."""

import json
import sys
from itertools import product

import pytest

from seqvae.cli import main
from seqvae.errors import ConfigError
from seqvae.reports.validity import Validity, check_texts, count, load_validator

CHECKS = """
calls = []
answer = 42
print("a word of the module's own")


def balanced(text):
    calls.append(text)
    print("a word of the function's own")
    depth = 0
    for symbol in text:
        depth += {"(": 1, ")": -1}.get(symbol, -99)
        if depth < 0:
            return None  # as good as False
    return depth == 0


def nothing(text):
    return False


def broken(text):
    raise ValueError("no such symbol\\nsecond line")


def leaves(text):
    raise SystemExit(0)
"""


def words(text):
    return text.split()


def nested(text):
    """Whether brackets are balanced, by taking pairs away."""
    while "()" in text:
        text = text.replace("()", "")
    return not text


BALANCED = [text for n in (2, 4, 6, 8, 10) for pick in product("()", repeat=n) if nested(text := "".join(pick))]
SIZE = words(
    "--tokenizer char --model.latent 4 --model.embedding 8 --model.encoder.hidden 16 --model.decoder.hidden 24 "
    "--batch-size 8 --max-epochs 80 --precision fp32 --learning-rate 0.02 --warmup 5 --objective.weight.steps 50"
)


@pytest.fixture(autouse=True)
def checks(tmp_path, monkeypatch):
    """A module of the user's where Python finds modules, and others that cannot be imported."""
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "checks.py").write_text(CHECKS)
    (package / "wrong.py").write_text("def f(:\n")
    (package / "ends.py").write_text("raise SystemExit(3)\n")
    (package / "needs.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def brackets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("brackets")
    (folder / "corpus.txt").write_text("".join(f"{text}\n" for text in BALANCED))
    main(["train", str(folder / "corpus.txt"), *SIZE, "--output", str(folder / "model")])
    return folder


@pytest.fixture
def sample(capsys):
    def run(model, *arguments):
        capsys.readouterr()
        main(["sample", str(model), *words("-n 60 --seed 3 --temperature 0.4"), *arguments])
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return run


def our_lines(err):
    """The lines on standard error that are not of the user's own module."""
    return [line for line in err if not line.startswith("a word of")]


VALIDATOR = ("--validator", "mine.checks:balanced")


def test_samples_are_printed_as_ever_and_the_fractions_on_standard_error(brackets, sample):
    plain, _ = sample(brackets / "model")
    out, err = sample(brackets / "model", *VALIDATOR)
    assert out == plain
    valid = [text for text in out if nested(text)]
    training = set((brackets / "corpus.txt").read_text().split())
    held_out = training - set(trained_on(brackets))
    assert len(valid) > 10 and len(set(valid)) < len(valid) and held_out  # else this test would not sample much
    expected = Validity(60, len(valid), len(set(valid)), len(set(valid) - (training - held_out)))
    assert our_lines(err) == [str(expected)]


def trained_on(folder):
    from seqvae.data.text.corpus import load

    return load(str(folder / "corpus.txt"), tokenizer="char", vocabulary_size=8000).train.texts()


def test_json_has_the_validity_of_each_string(brackets, sample):
    rows = [json.loads(line) for line in sample(brackets / "model", *VALIDATOR, "--json")[0]]
    assert set(rows[0]) == {"text", "log_prob", "tokens", "valid"}
    assert [row["valid"] for row in rows] == [nested(row["text"]) for row in rows]
    rows = [json.loads(line) for line in sample(brackets / "model", *VALIDATOR, "--json", "--from", "aggregate")[0]]
    assert set(rows[0]) == {"text", "log_prob", "tokens", "confidence", "confidence_quantile", "valid"}
    assert [row["valid"] for row in rows] == [nested(row["text"]) for row in rows]


def test_without_a_validator_there_is_no_validity(brackets, sample):
    out, err = sample(brackets / "model", "--json")
    assert err == [] and "valid" not in json.loads(out[0])


def test_where_nothing_is_valid_there_is_nothing_to_be_unique_or_novel(brackets, sample):
    _, err = sample(brackets / "model", "--validator", "mine.checks:nothing")
    none = "not known (there are none)"
    assert our_lines(err) == [
        f"valid 0.000 (0 of 60), unique among the valid {none}, novel among the unique valid {none}"
    ]


@pytest.mark.parametrize(
    ("corpus", "reason"),
    [("moved.txt", "moved.txt"), ("-", "standard input"), ("other.txt", "has changed since the training")],
)
def test_novelty_is_not_known_where_the_training_strings_cannot_be_read(brackets, sample, tmp_path, corpus, reason):
    for path in (brackets / "model").glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "other.txt").write_text("".join(f"{text}\n" for text in BALANCED[:20]))
    values = json.loads((tmp_path / "config.json").read_text())
    values["config"]["corpus"] = str(tmp_path / corpus) if corpus != "-" else corpus
    (tmp_path / "config.json").write_text(json.dumps(values))
    (line,) = our_lines(sample(tmp_path, *VALIDATOR)[1])
    assert "novel among the unique valid not known: " in line and reason in line


def test_a_module_in_the_model_folder_is_not_executed(brackets, refused, tmp_path, monkeypatch):
    for path in (brackets / "model").glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "hidden.py").write_text("raise AssertionError('executed')\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    monkeypatch.chdir(tmp_path)
    line = refused("sample", ".", "--validator", "hidden:f")
    assert "hidden cannot be imported (ModuleNotFoundError" in line and "executed" not in line


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine.checks", ["mine.checks", "package.module:function"]),
        ("mine.checks:", ["package.module:function"]),
        (":balanced", ["package.module:function"]),
        (".checks:balanced", ["package.module:function"]),
        ("mine/checks.py:balanced", ["package.module:function"]),
        ("mine.checks:balanced()", ["package.module:function"]),
        ("nowhere.checks:f", ["nowhere.checks cannot be imported", "ModuleNotFoundError", "PYTHONPATH=."]),
        ("mine.nowhere:f", ["mine.nowhere cannot be imported", "ModuleNotFoundError"]),
        ("mine.wrong:f", ["mine.wrong cannot be imported", "SyntaxError"]),
        ("mine.ends:f", ["mine.ends cannot be imported", "SystemExit: 3"]),
        ("mine.checks:balancd", ["mine.checks has no function balancd"]),
        ("mine.checks:answer", ["mine.checks:answer is of type int", "a function"]),
    ],
)
def test_what_is_no_validator_is_refused_in_one_line_before_the_model_is_read(capsys, name, words):
    with pytest.raises(SystemExit) as stop:
        main(["sample", "no-such-model", "--validator", name])
    out, err = capsys.readouterr()
    lines = our_lines(err.splitlines())
    assert (stop.value.code, out, len(lines)) == (2, "", 1)
    assert all(word in lines[0] for word in words), lines


def test_a_module_that_lacks_another_is_not_reported_as_missing_itself():
    with pytest.raises(ConfigError, match="nowhere_to_be_found") as caught:
        load_validator("mine.needs:f")
    assert "PYTHONPATH" not in str(caught.value)


def test_a_validator_that_raises_is_refused_with_the_string(brackets, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sample", str(brackets / "model"), "--validator", "mine.checks:broken", "--seed", "0"])
    out, err = capsys.readouterr()
    (line,) = our_lines(err.splitlines())
    assert (stop.value.code, out) == (2, "")
    assert "failed on '" in line and "ValueError: no such symbol)" in line


@pytest.mark.parametrize(("function", "error"), [("broken", "ValueError: no such symbol"), ("leaves", "SystemExit: 0")])
def test_the_first_string_that_a_validator_fails_on_is_quoted_and_truncated_where_it_is_long(function, error):
    name = f"mine.checks:{function}"
    with pytest.raises(ConfigError) as caught:
        check_texts(name, load_validator(name), ["(" * 500, ")"])
    assert str(caught.value).startswith(f"--validator {name} failed on '{'(' * 200}'... ({error})")


def test_a_validator_is_called_once_for_each_different_string():
    validator = load_validator("mine.checks:balanced")
    assert check_texts("mine.checks:balanced", validator, ["()", ")(", "()", ""]) == [True, False, True, True]
    assert sys.modules["mine.checks"].calls == ["()", ")(", ""]


def test_fractions_are_of_those_left_each_time():
    texts, valid = ["a", "a", "b", "c", "x", "x"], [True, True, True, True, False, False]
    assert count(texts, valid, iter(["c", "x", "unseen"])) == Validity(6, 4, 3, 2)
    assert count(texts, valid, None) == Validity(6, 4, 3, None)
    assert str(count(texts, valid, None)).endswith(
        "unique among the valid 0.750 (3 of 4), novel among the unique valid not known"
    )

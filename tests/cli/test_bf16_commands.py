"""`--precision bf16` of the commands that score and encode."""

import json

import numpy as np
import pytest
import torch

from seqvae import TextVAE
from seqvae.cli import main, streaming
from seqvae.model.modes import evaluating_in
from seqvae.training import precision

WHO, WHAT = ("a cat", "a dog", "my cow", "the bird"), ("sat", "ran", "ate", "fell", "slept")
LINES = [f"{who} {what}{where} ." for where in ("", " here") for who in WHO for what in WHAT]


@pytest.fixture(scope="module")
def made():
    small = {"latent": 4, "embedding": 16, "encoder": {"hidden": 16}, "decoder": {"hidden": 16}}
    return TextVAE.fit(LINES, max_epochs=1, precision="fp32", **small)


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    made.save_pretrained(tmp_path / "model")
    (tmp_path / "lines.txt").write_text("\n".join(LINES) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scores_and_encodings_in_bf16_are_close_but_not_equal(made, half):
    scores, means = made.score(LINES, samples=5), made.encode(LINES).mean
    with evaluating_in("bf16"):
        assert torch.allclose(made.score(LINES, samples=5), scores, rtol=0.01)
        assert not torch.equal(made.score(LINES, samples=5), scores)
        close = made.encode(LINES).mean
    assert close.dtype == means.dtype
    assert torch.allclose(close, means, rtol=0, atol=0.05) and not torch.equal(close, means)
    assert torch.equal(made.score(LINES, samples=5), scores)


def test_the_commands_compute_in_it(place, half, capsys):
    found = {}
    for chosen in ("fp32", "bf16"):
        main(["score", "model", "lines.txt", "--json", "--precision", chosen])
        scores = [json.loads(line)["log_prob"] for line in capsys.readouterr().out.splitlines()]
        main(["encode", "model", "lines.txt", "--output", "z.npy", "--precision", chosen])
        main(f"evaluate model lines.txt --split train --samples 5 --refine 0 --json --precision {chosen}".split())
        evaluated = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert evaluated["precision"] == chosen
        found[chosen] = scores, np.load("z.npy"), evaluated["nll"]
    (scores, z, nll), (half_scores, half_z, half_nll) = found["fp32"], found["bf16"]
    np.testing.assert_allclose(half_scores, scores, rtol=0.01)
    np.testing.assert_allclose(half_z, z, atol=0.05)
    assert half_nll == pytest.approx(nll, rel=0.01)
    assert half_scores != scores and (half_z != z).any() and half_nll != nll


def test_an_interrupted_encoding_is_not_continued_in_another_precision(place, half, monkeypatch):
    main(["encode", "model", "lines.txt", "--output", "whole.npy", "--precision", "bf16"])
    monkeypatch.setattr(streaming, "MANY", 1)
    monkeypatch.setattr(streaming, "BLOCK", 20)
    usual, calls = TextVAE.encode, []

    def stop(self, *args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return usual(self, *args, **options)

    monkeypatch.setattr(TextVAE, "encode", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        main(["encode", "model", "lines.txt", "--output", "z.npy"])
    main(["encode", "model", "lines.txt", "--output", "z.npy", "--precision", "bf16"])
    np.testing.assert_allclose(np.load("z.npy"), np.load("whole.npy"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "command", ["score model lines.txt", "encode model lines.txt --output z.npy", "evaluate model"]
)
def test_bf16_is_refused_in_one_line_where_layers_do_not_run_in_it(command, place, monkeypatch, capsys):
    monkeypatch.setattr(precision, "supports_bf16", lambda device: False)
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), *(["lines.txt"] if command.startswith("evaluate") else []), "--precision", "bf16"])
    assert stop.value.code == 2
    assert "write --precision fp32" in capsys.readouterr().err

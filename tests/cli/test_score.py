"""`seqvae score`: a line for each sentence, in the order of the file, whatever the blocks it is read in."""

import io
import json
import sys

import numpy as np
import pytest

from seqvae import SeriesVAE, TextVAE
from seqvae.cli import main, streaming

LINES = [f"a {animal} {verb} ." for animal in ("cat", "dog", "bird") for verb in ("sat", "ran", "ate", "slept")]
SIZES = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "max_epochs": 1}


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(LINES, **SIZES)


@pytest.fixture
def place(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("model")
    (tmp_path / "lines.txt").write_text("\n".join([*LINES[:5], "", *LINES[5:]]) + "\n")
    return tmp_path


@pytest.fixture
def score(capsys):
    """The lines that the command prints, and those on standard error."""

    def run(*arguments):
        main(["score", *arguments])
        out, err = capsys.readouterr()
        return out.splitlines(), err.splitlines()

    return run


@pytest.mark.usefixtures("place")
def test_each_line_has_log_p_and_its_sentence(model, score):
    lines, notes = score("model", "lines.txt", "--samples", "5", "--seed", "3")
    values = model.score(LINES, samples=5, seed=3).tolist()
    assert lines == [f"{value:.3f}\t{text}" for value, text in zip(values, LINES, strict=True)]
    assert len(notes) == 1 and "1 blank lines skipped" in notes[0]


@pytest.mark.usefixtures("place")
def test_blocks_give_what_all_at_once_gives_and_are_written_as_they_are_found(score, capsys, monkeypatch):
    whole, _ = score("model", "lines.txt", "--samples", "5")
    monkeypatch.setattr(streaming, "ROWS", 4)
    assert score("model", "lines.txt", "--samples", "5")[0] == whole
    sizes, usual = [], TextVAE.score

    def stop(self, texts, **options):
        sizes.append(len(texts))
        if len(sizes) == 3:
            raise KeyboardInterrupt
        return usual(self, texts, **options)

    monkeypatch.setattr(TextVAE, "score", stop)
    with pytest.raises(SystemExit):
        score("model", "lines.txt", "--samples", "5")
    assert capsys.readouterr().out.splitlines() == whole[:7] and sizes == [4, 3, 4]  # the second has the blank line


@pytest.mark.usefixtures("place")
def test_standard_input_and_json(model, score, monkeypatch):
    for arguments in (["-"], []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a cat sat .\n\na dog ran .\n")))
        lines, _ = score("model", *arguments, "--samples", "5", "--json")
        texts = ["a cat sat .", "a dog ran ."]
        values = model.score(texts, samples=5).tolist()
        found = [json.loads(line) for line in lines]
        assert [one["text"] for one in found] == texts
        assert [one["log_prob"] for one in found] == pytest.approx(values, abs=1e-4)


@pytest.mark.usefixtures("place")
def test_an_unknown_word_is_reported_once(score, monkeypatch, tmp_path):
    monkeypatch.setattr(streaming, "ROWS", 2)
    (tmp_path / "new.txt").write_text("a zebra sat .\n" * 3 + "a yak sat .\n" * 3)
    lines, notes = score("model", "new.txt", "--samples", "2")
    assert len(lines) == 6 and len(notes) == 1 and "zebra" in notes[0]


def test_labels_and_sentences_of_several_lines(score, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streaming, "ROWS", 4)
    tenses = ["past", "future"] * 6
    model = TextVAE.fit({"text": LINES, "tense": tenses}, column="text", label_column="tense", **SIZES)
    model.save_pretrained("model")
    rows = [json.dumps({"text": f"{text}\n", "tense": tense}) for text, tense in zip(LINES, tenses, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    lines, _ = score("model", "rows.jsonl", "--column", "text", "--label-column", "tense", "--samples", "5")
    found = model.score(LINES, labels=tenses, samples=5).tolist()
    assert [float(line.partition("\t")[0]) for line in lines] == pytest.approx(found, abs=2e-3)
    assert [line.partition("\t")[2] for line in lines] == LINES
    lines, _ = score("model", "rows.jsonl", "--column", "text", "--label", "past", "--samples", "5")
    found = model.score(LINES, labels="past", samples=5).tolist()
    assert [float(line.partition("\t")[0]) for line in lines] == pytest.approx(found, abs=2e-3)


def test_series(score, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    waves = [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]
    model = SeriesVAE.fit(waves, latent=2, max_epochs=1)
    model.save_pretrained("model")
    np.savez("waves.npz", values=np.concatenate(waves), lengths=[len(wave) for wave in waves])
    lines, _ = score("model", "waves.npz", "--samples", "5", "--json")
    values = [json.loads(line)["log_prob"] for line in lines]
    assert values == pytest.approx(model.score(waves, samples=5).tolist(), abs=1e-3)
    assert len(score("model", "waves.npz", "--samples", "5")[0]) == len(waves)


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model", "blank.txt"], "blank.txt holds only blank lines"),
        (["model", "none.txt"], "none.txt"),
        (["model", "lines.txt", "--samples", "0"], "--samples"),
        (["model", "lines.txt", "--label", "past"], "label"),
    ],
)
def test_a_mistake_is_one_line(arguments, expected, capsys, tmp_path):
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(SystemExit) as caught:
        main(["score", *arguments])
    out, err = capsys.readouterr()
    assert caught.value.code == 2 and not out and expected in err and len(err.splitlines()) == 1

"""A corpus is known by its content, never by its path or its time; and a sentence by its text and its label."""

import bz2
import gzip
import io
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seqvae.cli import main
from seqvae.cli.inputs import Selection
from seqvae.cli.train import run_training
from seqvae.data.text import corpus, files, splits
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError, CorpusError
from seqvae.pretrained import build_config
from seqvae.reports.comparison import run as comparison
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE
from seqvae.training.build import resolve_all
from seqvae.training.runs import read_options

OLD, NEW = ([f"{word} sentence number {i // 10} {i % 10} ." for i in range(40)] for word in ("old", "new"))
SMALL = {"latent": 2, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}, "max_epochs": 1}
FAST = ["--samples", "2", "--refine", "0"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def everything(corpus):
    return sorted(text for split in corpus.splits.values() for text in split.texts())


def lines(texts):
    return "".join(f"{text}\n" for text in texts).encode()


def table(texts):
    return lines(["text,id", *(f"{text},{i}" for i, text in enumerate(texts))])


def records(texts):
    return lines([json.dumps({"text": text}) for text in texts])


KINDS = {
    "c.txt": lines,
    "c.csv": table,
    "c.jsonl": records,
    "c.txt.gz": lambda texts: gzip.compress(lines(texts), mtime=0),
    "c.txt.bz2": lambda texts: bz2.compress(lines(texts)),
    "c/train.txt": lines,
}


@pytest.mark.parametrize("name", KINDS)
def test_another_content_of_the_same_path_and_time_is_read_anew(name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    source = path.parent if "/" in name else path
    for texts in (OLD, NEW):
        path.write_bytes(KINDS[name](texts))
        os.utime(path, (1e9, 1e9))
        assert everything(load(source)) == sorted(texts)


def test_the_same_content_is_read_once_whatever_its_path_and_time(tmp_path, monkeypatch):
    import datasets

    first = load_at(tmp_path / "a.txt", 1e9)
    for module, name in ((datasets, "load_dataset"), (corpus, "encode_table"), (splits, "normalize")):
        monkeypatch.setattr(module, name, None)
    for path, time in (("a.txt", 2e9), ("moved/b.txt", 3e9)):
        again = load_at(tmp_path / path, time)
        assert again.fingerprint == first.fingerprint and everything(again) == sorted(OLD)


def load_at(path, time):
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(lines(OLD))
    os.utime(path, (time, time))
    return load(path)


def test_a_cache_of_which_a_part_is_gone_is_made_anew(tmp_path):
    first = load_at(tmp_path / "a.txt", 1e9)
    for kept in files.get_cache_folder().glob("file-*/**/*.arrow"):
        kept.unlink()
    for kept in files.get_cache_folder().glob("ids-*"):
        kept.unlink()
    assert load_at(tmp_path / "a.txt", 1e9).fingerprint == first.fingerprint


def test_the_fingerprint_knows_every_word_of_every_sentence():
    """Words that are too rare for the vocabulary have one id, but are not one text."""
    one, other = list(OLD), list(OLD)
    one[7], other[7] = "old rare word abc .", "old rare word xyz ."
    first = load(one)
    again = load(other, tokenizer=first.tokenizer)
    assert first.fingerprint != again.fingerprint and first.content != again.content
    assert load(tuple(one)).fingerprint == first.fingerprint
    assert load(one, tokenizer="char").content == first.content == load(one, max_length=3).content
    assert load(one, seed=1).content != first.content


def test_the_hub_is_no_way_around_the_content_of_a_file(tmp_path):
    (tmp_path / "train.txt").write_bytes(lines(OLD))
    with pytest.raises(CorpusError, match="names a place on this disk"):
        load(f"hub:{tmp_path}")


# -- the corpus of a training under another name ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a corpus, and a run on it that is not at its end."""
    home = tmp_path_factory.mktemp("home")
    (home / "a.txt").write_bytes(lines(OLD))
    run_training(resolve_all(replace(build_config(SMALL), corpus=str(home / "a.txt"))), home / "m", resume=False)
    return home


@pytest.fixture
def place(home, tmp_path, monkeypatch):
    shutil.copytree(home, tmp_path / "copy")
    shutil.copy(home / "a.txt", tmp_path / "b.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "copy"


@pytest.fixture
def say(capsys):
    def run(*arguments):
        capsys.readouterr()
        main([str(argument) for argument in arguments])
        return capsys.readouterr()

    return run


def test_the_training_corpus_under_another_path_is_scored_on_its_held_out_sentences(place, say):
    own, moved = (say("evaluate", place / "m", *corpus, *FAST) for corpus in ([], ["b.txt"]))
    assert own.out == moved.out
    assert own.err == "" and "b.txt is the corpus of the training: its test sentences are scored" in moved.err
    split, train, _ = Selection("b.txt", "test", None, None).read(TextVAE.from_pretrained(place / "m"))
    assert not set(split.texts()) & set(train.texts()) and len(train) == 36


def test_standard_input_is_recognized_too(place, say, monkeypatch):
    class Input:
        buffer = io.BytesIO(lines(OLD))

    monkeypatch.setattr(sys, "stdin", Input)
    assert "the corpus of the training" in say("evaluate", place / "m", "-", *FAST).err


@pytest.mark.parametrize("trained_on", [0, 5, 36])
def test_sentences_of_a_file_that_were_trained_on_are_counted(place, say, trained_on):
    train = load(place / "a.txt").train.texts()
    Path("c.txt").write_bytes(lines([*NEW, *(text.upper() for text in train[:trained_on])]))
    err = say("evaluate", place / "m", "c.txt", *FAST).err
    message = f"{trained_on} of the {40 + trained_on} sentences that are scored were trained on"
    assert message in err if trained_on else err == ""


def test_where_the_training_sentences_are_gone_nothing_is_claimed_of_them(home, place, say, refused):
    config = json.loads((place / "m" / "config.json").read_text())
    config["config"]["corpus"] = str(place / "gone.txt")
    (place / "m" / "config.json").write_text(json.dumps(config))
    Path("c.txt").write_bytes(lines(NEW))
    assert "if the corpus has moved, name the place" in refused("evaluate", place / "m")
    assert "not known" in say("evaluate", place / "m", "c.txt", *FAST).err
    assert "the corpus of the training" in say("evaluate", place / "m", "b.txt", *FAST).err


def test_a_run_goes_on_with_its_corpus_under_another_name_and_with_no_other(place, say, refused):
    Path("c.txt").write_bytes(lines(NEW))
    assert "c.txt" in refused("train", "c.txt", "--resume", "--output", place / "m", "--max-epochs", "2")
    say("train", "b.txt", "--resume", "--output", place / "m", "--max-epochs", "2")
    model = TextVAE.from_pretrained(place / "m")
    assert Path(model.config.corpus).name == "b.txt" and model.config.training.max_epochs == 2
    assert Path(read_options(place / "m").corpus).name == "b.txt"  # where the run looks from now on


def at(folder, corpus):
    """The model of a folder, as if it had been trained on a corpus at another place."""
    checkpoint = TextVAE.from_pretrained(folder).checkpoint
    return TextVAE(replace(checkpoint, config=replace(checkpoint.config, corpus=str(corpus))))


SCORING = comparison.Scoring(samples=2, limit=2, text=False)


def test_models_of_one_corpus_under_two_names_are_compared(place):
    gone, moved = at(place / "m", "gone.txt"), at(place / "m", "b.txt")
    comparison.check_same_text([gone, moved])
    ours = comparison.Comparison(SCORING, places=["b.txt"])
    assert ours.load_corpus(gone) is ours.load_corpus(moved)
    with pytest.raises(CorpusError, match=r"gone\.txt"):
        comparison.Comparison(SCORING).load_corpus(gone)
    Path("c.txt").write_bytes(lines(NEW))
    with pytest.raises(CorpusError, match="has changed"):
        comparison.Comparison(SCORING).load_corpus(at(place / "m", "c.txt"))


def test_models_of_other_content_are_not_compared(place):
    other = TextVAE.fit(NEW, **SMALL)
    with pytest.raises(ConfigError, match="different text"):
        comparison.check_same_text([at(place / "m", "b.txt"), other])


def test_a_comparison_takes_the_file_of_a_corpus_that_has_moved(place, monkeypatch, refused):
    seen = []
    monkeypatch.setattr(comparison.Comparison, "score", lambda ours, folder, name: seen.append((name, ours.places[0])))
    monkeypatch.setattr(comparison.Comparison, "publish", lambda *rest: "")
    shutil.copytree(place / "m", "other")
    main(["compare", str(place / "m"), "b.txt", "other"])
    assert seen == [("m", str(Path("b.txt").resolve())), ("other", str(Path("b.txt").resolve()))]
    assert "two or more model folders" in refused("compare", place / "m", "b.txt")


def test_recipes_go_on_with_their_corpus_under_another_name(place):
    config = read_options(place / "m")
    assert comparison.check_begun(place / "m", config) and comparison.check_begun(
        place / "m", replace(config, corpus="b.txt")
    )
    Path("c.txt").write_bytes(lines(NEW))
    with pytest.raises(ConfigError, match="another corpus"):
        comparison.check_begun(place / "m", replace(config, corpus="c.txt"))


def test_series_are_recognized_by_their_content(tmp_path):
    series = [np.sin(np.arange(n) / 2)[:, None] for n in range(3, 43)]
    names = {name: str(tmp_path / f"{name}.npz") for name in ("a", "b", "c")}
    for name, some in (("a", series), ("b", series), ("c", [*series[:4], *(one + 1 for one in series)])):
        np.savez(names[name], values=np.concatenate(some), lengths=np.array([len(one) for one in some]))
    model = SeriesVAE.fit(names["a"], **SMALL)
    own, moved, other = (Selection(names[name], "test", None, None).read(model) for name in names)
    assert own[0].series()[0].tolist() == moved[0].series()[0].tolist() and len(moved[0]) == 2 and len(moved[1]) == 36
    assert len(other[0]) == 44 and other[1] is None


# -- a sentence under several labels ----------------------------------------------------------------------------------


ROWS = [(f"sentence {i} .", mood) for i in range(60) for mood in {i % 3, (i + i % 2) % 3}]


@pytest.mark.parametrize("kind", [int, str])
def test_a_sentence_is_kept_under_each_of_its_labels_and_in_one_split(kind):
    given = {"text": [text for text, _ in ROWS], "mood": [kind(mood) for _, mood in ROWS]}
    doubled = {name: values + values[:7] for name, values in given.items()}
    corpus, plain = load(doubled, label_column="mood"), load(given)
    pairs = {name: set(zip(split.texts(), split.column("mood"), strict=True)) for name, split in corpus.splits.items()}
    assert sum(map(len, pairs.values())) == sum(map(len, corpus.splits.values())) == len(ROWS) == 90
    assert set().union(*pairs.values()) == set(zip(given["text"], given["mood"], strict=True))
    for name, split in plain.splits.items():  # the texts are divided as without labels, so none is in two splits
        assert set(split.texts()) == {text for text, _ in pairs[name]}
    assert "7 duplicate sentences dropped" in corpus.notes
    assert any("30 more for sentences with several labels" in note for note in corpus.notes)


def test_labels_that_are_one_when_read_are_no_two(tmp_path):
    rows = [(f"sentence {i} .", mood) for i in range(60) for mood in ("sad", " sad ", "glad")[: 1 + i % 3]]
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines([json.dumps({"text": text, "mood": mood}) for text, mood in rows]))
    corpus = load(path, label_column="mood")
    assert len(everything(corpus)) == 80 and corpus.labels.keys() == {"glad", "sad"}

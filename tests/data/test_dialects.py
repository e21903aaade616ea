"""Every dialect of a table is read right or refused in one line, and so are records of JSON and other encodings."""

import csv
import gzip
import io
import json
import os
import re
from itertools import product
from pathlib import Path

import pytest

from seqvae.data.text import dialects
from seqvae.data.text.corpus import load
from seqvae.data.text.files import get_cache_folder, load_file
from seqvae.data.text.splits import read_splits
from seqvae.errors import CorpusError

PLAIN = [["a tree sees one dog .", "0"], ["this queen hears a man .", "1"], ["the king eats .", ""], ["no one .", "2"]]
MARKED = [
    ['he said " yes .', "0"],
    ['" the cat sees a dog .', "1"],
    ['the man said "no"', "2"],
    ["it is 5' long .", "0"],
]
FULL = [
    ["a, b; and c | d .", "0"],
    ['he said "yes", and left', "1"],
    ["two\nlines, or\nthree", "2"],
    ["ends with a mark \\", "0"],
    ['"', "1"],
    ["été, 東京", ""],
]
WORDS = [["a great film .", "good"], ["what a bore !", "bad"], ["fine by me .", "good"], ["never again .", "bad"]]
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def written(rows, delimiter, ends="\n", **options):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=ends, **options).writerows(rows)
    return text.getvalue()


def raw(rows, delimiter):
    return "".join(f"{delimiter.join(row)}\n" for row in rows)


def rows_of(path, column=None):
    dataset, texts = load_file(str(path), Path(path), column)
    return dataset.column_names, [list(row.values()) for row in dataset], texts


def refusal(path, column=None):
    with pytest.raises(CorpusError) as caught:
        read_splits(path, column=column)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- tables -----------------------------------------------------------------------------------------------------------

WRITERS = {
    "quotes where needed": (FULL, {}),
    "quotes everywhere": (FULL, {"quoting": csv.QUOTE_ALL}),
    "quotes around texts": (FULL, {"quoting": csv.QUOTE_NONNUMERIC}),
    "carriage returns": (FULL, {"ends": "\r\n"}),
    "backslashes": (FULL[:3], {"escapechar": "\\", "doublequote": False, "quoting": csv.QUOTE_ALL}),
    "no marks": (PLAIN, {}),
    "labels of words": (WORDS, {}),
}


@pytest.mark.parametrize("delimiter", DELIMITERS.values(), ids=DELIMITERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_writer_of_tables_wrote_is_read_back(file, writer, delimiter):
    rows, options = WRITERS[writer]
    for header in (["text", "label"], ["said", "n"], None):
        table = written([header, *rows] if header else rows, delimiter, **options)
        names, found, texts = rows_of(file("table.csv", table))
        assert (names, found) == (header or ["column_1", "column_2"], rows)
        assert texts == (names if rows is WORDS else names[:1])


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".csv.gz"])
def test_quotes_that_are_text_swallow_no_rows(file, ending):
    for delimiter, header in product(DELIMITERS.values(), (["text", "label"], None)):
        content = b"\xef\xbb\xbf" + raw([header, *MARKED] if header else MARKED, delimiter).encode()
        path = file(f"table{ending}", gzip.compress(content, mtime=0) if ending.endswith("gz") else content)
        assert rows_of(path)[1] == MARKED


@pytest.mark.parametrize("closing", ["", " .", "\t1"], ids=["never", "within a cell", "at the end of a cell"])
def test_a_quote_far_below_the_head_swallows_no_rows(file, monkeypatch, closing):
    monkeypatch.setattr(dialects, "HEAD", 200)
    rows = [[f"sentence {i} .", "1"] for i in range(60)]
    rows[30][0] = '" a quote'
    if closing:
        rows[40] = ['it closes "', "1"] if closing == "\t1" else ['it "closes .', "1"]
    assert rows_of(file("table.tsv", raw([["text", "n"], *rows], "\t")))[1] == rows


def test_a_text_in_quotes_keeps_them_where_others_have_quotes_within(file):
    rows = [['" yes . "', "0"], ['he said " no', "1"], ["fine then .", "1"]]
    assert rows_of(file("table.tsv", raw([["text", "n"], *rows], "\t")))[1] == rows


def test_commas_within_a_cell_of_several_lines_make_no_rows_of_it(file):
    rows = [["Dear all,\nI write, as I said", "1"], ["so, bye,\nyours", "0"], ["Well, yes\nfine by me", "1"]]
    path = file("table.csv", written([["text", "n"], *rows], ","))
    assert rows_of(path)[1] == rows
    assert "3 of its cells hold several lines, each read as one sentence" in read_splits(path, whole=True).notes


def test_backslashes_of_a_text_are_kept(file):
    rows = [["\\alpha and \\beta", "0"], ["C:\\new", "1"], ['sch\\"on', "1"]]
    assert rows_of(file("table.tsv", raw([["text", "n"], *rows], "\t")))[1] == rows


def test_a_fault_below_a_head_with_quotes_around_cells_leaves_no_quotes_in_the_texts(file, monkeypatch):
    monkeypatch.setattr(dialects, "HEAD", 200)
    lines = [f'"sentence {i} .","1"\n' for i in range(60)]
    lines[49] = '"one" two,"1"\n'
    assert "a double quote in line 51 closes within a cell" in refusal(file("table.csv", "text,n\n" + "".join(lines)))


def test_a_tab_is_preferred_to_commas_that_are_in_each_row(file):
    rows = [["well, yes", "0"], ["oh, no", "1"], ["a, b", "1"]]
    assert rows_of(file("table.csv", raw(rows, "\t")))[1] == rows


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("text\nno comma\nor, then, two\none, here\n", ["text"], ["no comma", "or, then, two", "one, here"]),
        ('text\nno comma\n"or, then, two"\n', ["text"], ["no comma", "or, then, two"]),
        ('"Hello, world ."\nfine then .\n', ["column_1"], ["Hello, world .", "fine then ."]),
        ('text\n"no" he said\nshe " left\n', ["text"], ['"no" he said', 'she " left']),
        ('text\n" he said .\nno "\nyes\n', ["text"], ['" he said .', 'no "', "yes"]),
        ('text\n"two\nlines"\none\n', ["text"], ["two\nlines", "one"]),
        ("smiles\nCCO\n\nc1ccccc1\n", ["smiles"], ["CCO", "", "c1ccccc1"]),
        ("my_words\nx\ny\n", ["my_words"], ["x", "y"]),
    ],
)
def test_a_table_of_one_column_needs_no_delimiter(file, content, names, rows):
    found = rows_of(file("table.csv", content))
    assert found[:2] == (names, [[row] for row in rows])


FIRST_ROWS = {
    "numbers below": ("phrase,2nd\na b,1\nc d,2\n", ["phrase", "2nd"]),
    "dates below": ("phrase,when\na b,2024-01-02\nc d,2024-02-02\n", ["phrase", "when"]),
    "a column without a name": (",text\n0,a b\n1,c d\n", ["column_1", "text"]),
    "a name twice": ("text,text\na b,1\nc d,2\n", ["text", "column_2"]),
    "numbered by pandas": ("0,1\na b,x\nc d,y\n", ["0", "1"]),
    "a question as a name": ("Timestamp,How do you like it here?\n1/2/24,very much\n2/2/24,not at all\n", None),
    "sentences of one language each": ("Go.,Geh.\nHi.,Hallo!\nRun!,Lauf!\n", ["column_1", "column_2"]),
    "a long first sentence": ("one of the many dogs\nthe cat sat on the mat\nshe left\n", ["column_1"]),
    "a label that is also a common name": ("who is he,question\nhe is,answer\n" * 3, None),
    "a missing number": ("a b,NA\nc d,1\na quiet day,2\n", None),
    "names that are mostly digits": ("satz,f10\nein kurzer Satz,1.5\nund noch einer,2\n", ["satz", "f10"]),
    "a year above numbers": ("kommentar,2021\nein kurzer Satz,15\nund noch einer,2\n", None),
    "a year among years": ("gut,2021\nein kurzer Satz,2015\nund noch einer,2020\n", ["column_1", "column_2"]),
}


DOUBTFUL = ("a missing number", "a label that is also a common name", "a year above numbers")


@pytest.mark.parametrize("name", FIRST_ROWS)
def test_a_first_row_is_names_or_a_row_by_the_rows_below(file, name):
    content, names = FIRST_ROWS[name]
    path = file("table.csv", content)
    if name in DOUBTFUL:
        assert "may be names or a row" in refusal(path)
    else:
        assert rows_of(path)[0] == (names or content.split("\n")[0].split(","))


def test_where_a_header_is_in_doubt_the_column_asked_for_decides(file):
    path = file("table.csv", "cats\ndogs\nbirds\n")
    message = refusal(path)
    assert message.endswith("if names, its columns are: cats; if a row, they are: column_1")
    assert rows_of(path, "cats")[1] == [["dogs"], ["birds"]]
    assert rows_of(path, "column_1")[1] == [["cats"], ["dogs"], ["birds"]]
    assert "has no column 'fish'; its columns are: cats" in refusal(path, "fish")


def test_a_column_may_be_given_by_its_number(file):
    path = file("table.csv", "a great film .,he left .\nwhat a bore .,she came .\nso it is .,we went .\n")
    assert list(read_splits(path, column="2", whole=True).splits["test"]) == ["he left .", "she came .", "we went ."]
    assert "needs --column" in refusal(path) and "has no column '3'" in refusal(path, "3")


REFUSED = {
    "more cells": ("text,n\na,1\nb,2,3\n", r"line 3 has 3 cells where the first has 2: .* at a comma"),
    "fewer cells": ("text,n\na,1\nb\nc,3\n", "line 3 has 1 cell where the first has 2"),
    "commas without quotes": ("text,n\nwell, yes,1\nno,2\n", "line 2 has 3 cells where the first has 2"),
    "a comment above": ("made today\na,1\nb,2\nc,3\n", "line 2 has 2 cells where the first has 1"),
    "an open quote among quoted commas": ('text,n\n"a, b",1\n"c,2\nd,3\n', "double quote in line 3 does not close"),
    "a quote within": ('text,n\n"a, b",1\n"c" d,2\n"e, f",3\n', "line 3 closes within a cell, in line 3"),
    "swallowed rows": ('text,n,m\n"a, b",1,2\n"c,1,2\nd,1,2\ne",1,2\n', "line 3 closes in line 5, and each line betw"),
    "two delimiters": ("a b;3,5\nc d;4,5\n", "may end at a comma or at a semicolon"),
    "a hint": ("sep=;\ntext;n\na;1\n", "begins with 'sep=;'"),
    "names alone": ("text,label\n", "is empty below the names of its columns, text, label"),
    "quotes alone": ('""\n""\n', "is empty"),
    "numbers alone": ("a,b\n1,2\n3,4\n", "needs --column"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_no_dialect_fits_is_refused_with_the_line(file, name):
    content, message = REFUSED[name]
    assert re.search(message, refusal(file("table.csv", content)))


def test_a_fault_far_below_the_head_is_refused_with_the_line_and_leaves_nothing_in_the_cache(file, monkeypatch):
    monkeypatch.setattr(dialects, "HEAD", 200)
    lines = [f"sentence {i} .,1\n" for i in range(60)]
    lines[49] = "one, two,1\n"
    assert "line 51 has 3 cells where the first has 2" in refusal(file("table.csv", "text,n\n" + "".join(lines)))
    assert not list(get_cache_folder().iterdir())


def test_the_same_content_is_read_once_and_another_under_the_same_time_anew(file, monkeypatch):
    path = file("table.csv", "text\none\ntwo\n")
    times = (1_000_000_000, 1_000_000_000)
    os.utime(path, times)
    first = rows_of(path)[1]
    with monkeypatch.context() as patch:
        patch.setattr("seqvae.data.text.files._write_table", lambda *given: pytest.fail("read again"))
        assert rows_of(path)[1] == first
    (kept,) = get_cache_folder().glob("table-*.arrow")
    kept.write_bytes(kept.read_bytes()[:99])
    assert rows_of(path)[1] == first
    os.utime(file("table.csv", "text\nsix\nten\n"), times)
    assert rows_of(path)[1] == [["six"], ["ten"]]


def test_the_note_names_the_column_and_its_first_sentence_in_one_line(file):
    sentence = "the book that she reads is older than the house that she lives in"
    path = file("reviews.tsv", f"id\ttext\n1\t\n2\t{sentence}  .\n3\tno\n4\tyes\n5\tso\n")
    note = next(note for note in load(path).notes if note.startswith("column"))
    assert note == "column 'text' of reviews.tsv: \"the book that she reads is older than the hous ...\""


# -- records ----------------------------------------------------------------------------------------------------------

TEXTS = ["a b", "c d", "e f"]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
RECORDS = {
    "lines.json": LINES,
    "array.json": json.dumps([{"text": text} for text in TEXTS]),
    "texts.json": json.dumps(TEXTS),
    "field.json": json.dumps({"version": 1, "data": [{"text": text} for text in TEXTS]}),
    "pretty.json": json.dumps({"data": [{"text": text} for text in TEXTS]}, indent=1),
    "events.jsonl": "".join(json.dumps({"type": "user", "message": {}, "text": text}) + "\n" for text in TEXTS),
    "labels.jsonl": LINES + '{"text": "g h", "n": 1}\n{"text": "i j", "n": "one"}\n',
    "strings.jsonl": "".join(json.dumps(text) + "\n" for text in TEXTS),
    "halves.jsonl": LINES + '{"text": "half \\ud800", "n": 9999999999999999999999}\n',
    "missing.jsonl": '{"n": 1}\n' + LINES,
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_give_their_texts(file, name):
    texts = read_splits(file(name, RECORDS[name]), whole=True)
    assert list(texts.splits["test"])[:3] == TEXTS


TROUBLE = {
    "number.jsonl": (LINES + '{"text": 17}\n', "has the number 17 in column 'text' of line 4, .* double quotes"),
    "number.json": ('[{"text": "a"}, {"text": true}]', "has true in column 'text' of record 2"),
    "object.jsonl": (
        '{"text": "a"}\n{"text": {"en": "b"}}\n',
        'has the object {"en": "b"} in column \'text\' of line 2',
    ),
    "numbers.jsonl": ("1\n2\n", 'line 1 is the number 1, expected an object, as {"text": "..."}'),
    "sentence.jsonl": (
        '{"sentence": "a", "n": 1}\n{"sentence": 5, "n": 1}\n',
        "the number 5 in column 'sentence' of line 2",
    ),
    "tokens.jsonl": ('{"tokens": ["a", "b"], "n": 1}\n' * 3, r"are: tokens \(lists\), n \(int64\); join the words"),
    "nested.jsonl": ('{"doc": {"text": "a b"}}\n' * 3, r"are: doc \(objects\); write --column doc\.NAME"),
    "several.json": ('{"train": [{"text": "a"}], "test": [{"text": "b"}]}', "several arrays of objects, train, test"),
    "broken.jsonl": ('{"text": "a"}\n{"text": \n{"text": "b"}\n', "cannot be read as json: line 2 is no JSON"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_records_without_texts_are_refused_with_the_place(file, name):
    content, message = TROUBLE[name]
    assert re.search(message, refusal(file(name, content)))


def test_an_object_is_no_text(file):
    path = file("nested.jsonl", '{"doc": {"text": "a b"}, "title": "c"}\n' * 3)
    assert "holds objects, not text" in refusal(path, "doc")


# -- encodings --------------------------------------------------------------------------------------------------------

WIDE = ("the first sentence .\nand the second .\n", "我喜欢这本书。\n她走了。\n", "Это дом .\nОна ушла .\n")
ENCODINGS = {
    "utf-32": "is UTF-32, not UTF-8; save it as UTF-8",
    "utf-32-le": "is UTF-32 without a mark of it, not UTF-8",
    "utf-32-be": "is UTF-32 without a mark of it, not UTF-8",
    "utf-16": "is UTF-16, not UTF-8; save it as UTF-8",
    "utf-16-le": "is UTF-16 without a mark of it, not UTF-8",
    "utf-16-be": "is UTF-16 without a mark of it, not UTF-8",
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_wide_encoding_is_called_by_its_name(file, encoding):
    for text, ending in product(WIDE, (".txt", ".csv", ".txt.gz")):
        content = text.encode(encoding)
        path = file(f"corpus{ending}", gzip.compress(content, mtime=0) if ending.endswith("gz") else content)
        assert ENCODINGS[encoding] in refusal(path)


@pytest.mark.parametrize(
    ("content", "letters"),
    [
        ("caf\xe9 au lait\n".encode("latin-1"), "é"),
        ("noch gr\xf6\xdfer\n".encode("latin-1"), "öß"),
        ("“quoted” text\n".encode("cp1252"), "“"),
        ("Это дом\n".encode("cp1251"), ""),
        ("Он дома\n".encode("cp1251"), ""),
        ("我喜欢\n".encode("gbk"), ""),
        ("日本語\n".encode() + b"ab\xe6\x97 damaged\n", ""),  # UTF-8 with a letter cut in two
        (b"over \xe6\x97 there\n", ""),
    ],
)
def test_a_narrow_encoding_is_guessed_only_where_it_is_plain(file, content, letters):
    hint = f" (it looks like Windows-1252, with '{letters}' there: iconv -f cp1252 -t utf-8)" if letters else ""
    path = file("corpus.txt", b"good\n" + content)
    assert refusal(path).endswith(f"save it as UTF-8{hint}")


def test_a_text_within_objects_is_found_by_its_path_and_the_way_to_write_it_is_given(file):
    path = file("nested.jsonl", '{"id": 1, "doc": {"text": "a b", "n": 2}}\n' * 3)
    assert list(read_splits(path, column="doc.text", whole=True).splits["test"]) == ["a b"] * 3
    assert refusal(path, "doc").endswith("write --column doc.NAME for the text called NAME within the objects")
    assert "has a text at 'doc.txt'" in refusal(path, "doc.txt")

"""Files of word vectors: every format gives the same rows, and what is damaged is named with its line."""

import gzip
import tracemalloc

import numpy as np
import pytest

from seqvae.data.text.tokenizer import Tokenizer
from seqvae.data.text.vectors import inspect_vectors, read_vectors, spell_tokens
from seqvae.errors import ConfigError

WORDS = ["the", "cat", ". . .", "Paris", "paris", "café", "London", "dog"]
VALUES = np.random.default_rng(0).normal(size=(len(WORDS), 5)).astype(np.float32)
LINES = [f"{word} {' '.join(f'{x:.6f}' for x in row)}\n" for word, row in zip(WORDS, VALUES, strict=True)]
HEADER = f"{len(WORDS)} 5\n"
BINARY = HEADER.encode() + b"".join(
    word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(WORDS, VALUES, strict=True) if " " not in word
).replace(b"8 5", b"7 5", 1)
FILES = {
    "glove.txt": "".join(LINES).encode(),
    "word2vec.txt": (HEADER + "".join(LINES)).encode(),
    "fasttext.vec": (HEADER + "".join(line.replace("\n", " \n") for line in LINES)).encode(),
    "word2vec.bin": BINARY.replace(HEADER.encode(), b"7 5\n"),
}
IDS = {"cat": 7, "paris": 4, "london": 5, "LONDON": 6, "zebra": 8, "café": 9}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same_rows(name, compressed, tmp_path):
    path = tmp_path / (name + ".gz" * compressed)
    path.write_bytes(gzip.compress(FILES[name]) if compressed else FILES[name])
    assert inspect_vectors(path).binary == (name == "word2vec.bin")
    found = read_vectors(path, IDS)
    assert found.ids.tolist() == [4, 5, 6, 7, 9]
    expected = [VALUES[WORDS.index(word)] for word in ("paris", "London", "London", "cat", "café")]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.other_case == 2


def change(line, text):
    return "".join([*LINES[: line - 1], text, *LINES[line:]]).encode()


DAMAGED = {
    "empty": (b"", "line 1 is empty"),
    "prose": (b"hello there you\n", "line 1: expected a word and its numbers"),
    "short": (change(4, "Paris 1 2 3\n"), "line 4: expected a word and 5 numbers, found 3"),
    "long": (change(4, "Paris 1 2 3 4 5 6\n"), "line 4: expected a word and 5 numbers, found 6"),
    "not a number": (change(2, "cat 1 2 x 4 5\n"), "line 2"),
    "not finite": (change(2, "cat 1 2 nan 4 5\n"), "line 2: expected 5 numbers"),
    "ends early": ((HEADER + "".join(LINES[:5])).encode(), "ends after vector 5, and its first line says 8"),
    "binary ends early": (FILES["word2vec.bin"][:-9], "ends after vector 6, and its first line says 7"),
    "gzip ends early": (gzip.compress(FILES["glove.txt"])[:-20], "cannot be read|is damaged"),
    "another language": (b"xx 1 2\nyy 3 4\n", "none of the 6 words"),
    "no width": (b"3 0\n", "line 1"),
    "a fastText model": (b"\xba\x16\x4f\x2f" + bytes(40), "give its .vec"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_damaged_is_refused_in_one_line_with_its_place(name, tmp_path):
    content, reason = DAMAGED[name]
    (tmp_path / "vectors").write_bytes(content)
    with pytest.raises(ConfigError, match=reason) as caught:
        read_vectors(tmp_path / "vectors", IDS)
    assert str(tmp_path / "vectors") in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="No such file"):
        read_vectors(tmp_path / "missing", IDS)


@pytest.mark.parametrize("binary", [False, True])
def test_only_the_rows_of_the_vocabulary_are_held(binary, tmp_path):
    count, width = 8_000, 400
    with open(tmp_path / "vectors", "wb") as file:
        file.write(f"{count} {width}\n".encode())
        numbers = np.ones(width, np.float32).tobytes() if binary else b" ".join([b"0.125"] * width)
        for number in range(count):
            file.write(b"w%d %s\n" % (number, numbers))
    tracemalloc.start()
    found = read_vectors(tmp_path / "vectors", {"w17": 4, "w7999": 5, "none": 6})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.ids.tolist() == [4, 5]
    assert peak < 4e6 < (tmp_path / "vectors").stat().st_size / 3


def test_tokens_that_begin_a_word_have_its_vector_and_pieces_have_none():
    words = spell_tokens(Tokenizer.train(["the cat sat", "the CAT"] * 9, "word", lowercase=False))
    assert sorted(words) == ["CAT", "cat", "sat", "the"] and min(words.values()) == 4
    tokenizer = Tokenizer.train(["the cat sat on théme"] * 9, "bpe", vocabulary_size=290)
    words = spell_tokens(tokenizer)
    assert {"the", "cat"} <= set(words) and all(tokenizer.encode(word) == [id] for word, id in words.items())

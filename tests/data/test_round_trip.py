"""Text comes back as it was written: the pieces of words and marks, and the spaces between them."""

import json
import random

import pytest
import tokenizers

from seqvae.data.batch import UNKNOWN
from seqvae.data.text.spacing import Spacing
from seqvae.data.text.tokenizer import RESERVED, Tokenizer, keep_some
from seqvae.errors import CheckpointError

PEOPLE = [
    "Well, it's (almost) done!",
    '"Yes," he said, "I do."',
    "We paid $5,000 (3.14%) to the U.S. at 10:30.",
    "Wait... what?! He/she left -- or not; see below: nothing.",
    "The teacher's book isn't well-known, I'd say.",
]
TREEBANK = ["well , it 's ( almost ) done !", "wait ... what ?", "`` yes , '' he said , `` i do n't . ''"]
TEXTS = [
    *PEOPLE,
    *TREEBANK,
    "\u0627\u0648 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    " \u0646\u0645\u06cc\u200c\u0631\u0648\u0645\u060c \u0628\u0644\u0647\u061f",
    "\u0d28\u0d4d\u200d \u0915\u094d\u200d\u0937, Donau\u00addampf\u00adschiff",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467 ok \u2764\ufe0f \U0001f44d\U0001f3fd!",
    "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7 1\ufe0f\u20e3 \U0001f600\U0001f600",
    "\u6211\u53bb\u4e86\uff0c\u5f88\u597d\u3002\u4ed6\u8bf4\uff1a\u300c\u597d\uff01\u300d",
    "cafe\u0301 nai\u0308ve x\u0302\u0323!",
    "L'homme d'aujourd'hui n'est pas l\u00e0 ; \u00ab oui \u00bb dit-il.",
    "\u00bfQu\u00e9? \u00a1S\u00ed! col\u00b7lecci\u00f3",
    "\u201cHe\u2019s here,\u201d she said \u2014 \u2018really\u2019.",
    "see https://example.com/a?b=c&d=1, or me.x@post.example.org.",
    "- 3.14 and 1,000 and e-mail",
    "C(=O)OC1=CC=CC=C1[N+]",
]


@pytest.mark.parametrize("text", TEXTS, ids=map(ascii, TEXTS))
def test_a_sentence_comes_back_as_it_was_written(text):
    tokenizer = Tokenizer.train([text], lowercase=False)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("corpus", [PEOPLE, TREEBANK], ids=["people", "treebank"])
def test_a_corpus_comes_back_in_its_own_spacing(corpus):
    tokenizer = Tokenizer.train(corpus, lowercase=False)
    assert tokenizer.decode_batch(tokenizer.encode_batch(corpus)) == corpus


@pytest.mark.parametrize(
    "piece",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # a zero-width non-joiner within a word
        "\U0001f469\u200d\U0001f467",
        "\u2764\ufe0f",
        "\U0001f44d\U0001f3fd",
        "\U0001f1e9\U0001f1ea",
        "a\u0301b",
        "don't",
        "l'homme",
        "e-mail",
        "3.14",
        "1,000",
        "https://example.com/a?b=c",
        "me.x@post.example.org",
    ],
    ids=ascii,
)
def test_what_belongs_together_is_one_piece(piece):
    tokenizer = Tokenizer.train([piece])
    assert len(tokenizer.encode(piece)) == 1 and tokenizer.decode(tokenizer.encode(piece)) == piece


def test_the_majority_decides_how_a_mark_is_written():
    tokenizer = Tokenizer.train(["a, b", "b, c", "c , d"])
    assert tokenizer.decode(tokenizer.encode("a , d")) == tokenizer.decode(tokenizer.encode("a, d")) == "a, d"


def test_words_with_habits_of_their_own_keep_them():
    corpus = ["mr. smith went to the u.s. in jan. , he said ."] * 3 + [
        f"the {animal} slept ." for animal in "abcdefghijkl"
    ]
    tokenizer = Tokenizer.train(corpus)
    for text in (corpus[0], "the u.s. slept .", "mr. a , he ."):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_quotes_open_and_close_in_turn():
    tokenizer = Tokenizer.train(['a "b" c "d e" f'] * 3)
    for text in ('a "b c" d', '"a" b', 'a "b"', 'a "b" "c d" e', 'a b"'):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_numbers_have_habits_of_their_own():
    tokenizer = Tokenizer.train(["he said: no", "she said: yes", "at 10:30", "by 5% or a % of it", "what % of it"])
    for text in ("at 30:10", "no: he", "10% said", "yes % of"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("corpus", [PEOPLE, TREEBANK, TEXTS], ids=["people", "treebank", "all"])
def test_any_sequence_of_ids_is_written_so_that_it_is_read_again(corpus):
    """Words that no text had side by side too: what a model samples is what it is scored for."""
    tokenizer, chance = Tokenizer.train(corpus), random.Random(0)
    for _ in range(300):
        ids = chance.choices(range(UNKNOWN, len(tokenizer)), k=chance.randint(0, 12))
        assert tokenizer.encode(tokenizer.decode(ids)) == ids


def test_spaces_cost_no_ids():
    pieces = {"a", "b", "c", ",", "(", ")", "."}
    assert len(Tokenizer.train(["a, b (c).", "a , b ( c ) ."])) == len(RESERVED) + len(pieces)


def test_a_stored_tokenizer_writes_as_it_did(tmp_path):
    tokenizer = Tokenizer.train(PEOPLE, lowercase=False)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.decode_batch(loaded.encode_batch(PEOPLE)) == PEOPLE and loaded.to_json() == tokenizer.to_json()
    outside = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))  # others can read it too
    assert outside.decode(tokenizer.encode(PEOPLE[0])) == PEOPLE[0]


@pytest.mark.parametrize(
    "decoder",
    [
        None,
        {"type": "Fuse"},
        {"type": "Sequence", "decoders": []},
        {"type": "Replace", "pattern": {"Regex": "a"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": r"(?<=\w) (?=,)"}, "content": "x"},
    ],
)
def test_a_foreign_decoder_is_refused(decoder, tmp_path):
    path, parts = tmp_path / "tokenizer.json", json.loads(Tokenizer.train(PEOPLE).to_json())
    if decoder and decoder["type"] == "Replace":
        decoder = parts["decoder"] | {"decoders": [*parts["decoder"]["decoders"], decoder]}
    path.write_text(json.dumps(parts | {"decoder": decoder}))
    with pytest.raises(CheckpointError, match="decoder is none of ours"):
        Tokenizer.load(path)


def test_pairs_of_marks_are_stored_only_where_they_differ_from_words():
    sentences = [[["a", ".", ")"], ["b", ","], ["(", "c", ")", "."]]] * 3
    assert set(Spacing.learn(sentences, ".,()").habits) == {
        (r"\w", r"\."),
        (r"\w", ","),
        (r"\(", r"\w"),
        (r"\w", r"\)"),
    }


def test_sentences_are_taken_evenly_from_all_of_the_corpus():
    kept = []
    assert list(keep_some(map(str, range(1000)), kept, most=10)) == list(map(str, range(1000)))
    assert kept == [str(i) for i in range(0, 1000, 64)] and len(kept) == 16

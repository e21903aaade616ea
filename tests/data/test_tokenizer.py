"""Laws of the tokenizers."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.data.text.tokenizer import NORMALIZERS, RESERVED, Tokenizer, normalize, replace_surrogates
from seqvae.errors import CheckpointError, ConfigError

KINDS = ("word", "bpe", "char")
settings.register_profile("calm", deadline=None)  # a busy machine is no failure
settings.load_profile("calm")

CORPUS = [
    "The cat sat on <unk> mat, and the dog <unk> it.",
    "a <s> b </s> c <pad> <eos> d",
    "It's $5,000 (or 3.5%), well-known U.S. -- ok?",
    "\t tabs\u00a0and\u2028lines\x85of  space ",
    "Ünïcödé 日本語 العربية עברית e\u0301 👩‍👩‍👧 ẞ İ ΑΣ \x00 \x1c \u200b",
    "",
    "lone \ud800 surrogate",
]
VARIANTS = [
    ("word", {}),
    ("word", {"lowercase": False}),
    ("word", {"split_punctuation": False}),
    ("bpe", {}),
    ("bpe", {"lowercase": True}),
    ("char", {}),
    ("char", {"lowercase": True}),
    ("regex", {"pattern": r"[A-Z][a-z]?|\w ?|<s>  ?"}),
    ("word", {"normalization": "nfc"}),
    ("char", {"normalization": "nfkc", "lowercase": True}),
    ("regex", {"pattern": r"x*|\d\d", "normalization": "nfkc"}),
]
TOKENIZERS = {
    f"{kind}-{options}": Tokenizer.train(CORPUS, kind, vocabulary_size=400, **options) for kind, options in VARIANTS
}
every = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
anything = st.text(alphabet=st.characters(exclude_categories=()), max_size=40)
MARKS = "abAΣςİ.,!?;:%()$'’\"-<>/_ \t\n\x00\x1c\x85\u2028\u200b\u0301\u0e335६Ⅷ"
PARTS = [*MARKS, "--", "<unk>", "</s>", "<pad> ", "<s> ", "5,000", "'s", "it's", "'ll", *CORPUS]
tricky = st.lists(st.sampled_from(PARTS), max_size=14).map("".join)


@every
@given(text=anything | tricky)
def test_encoding_what_was_decoded_gives_the_same_ids(tokenizer, text):
    ids = tokenizer.encode(text)
    if tokenizer.kind not in ("char", "regex") or UNKNOWN not in ids:  # these spell the name of the unknown
        assert tokenizer.encode(tokenizer.decode(ids)) == ids


@every
@given(text=anything | tricky)
def test_decoding_gives_the_normalized_text_when_nothing_is_unknown(tokenizer, text):
    ids = tokenizer.encode(text)
    if not tokenizer.split_punctuation and UNKNOWN not in ids:
        assert tokenizer.decode(ids) == tokenizer.normalize(text)


@given(text=anything | tricky)
def test_splitting_punctuation_changes_nothing_but_spaces(text):
    tokenizer = Tokenizer.train([text], "word", vocabulary_size=1000)
    assert tokenizer.decode(tokenizer.encode(text)).replace(" ", "") == tokenizer.normalize(text).replace(" ", "")


@every
@given(text=anything | tricky)
def test_no_text_becomes_padding_start_or_end(tokenizer, text):
    assert not {PADDING, START, END} & set(tokenizer.encode(text))


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_of_the_reserved_ids_are_ordinary_text(kind):
    text = "x".join(RESERVED)
    tokenizer = Tokenizer.train([text] * 50, kind, vocabulary_size=300, lowercase=False)
    assert not {PADDING, START, END} & set(tokenizer.encode(text))
    assert len(tokenizer.encode("<unk>")) == (1 if kind == "word" else 3 if kind == "bpe" else 5)
    assert [tokenizer.get_token(id) for id in range(4)] == list(RESERVED)


def test_a_literal_unk_is_the_unknown_word_and_has_one_id():
    tokenizer = Tokenizer.train(["<unk> a <unk> b", "<unk> </s> <pad> <s>"], vocabulary_size=100)
    assert tokenizer.encode("<unk> zebra a") == [UNKNOWN, UNKNOWN, tokenizer.encode("a")[0]]
    assert len({tokenizer.encode(word)[0] for word in ("</s>", "<pad>", "<s>")} - {UNKNOWN}) == 3
    assert len(tokenizer) == 4 + 5


@every
def test_ids_have_no_gaps_and_every_id_has_a_name(tokenizer):
    vocabulary = json.loads(tokenizer.to_json())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(len(tokenizer)))
    assert [vocabulary[tokenizer.get_token(id)] for id in range(len(tokenizer))] == list(range(len(tokenizer)))
    for id in (-1, len(tokenizer)):
        with pytest.raises(IndexError, match="outside the vocabulary"):
            tokenizer.get_token(id)


@pytest.mark.parametrize("kind", KINDS)
def test_the_vocabulary_size_counts_every_id(kind):
    texts = [chr(ord("a") + i % 26) * (i % 7 + 1) + " " + chr(0x4E00 + i) for i in range(400)]
    for size in (260, 300):
        assert len(Tokenizer.train(texts, kind, vocabulary_size=size)) == size


def test_frequent_words_come_first_and_ties_in_code_point_order():
    tokenizer = Tokenizer.train(["b b b c a", "d"], vocabulary_size=7)
    assert [tokenizer.get_token(id) for id in range(4, 7)] == ["b", "a", "c"]


@pytest.mark.parametrize("kind", KINDS)
def test_training_is_a_pure_function_of_the_texts(kind):
    texts = [f"word{i % 50} {i * 7919 % 13}" for i in range(300)]
    assert Tokenizer.train(iter(texts), kind).to_json() == Tokenizer.train(texts, kind).to_json()


@every
@given(texts=st.lists(anything | tricky, max_size=4))
def test_a_batch_is_its_texts_one_by_one(tokenizer, texts):
    batch = tokenizer.encode_batch(texts)
    assert batch == [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts) == batch  # with what is remembered
    assert tokenizer.decode_batch(batch) == [tokenizer.decode(ids) for ids in batch]


def test_what_a_batch_remembers_is_bounded_and_never_given_away(monkeypatch):
    monkeypatch.setattr("seqvae.data.text.tokenizer.REMEMBERED", 3)
    tokenizer = Tokenizer.train(CORPUS, "word")
    texts = ["the cat sat", "on the mat", "a dog", "the mat"]
    for ids, text in zip(tokenizer.encode_batch(texts), texts, strict=True):
        assert ids == tokenizer.encode(text)
        ids.append(END)
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]
    assert len(tokenizer._ids) <= 3


@every
def test_decoding_stops_at_the_end_and_skips_padding_and_start(tokenizer):
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode([START, *ids, END, *ids, PADDING]) == tokenizer.decode([*ids, PADDING]) == "the cat"


@every
def test_a_saved_tokenizer_is_the_same_tokenizer(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    same = ("kind", "lowercase", "split_punctuation")
    assert [getattr(loaded, name) for name in same] == [getattr(tokenizer, name) for name in same]
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.encode_batch(CORPUS) == tokenizer.encode_batch(CORPUS)


@every
@given(text=anything | tricky, tokens=st.integers(1, 6))
def test_the_head_of_a_text_is_what_its_first_tokens_cover(tokenizer, text, tokens):
    ids = tokenizer.encode(text)
    head = tokenizer.truncate(text, tokens)
    assert tokenizer.normalize(text).startswith(head) or tokenizer.lowercase
    if tokenizer.kind == "char":
        assert len(head) in (min(tokens, len(ids)), min(tokens, len(ids)) - 1) or tokenizer.lowercase
    if tokenizer.kind == "word":
        assert tokenizer.encode(head) == ids[:tokens]


def test_a_letter_keeps_its_accent_where_a_text_is_cut():
    tokenizer = Tokenizer.train(["a the\u0301 x"], vocabulary_size=100, normalization="nfc")
    assert tokenizer.truncate("a the\u0301 x", 2) == "a th\u00e9"


@given(text=anything | tricky, lowercase=st.booleans())
def test_normalizing_is_that_of_the_pipeline_and_once_is_enough(text, lowercase):
    once = normalize(text, lowercase)
    assert once == NORMALIZERS[lowercase, "none"].normalize_str(replace_surrogates(text))
    assert normalize(once, lowercase) == once
    assert once == once.strip(" ") and "  " not in once


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("", ""),
        (" \t\n\r\x0b\x0c", ""),
        ("a\u00a0\u2003\u3000b", "a b"),
        ("a\u2028\u2029\x85b", "a b"),
        ("a\x1cb\x00", "a\x1cb\x00"),
        ("a\u200bb", "a\u200bb"),
        ("A\ud800B", "A\ufffdB"),
        ("\ud83d\ude00", "😀"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_normalizing_makes_whitespace_one_space_and_leaves_the_rest(text, normalized):
    assert normalize(text) == normalized


def test_every_whitespace_character_of_unicode_is_one_space():
    spaces = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Zs", "Zl", "Zp")]
    assert {normalize(f"a{space}b") for space in [*spaces, *"\t\n\v\f\r\x85"]} == {"a b"}


@pytest.mark.parametrize(("kind", "size"), [("word", 4), ("char", 4), ("bpe", 259)])
def test_a_vocabulary_too_small_for_the_kind_is_refused(kind, size):
    with pytest.raises(ConfigError, match=f"needs at least {size + 1} ids"):
        Tokenizer.train(["a"], kind, vocabulary_size=size)


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean 'word'"):
        Tokenizer.train(["a"], "wrod")


def _damage(parts):
    yield "first four ids", parts | {"model": parts["model"] | {"vocab": {"a": 0, "<unk>": 1}}}
    yield "gaps", parts | {"model": parts["model"] | {"vocab": parts["model"]["vocab"] | {"zebra": 999}}}
    yield "none of ours", parts | {"normalizer": None}
    yield "none of ours", parts | {"pre_tokenizer": {"type": "Whitespace"}}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    yield "added tokens", parts | {"added_tokens": [{"id": 2, "content": "</s> ", **special}]}


def test_a_foreign_or_damaged_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(CheckpointError, match="no tokenizer at"):
        Tokenizer.load(path)
    whole = Tokenizer.train(["a b c"]).to_json()
    cases = [("damaged", whole[:100].encode()), ("damaged", b""), ("damaged", b"[]"), ("cannot be read", b"\xff\xfe")]
    cases += [(reason, json.dumps(parts).encode()) for reason, parts in _damage(json.loads(whole))]
    for reason, content in cases:
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=reason) as caught:
            Tokenizer.load(path)
        assert "\n" not in str(caught.value)


@settings(max_examples=20)
@given(texts=st.lists(anything, min_size=1, max_size=5), kind=st.sampled_from(KINDS))
def test_training_on_any_texts_works_and_knows_them(texts, kind):
    tokenizer = Tokenizer.train(texts, kind, vocabulary_size=1000)
    assert UNKNOWN not in [id for ids in tokenizer.encode_batch(texts) for id in ids] or kind == "word"

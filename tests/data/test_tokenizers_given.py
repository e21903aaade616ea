"""Tokenizers from elsewhere: the reserved ids are ours, no text produces them, and nothing else of them has changed."""

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.config import Config, Data
from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.data.text.corpus import load
from seqvae.data.text.given import adopt, describe_round_trip, open_tokenizer, settle_words
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import ConfigError

TEXTS = ["The cat sat on the mat.", "A café, don't you think?", "It's 3.5% of $5,000"] * 9
TINY = {"latent": 2, "embedding": 4, "decoder": {"hidden": 4}, "encoder": {"hidden": 4}, "max_epochs": 1}


def train(inner, trainer):
    inner.train_from_iterator(TEXTS, trainer)
    return inner


def make_bert():
    inner = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    train(inner, trainers.WordPieceTrainer(vocab_size=80, special_tokens=special, show_progress=False))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.enable_padding(length=40)
    inner.enable_truncation(4)
    return inner


def make_gpt2():
    inner = tokenizers.Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "show_progress": False}
    return train(inner, trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], **options))


def make_t5():
    inner = tokenizers.Tokenizer(models.Unigram())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    options = {"special_tokens": ["<pad>", "</s>", "<unk>"], "unk_token": "<unk>", "show_progress": False}
    train(inner, trainers.UnigramTrainer(vocab_size=60, **options))
    inner.add_tokens(["xyzzy"])
    inner.add_special_tokens(["<mask>"])
    return inner


def make_words():
    inner = tokenizers.Tokenizer(models.WordLevel({"cat": 5, "the": 9, "mat": 17}))  # no unknown, holes in the ids
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return inner


FOREIGN = {"bert": make_bert, "gpt2": make_gpt2, "t5": make_t5, "words": make_words}
ADOPTED = {name: Tokenizer(adopt(make())) for name, make in FOREIGN.items()}
every = pytest.mark.parametrize("name", FOREIGN)
SPECIAL = ["[CLS]", "[SEP]", "[PAD]", "</s>", "<s>", "<pad>", "<|endoftext|>", "<mask>", "<pad>  ", "<unk>"]
tricky = st.lists(st.sampled_from([*SPECIAL, *TEXTS[:3], " ", "é", "日"]) | st.text(max_size=5), max_size=8).map(
    "".join
)


@every
@given(text=tricky)
@settings(max_examples=40, deadline=None)
def test_no_text_becomes_padding_start_or_end(name, text):
    tokenizer = ADOPTED[name]
    ids = tokenizer.encode(text)
    assert not {PADDING, START, END} & set(ids)
    assert tokenizer.encode_batch([text]) == [ids]


@every
def test_ids_have_no_gaps_and_the_first_four_are_ours(name):
    tokenizer = ADOPTED[name]
    names = [tokenizer.get_token(id) for id in range(len(tokenizer))]
    assert [text.strip() for text in names[:4]] == ["<pad>", "<s>", "</s>", "<unk>"]
    assert len(set(names)) == len(names)
    assert not {"[CLS]", "[SEP]", "<|endoftext|>", "<mask>"} & set(names)


@every
def test_a_text_is_split_as_before(name):
    inner = FOREIGN[name]()
    inner.no_truncation()
    inner.no_padding()
    unknown = {"[UNK]": "<unk>"}
    for text in ["the cat mat", *TEXTS[: 0 if name == "words" else 3]]:
        before = inner.encode(text, add_special_tokens=False).tokens
        ids = ADOPTED[name].encode(text)
        assert [ADOPTED[name].get_token(id) for id in ids] == [unknown.get(token, token) for token in before]


@pytest.mark.parametrize("name", ["gpt2", "t5"])
def test_what_loses_nothing_comes_back(name):
    tokenizer = ADOPTED[name]
    for text in TEXTS[:3]:
        assert tokenizer.decode([START, *tokenizer.encode(f"  {text}\t"), END, 9]) == text
    assert describe_round_trip(tokenizer, TEXTS).endswith("100.0% of 27 sentences come back as they were")
    assert tokenizer.lowercase is False
    assert 'not "a café' in describe_round_trip(ADOPTED["bert"], TEXTS)


@every
def test_a_saved_one_is_the_same_and_is_adopted_once(name, tmp_path):
    tokenizer = ADOPTED[name]
    tokenizer.save(tmp_path / "tokenizer.json")
    for again in (Tokenizer.load(tmp_path / "tokenizer.json"), open_tokenizer(str(tmp_path))):
        assert again.to_json() == tokenizer.to_json()
        assert (again.kind, again.lowercase) == ("given", name == "bert")
        assert again.encode_batch(TEXTS) == tokenizer.encode_batch(TEXTS)


def test_what_a_wordlevel_model_lacks_is_the_unknown():
    tokenizer = ADOPTED["words"]
    assert tokenizer.encode("the zebra cat") == [5, UNKNOWN, 4]
    assert tokenizer.find_unknown("the zebra cat") == ["zebra"]
    assert tokenizer.decode([5, UNKNOWN, 4]) == "the <unk> cat"


def test_case_and_unicode_are_folded_before_a_given_tokenizer_if_asked():
    tokenizer = Tokenizer(adopt(make_gpt2(), lowercase=True, normalization="nfkc"))
    assert (tokenizer.lowercase, tokenizer.normalization) == (True, "nfkc")
    assert (
        tokenizer.decode(tokenizer.encode("The ﬁne CAFE\u0301"))
        == "the fine café"
        == tokenizer.normalize("The ﬁne CAFE\u0301")
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tokenizer": "no/such/file.json"}, "there is no file"),
        ({"tokenizer": "wrod"}, "did you mean 'word'"),
        ({"tokenizer": "chitchat", "normalization": "nfc"}, "normalization = nfc.*has none"),
        ({"tokenizer": make_bert(), "lowercase": False}, "lowercase = false.*has true"),
        ({"tokenizer": tokenizers.Tokenizer(models.BPE())}, "vocabulary is empty"),
        ({"tokenizer": "given"}, "there is no file given"),
        ({"tokenizer": "somebody/nothing"}, "could not be fetched"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(options, reason, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=reason) as caught:
        settle_words(Data(**options))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_leaves_nothing_behind(tmp_path, capsys):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    (tmp_path / "tokenizer.json").write_text('{"model":')
    arguments = ["train", str(tmp_path / "corpus.txt"), "--output", str(tmp_path / "model")]
    with pytest.raises(SystemExit) as caught:
        main([*arguments, "--tokenizer", str(tmp_path / "tokenizer.json")])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is no tokenizer.json or is damaged" in error
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("given", ["object", "path", "folder", "model"])
def test_a_model_is_trained_with_it_and_stores_plain_values(given, tmp_path):
    sentences = [f"the {a} sat on the {b}." for a in ("cat", "mat", "dog", "hen") for b in "abcdefgh"]
    inner, path = make_gpt2(), tmp_path / "tokenizer.json"
    inner.save(str(path))
    own = {"object": inner, "path": path, "folder": str(tmp_path), "model": Tokenizer(adopt(inner))}[given]
    TextVAE.fit(sentences, tokenizer=own, output=tmp_path / "out", **TINY)
    stored = json.loads((tmp_path / "out/config.json").read_text())["config"]["data"]
    assert type(stored["tokenizer"]) is str and stored["lowercase"] is False
    model = TextVAE.from_pretrained(tmp_path / "out")
    assert model.tokenize(["the cat"])[0] == [*ADOPTED["gpt2"].encode("the cat"), END]
    assert model.reconstruct(["the cat sat on the a."]) is not None
    again = load(sentences, tokenizer=str(tmp_path / "out"))
    assert again.tokenizer.to_json() == model.tokenizer.to_json()


# -- regular expressions -----------------------------------------------------------------------------------------------


def test_atoms_are_tokens_and_what_the_pattern_leaves_is_split_into_characters():
    tokenizer = Tokenizer.train(["CC[NH4+]ClBr", "c1ccccc1O x"], "regex", pattern=r"Cl|Br|\[[^]]*\]")
    pieces = [tokenizer.get_token(id) for id in tokenizer.encode("C[NH4+]ClBr c1")]
    assert pieces == ["C", "[NH4+]", "Cl", "Br", " ", "c", "1"]
    assert tokenizer.decode(tokenizer.encode("C[NH4+]ClBr c1")) == "C[NH4+]ClBr c1"
    assert tokenizer.find_unknown("CzC") == ["z"]


@given(
    text=st.text(max_size=20), pattern=st.sampled_from(["a*", "b?|aa", r"\w+", "(a)|(b)", "[^ ]+ ?", "(?=a)", r"\d{2}"])
)
@settings(max_examples=80, deadline=None)
def test_any_pattern_gives_the_text_back(text, pattern):
    tokenizer = Tokenizer.train([text], "regex", vocabulary_size=1000, pattern=pattern)
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalize(text)
    assert not {PADDING, START, END} & set(tokenizer.encode(text))


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"tokenizer": "regex"}, "write --pattern"), ({"pattern": "a"}, "write --tokenizer regex")],
)
def test_a_pattern_and_its_tokenizer_come_together(options, reason):
    with pytest.raises(ConfigError, match=reason):
        Data(**options)
    with pytest.raises(ConfigError, match="no regular expression"):
        Tokenizer.train(["a"], "regex", pattern="[")


# -- Unicode -----------------------------------------------------------------------------------------------------------


def test_texts_that_are_equal_once_normalized_are_one_sentence():
    texts = ["un cafe\u0301 .", "un caf\u00e9 .", "deux .", "trois ."]
    assert "1 duplicate sentence dropped" in load(texts, normalization="nfc").notes
    assert not any("duplicate" in note for note in load(texts).notes)
    assert Config(data=Data(normalization="nfc")).to_dict()["data"]["normalization"] == "nfc"

"""Unknown words are named: before a training, in the scores and the diagnosis, and in what somebody types."""

import warnings
from itertools import product

import pytest

from seqvae import TextVAE
from seqvae.config import Config
from seqvae.data.text.corpus import load
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import UnknownWordsWarning
from seqvae.evaluation.scores import get_definitions, read_scores
from seqvae.reports.diagnosis import diagnose
from seqvae.reports.examine import examine
from seqvae.reports.remedies import Case
from seqvae.reports.text_quality import evaluate_text

SMALL = {"latent": 2, "embedding": 4, "encoder": {"hidden": 4}, "decoder": {"hidden": 4}, "max_epochs": 1, "seed": 0}
CHINESE = [
    "".join(parts) + "\u3002"
    for parts in product("今明昨", ("天他", "天她"), "在去来", ("上海", "北京"), "买卖吃", "狗猫茶")
]
MOLECULES = [
    "".join(parts)
    for parts in product(("CC(=O)", "CN(C)", "OC"), ("c1ccccc1", "C1CCNCC1"), ("C(F)F", "CBr", "N=O", "CCl"))
]
ENGLISH = [
    f"{a} {b} {c} ." for a in ("a cat", "the dog", "one bird") for b in ("sat", "ran") for c in ("here", "there", "now")
]


def rare(unknown, words=10, sentences=400):
    """Sentences of which N words are nowhere else."""
    alone = [[f"w{i}x{j}" for j in range(unknown)] for i in range(sentences)]
    return [" ".join([*some, *("ab"[i >> j & 1] for j in range(words - unknown))]) for i, some in enumerate(alone)]


def unknown_note(corpus):
    return [note for note in corpus.notes if "<unk>" in note or "white space" in note]


@pytest.mark.parametrize("sentences", [CHINESE, MOLECULES], ids=["chinese", "molecules"])
def test_for_text_without_spaces_characters_are_advised(sentences):
    (note,) = unknown_note(load(sentences))
    assert "white space does not split the sentences into words" in note and "--tokenizer char" in note
    assert "\n" not in note
    for kind in ("char", "bpe"):
        assert not unknown_note(load(sentences, tokenizer=kind, vocabulary_size=400))


@pytest.mark.parametrize(("unknown", "warned"), [(1, False), (2, True), (9, True)])
def test_a_corpus_of_which_over_a_tenth_is_unknown_is_warned_of(unknown, warned):
    corpus = load(rare(unknown), vocabulary_size=200)
    assert corpus.valid.unknown_rate == pytest.approx(unknown / 10)
    found = unknown_note(corpus)
    assert bool(found) == warned == (corpus.unknown_words is not None)
    if warned:
        assert f"{10 * unknown}% of the held-out tokens are <unk>" in found[0]
        assert "write --tokenizer char or bpe, or a --vocabulary-size above 200" in found[0]


def test_a_larger_vocabulary_is_not_advised_where_it_would_not_help():
    assert "--vocabulary-size" not in load(rare(5)).unknown_words  # all words of the training are known


def test_a_training_warns_of_it_at_the_start(tmp_path, capsys):
    from seqvae.cli import main

    path = tmp_path / "text.txt"
    path.write_text("\n".join(CHINESE), encoding="utf-8")
    options = "--max-epochs 1 --model.latent 2 --model.embedding 4 --model.encoder.hidden 4 --model.decoder.hidden 4"
    main(["train", str(path), "--output", str(tmp_path / "model"), *options.split()])
    shown = capsys.readouterr()
    assert sum("--tokenizer char" in line for line in shown.err.splitlines()) == 1
    assert "diagnosis: unknown words: 50% of the tokens are <unk>" in shown.out
    assert "--tokenizer char" in (tmp_path / "model" / "README.md").read_text(encoding="utf-8")


def test_fitting_in_python_warns_of_it():
    with pytest.warns(UnknownWordsWarning, match="--tokenizer char"):
        TextVAE.fit(CHINESE, **SMALL)


@pytest.mark.parametrize(("kind", "unknown"), [("word", 1 / 3), ("char", 0.0)])
@pytest.mark.filterwarnings("ignore:.*<unk>")
def test_the_scores_of_text_without_words_are_per_token_and_so_are_the_floors(kind, unknown):
    model = TextVAE.fit(CHINESE, tokenizer=kind, **SMALL)
    corpus = load(CHINESE, tokenizer=model.tokenizer)
    found = examine(model, corpus.test, corpus.train, samples=2, refined=0)
    assert found.scores.unknown == pytest.approx(unknown)
    assert (found.scores.perplexity, found.scores.perplexity_elbo) == (None, None)
    for baseline in found.baselines.values():
        assert set(baseline) == {"nll", "perplexity_token", "bits_per_byte"}
    if kind == "char":  # the end of a sentence counts as a token
        tokens = sum(map(len, corpus.test.sequences(range(len(corpus.test)))))
        assert found.scores.tokens == tokens == sum(map(len, corpus.test.texts())) + len(corpus.test)
        assert 1 < found.baselines["5-gram"]["perplexity_token"] < len(model.tokenizer)
    else:
        assert found.diagnosis.state == "unknown words" and "--tokenizer char" in found.diagnosis.command


def test_words_between_spaces_have_their_perplexity():
    model = TextVAE.fit(ENGLISH, tokenizer="char", **SMALL)
    corpus = load(ENGLISH, tokenizer=model.tokenizer)
    found = examine(model, corpus.train, corpus.train, samples=2, refined=0)
    assert found.scores.perplexity > found.scores.perplexity_token > 1
    assert all("perplexity" in baseline for baseline in found.baselines.values())


def test_the_definitions_explain_what_unk_costs_and_why_a_perplexity_is_missing():
    meaning = get_definitions()
    assert "it costs what one token costs, and the words behind it are free" in meaning["unknown"]
    assert "left out where white space does not split the text into words" in meaning["perplexity"]


COLLAPSED = {"reconstruction": 9.0, "kl": 0.0, "nll": 9.0, "active_units": 0, "permuted_nll_increase": 0.0}


@pytest.mark.parametrize(
    ("unknown", "state"), [(0.0, "collapsed"), (0.09, "collapsed"), (0.11, "unknown words"), (0.9, "unknown words")]
)
def test_unknown_words_are_named_before_what_they_make_of_the_scores(unknown, state):
    counts = {"sentences": 10, "tokens": 110, "unknown": unknown * 100 / 110}
    assert diagnose(Case(read_scores(COLLAPSED | counts), Config())).state == state


def test_the_advice_is_another_tokenizer_than_the_one_there_is():
    figures = COLLAPSED | {"sentences": 10, "tokens": 110, "unknown": 0.5}
    for kind, other in (("word", "char"), ("char", "bpe")):
        found = diagnose(Case(read_scores(figures), Config.from_dict({"data": {"tokenizer": kind}})))
        assert found.command.endswith(f" --tokenizer {other}")


# -- what is typed -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unknown") / "model"
    TextVAE.fit(ENGLISH, output=folder, **SMALL)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return TextVAE.from_pretrained(folder)


@pytest.mark.parametrize(
    "read",
    [
        lambda model, text: model.encode([text]),
        lambda model, text: model.score([text], samples=1),
        lambda model, text: model.reconstruct([text]),
        lambda model, text: model.interpolate("a cat sat here .", text),
    ],
    ids=["encode", "score", "reconstruct", "interpolate"],
)
def test_python_warns_of_unknown_words_by_name_and_goes_on(model, read):
    with pytest.warns(UnknownWordsWarning) as caught:
        read(model, "a Zebra sat qqq .")
    (warning,) = caught
    assert 'unknown words, read as <unk>: "Zebra", "qqq"' in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(model, "a dog ran there .")


def test_a_sentence_without_a_known_word_is_reported(model):
    with pytest.warns(UnknownWordsWarning, match=r'"zzz" \(the sentence without a known word\)$'):
        model.encode(["zzz"])
    with pytest.warns(UnknownWordsWarning, match=r"\(in 2 of 3 sentences, 1 of them without a known word\)$"):
        model.encode(["zzz qqq", "a zzz", "a cat"])


def test_a_literal_unk_is_no_unknown_word(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.reconstruct(["a <unk> sat here ."])


def test_many_unknown_words_are_named_in_part_and_quickly(model):
    with pytest.warns(UnknownWordsWarning) as caught:
        model.encode([f"zz{i} qq{i}" for i in range(500)])
    (warning,) = caught
    line = str(warning.message)
    assert len(line) < 250 and '"zz0", "qq0"' in line and "and others" in line


def test_sentences_of_a_corpus_are_counted_and_not_named(model):
    held_out = load(["a zzz sat here .", "the dog ran qqq ."] * 5, tokenizer=model.tokenizer, whole=True).test
    assert held_out.unknown_rate == pytest.approx(2 / 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownWordsWarning)
        evaluate_text(model, held_out, number=4, paths=1)


def test_names_are_short_and_hold_no_control_characters(model):
    with pytest.warns(UnknownWordsWarning) as caught:
        model.encode(["z" * 500 + " \x1b"])
    assert f'"{"z" * 37}...", "\\x1b"' in str(caught[0].message)


def test_characters_are_named_as_such_and_byte_pairs_know_all():
    assert Tokenizer.train(["abc"], "char").find_unknown("abxc") == ["x"]
    assert Tokenizer.train(["abc"], "bpe", vocabulary_size=300).find_unknown("abxc\u4e00") == []
    assert Tokenizer.train(["abc"], split_punctuation=False).find_unknown("ABC Abx") == ["Abx"]


@pytest.mark.parametrize("command", ["interpolate", "reconstruct", "encode", "steer"])
def test_a_command_names_unknown_words_in_one_line_on_standard_error(command, folder, tmp_path, capsys):
    from seqvae.cli import main

    sentences, table = tmp_path / "sentences.txt", tmp_path / "table.csv"
    sentences.write_text("zzz qqq\n", encoding="utf-8")
    table.write_text("text,kind\n" + "".join(f"{text},{text.split()[1]}\n" for text in ENGLISH), encoding="utf-8")
    steer = f"zzz-qqq --label-column kind --attribute cat --corpus {table} --column text"
    more = {
        "interpolate": ["zzz qqq", "a cat ."],
        "reconstruct": [str(sentences)],
        "encode": [str(sentences), "--output", str(tmp_path / "z.npy")],
        "steer": ["zzz qqq", *steer.split()[1:]],
    }
    main([command, str(folder), *more[command]])
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if "<unk>" in line]
    assert line.startswith('warning: unknown words, read as <unk>: "zzz", "qqq"')
    assert "UnknownWordsWarning" not in shown.err

"""The weights of sentences: from a list or a column to batches, and what is refused."""

import math

import numpy as np
import pytest

from seqvae import SeriesVAE, TextVAE
from seqvae.cli import main
from seqvae.data.batching import Batches
from seqvae.data.text.corpus import load
from seqvae.data.text.joining import join_splits
from seqvae.data.text.weights import scale_weights
from seqvae.errors import ConfigError, CorpusError, SeqVAEError

SENTENCES = [
    f"a {one} {two} ." for one in ("cat", "dog", "bird", "cow") for two in ("sat", "ran", "ate", "hid", "slept")
]
WEIGHTS = [0.5 * (number % 5) for number in range(20)]
OF = dict(zip(SENTENCES, WEIGHTS, strict=True))


def read(weights, sentences=SENTENCES, **options):
    return load(join_splits(sentences, weights=weights), weight_column="weight", **options)


def table(file, values, name="rows.csv"):
    rows = [f"{text},{value}" for text, value in zip(SENTENCES, values, strict=True)]
    return file(name, "\n".join(["text,importance", *rows]) + "\n")


def test_weights_follow_their_sentences_and_batches_carry_them_divided_by_their_mean(file):
    for corpus in (read(WEIGHTS), load(table(file, WEIGHTS), column="text", weight_column="importance")):
        train = corpus.train
        assert train.weights.tolist() == [OF[text] for text in train.texts()]
        assert corpus.valid.weights is None and corpus.test.batch([0]).weights is None
        batches = Batches(train, batch_size=5, exact_length=True, seed=2)
        for indices, batch in zip(batches.plan(1), batches.epoch(1), strict=True):
            expected = train.weights[indices] / train.weights.mean()
            assert batch.weights.tolist() == pytest.approx(expected.tolist())
            assert batch.repeat(2).weights.tolist() == np.repeat(batch.weights.numpy(), 2).tolist()


def test_equal_weights_are_exactly_one_and_a_common_factor_is_without_effect():
    assert (scale_weights(np.full(37, 0.1)) == 1).all()
    assert (scale_weights(np.array(WEIGHTS) * 3) == scale_weights(np.array(WEIGHTS))).all()
    assert scale_weights(np.array([1e308, 1e308, 1e-308]))[2] > 0, "none but 0 becomes 0"


def test_of_duplicates_the_first_counts_blank_lines_need_none_and_the_notes_say_so():
    corpus = read([*WEIGHTS, 7.0, WEIGHTS[1], 9.0], [*SENTENCES, SENTENCES[0], SENTENCES[1], "  "])
    assert corpus.train.weights.tolist() == [OF[text] for text in corpus.train.texts()]
    dropped = [note for note in corpus.notes if "duplicate has another weight" in note]
    assert len(dropped) == (SENTENCES[0] in corpus.train.texts())
    assert any("of weight 0 left out of the training" in note for note in corpus.notes)


def test_other_weights_are_not_taken_from_the_cache(file):
    for factor in (1, 2):
        path = table(file, [1, *([factor] * 19)])
        assert set(load(path, column="text", weight_column="importance").train.weights) <= {1, factor}
        assert factor in load(path, column="text", weight_column="importance").train.weights


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([-1.0, *WEIGHTS[1:]], "weight 0 is -1.0: expected a finite number of 0 or more"),
        ([1.0, math.nan, *WEIGHTS[2:]], "weight 1 is nan"),
        ([1.0, math.inf, *WEIGHTS[2:]], "weight 1 is inf"),
        (["1"] * 20, "weight 0 is '1'"),
        ([1.0] * 19, "19 weights were given for 20 training sentences"),
        ([0.0] * 20, "have weight 0"),
        ("importance", "no column 'importance' of weights; it holds text alone"),
        (3.0, "expected a list of weights"),
    ],
)
def test_what_are_no_weights_is_refused_in_one_line(weights, words):
    with pytest.raises(SeqVAEError, match=words) as caught:
        TextVAE.fit(SENTENCES, weights=weights)
    assert isinstance(caught.value, ConfigError | CorpusError) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "high", ""])
def test_the_command_refuses_them_too(value, file, tmp_path, refused):
    path = table(file, [value, *WEIGHTS[1:]])
    options = ["train", path, "--column", "text", "--output", tmp_path / "model"]
    assert "'a cat sat .' is " in refused(*options, "--weight-column", "importance")
    assert "its columns are: text, importance" in refused(*options, "--weight-column", "weight")
    plain = file("plain.txt", "\n".join(SENTENCES))
    assert "holds text alone" in refused("train", plain, "--weight-column", "weight", "--output", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_series_have_no_weights():
    with pytest.raises(ConfigError, match="series have no weights"):
        SeriesVAE.fit([np.zeros((3, 1))] * 30, weight_column="weight")


def test_the_command_trains_with_weights(file, tmp_path, capsys):
    sizes = ["--model.latent", "2", "--model.encoder.hidden", "4", "--model.decoder.hidden", "4", "--max-epochs", "1"]
    path, folder = table(file, WEIGHTS), str(tmp_path / "model")
    main(["train", path, "--column", "text", "--weight-column", "importance", *sizes, "--output", folder])
    assert "weights of column 'importance': 0.5 to 2" in capsys.readouterr().err

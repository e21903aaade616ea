"""Corpora of text and of series answer to the same names."""

import numpy as np
import pytest

from seqvae.data.corpus import Corpus, Split
from seqvae.data.series.corpus import load_series
from seqvae.data.text.corpus import load


@pytest.fixture(params=["text", "series"])
def corpus(request):
    if request.param == "text":
        return load([f"{word} {n}" for n in range(30) for word in ("one", "two")])
    return load_series({"x": np.arange(180.0).reshape(60, 3), "kind": np.arange(60) % 2})


def test_a_corpus_has_what_training_and_reports_ask_for(corpus):
    assert isinstance(corpus, Corpus) and list(corpus.splits) == ["train", "valid", "test"]
    assert corpus.observation == ("frames" if corpus.tokenizer is None else "tokens")
    assert (corpus.moments is None) == (corpus.tokenizer is not None)
    assert corpus.size > 0 and corpus.unknown_words is None and corpus.labels == {}
    assert corpus.content and corpus.fingerprint and corpus.name and corpus.notes
    assert (corpus.unit, corpus.units) == (
        ("series", "series") if corpus.tokenizer is None else ("sentence", "sentences")
    )


def test_a_split_is_selected_batched_and_described_in_one_way(corpus):
    split = corpus.train
    assert isinstance(split, Split) and (split.unit, split.units) == (corpus.unit, corpus.units)
    assert len(split) == len(split.lengths) == len(split.keys) == len(split.complete) == 54
    assert split.labels is None and split.complete.all() and len(set(split.keys)) == 54
    few = split.at_most(5)
    assert type(few) is type(split) and len(few) == 5 and split.at_most(None) is split
    assert few.keys.tolist() == split.keys[[0, 13, 26, 39, 53]].tolist()
    batch = split.batch([3, 1])
    assert batch.lengths.tolist() == split.lengths[[3, 1]].tolist() and batch.ended.all()
    for name in split.columns:
        whole = split.column(name)
        assert split.column(name, [3, 1]) == [whole[3], whole[1]]

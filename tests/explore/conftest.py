"""Two tiny models, of text and of series, with a space of each."""

import numpy as np
import pytest

from seqvae import SeriesVAE, TextVAE
from seqvae.explore.space import Space

SUBJECTS, VERBS, PLACES = ("a cat", "the dog", "one bird"), ("sat", "ran", "ate", "slept"), ("", "here", "at home")
ROWS = [
    {"text": " ".join(f"{s} {v} {p} .".split()), "animal": s.split()[1]}
    for s in SUBJECTS
    for v in VERBS
    for p in PLACES
]


@pytest.fixture(scope="session")
def text_space():
    model = TextVAE.fit(ROWS, column="text", latent=4, max_epochs=2, seed=1)
    return Space.build(model, model.load_corpus(ROWS, column="text", whole=True).test)


@pytest.fixture(scope="session")
def series_space():
    waves = [np.sin(np.arange(n) / 2)[:, None] for n in range(8, 28)]
    model = SeriesVAE.fit(waves, latent=2, max_epochs=1, seed=1)
    return Space.build(model, model.load_corpus(waves, whole=True).test)


@pytest.fixture(scope="session", params=["text_space", "series_space"])
def space(request):
    return request.getfixturevalue(request.param)

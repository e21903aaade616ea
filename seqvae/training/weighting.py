"""What a run makes of the weights of sentences: which it trains on, and how a resumed run knows them again."""

import hashlib
from typing import Any

import numpy as np

from seqvae.data.corpus import Corpus


def drop_weightless(train: Any) -> Any:
    """Return a training split without its sentences of weight 0; all of it where none has a weight."""
    return train if train.weights is None else train.select(np.flatnonzero(train.weights))


def identify(corpus: Corpus) -> str:
    """Return a few letters that change when a corpus, read for a training, or the weights of its sentences do."""
    weights = None if corpus.train is None else corpus.train.weights
    if weights is None:
        return corpus.fingerprint
    return f"{corpus.fingerprint}-{hashlib.sha256(weights.tobytes()).hexdigest()[:16]}"

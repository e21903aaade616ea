"""Embeddings that begin as word vectors: fitted to the model's width, put into its tables, and frozen if asked.

Vectors of another width are fitted by their principal components, not by a projection that is learnt: every layer that
reads an embedding begins with a matrix of its own, and the tied output has one before it, so that a further matrix
between them could learn nothing that these cannot. What is lost is the variance outside the first E components, which
the log names; the model's width is the option `model.embedding`.
"""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from seqvae.config import Data
from seqvae.data.batch import END
from seqvae.data.text.corpus import COUNTED, TextCorpus
from seqvae.data.text.vectors import Vectors, read_vectors, spell_tokens
from seqvae.errors import ConfigError
from seqvae.model.vae import SequenceVAE


def fit_width(values: np.ndarray, width: int, scale: float) -> tuple[np.ndarray, float]:
    """Return vectors of another width, and the fraction of the variance that they keep.

    They are centred. Wider ones keep their first principal components, narrower ones are followed by zeros.

    Args:
        values: (K, W).
        width: E.
        scale: root mean square of the result, (K, E).

    >>> fitted, kept = fit_width(np.array([[1.0, 0.0], [3.0, 0.0]]), 1, scale=0.1)
    >>> np.abs(fitted).round(3).tolist(), kept
    ([[0.1], [0.1]], 1.0)
    """
    values = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    kept = 1.0
    if values.shape[1] > width:
        variances, axes = np.linalg.eigh(values.T @ values)  # in ascending order
        kept = float(variances[-width:].sum() / max(variances.sum(), 1e-30))
        values = values @ axes[:, : -width - 1 : -1]
    fitted = np.zeros((len(values), width))
    fitted[:, : values.shape[1]] = values
    return fitted * (scale / max(np.sqrt((fitted**2).mean()), 1e-30)), min(kept, 1.0)


def find_tables(model: SequenceVAE) -> list[nn.Parameter]:
    """Return the weights of the tables of embeddings: one, or those of encoder and decoder where they share none.

    Raises:
        ConfigError: for an observation of the user's own that has none.
    """
    tables = [getattr(model.observation, "embedding", None), getattr(model.encoder, "embed", None)]
    weights = {id(t.weight): cast(nn.Parameter, t.weight) for t in tables if isinstance(t, nn.Embedding)}
    if not weights:
        raise ConfigError("option embeddings: this model has no table of embeddings: leave it out")
    return list(weights.values())


def place_vectors(model: SequenceVAE, corpus: Any, data: Data) -> Tensor:
    """Begin the embeddings of a new model as the vectors of `data.embeddings`; return the ids (K,) that have one.

    The other rows stay as they are. A note is added to those of the corpus, a `TextCorpus`.

    Raises:
        ConfigError: for a file that cannot be read, with its line.
    """
    assert data.embeddings is not None
    words = spell_tokens(corpus.tokenizer)
    vectors = read_vectors(data.embeddings, words)
    kept, ids, tables = 1.0, torch.from_numpy(vectors.ids), find_tables(model)
    for weight in tables:
        with torch.no_grad():
            values, kept = fit_width(vectors.values, weight.shape[1], scale=float(weight.std()))
            weight[ids.to(weight.device)] = torch.from_numpy(values).to(weight)
    note = describe_coverage(vectors, corpus, data, len(words), tables[0].shape[1], kept)
    if note not in corpus.notes:
        corpus.notes.append(note)
    return ids


def freeze_rows(model: SequenceVAE, ids: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Keep some rows (K,) of the tables of embeddings as they are: no gradient, no decay."""
    for weight in find_tables(model):
        _freeze_rows(weight, ids.to(weight.device), optimizer)


def _freeze_rows(weight: nn.Parameter, rows: Tensor, optimizer: torch.optim.Optimizer) -> None:
    frozen = weight.detach()[rows].clone()
    weight.register_hook(lambda gradient: gradient.index_fill(0, rows, 0.0))

    def restore(*_: object) -> None:  # what the decay of weights has changed
        with torch.no_grad():
            weight[rows] = frozen

    optimizer.register_step_post_hook(restore)


def describe_coverage(vectors: Vectors, corpus: TextCorpus, data: Data, words: int, width: int, kept: float) -> str:
    """Return what part of the vocabulary and of the training sentences has a vector, in one line."""
    covered = np.zeros(len(corpus.tokenizer), bool)
    covered[vectors.ids] = True
    assert corpus.train is not None
    some = corpus.train.at_most(COUNTED)
    ids = np.fromiter((id for row in some.sequences(range(len(some))) for id in row if id != END), np.int64)
    line = f"embeddings {data.embeddings}: {len(vectors.ids):,} of {words:,} words ({len(vectors.ids) / words:.1%})"
    line += f", {covered[ids].mean() if len(ids) else 0.0:.1%} of the training tokens"
    if vectors.other_case:
        line += f"; {vectors.other_case:,} by a word in another case"
    if (given := vectors.values.shape[1]) != width:
        line += f"; {given} dimensions fitted to {width}" + (f", {kept:.1%} of the variance kept" if kept < 1 else "")
    return line + ("; frozen" if data.embeddings_frozen else "; trained further")

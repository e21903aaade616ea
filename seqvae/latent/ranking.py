"""Sample and rank: of several candidates for each sentence, keep the one that the decoder is surest of."""

from collections.abc import Sequence
from typing import Any, Protocol

from seqvae.errors import ConfigError, check_whole
from seqvae.latent.prior_temperature import check_temperature
from seqvae.model.decoding import check_options

MAX_CANDIDATES = 1000


class Generated(Protocol):
    """A generated sentence with log p(x|z), nats, and its number of tokens."""

    @property
    def log_prob(self) -> float:
        """Return log p(x|z), nats."""

    @property
    def tokens(self) -> int:
        """Return the number of tokens."""


def choose_likeliest(found: Sequence[Generated], candidates: int, labels: Any = None) -> list[int]:
    """Choose one of every `candidates` sentences by log p(x|z) per token, among those of about the same length.

    A point z that lies between the sentences of the training decodes to words that the decoder itself finds improbable;
    such a sentence loses against others. Since log p(x|z) per token depends on the length, sentences are sorted by
    length and compete with their neighbours only: those that are kept are about as long as all.

    Args:
        found: N sentences; N is a multiple of `candidates`, and so is the number of each label.
        candidates: how many compete for a place.
        labels: N labels, or one for all; sentences compete only with those of their own.

    Returns:
        N / candidates rows of `found`, rising.

    Source: Adiwardana et al., Towards a Human-like Open-Domain Chatbot, 2020, https://arxiv.org/abs/2001.09977,
    section 3 (sample-and-rank: of N independent samples the one of highest probability is kept).
    """
    names = [""] * len(found) if labels is None or isinstance(labels, str) else [str(label) for label in labels]
    scores = [sentence.log_prob / max(1, sentence.tokens) for sentence in found]
    order = sorted(range(len(found)), key=lambda row: (names[row], found[row].tokens))
    rounds = [order[start : start + candidates] for start in range(0, len(order), candidates)]
    return sorted(max(rows, key=scores.__getitem__) for rows in rounds)


def repeat_labels(labels: Any, candidates: int) -> Any:
    """Return the labels of N candidates: each of a list several times in a row; one for all, or None, as it is."""
    if labels is None or isinstance(labels, str) or candidates == 1:
        return labels
    return [label for label in labels for _ in range(candidates)]


def check_sampling(*, prior_temperature: float = 1.0, candidates: int = 1, n_best: int = 1, **words: Any) -> None:
    """Raise a `ConfigError` if sentences could not be sampled with these options; `words`, see `check_options`."""
    check_temperature(prior_temperature)
    check_whole(1, candidates=candidates)
    if candidates > MAX_CANDIDATES:
        raise ConfigError(f"candidates = {candidates}: expected at most {MAX_CANDIDATES}, such as 8")
    if n_best != 1:
        raise ConfigError(
            "n_best is not of sample, where each sentence has a z of its own: write generate(z, beam=8, n_best=4)"
        )
    check_options(**words)

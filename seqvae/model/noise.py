"""Noise: Batch -> Batch, while training only. It never changes targets, BOS, EOS or padding."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from seqvae.data.batch import END, PADDING, START, UNKNOWN, Batch
from seqvae.errors import ConfigError
from seqvae.schedules import Constant, Linear


class Noise(nn.Module, ABC):
    """A random change of the inputs of encoder or decoder; the identity in evaluation.

    Attributes:
        step: the number of steps made so far, for rates that follow a schedule; the trainer sets it before each. It is
            not stored, since the trainer stores its own.
    """

    step: int = 0

    @abstractmethod
    def forward(self, batch: Batch) -> Batch:
        """Return a new batch, or the same one when not training."""


class WordDropout(Noise):
    """Each word fed to the decoder is replaced by `<unk>` with probability `rate`, so that it has to rely on z.

    Args:
        rate: in [0, 1]; 0 changes nothing, 1 replaces every word (never BOS).
        start: the rate at the first step, from which it moves linearly to `rate`; none = `rate` throughout.
        steps: number of steps until it is `rate`.

    Source: Bowman et al., Generating Sentences from a Continuous Space, 2016, https://arxiv.org/abs/1511.06349,
    section 3.1.
    """

    def __init__(self, *, rate: float = 0.0, start: float | None = None, steps: int = 2000) -> None:
        super().__init__()
        check_rates(rate=rate, start=start)
        self.rate = build_rate(start, rate, steps)

    def forward(self, batch: Batch) -> Batch:
        """Replace some of `inputs`; `source` and `targets` are unchanged."""
        rate = self.rate(self.step)
        if not self.training or rate == 0:
            return batch
        dropped = (torch.rand(batch.inputs.shape, device=batch.inputs.device) < rate) & is_word(batch.inputs)
        return replace(batch, inputs=batch.inputs.masked_fill(dropped, UNKNOWN))


MAX_SHUFFLE = 2**16


class Denoising(Noise):
    """The encoder reads a corrupted x', the decoder reconstructs x: similar sentences get similar posteriors.

    For every x' the objective E_q(z|x')[ log p(x|z) ] - KL( q(z|x') || p(z) ) is still a lower bound of log p(x), since
    any q gives one. First the words are permuted: sigma sorts i + U[0, shuffle + 1), so |sigma(i) - i| <= shuffle.
    Then each word, independently, is deleted, blanked or substituted, or none of these.

    Args:
        delete: probability that the encoder does not read a word at all; the first word of a truncated sentence, which
            has no EOS, stays if none else does.
        blank: probability that the encoder reads a word as `<unk>`.
        substitute: probability that it reads a random word instead, drawn from all words of the batch and so by
            frequency (sometimes the word itself); delete + blank + substitute is at most 1.
        shuffle: the most places that a word moves by; 0 keeps the order, and 3 is usual.
        word_dropout: probability that a word fed to the decoder is replaced by `<unk>`, as by `word-dropout`.
        word_dropout_start: `word_dropout` at the first step, from which it moves linearly; none = the same throughout.
        word_dropout_steps: number of steps until it is `word_dropout`.

    Source: Shen et al., Educating Text Autoencoders: Latent Representation Guidance via Denoising, 2020,
    https://arxiv.org/abs/1905.12777, whose noise is delete = 0.3. Shuffling: Lample et al., Unsupervised Machine
    Translation Using Monolingual Corpora Only, 2018, https://arxiv.org/abs/1711.00043. Substitution by frequency: Xie
    et al., Data Noising as Smoothing in Neural Network Language Models, 2017, https://arxiv.org/abs/1703.02573, here
    with the frequencies of the batch in place of the corpus's.
    """

    def __init__(
        self,
        *,
        delete: float = 0.3,
        blank: float = 0.0,
        substitute: float = 0.0,
        shuffle: int = 0,
        word_dropout: float = 0.0,
        word_dropout_start: float | None = None,
        word_dropout_steps: int = 2000,
    ) -> None:
        super().__init__()
        check_rates(delete=delete, blank=blank, substitute=substitute)
        check_rates(word_dropout=word_dropout, word_dropout_start=word_dropout_start)
        total = delete + blank + substitute
        if total > 1 + 1e-9:  # more than a rounding error
            raise ConfigError(f"noise options delete + blank + substitute = {total}: expected a sum of at most 1")
        if not 0 <= shuffle <= MAX_SHUFFLE:
            raise ConfigError(f"noise option shuffle = {shuffle}: expected 0 to {MAX_SHUFFLE} places")
        self.delete, self.blank, self.substitute = delete, blank, substitute
        self.shuffle, self.word_dropout = shuffle, build_rate(word_dropout_start, word_dropout, word_dropout_steps)

    def forward(self, batch: Batch) -> Batch:
        """Corrupt `source`, and `inputs` where `word_dropout` is above 0; `targets` are unchanged."""
        if not self.training:
            return batch
        source, inputs, lengths = batch.source, batch.inputs, batch.source_lengths
        if self.shuffle:
            source = shuffle_words(source, self.shuffle)
        if self.delete or self.blank or self.substitute:
            u = sample_uniform(is_word(source))
            source = self._replace_words(source, u)
            if self.delete:
                source, lengths = delete_words(source, u < self.delete)
        if word_dropout := self.word_dropout(self.step):
            inputs = inputs.masked_fill(sample_uniform(is_word(inputs)) < word_dropout, UNKNOWN)
        return replace(batch, source=source, inputs=inputs, source_lengths=lengths)

    def _replace_words(self, source: Tensor, u: Tensor) -> Tensor:
        """Blank a word where u - delete is in [0, blank), substitute it in the next `substitute`; u as `source`."""
        words = is_word(source)
        read = words & (u >= self.delete)
        blanks = read & (u < self.delete + self.blank)
        others = read & (u < self.delete + self.blank + self.substitute)  # blanks too, which are set last
        if self.substitute:
            present, count = source[words], int(others.sum())
            # Indices count the words of the batch, so that padding cannot change them.
            index = (torch.rand(count, device=source.device) * len(present)).long().clamp(max=len(present) - 1)
            source = source.clone()
            source[others] = present[index]
        return source.masked_fill(blanks, UNKNOWN)


def check_rates(**rates: float | None) -> None:
    """Raise a `ConfigError` for a rate that is not a probability.

    >>> check_rates(blank=1.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: noise option blank = 1.5: expected a probability between 0 and 1
    """
    for name, rate in rates.items():
        if rate is not None and not 0 <= rate <= 1:
            raise ConfigError(f"noise option {name} = {rate}: expected a probability between 0 and 1")


def build_rate(start: float | None, rate: float, steps: int) -> Linear | Constant:
    """Return a schedule from `start` to `rate`, linear over `steps`; constantly `rate` where start is None.

    >>> [build_rate(1.0, 0.5, 10)(step) for step in (0, 5, 10, 99)], build_rate(None, 0.5, 10)(0)
    ([1.0, 0.75, 0.5, 0.5], 0.5)
    """
    return Constant(end=rate) if start is None else Linear(start=start, end=rate, steps=steps)


def is_word(tokens: Tensor) -> Tensor:
    """Return true where `tokens` holds a word: neither padding nor BOS nor EOS."""
    return (tokens != PADDING) & (tokens != START) & (tokens != END)


def sample_uniform(words: Tensor) -> Tensor:
    """Draw U[0, 1) where `words` (B, T) is true, 1 elsewhere; the width of the padding changes no word's number."""
    u = torch.ones(words.shape, device=words.device)
    u[words] = torch.rand(int(words.sum()), device=words.device)
    return u


def delete_words(tokens: Tensor, delete_words: Tensor) -> tuple[Tensor, Tensor]:
    """Remove the words where `delete_words` (B, T) is true and close the gaps: (B, T), and the new lengths (B,)."""
    kept = (tokens != PADDING) & ~delete_words
    kept[:, 0] |= ~kept.any(1)  # the encoder needs something to read
    order = (~kept).sort(dim=1, stable=True).indices
    return tokens.masked_fill(~kept, PADDING).gather(1, order), kept.sum(1)


def shuffle_words(tokens: Tensor, distance: int) -> Tensor:
    """Move the words of each row of (B, T) by at most `distance` places; EOS and padding stay where they are.

    Rounding cannot move a word further: keys that it makes equal stay in order, and those of words that are
    distance + 1 places apart are at least equal.
    """
    words = is_word(tokens)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens.gather(1, (places + (distance + 1) * sample_uniform(words)).sort(dim=1, stable=True).indices)


NOISES: dict[str, type[Noise]] = {"word-dropout": WordDropout, "denoising": Denoising}

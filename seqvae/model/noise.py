"""Noise: Batch -> Batch, only while training. It never touches targets, BOS, EOS or padding."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from seqvae.data.batch import END, PADDING, START, UNKNOWN, Batch
from seqvae.errors import ConfigError
from seqvae.schedules import Constant, Linear


class Noise(nn.Module, ABC):
    """A random change of what is read or fed; the identity in evaluation.

    Attributes:
        step: how many steps have been made, for rates that move; the trainer sets it before each. No part of what
            is stored, since the trainer's own count is.
    """

    step: int = 0

    @abstractmethod
    def forward(self, batch: Batch) -> Batch:
        """A new batch, or the same one when not training."""


def is_word(tokens: Tensor) -> Tensor:
    """True where `tokens` holds a word: neither padding nor start nor end."""
    return (tokens != PADDING) & (tokens != START) & (tokens != END)


def uniform(words: Tensor) -> Tensor:
    """Draws of U[0, 1) where `words` (B, T) is true, 1 elsewhere; however wide the padding, the same for each word."""
    draws = torch.ones(words.shape, device=words.device)
    draws[words] = torch.rand(int(words.sum()), device=words.device)
    return draws


def moving(start: float | None, rate: float, steps: int) -> Linear | Constant:
    """The rate at each step: a straight line from `start` to `rate` over `steps`, and `rate` where start is None.

    >>> [moving(1.0, 0.5, 10)(step) for step in (0, 5, 10, 99)], moving(None, 0.5, 10)(0)
    ([1.0, 0.75, 0.5, 0.5], 0.5)
    """
    return Constant(end=rate) if start is None else Linear(start=start, end=rate, steps=steps)


def check_rates(**rates: float | None) -> None:
    """Raise a `ConfigError` for a rate that is no probability.

    >>> check_rates(blank=1.5)
    Traceback (most recent call last):
    ...
    seqvae.errors.ConfigError: noise option blank = 1.5: expected a probability between 0 and 1
    """
    for name, rate in rates.items():
        if rate is not None and not 0 <= rate <= 1:
            raise ConfigError(f"noise option {name} = {rate}: expected a probability between 0 and 1")


class WordDropout(Noise):
    """Each word fed to the decoder is replaced by `<unk>` with probability `rate`, so that it must ask z instead.

    Args:
        rate: in [0, 1]; 0 leaves the input alone, 1 hides every word (never the start).
        start: the rate at the first step, which moves in a straight line; none = `rate` throughout.
        steps: how long the line is.

    Source: Bowman et al., Generating Sentences from a Continuous Space, 2016, https://arxiv.org/abs/1511.06349,
    section 3.1.
    """

    def __init__(self, *, rate: float = 0.0, start: float | None = None, steps: int = 2000) -> None:
        super().__init__()
        check_rates(rate=rate, start=start)
        self.rate = moving(start, rate, steps)

    def forward(self, batch: Batch) -> Batch:
        """The batch with some of its `inputs` hidden; `source` and `targets` as they were."""
        rate = self.rate(self.step)
        if not self.training or rate == 0:
            return batch
        hidden = (torch.rand(batch.inputs.shape, device=batch.inputs.device) < rate) & is_word(batch.inputs)
        return replace(batch, inputs=batch.inputs.masked_fill(hidden, UNKNOWN))


MOST_PLACES = 2**16


class Denoising(Noise):
    """The encoder reads a damaged x' in place of x, while the decoder has to say x: like sentences get like posteriors.

    For every x' the objective E_q(z|x')[ log p(x|z) ] - KL( q(z|x') || p(z) ) is still a lower bound of log p(x), since
    any q gives one. First the words change places: sigma sorts i + U[0, shuffle + 1), so |sigma(i) - i| <= shuffle.
    Then each word by itself is deleted, or blanked, or substituted, or none of these.

    Args:
        delete: share of the words that the encoder does not read at all, in [0, 1]; of a sentence that was cut and so
            has no end, the first word stays if none else does.
        blank: share of the words that the encoder reads as `<unk>`, in [0, 1].
        substitute: share of the words in whose place it reads a random one, drawn from all words of the batch, so by
            frequency (at times the word itself); delete + blank + substitute is at most 1.
        shuffle: words are moved by at most so many places; 0 keeps the order, and 3 is usual.
        word_dropout: share of the words fed to the decoder that are replaced by `<unk>`, as by `word-dropout`.
        word_dropout_start: that share at the first step, which moves in a straight line; none = the same throughout.
        word_dropout_updates: how long the line is.

    Source: Shen et al., Educating Text Autoencoders: Latent Representation Guidance via Denoising, 2020,
    https://arxiv.org/abs/1905.12777, whose own noise is delete = 0.3. The shuffle: Lample et al., Unsupervised Machine
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
        word_dropout_updates: int = 2000,
    ) -> None:
        super().__init__()
        check_rates(delete=delete, blank=blank, substitute=substitute)
        check_rates(word_dropout=word_dropout, word_dropout_start=word_dropout_start)
        damage = delete + blank + substitute
        if damage > 1 + 1e-9:  # more than a rounding
            raise ConfigError(f"noise options delete + blank + substitute = {damage}: expected a sum of at most 1")
        if not 0 <= shuffle <= MOST_PLACES:
            raise ConfigError(f"noise option shuffle = {shuffle}: expected 0 to {MOST_PLACES} places")
        self.delete, self.blank, self.substitute = delete, blank, substitute
        self.shuffle, self.word_dropout = shuffle, moving(word_dropout_start, word_dropout, word_dropout_updates)

    def forward(self, batch: Batch) -> Batch:
        """The batch with `source` damaged, and `inputs` where `word_dropout` is above 0; `targets` as they were."""
        if not self.training:
            return batch
        source, inputs, lengths = batch.source, batch.inputs, batch.source_lengths
        if self.shuffle:
            source = shuffled(source, self.shuffle)
        if self.delete or self.blank or self.substitute:
            draws = uniform(is_word(source))
            source = self._replaced(source, draws)
            if self.delete:
                source, lengths = deleted(source, draws < self.delete)
        if word_dropout := self.word_dropout(self.step):
            inputs = inputs.masked_fill(uniform(is_word(inputs)) < word_dropout, UNKNOWN)
        return replace(batch, source=source, inputs=inputs, source_lengths=lengths)

    def _replaced(self, source: Tensor, draws: Tensor) -> Tensor:
        """A blank where a word's draw is in the next `blank` above `delete`, another word in the next `substitute`."""
        words = is_word(source)
        read = words & (draws >= self.delete)
        blanks = read & (draws < self.delete + self.blank)
        others = read & (draws < self.delete + self.blank + self.substitute)  # the blanks too, which come last
        if self.substitute:
            present, count = source[words], int(others.sum())
            # A row's draw is a word's number in the batch, so padding cannot change it; none is drawn from no words.
            drawn = (torch.rand(count, device=source.device) * len(present)).long().clamp(max=len(present) - 1)
            source = source.clone()
            source[others] = present[drawn]
        return source.masked_fill(blanks, UNKNOWN)


def deleted(tokens: Tensor, gone: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T) without the words where `gone` is true, those behind them moved up; and the new lengths (B,)."""
    kept = (tokens != PADDING) & ~gone
    kept[:, 0] |= ~kept.any(1)  # there must be something to read
    order = (~kept).sort(dim=1, stable=True).indices
    return tokens.masked_fill(~kept, PADDING).gather(1, order), kept.sum(1)


def shuffled(tokens: Tensor, most: int) -> Tensor:
    """(B, T) with the words of each row moved by at most `most` places; what is no word stays where it is.

    Words stand before the end and the padding. Rounding cannot carry a word further: keys that it makes equal stay in
    order, and those that are most + 1 places apart are at least equal.
    """
    words = is_word(tokens)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens.gather(1, (places + (most + 1) * uniform(words)).sort(dim=1, stable=True).indices)


NOISES: dict[str, type[Noise]] = {"word-dropout": WordDropout, "denoising": Denoising}

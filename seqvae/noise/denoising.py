"""Denoising: the encoder reads a damaged sentence, the decoder has to say the whole one."""

from dataclasses import replace

import torch
from torch import Tensor

from seqvae.batch import UNKNOWN, Batch
from seqvae.errors import ConfigError
from seqvae.noise.base import Noise, check_rates, is_word, uniform

MOST_PLACES = 2**16


class Denoising(Noise):
    """The encoder reads a damaged x' in place of x, while the decoder has to say x: like sentences get like posteriors.

    For every x' the objective E_q(z|x')[ log p(x|z) ] - KL( q(z|x') || p(z) ) is still a lower bound of log p(x), since
    any q gives one. First the words change places: sigma sorts i + U[0, shuffle + 1), so |sigma(i) - i| <= shuffle.
    Then each word by itself is blanked, or substituted, or neither.

    Args:
        blank: share of the words that the encoder reads as `<unk>`, in [0, 1].
        substitute: share of the words in whose place it reads a random one, drawn from all words of the batch, so by
            frequency (at times the word itself); blank + substitute is at most 1.
        shuffle: words are moved by at most so many places; 0 keeps the order, and 3 is usual.
        word_dropout: share of the words fed to the decoder that are replaced by `<unk>`, as by `word-dropout`.

    Source: Shen et al., Educating Text Autoencoders: Latent Representation Guidance via Denoising, 2020,
    https://arxiv.org/abs/1905.12777 (which also deletes words). The shuffle: Lample et al., Unsupervised Machine
    Translation Using Monolingual Corpora Only, 2018, https://arxiv.org/abs/1711.00043. Substitution by frequency: Xie
    et al., Data Noising as Smoothing in Neural Network Language Models, 2017, https://arxiv.org/abs/1703.02573, here
    with the frequencies of the batch in place of the corpus's.
    """

    def __init__(
        self, *, blank: float = 0.3, substitute: float = 0.0, shuffle: int = 0, word_dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_rates(blank=blank, substitute=substitute, word_dropout=word_dropout)
        if blank + substitute > 1 + 1e-9:  # more than a rounding
            raise ConfigError(f"noise options blank + substitute = {blank + substitute}: expected a sum of at most 1")
        if not 0 <= shuffle <= MOST_PLACES:
            raise ConfigError(f"noise option shuffle = {shuffle}: expected 0 to {MOST_PLACES} places")
        self.blank, self.substitute, self.shuffle, self.word_dropout = blank, substitute, shuffle, word_dropout

    def forward(self, batch: Batch) -> Batch:
        """The batch with `source` damaged, and `inputs` where `word_dropout` is above 0; `targets` as they were."""
        if not self.training:
            return batch
        source, inputs = batch.source, batch.inputs
        if self.shuffle:
            source = shuffled(source, self.shuffle)
        if self.blank or self.substitute:
            source = self._replaced(source)
        if self.word_dropout:
            inputs = inputs.masked_fill(uniform(is_word(inputs)) < self.word_dropout, UNKNOWN)
        return replace(batch, source=source, inputs=inputs)

    def _replaced(self, source: Tensor) -> Tensor:
        """A blank where a word's draw is in [0, blank), another word where it is in [blank, blank + substitute)."""
        words = is_word(source)
        draws = uniform(words)
        blanks = draws < self.blank
        others = (draws < self.blank + self.substitute) & words  # among them the blanks, which come last
        if self.substitute:
            present, count = source[words], int(others.sum())
            # A row's draw is a word's number in the batch, so padding cannot change it; none is drawn from no words.
            drawn = (torch.rand(count, device=source.device) * len(present)).long().clamp(max=len(present) - 1)
            source = source.clone()
            source[others] = present[drawn]
        return source.masked_fill(blanks, UNKNOWN)


def shuffled(tokens: Tensor, most: int) -> Tensor:
    """(B, T) with the words of each row moved by at most `most` places; what is no word stays where it is.

    Words stand before the end and the padding. Rounding cannot carry a word further: keys that it makes equal stay in
    order, and those that are most + 1 places apart are at least equal.
    """
    words = is_word(tokens)
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return tokens.gather(1, (places + (most + 1) * uniform(words)).sort(dim=1, stable=True).indices)

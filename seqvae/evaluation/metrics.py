"""Metrics: pure functions from numbers to numbers, in nats and in float64.

N sentences with posteriors q(z|x_n), D latent dimensions. Nothing here depends on a model, a text or a device.
"""

import math

import torch
from torch import Tensor


def perplexity(nll: float, words: int) -> float:
    """Return the perplexity per word, exp(NLL / words).

    Args:
        nll: nats, summed over the sentences.
        words: words plus one for each sentence whose EOS was scored; never BOS or padding.

    >>> round(perplexity(101.04 * 3761, round(21.917 * 3761)), 1)  # an LSTM language model on PTB
    100.5
    """
    exponent = nll / words
    return math.exp(exponent) if exponent < 709 else math.inf


def bits_per(nll: float, units: int) -> float:
    """Return the bits per byte or character of the text, NLL / (units * log 2).

    Args:
        nll: nats, summed over the sentences.
        units: UTF-8 bytes, or Unicode characters, of the scored text, with one (its line feed) for each sentence whose
            EOS was scored.

    >>> bits_per(8 * math.log(2), 8)
    1.0
    """
    return nll / (units * math.log(2))


def standard_error(values: Tensor) -> float:
    """Return the standard error of the mean of independent values: standard deviation (with N - 1) / sqrt(N).

    >>> standard_error(torch.tensor([1.0, 3.0]))
    1.0
    """
    return float(values.double().std()) / math.sqrt(len(values))


def per_token(nll: Tensor, tokens: Tensor) -> tuple[float, float]:
    """Return the mean per token, sum(nll) / sum(tokens), and its standard error over independent sentences.

    Args:
        nll: (N,) nats.
        tokens: (N,) the number of tokens that each of them sums over.

    Returns:
        the ratio R, and the standard error of the mean of nll - R tokens over the mean length: nats per token.

    >>> per_token(torch.tensor([2.0, 6.0]), torch.tensor([1, 1]))
    (4.0, 2.0)
    """
    nll, tokens = nll.double(), tokens.double()
    ratio = float(nll.sum() / tokens.sum())
    return ratio, standard_error(nll - ratio * tokens) / float(tokens.mean())


ACTIVE = 0.01  # fraction of the prior's variance above which a dimension is active


def active_units(means: Tensor, variance: Tensor | float = 1.0) -> tuple[int, Tensor]:
    """Count the dimensions that distinguish sentences: Var_x(E_q[z_d]) > 0.01 Var_p(z_d).

    The source has the prior N(0, I), of variance 1. Relative to the prior's variance the count stays the same where z
    is rescaled with the prior. Means that are normalized over a batch pass the threshold by construction.

    Args:
        means: (N, D) posterior means of all sentences; on a sphere their directions.
        variance: (D,) that of z under the prior.

    Returns:
        the count, and the (D,) variances of the means (with N - 1) over those of the prior, largest first.

    Source: Burda, Grosse & Salakhutdinov, Importance Weighted Autoencoders, 2016, section 5.2, arXiv:1509.00519.

    >>> active_units(torch.tensor([[0.0, 3.0, 1.0], [0.1, -3.0, 1.0]]))
    (1, tensor([1.8000e+01, 5.0000e-03, 0.0000e+00], dtype=torch.float64))
    """
    centred = means.double() - means.double().mean(0)
    variances = centred.square().sum(0) / max(1, len(means) - 1) / torch.as_tensor(variance).double()
    return int((variances > ACTIVE).sum()), variances.sort(descending=True).values


class LogMeanExp:
    """A running log mean exp over samples that arrive in chunks, without overflow.

    >>> mean = LogMeanExp()
    >>> mean.add(torch.tensor([[1000.0]]))
    >>> mean.add(torch.tensor([[1000.0, 1000.0]]))
    >>> round(mean.value().item(), 6), round(mean.effective_size().item(), 6)
    (1000.0, 3.0)
    """

    def __init__(self) -> None:
        self.count = 0
        self.sums: Tensor | None = None  # (2, B) log sum w and log sum w^2

    def add(self, values: Tensor) -> None:
        """Add a chunk (B, S) of S more samples for each of B rows."""
        chunk = torch.stack([(power * values.double()).logsumexp(1) for power in (1, 2)])
        self.sums = chunk if self.sums is None else torch.logaddexp(self.sums, chunk)
        self.count += values.shape[1]

    def value(self) -> Tensor:
        """Return the log of the mean over all samples so far, (B,) float64."""
        return self._sums()[0] - math.log(self.count)

    def effective_size(self) -> Tensor:
        """Return the effective sample size, (sum w)^2 / sum w^2, (B,) float64, from 1 to the number of samples.

        Source: Kong, A note on importance sampling using standardized weights, 1992.
        """
        total, squares = self._sums()
        return (2 * total - squares).exp()

    def _sums(self) -> Tensor:
        if self.sums is None:
            raise ValueError("no samples were added: call add first")
        return self.sums

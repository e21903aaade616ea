"""Auxiliary terms: what is minimized beside the bound, so that z is used."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.vae import Trace
from seqvae.objective.term import Term


def check_weight(weight: float) -> None:
    """Raise a `ConfigError` for a weight that is not a number above 0."""
    if not 0 < weight < math.inf:
        raise ConfigError(f"auxiliary option weight = {weight}: expected a number above 0")


class BagOfWords(Term):
    """-weight * sum_t log softmax(f(z))_{x_t}: the words of the sentence from z alone, in whatever order.

    Every target counts, the one end of a sentence too, and no padding. f is part of the training, not of the model.

    Args:
        weight: of the term; 1 makes a word as dear here as in the reconstruction.
        hidden: size of a hidden layer of f with tanh; 0 for an f that is linear.

    Source: Zhao et al., Learning Discourse-level Diversity for Neural Dialog Models using Conditional Variational
    Autoencoders, 2017, https://arxiv.org/abs/1703.10960.
    """

    def __init__(self, *, latent: int, vocabulary: int, weight: float = 1.0, hidden: int = 0) -> None:
        super().__init__()
        check_weight(weight)
        if hidden:
            check_size(hidden=hidden)
        self.weight = weight
        linear = nn.Linear(hidden or latent, vocabulary)
        self.words = nn.Sequential(nn.Linear(latent, hidden), nn.Tanh(), linear) if hidden else linear

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats, weighted.

        Raises:
            ConfigError: if the sentences are not of tokens.
        """
        if not trace.z.shape[1]:  # a language model has no z to read
            return trace.z.new_zeros(len(trace.z))
        if trace.batch.targets.is_floating_point():
            raise ConfigError(
                "objective.auxiliary = bag-of-words needs tokens, and model.observation is of frames: "
                "write --objective.auxiliary.name none"
            )
        with torch.autocast(trace.z.device.type, enabled=False):
            said = F.log_softmax(self.words(trace.z.to(next(self.parameters()).dtype)), dim=1)  # (B, V)
        found = said.gather(1, trace.batch.targets)  # (B, T)
        return -self.weight * torch.where(trace.batch.mask, found, 0.0).sum(1)


class MutualInformation(Term):
    """-weight * (log q(z|x) - log 1/B sum_j q(z|x_j)): the information of z on which sentence of the batch it is of.

    I(x; z) = E[log q(z|x) - log q_agg(z)], with the batch for q_agg and the sentence's own posterior among it, so that
    no row can gain more than weight * log B: a lower bound in expectation, tight only far below log B. Beside a KL of
    weight b, which is I(x; z) + KL(q_agg||p), what is paid for information is b - weight. No paper's recipe: the
    estimate is that of the decomposition of the first source, to reward the information the idea of the second.

    Args:
        weight: of the information.

    Source: Hoffman & Johnson, ELBO Surgery, 2016 (a workshop paper: http://approximateinference.org/2016/accepted/);
    Zhao et al., InfoVAE: Balancing Learning and Inference in Variational Autoencoders, 2019,
    https://arxiv.org/abs/1706.02262.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        super().__init__()
        check_weight(weight)
        self.weight = weight

    def forward(self, trace: Trace) -> Tensor:
        """(B,) nats, from -weight * log B up."""
        if not trace.z.shape[1]:  # a language model has no z to know anything
            return trace.z.new_zeros(len(trace.z))
        each = trace.q.log_prob(trace.z[:, None])  # (B, B): draw i, posterior j
        aggregate = torch.logsumexp(each, 1) - math.log(len(each))
        return -self.weight * (each.diagonal() - aggregate)

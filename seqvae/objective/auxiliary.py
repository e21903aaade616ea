"""Auxiliary terms, which are added to the bound so that z is used."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.vae import Trace
from seqvae.objective.term import Term, refuse_weights


class BagOfWords(Term):
    """-weight * sum_t log softmax(f(z))_{x_t}: the words of the sentence from z alone, regardless of their order.

    All targets count, EOS too, and no padding. f is part of the training, not of the model.

    Args:
        weight: of the term; at 1 a word counts as much as in the reconstruction.
        hidden: size of a hidden layer of f, with tanh; 0 for a linear f.

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
        """Return (B,) nats, weighted.

        Raises:
            ConfigError: if the observation is not of tokens.
        """
        if trace.batch.targets.is_floating_point():
            raise ConfigError(
                "objective.auxiliary = bag-of-words needs tokens, and model.observation is of frames: "
                "write --objective.auxiliary.name none"
            )
        with torch.autocast(trace.z.device.type, enabled=False):
            log_prob = F.log_softmax(self.words(trace.z.to(next(self.parameters()).dtype)), dim=1)  # (B, V)
        log_prob = log_prob.gather(1, trace.batch.targets)  # (B, T)
        return -self.weight * torch.where(trace.batch.mask, log_prob, 0.0).sum(1)


class MutualInformation(Term):
    """-weight * (log q(z|x) - log 1/B sum_j q(z|x_j)), an estimate of -weight * I(x; z) from the batch.

    I(x; z) = E[log q(z|x) - log q_agg(z)], with the posteriors of the batch for q_agg, the sentence's own included, so
    that no row can gain more than weight * log B: a lower bound in expectation, tight only far below log B. With a KL
    of weight b, which is I(x; z) + KL(q_agg||p), the information has the weight b - weight in all. It is no paper's
    recipe: the estimate is that of the decomposition in the first source, rewarding information the idea of the second.

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
        """Return (B,) nats, at least -weight * log B.

        Raises:
            ConfigError: if sentences have weights.
        """
        refuse_weights(trace.weights, "auxiliary", "mutual-information", "bag-of-words")
        each = trace.q.log_prob(trace.z[:, None])  # (B, B): sample i, posterior j
        aggregate = torch.logsumexp(each, 1) - math.log(len(each))
        return -self.weight * (each.diagonal() - aggregate)


def check_weight(weight: float) -> None:
    """Raise a `ConfigError` for a weight that is not a number above 0."""
    if not 0 < weight < math.inf:
        raise ConfigError(f"auxiliary option weight = {weight}: expected a number above 0")

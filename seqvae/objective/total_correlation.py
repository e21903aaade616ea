"""The KL in three parts: mutual information of x and z, total correlation of z, and KL of each dimension."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from seqvae.errors import ConfigError
from seqvae.model.vae import Trace
from seqvae.objective.term import Term, refuse_weights


class TotalCorrelation(Term):
    """alpha * I(x; z) + beta * TC(z) + gamma * sum_d KL(q_agg(z_d)||p(z_d)), estimated from the batch.

        log q(z|x) - log p(z) = [log q(z|x) - log q(z)]                    index-code mutual information
                              + [log q(z) - sum_d log q(z_d)]              total correlation
                              + [sum_d log q(z_d) - log p(z)]              dimension-wise KL

    at the sample z of each sentence, with minibatch-weighted sampling: q(z_i) ~ 1/(N B) sum_j q(z_i|x_j), for z as a
    whole and for each dimension, where j runs over the B sentences of the batch and N is the number of training
    sentences. N shifts the three values by constants (log N, (D - 1) log N and D log N nats), not their gradients. The
    estimates of the parts are biased; with alpha = beta = gamma = 1 the biases cancel and the sum is
    log q(z|x) - log p(z), the unbiased estimate of the KL from one sample. A row may be negative.

    Args:
        alpha: weight of the mutual information.
        beta: weight of the total correlation; above 1 it favours independent dimensions.
        gamma: weight of the dimension-wise KL, which is a KL only for a prior that factorizes.

    Source: Chen et al., Isolating Sources of Disentanglement in Variational Autoencoders, 2018,
    https://arxiv.org/abs/1802.04942, section 3.
    """

    def __init__(self, *, sentences: int, alpha: float = 1.0, beta: float = 6.0, gamma: float = 1.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"divergence option {name} = {value}: expected 0 or more")
        self.sentences, self.alpha, self.beta, self.gamma = sentences, alpha, beta, gamma

    def forward(self, trace: Trace) -> Tensor:
        """Return (B,) nats.

        Raises:
            ConfigError: if the posterior does not factorize over dimensions, or sentences have weights.
        """
        refuse_weights(trace.weights, "divergence", "total-correlation", "kl")
        information, correlation, dimensions = decompose_kl(trace.q, trace.p, trace.z, self.sentences)
        return self.alpha * information + self.beta * correlation + self.gamma * dimensions


def decompose_kl(q: Distribution, p: Distribution, z: Tensor, sentences: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split log q(z|x) - log p(z) at z (B, D) into the three parts of `TotalCorrelation`, each (B,) nats.

    Raises:
        ConfigError: if q does not factorize over dimensions.
    """
    if not (isinstance(q, Independent) and q.reinterpreted_batch_ndims == 1):
        raise ConfigError(
            "objective.divergence = total-correlation needs a posterior that factorizes over dimensions, and "
            "model.posterior gives another: write --model.posterior.name gaussian, or --objective.divergence.name kl"
        )
    each = q.base_dist.log_prob(z[:, None])  # (B, B, D): sample i, posterior j
    norm = math.log(sentences * len(z))
    joint = torch.logsumexp(each.sum(2), 1) - norm
    marginals = torch.logsumexp(each, 1).sum(1) - z.shape[1] * norm
    own = each.diagonal().sum(0)  # (D, B) -> (B,)
    return own - joint, joint - marginals, marginals - p.log_prob(z)

"""The equation, nothing else:

log p(x) >= E_q(z|x)[ log p(x|z) ] - KL( q(z|x) || p(z) )

and with a label y as the condition log p(x|y) >= E_q(z|x,y)[ log p(x|z,y) ] - KL( q(z|x,y) || p(z) ), the prior p(z)
being the same for all labels.

Source of the condition: Sohn, Lee & Yan, Learning Structured Output Representation using Deep Conditional Generative
Models, 2015, whose prior depends on the condition too; with p(z) alone, Kingma et al., Semi-supervised Learning with
Deep Generative Models, 2014, https://arxiv.org/abs/1406.5298; for text Zhao, Zhao & Eskenazi, Learning Discourse-level
Diversity for Neural Dialog Models using Conditional Variational Autoencoders, 2017, https://arxiv.org/abs/1703.10960.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError
from seqvae.model.decoders import Decoder, State
from seqvae.model.distributions import kl
from seqvae.model.encoders import Encoder
from seqvae.model.noise import Noise
from seqvae.model.observations import Observation
from seqvae.model.posteriors import Posterior
from seqvae.model.priors import Prior


@dataclass(frozen=True)
class Trace:
    """One pass of a batch through the model, with one draw of z: all that the terms of an objective may look at.

    Attributes:
        batch: the sentences, without noise.
        q: q(z|x), batch (B,), event (D,).
        p: p(z), batch (), event (D,).
        z: (B, D), a draw of q.
        log_prob: (B, T) nats, log p(x_t | x_<t, z); 0 at padding.
    """

    batch: Batch
    q: Distribution
    p: Distribution
    z: Tensor
    log_prob: Tensor

    @cached_property
    def reconstruction(self) -> Tensor:
        """(B,) nats: -log p(x|z)."""
        return -self.log_prob.sum(1)

    @cached_property
    def kl(self) -> Tensor:
        """(B,) nats: KL(q(z|x) || p(z)), raw."""
        return kl(self.q, self.p, self.z)


Refinement = Callable[[Batch, Distribution], Distribution]
# (function, batch, *tensors of its rows) -> function(batch, *tensors), which treats each row by itself.
Share = Callable[..., Tensor]


def alone(function: Callable[..., Tensor], batch: Batch, *tensors: Tensor) -> Tensor:
    """Compute all rows here, as a training in one process does."""
    return function(batch, *tensors)


class SequenceVAE(nn.Module):
    """q(z|x), p(z) and p(x|z), put together from one tenant of each room.

    Args:
        latent: D.
        encoder, posterior, prior, decoder, observation, noise: see the room of that name.
        condition: (B,) labels -> (B, C), a vector c of each, which stands beside what the encoder says of a sentence
            and beside z where the decoder hears it; None for a model without labels.
    """

    def __init__(
        self,
        *,
        latent: int,
        encoder: Encoder,
        posterior: Posterior,
        prior: Prior,
        decoder: Decoder,
        observation: Observation,
        noise: Noise,
        condition: nn.Embedding | None = None,
    ) -> None:
        super().__init__()
        self.latent = latent
        self.noise = noise
        self.encoder = encoder
        self.posterior = posterior
        self.prior = prior
        self.decoder = decoder
        self.observation = observation
        self.condition = condition

    @property
    def heard(self) -> int:
        """D + C, the size of what the decoder hears beside words."""
        return self.latent + (0 if self.condition is None else self.condition.embedding_dim)

    def forward(self, batch: Batch, draws: int = 1, refine: Refinement | None = None, share: Share = alone) -> Trace:
        """Encode, draw z, and score the sentences under it; noise and dropout only while training.

        Args:
            batch: B sentences.
            draws: K, how often z is drawn for each; the trace then has B * K rows, the K of a sentence in a row.
            refine: what becomes of q(z|x) before z is drawn; given the sentences with their noise, and q.
            share: how the work of encoding and of scoring is shared with other processes.
        """
        noisy = self.noise(batch)
        h = share(self.hidden, noisy)
        if draws > 1:
            batch, noisy, h = batch.repeat(draws), noisy.repeat(draws), h.repeat_interleave(draws, dim=0)
        q = self.posterior(h)
        if refine is not None:
            q = refine(noisy, q)
        z = q.rsample()
        return Trace(batch=batch, q=q, p=self.prior(), z=z, log_prob=share(self.log_prob, noisy, z))

    def encode(self, batch: Batch) -> Distribution:
        """q(z|x): batch (B,), event (D,)."""
        return self.posterior(self.hidden(batch))

    def hidden(self, batch: Batch) -> Tensor:
        """(B, H), what q(z|x) is made from: the posterior of some rows of it is that of their sentences."""
        return self.conditioned(self.encoder(batch.reading), batch.labels)

    def conditioned(self, vectors: Tensor, labels: Tensor | None) -> Tensor:
        """(B, K) -> (B, K + C), the vector of each row's label behind it; without a condition the rows as they are."""
        if self.condition is None:
            return vectors
        if labels is None:
            raise ConfigError("this model is conditioned on labels, and none was given: expected one for each sentence")
        return torch.cat([vectors, self.condition(labels.to(vectors.device))], dim=-1)

    def log_prob(self, batch: Batch, z: Tensor) -> Tensor:
        """log p(x_t | x_<t, z) for z (B, D): (B, T) nats, 0 at padding."""
        features, _ = self.decoder(self.observation.embed(batch.inputs), self.conditioned(z, batch.labels))
        return torch.where(batch.mask, self.observation.log_prob(features, batch.targets), 0.0)

    def follow(self, x: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One step of generation: (R,) ids or (R, 1 + F) steps of series, (R, D), state -> (R, features), new state.

        With a condition z is (R, D + C), as `conditioned` makes it.
        """
        features, state = self.decoder(self.observation.embed(x[:, None]), z, state)
        return features[:, 0], state

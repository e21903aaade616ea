"""The equation, nothing else:

log p(x) >= E_q(z|x)[ log p(x|z) ] - KL( q(z|x) || p(z) )

and, conditioned on a label y, log p(x|y) >= E_q(z|x,y)[ log p(x|z,y) ] - KL( q(z|x,y) || p(z) ), with the same prior
p(z) for all labels.

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
    """One pass of a batch through the model, with one sample of z: all that the terms of an objective may use.

    Attributes:
        batch: the sentences, without noise.
        q: q(z|x), batch (B,), event (D,).
        p: p(z), batch (), event (D,).
        z: (B, D), a sample of q.
        log_prob: (B, T) nats, log p(x_t | x_<t, z); 0 at padding.
    """

    batch: Batch
    q: Distribution
    p: Distribution
    z: Tensor
    log_prob: Tensor

    @property
    def has_latent(self) -> bool:
        """Whether z has dimensions; that of a language model has none."""
        return self.z.shape[1] > 0

    @property
    def weights(self) -> Tensor | None:
        """(B,) float32, how much each sentence counts; None where all count alike."""
        return getattr(self.batch, "weights", None)  # a made-up trace may have no batch

    @cached_property
    def reconstruction(self) -> Tensor:
        """(B,) nats: -log p(x|z)."""
        return -self.log_prob.sum(1)

    @cached_property
    def kl(self) -> Tensor:
        """(B,) nats: KL(q(z|x) || p(z)), with weight 1 and without free bits."""
        return kl(self.q, self.p, self.z)


Refinement = Callable[[Batch, Distribution], Distribution]
# (function, batch, *tensors of its rows) -> function(batch, *tensors), for a function that treats each row by itself.
Share = Callable[..., Tensor]


def compute_locally(function: Callable[..., Tensor], batch: Batch, *tensors: Tensor) -> Tensor:
    """Compute all rows in this process."""
    return function(batch, *tensors)


class SequenceVAE(nn.Module):
    """q(z|x), p(z) and p(x|z), composed of one part of each kind.

    Args:
        latent: D; 0 for a language model.
        encoder, posterior, prior, decoder, observation, noise: see the module of that name.
        condition: (B,) labels -> (B, C) embeddings, concatenated to the encoder's features and to the z of the decoder;
            None for a model without labels.
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
    def has_latent(self) -> bool:
        """Whether z has dimensions; that of a language model has none."""
        return self.latent > 0

    @property
    def conditioning_size(self) -> int:
        """D + C, the size of the vector that the decoder is conditioned on: z and the embedding of a label."""
        return self.latent + (0 if self.condition is None else self.condition.embedding_dim)

    def forward(
        self, batch: Batch, samples: int = 1, refine: Refinement | None = None, share: Share = compute_locally
    ) -> Trace:
        """Encode, sample z, and score the sentences under it; noise and dropout only while training.

        Args:
            batch: B sentences.
            samples: S, of z for each sentence; the trace then has B * S rows, the S of a sentence consecutive.
            refine: a change of q(z|x) before z is sampled, given the sentences with their noise, and q.
            share: how the work of encoding and of scoring is shared with other processes.
        """
        noisy = self.noise(batch)
        h = share(self.encode_features, noisy)
        if samples > 1:
            batch, noisy, h = batch.repeat(samples), noisy.repeat(samples), h.repeat_interleave(samples, dim=0)
        q = self.posterior(h)
        if refine is not None:
            q = refine(noisy, q)
        z = q.rsample()
        return Trace(batch=batch, q=q, p=self.prior(), z=z, log_prob=share(self.log_prob, noisy, z))

    def encode(self, batch: Batch) -> Distribution:
        """Return q(z|x): batch (B,), event (D,)."""
        return self.posterior(self.encode_features(batch))

    def encode_features(self, batch: Batch) -> Tensor:
        """Return h (B, H), the features that q(z|x) is made from, row by row."""
        return self.append_condition(self.encoder(batch.reading), batch.labels)

    def append_condition(self, vectors: Tensor, labels: Tensor | None) -> Tensor:
        """Append the embedding of each row's label to (B, K): (B, K + C); (B, K) itself in a model without labels."""
        if self.condition is None:
            return vectors
        if labels is None:
            raise ConfigError("this model is conditioned on labels, and none was given: expected one for each sentence")
        return torch.cat([vectors, self.condition(labels.to(vectors.device))], dim=-1)

    def log_prob(self, batch: Batch, z: Tensor) -> Tensor:
        """Return log p(x_t | x_<t, z) for z (B, D): (B, T) nats, 0 at padding."""
        features, _ = self.decoder(self.observation.embed(batch.inputs), self.append_condition(z, batch.labels))
        return torch.where(batch.mask, self.observation.log_prob(features, batch.targets), 0.0)

    def decode_step(self, x: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map the last ids (N,) or frames (N, 1 + F), z and the state to features (N, features) and the new state.

        z is (N, D); with a condition (N, D + C), as `append_condition` returns it.
        """
        features, state = self.decoder(self.observation.embed(x[:, None]), z, state)
        return features[:, 0], state

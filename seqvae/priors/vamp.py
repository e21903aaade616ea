"""The VampPrior: a mixture of posteriors of learnt pseudo-inputs."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from seqvae.encoders.base import Encoder
from seqvae.errors import check_size
from seqvae.posteriors.base import Posterior
from seqvae.priors.base import Prior


class Vamp(Prior):
    """p(z) = 1/K sum_k q(z|u_k), the aggregate posterior of K pseudo-inputs u_k that are learnt with the model.

    A pseudo-input is `length` steps in the space of embeddings, which the encoder reads as if they were words; so
    encoder and posterior are shared with the model, and p follows them as they learn. Words are discrete, points of
    their space are not. They are read without dropout, and by a batch-norm posterior with its running statistics, which
    they do not disturb: p is one density, the same in training and evaluation. The KL has no closed form and is
    estimated from the draws of z, as with `mixture`; of the free bits only the floor `total` goes with it.

    Where the model is conditioned on labels, the place of a label's embedding beside the encoder's vector is learnt for
    each pseudo-input too, so that p is the same for all labels.

    Args:
        components: K, how many pseudo-inputs; each costs about as much time as another sentence in the batch.
        length: L, steps of each.

    Source: Tomczak & Welling, VAE with a VampPrior, 2018, https://arxiv.org/abs/1705.07120, section 3.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        posterior: Posterior,
        embedding: int,
        features: int,
        components: int = 50,
        length: int = 10,
    ) -> None:
        super().__init__()
        check_size(components=components, length=length)
        self.encoder, self.posterior = encoder, posterior
        self.spherical = posterior.spherical
        # As wide as the embeddings of words are at their start, uniform within 0.1 of 0.
        self.inputs = nn.Parameter(torch.empty(components, length, embedding).uniform_(-0.1, 0.1))
        label = features - encoder.features  # what stands beside the encoder's vector
        self.labels = nn.Parameter(torch.randn(components, label)) if label else None

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device; in single precision at least, as posteriors are."""
        count, length, _ = self.inputs.shape
        lengths = torch.full((count,), length, device=self.inputs.device)
        # cuDNN has no backward pass for a recurrent network in evaluation mode; the switch is one for all threads.
        switch = torch.backends.cudnn.flags(enabled=False) if torch.is_grad_enabled() else nullcontext()
        with settled(self.encoder), settled(self.posterior), switch:
            h = self.encoder.read(self.inputs, lengths)
            q = self.posterior(h if self.labels is None else torch.cat([h, self.labels.to(h)], dim=1))
        weights = Categorical(logits=self.inputs.new_zeros(count), validate_args=False)
        return MixtureSameFamily(weights, q, validate_args=False)


@contextmanager
def settled(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients; each submodule gets its own mode back afterwards."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        yield
    finally:
        for part in training:
            part.training = True

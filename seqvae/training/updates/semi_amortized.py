"""A posterior that starts at the encoder's and is refined for each sentence by gradient steps."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, check_size
from seqvae.evaluation.inference_gap import follow_natural_gradient
from seqvae.model.distributions import build_diagonal_gaussian, get_gaussian_parameters
from seqvae.model.vae import Trace
from seqvae.objective.objective import Report
from seqvae.objective.term import refuse_weights
from seqvae.training.trainer import Trainer, Update


class SemiAmortized(Update):
    """A step of all parameters, with a q(z|x) that gradient steps have refined for each sentence.

    Mean m and scale s start at the encoder's and follow the natural gradient of the loss, from a new sample each step,

        m <- m - rate s^2 dloss/dm,     log s <- log s - rate/2 dloss/d(log s),

    neither by more than 0.15 (of s for the mean), so that one rate suits narrow and wide posteriors; the paper has the
    plain gradient, with momentum. The loss is the objective, with its weight. Decoder and prior then learn from samples
    of the refined q. With `through` the encoder learns by the gradient through all refinement steps (exact, with second
    derivatives; the paper has finite differences). Without, it has the gradient of the loss at its own q(z|x), from
    the first of these steps, as in one of the settings of the authors' code.

    The report is of the refined q: also a bound, and a tighter one than that of the encoder. Evaluation stays
    amortized: validation, the scores and all uses of the model take the encoder's q(z|x) (the paper's figures are
    refined), and the score `inference_gap` is what refinement would gain.

    A step costs about `steps` more passes through the decoder, more than twice that with `through`. The posterior must
    be a diagonal Gaussian.

    Args:
        steps: of the refinement.
        rate: of each refinement step; 1 would be Newton's step if s were optimal.
        through: whether the encoder learns through the refinement.

    Source: Kim, Wiseman, Miller, Sontag & Rush, Semi-Amortized Variational Autoencoders, 2018,
    https://arxiv.org/abs/1802.02550, algorithm 1; natural gradients: Hoffman et al., Stochastic Variational Inference,
    2013, https://arxiv.org/abs/1206.7055.
    """

    def __init__(self, *, steps: int = 5, rate: float = 0.2, through: bool = False) -> None:
        super().__init__()
        check_size(steps=steps)
        if not 0 < rate <= 1:
            raise ConfigError(f"update option rate = {rate}: expected more than 0 and at most 1")
        self.steps, self.rate, self.through = steps, rate, through

    def forward(self, trainer: Trainer, batch: Batch) -> tuple[Report, float]:
        """Compute trace and loss with the refined q, and make a step.

        Raises:
            ConfigError: if the posterior is not a diagonal Gaussian, or sentences have weights.
        """
        refuse_weights(batch.weights, "update", "semi-amortized", "joint")
        refinement = Refinement(self, trainer, batch)
        loss, report = trainer.objective(trainer.trace(batch, refine=refinement), trainer.schedule_step)
        return report, trainer.descend(loss + refinement.encoder_loss, report)


class Refinement:
    """The refinement of q(z|x) for one batch.

    Attributes:
        encoder_loss: (), of value 0; its gradient is the encoder's if that does not flow through the refinement.
    """

    encoder_loss: Tensor

    def __init__(self, options: SemiAmortized, trainer: Trainer, batch: Batch) -> None:
        self.options, self.trainer, self.batch = options, trainer, batch

    def __call__(self, noisy: Batch, q: Distribution) -> Distribution:
        """Return the refined q, of the same batch and event."""
        first = get_gaussian_parameters(q)
        if first is None:
            raise ConfigError(
                "objective.update = semi-amortized needs a posterior that is a diagonal Gaussian, and model.posterior "
                "gives another distribution: write --model.posterior.name gaussian, or --objective.update.name joint"
            )
        mean, log_scale = first[0], first[1].log()
        start, through = (mean, log_scale), self.options.through
        if through and not log_scale.requires_grad:  # a fixed scale is refined too
            log_scale.requires_grad_()
        self.encoder_loss = mean.new_zeros(())
        with allow_second_derivatives(mean.device.type) if through else nullcontext():
            for step in range(self.options.steps):
                if not through:
                    mean, log_scale = mean.detach().requires_grad_(), log_scale.detach().requires_grad_()
                gradients = self._compute_gradients(noisy, mean, log_scale)
                if step == 0 and not through:
                    self.encoder_loss = carry_gradients(start, gradients)
                mean, log_scale = self._descend(mean, log_scale, *gradients)
        return make_gaussian(mean, log_scale) if through else make_gaussian(mean.detach(), log_scale.detach())

    def _descend(
        self, mean: Tensor, log_scale: Tensor, gradient: Tensor, log_gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Make a natural-gradient step; the loss is a mean over the sentences, each of which has its own gradient."""
        return follow_natural_gradient(mean, log_scale, gradient, log_gradient, self.options.rate * len(mean))

    def _compute_gradients(self, noisy: Batch, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the gradient of the loss with respect to mean and log scale, each (B, D), from one sample."""
        trainer = self.trainer
        q = make_gaussian(mean, log_scale)
        z = q.rsample()
        model, batch = trainer.model, self.batch.to(z.device)
        trace = Trace(batch=batch, q=q, p=model.prior(), z=z, log_prob=trainer.map_rows(model.log_prob, noisy, z))
        trainer.objective.eval()  # terms that change with each call change only with steps
        try:
            loss, _ = trainer.objective(trace, trainer.schedule_step)
        finally:
            trainer.objective.train()
        gradient, log_gradient = torch.autograd.grad(loss, [mean, log_scale], create_graph=self.options.through)
        return gradient, log_gradient


@contextmanager
def allow_second_derivatives(device: str) -> Iterator[None]:
    """Switch off LSTMs of oneDNN and cuDNN and fused attention, which have no second derivative.

    And bf16: without oneDNN its matrix products are very slow on a CPU.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # given whenever flags are set
        off = torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False)
        with off[0], off[1], sdpa_kernel(SDPBackend.MATH), torch.autocast(device, enabled=False):
            yield


def make_gaussian(mean: Tensor, log_scale: Tensor) -> Distribution:
    """Make N(mean, diag(exp(log_scale))^2), both (B, D)."""
    return build_diagonal_gaussian(mean, log_scale.exp())


def carry_gradients(start: tuple[Tensor, Tensor], gradients: tuple[Tensor, Tensor]) -> Tensor:
    """Return a loss () of value 0 whose gradient with respect to `start` is `gradients`."""
    (mean, log_scale), (gradient, log_gradient) = start, gradients
    return ((mean - mean.detach()) * gradient + (log_scale - log_scale.detach()) * log_gradient).sum()

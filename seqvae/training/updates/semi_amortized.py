"""A posterior that begins at the encoder's and is fitted to each sentence."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from torch.nn.attention import SDPBackend, sdpa_kernel

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError, check_size
from seqvae.model.distributions import gaussian
from seqvae.model.vae import Trace
from seqvae.objective.objective import Report
from seqvae.training.trainer import Trainer, Update

REACH = 0.15  # the most that one step moves the mean, in standard deviations of q, and the log scale


class SemiAmortized(Update):
    """One step of all parameters, by a q(z|x) that gradient steps have refined for each sentence.

    Mean m and scale s start at the encoder's and follow the natural gradient of the loss, each step by a new draw,

        m <- m - rate s^2 dloss/dm,     log s <- log s - rate/2 dloss/d(log s),

    neither by more than 0.15 (of s for the mean), so that one rate serves narrow and wide posteriors; the paper has the
    plain gradient, with momentum. Loss is the objective, with its weight. Decoder and prior then learn from draws of
    the refined q. The encoder learns, with `through`, by the gradient that flows back through all of the steps (exact,
    with second derivatives; the paper has finite differences). Without, it has the gradient of the loss at its own
    q(z|x), from the first step, as in one of the settings of the authors' code.

    The report is of the refined q: a bound as well, and a tighter one than that of the encoder. Evaluation stays
    amortized: validation, the scores and everything made from a sentence take the encoder's q(z|x) as it is (the
    paper's figures are refined), and the score `inference_gap` tells what refining would gain.

    An update costs about `steps` more passes through the decoder, twice that and more with `through`. It needs a
    posterior that is a diagonal Gaussian.

    Args:
        steps: of the refinement.
        rate: of each step; 1 would be Newton's step where s fits already.
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
        """Trace with the refined q, loss, step.

        Raises:
            ConfigError: if the posterior is not a diagonal Gaussian.
        """
        refining = Refining(self, trainer, batch)
        loss, report = trainer.objective(trainer.trace(batch, refine=refining), trainer.scheduled)
        return report, trainer.descend(loss + refining.following, report)


class Refining:
    """The refinement of one batch.

    Attributes:
        following: (), 0 but for its gradient, that of the encoder where it does not flow through the refinement.
    """

    following: Tensor

    def __init__(self, options: SemiAmortized, trainer: Trainer, batch: Batch) -> None:
        self.options, self.trainer, self.batch = options, trainer, batch

    def __call__(self, noisy: Batch, q: Distribution) -> Distribution:
        """The refined q, of the same batch and event."""
        first = gaussian(q)
        if first is None:
            raise ConfigError(
                "objective.update = semi-amortized needs a posterior that is a diagonal Gaussian, and model.posterior "
                "gives another distribution: write --model.posterior.name gaussian, or --objective.update.name joint"
            )
        mean, log_scale = first[0], first[1].log()
        start, through = (mean, log_scale), self.options.through
        if through and not log_scale.requires_grad:  # a scale that is fixed is refined too
            log_scale.requires_grad_()
        self.following = mean.new_zeros(())
        with twice_differentiable(mean.device.type) if through else nullcontext():
            for step in range(self.options.steps):
                if not through:
                    mean, log_scale = mean.detach().requires_grad_(), log_scale.detach().requires_grad_()
                slopes = self._slopes(noisy, mean, log_scale)
                if step == 0 and not through:
                    self.following = following(start, slopes)
                mean, log_scale = self._moved(mean, log_scale, *slopes)
        return diagonal(mean, log_scale) if through else diagonal(mean.detach(), log_scale.detach())

    def _moved(self, mean: Tensor, log_scale: Tensor, slope: Tensor, log_slope: Tensor) -> tuple[Tensor, Tensor]:
        """The loss is a mean over the sentences; each moves by its own gradient."""
        rate, scale = self.options.rate * len(mean), log_scale.exp()
        mean = mean - scale * (rate * scale * slope).clamp(-REACH, REACH)
        return mean, log_scale - (rate * log_slope / 2).clamp(-REACH, REACH)

    def _slopes(self, noisy: Batch, mean: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the loss by mean and log scale, each (B, D), from one draw."""
        trainer = self.trainer
        q = diagonal(mean, log_scale)
        z = q.rsample()
        model, batch = trainer.model, self.batch.to(z.device)
        trace = Trace(batch=batch, q=q, p=model.prior(), z=z, log_prob=trainer.share(model.log_prob, noisy, z))
        trainer.objective.eval()  # what moves with each call of the objective moves with steps alone
        try:
            loss, _ = trainer.objective(trace, trainer.scheduled)
        finally:
            trainer.objective.train()
        slope, log_slope = torch.autograd.grad(loss, [mean, log_scale], create_graph=self.options.through)
        return slope, log_slope


@contextmanager
def twice_differentiable(device: str) -> Iterator[None]:
    """Do without the LSTMs of oneDNN and cuDNN and fused attention, which have no second derivative.

    In single precision: without oneDNN a product of matrices in bf16 is very slow on a CPU.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "TF32 acceleration")  # said when flags are set, whichever they are
        without = torch.backends.mkldnn.flags(enabled=False), torch.backends.cudnn.flags(enabled=False)
        with without[0], without[1], sdpa_kernel(SDPBackend.MATH), torch.autocast(device, enabled=False):
            yield


def diagonal(mean: Tensor, log_scale: Tensor) -> Distribution:
    """N(mean, diag(exp(log_scale))^2), both (B, D)."""
    return Independent(Normal(mean, log_scale.exp(), validate_args=False), 1, validate_args=False)


def following(start: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor]) -> Tensor:
    """(), 0 with the gradient `slopes` by `start`."""
    (mean, log_scale), (slope, log_slope) = start, slopes
    return ((mean - mean.detach()) * slope + (log_scale - log_scale.detach()) * log_slope).sum()

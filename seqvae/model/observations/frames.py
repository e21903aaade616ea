"""Frames: each step is a vector of real numbers, or the end."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.observations.base import Observation

LEAST, MOST = 1e-3, 10.0  # bounds of a learnt sigma, in standard deviations of the channel


class Scaler(nn.Module):
    """x -> (x - mean) / std of each channel; mean and std are fixed, of the training split, and saved with the weights.

    Args:
        channels: F.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # In double precision: a channel may be far from 0 and vary little.
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("std", torch.ones(channels, dtype=torch.float64))

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Take over the means (F,) and standard deviations (F,) of the training split."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) -> (..., F)."""
        return (x - self.mean) / self.std


class FrameEmbedding(nn.Module):
    """W [border, standardized frame] + b, with a frame of zeros at borders (start, end and padding)."""

    def __init__(self, scaler: Scaler, embedding: int) -> None:
        super().__init__()
        self.scaler = scaler
        self.linear = nn.Linear(1 + len(scaler.mean), embedding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, 1 + F) -> (B, T, E)."""
        border = x[..., :1]
        frame = torch.where(border == 1, 0.0, self.scaler(x[..., 1:]))
        return self.linear(torch.cat([border, frame], dim=-1).to(self.linear.weight.dtype))


class StopOrFrame(Distribution):
    """The end with probability s, or else a frame of a diagonal Gaussian.

    log p(x) = log s at the end, log(1 - s) + sum_c log N(x_c; m_c, sigma_c^2) at a frame x, in nats and in the units of
    the data; a density with respect to Lebesgue measure on R^F, and one point more.

    Args:
        stop: (...) log s/(1 - s).
        mean: (..., F).
        scale: (..., F), above 0.
    """

    arg_constraints: dict = {}  # noqa: RUF012  torch's own way to say that nothing is checked

    def __init__(self, stop: Tensor, mean: Tensor, scale: Tensor) -> None:
        self.stop, self.mean_frame, self.scale = stop, mean, scale
        super().__init__(stop.shape, torch.Size([1 + mean.shape[-1]]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """(..., 1 + F), border and frame -> (...) nats."""
        apart = (value[..., 1:] - self.mean_frame) / self.scale
        said = -(0.5 * apart**2 + self.scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
        return torch.where(value[..., 0] == 1, F.logsigmoid(self.stop), F.logsigmoid(-self.stop) + said)


class Frames(Observation):
    """A frame of F real numbers or the end: log p = [end] log s + [frame] (log(1 - s) + log N(x; m, sigma^2)).

    The stop probability s = sigmoid(u f + c) and the mean m = mu + std (V f + d) come from the decoder's features f. mu
    and std, of each channel, are those of the training split: the model works with standardized numbers, while log p,
    samples and so every score are in the units of the data. With `fixed` variance -log p of a frame is its squared
    error, in standardized numbers, over 2 sigma^2, and a constant.

    Args:
        channels: F.
        embedding: E.
        features: the size of the decoder's vectors.
        variance: `fixed` (sigma as given), `learnt` (one sigma for each channel), or `per-step` (from the features).
        sigma: the standard deviation of a frame around its mean, in standard deviations of the channel; where it is
            learnt, what it begins with. Learnt ones stay between 0.001 and 10.
    """

    embedding: FrameEmbedding

    def __init__(
        self,
        *,
        channels: int,
        embedding: int,
        features: int,
        variance: Literal["fixed", "learnt", "per-step"] = "learnt",
        sigma: float = 0.5,
    ) -> None:
        super().__init__()
        check_size(channels=channels)
        if not LEAST < sigma < MOST:
            raise ConfigError(f"observation option sigma = {sigma}: expected more than {LEAST} and less than {MOST:g}")
        self.size, self.variance, self.sigma = channels, variance, sigma
        self.scaler = Scaler(channels)
        self.embedding = FrameEmbedding(self.scaler, embedding)
        self.output = nn.Linear(features, 1 + channels * (1 + (variance == "per-step")))
        nn.init.zeros_(self.output.bias)
        # log sigma = log LEAST + sigmoid(raw) log(MOST / LEAST)
        share = math.log(sigma / LEAST) / math.log(MOST / LEAST)
        self.start = math.log(share / (1 - share))
        self.raw = nn.Parameter(torch.zeros(channels)) if variance == "learnt" else None

    def another_embedding(self) -> FrameEmbedding:
        """One with weights of its own, that standardizes alike."""
        return FrameEmbedding(self.scaler, self.embedding.linear.out_features)

    def embed(self, x: Tensor) -> Tensor:
        """(B, T, 1 + F) -> (B, T, E)."""
        return self.embedding(x)

    def distribution(self, features: Tensor) -> StopOrFrame:
        """(..., features) -> batch (...), event (1 + F,), in the units of the data; in single precision at least."""
        with torch.autocast(features.device.type, enabled=False):
            kind = features.dtype if features.dtype.itemsize >= 4 else torch.float32
            weight, bias = self.output.weight.to(kind), self.output.bias.to(kind)
            stop, mean, *raw = F.linear(features.to(kind), weight, bias).split([1, *self._widths()], dim=-1)
            scale = self._sigma(raw[0] if raw else self.raw, mean)
        return StopOrFrame(stop[..., 0], self.scaler.mean + self.scaler.std * mean, self.scaler.std * scale)

    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """(B, T, features), (B, T, 1 + F) -> (B, T) nats."""
        return self.distribution(features).log_prob(targets)

    def _widths(self) -> list[int]:
        return [self.size] * (2 if self.variance == "per-step" else 1)

    def _sigma(self, raw: Tensor | None, like: Tensor) -> Tensor:
        """(..., F) or (F,), in standard deviations of the channel."""
        if raw is None:
            return torch.full_like(like, self.sigma)
        return LEAST * torch.exp(math.log(MOST / LEAST) * torch.sigmoid(raw.to(like.dtype) + self.start))

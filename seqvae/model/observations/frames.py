"""Frames: each step is a vector of real numbers, or EOS."""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.observations.base import Observation

MIN_SIGMA, MAX_SIGMA = 1e-3, 10.0  # bounds of a learnt sigma, in standard deviations of the channel


class Scaler(nn.Module):
    """Standardization, x -> (x - mean) / std of each channel, with statistics of the training split.

    They are buffers, fixed and saved with the weights.

    Args:
        channels: F.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        # In double precision, since a channel may be far from 0 and vary little.
        self.register_buffer("mean", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("std", torch.ones(channels, dtype=torch.float64))

    def fit(self, mean: Tensor, std: Tensor) -> None:
        """Set the means (F,) and standard deviations (F,) of the training split."""
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, x: Tensor) -> Tensor:
        """Standardize x (..., F)."""
        return (x - self.mean) / self.std


class FrameEmbedding(nn.Module):
    """W [border, standardized frame] + b, with a frame of zeros at borders (BOS, EOS and padding)."""

    def __init__(self, scaler: Scaler, embedding: int) -> None:
        super().__init__()
        self.scaler = scaler
        self.linear = nn.Linear(1 + len(scaler.mean), embedding)

    def forward(self, x: Tensor) -> Tensor:
        """Map frames (B, T, 1 + F), the border flag first, to (B, T, E)."""
        border = x[..., :1]
        frame = torch.where(border == 1, 0.0, self.scaler(x[..., 1:]))
        return self.linear(torch.cat([border, frame], dim=-1).to(self.linear.weight.dtype))


class StopOrFrame(Distribution):
    """EOS with probability s, else a frame of a diagonal Gaussian.

    log p(x) = log s at EOS, log(1 - s) + sum_c log N(x_c; m_c, sigma_c^2) at a frame x, in nats and in the units of the
    data: a density with respect to Lebesgue measure on R^F, plus one point.

    Args:
        stop: (...) log s/(1 - s).
        mean: (..., F).
        scale: (..., F), above 0.
    """

    arg_constraints: dict = {}  # noqa: RUF012  nothing is checked

    def __init__(self, stop: Tensor, mean: Tensor, scale: Tensor) -> None:
        self.stop, self.frame_mean, self.scale = stop, mean, scale
        super().__init__(stop.shape, torch.Size([1 + mean.shape[-1]]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return (...) nats for value (..., 1 + F), the border flag first."""
        error = (value[..., 1:] - self.frame_mean) / self.scale
        log_density = -(0.5 * error**2 + self.scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
        return torch.where(value[..., 0] == 1, F.logsigmoid(self.stop), F.logsigmoid(-self.stop) + log_density)


class Frames(Observation):
    """A frame of F real numbers or EOS: log p = [EOS] log s + [frame] (log(1 - s) + log N(x; m, sigma^2)).

    The stop probability s = sigmoid(u f + c) and the mean m = mu + std (V f + d) are functions of the decoder's
    features f; mu and std of each channel are those of the training split. The model works with standardized numbers,
    while log p, samples and so all scores are in the units of the data. With `fixed` variance, -log p of a frame is its
    squared error, in standardized numbers, over 2 sigma^2, plus a constant.

    Args:
        channels: F.
        embedding: E.
        features: the size of the decoder's features.
        variance: `fixed` (sigma as given), `learnt` (one sigma for each channel), or `per-step` (from the features).
        sigma: the standard deviation of a frame around its mean, in standard deviations of the channel; where it is
            learnt, its initial value. Learnt ones stay between 0.001 and 10.
    """

    embedding: FrameEmbedding
    kind = "frames"

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
        if not MIN_SIGMA < sigma < MAX_SIGMA:
            raise ConfigError(
                f"observation option sigma = {sigma}: expected more than {MIN_SIGMA} and less than {MAX_SIGMA:g}"
            )
        self.size, self.variance, self.sigma = channels, variance, sigma
        self.scaler = Scaler(channels)
        self.embedding = FrameEmbedding(self.scaler, embedding)
        self.output = nn.Linear(features, 1 + channels * (1 + (variance == "per-step")))
        nn.init.zeros_(self.output.bias)
        # log sigma = log LEAST + sigmoid(raw) log(MAX_SIGMA / LEAST)
        fraction = math.log(sigma / MIN_SIGMA) / math.log(MAX_SIGMA / MIN_SIGMA)
        self.start = math.log(fraction / (1 - fraction))
        self.raw = nn.Parameter(torch.zeros(channels)) if variance == "learnt" else None

    def fit_scale(self, moments: tuple[np.ndarray, np.ndarray] | None) -> None:
        """Take mean and standard deviation, (F,) each, of the channels in the training split."""
        assert moments is not None
        self.scaler.fit(*map(torch.from_numpy, moments))

    def build_embedding(self) -> FrameEmbedding:
        """Build an embedding with weights of its own and the same standardization."""
        return FrameEmbedding(self.scaler, self.embedding.linear.out_features)

    def embed(self, x: Tensor) -> Tensor:
        """Map frames (B, T, 1 + F), the border flag first, to (B, T, E)."""
        return self.embedding(x)

    def distribution(self, features: Tensor) -> StopOrFrame:
        """Return p(x_t | features), batch (...), event (1 + F,), in the units of the data."""
        with torch.autocast(features.device.type, enabled=False):
            dtype = features.dtype if features.dtype.itemsize >= 4 else torch.float32
            weight, bias = self.output.weight.to(dtype), self.output.bias.to(dtype)
            sizes = [1, self.size, *([self.size] if self.variance == "per-step" else [])]
            stop, mean, *raw = F.linear(features.to(dtype), weight, bias).split(sizes, dim=-1)
            scale = self._compute_sigma(raw[0] if raw else self.raw, mean)
        return StopOrFrame(stop[..., 0], self.scaler.mean + self.scaler.std * mean, self.scaler.std * scale)

    def log_prob(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return log p (B, T), nats, of targets (B, T, 1 + F) given features (B, T, features)."""
        return self.distribution(features).log_prob(targets)

    def _compute_sigma(self, raw: Tensor | None, like: Tensor) -> Tensor:
        """Return sigma (..., F) or (F,), in standard deviations of the channel."""
        if raw is None:
            return torch.full_like(like, self.sigma)
        return MIN_SIGMA * torch.exp(math.log(MAX_SIGMA / MIN_SIGMA) * torch.sigmoid(raw.to(like.dtype) + self.start))

"""Decoding of frames: from points of the latent space to series, frame after frame.

A series ends where the model generates EOS; one that was truncated at `max_length` has none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqvae.errors import ConfigError, TrainingError, check_number, check_whole
from seqvae.model.decoding import MAX_ROWS
from seqvae.model.modes import evaluating
from seqvae.model.observations import Frames
from seqvae.model.observations.frames import StopOrFrame
from seqvae.model.vae import SequenceVAE


@dataclass(frozen=True, eq=False)
class GeneratedSeries:
    """Series, one for each of N points.

    Attributes:
        series: N arrays (frames, F) float64, in the units of the data.
        ended: N truth values, false where a series was truncated at the maximum length.
        log_prob: (N,) float64, nats: the model's own log p(series, EOS | z), whatever the temperature.
    """

    series: list[np.ndarray]
    ended: list[bool]
    log_prob: Tensor


def decode_frames(
    model: SequenceVAE,
    z: Tensor,
    *,
    temperature: float = 1.0,
    max_length: int = 128,
    frames: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> GeneratedSeries:
    """Generate a series for each row of z: at each step EOS with probability s, else mean + temperature sigma noise.

    The first step is always a frame, as in all series that a model can be trained on. At temperature 0 a series ends at
    the median of its length, where the product of the 1 - s so far falls below 1/2. The criterion s > 1/2 would not do:
    where z leaves the length uncertain by many frames, s stays far below 1/2 at each of them.

    All random numbers are drawn before the first step, row by row, so that what a row generates depends neither on how
    long the others are nor on how many follow.

    Args:
        model: of frames; put in evaluation mode during the call.
        z: (N, D), moved to the device and the precision of the model.
        temperature: of the noise; 0 takes the mean of each frame, and ends at the median of the length.
        max_length: the longest series in steps, EOS included.
        frames: number of frames of each of the N series, whatever s is; None lets the model decide.
        generator: a CPU generator; None draws from the global one.

    Raises:
        ConfigError: for options out of range, or a model of another kind.
    """
    check_frame_options(temperature=temperature, max_length=max_length)
    if z.dim() != 2 or z.shape[1] != model.latent:
        raise ConfigError(f"z has shape {tuple(z.shape)}; this model needs (rows, {model.latent})")
    if not isinstance(model.observation, Frames):
        raise ConfigError("this model generates tokens: only a model of series can generate frames")
    lengths = None if frames is None else torch.tensor(frames)
    steps = max_length if frames is None else max(frames, default=0)
    z, channels = z.to(next(model.parameters())), model.observation.size
    u, noise = _sample_noise(len(z), steps, channels, generator) if temperature and len(z) else (None, None)
    parts: list[tuple[list[np.ndarray], list[bool], Tensor]] = []
    with evaluating(model):
        for first in range(0, len(z), MAX_ROWS):
            rows = slice(first, first + MAX_ROWS)
            random = None
            if u is not None and noise is not None:
                random = u[rows].to(z.device), temperature * noise[rows].to(z.device)
            given = None if lengths is None else lengths[rows].to(z.device)
            parts.append(_generate(model, z[rows], random, steps, given))
    log_prob = torch.cat([part[2] for part in parts]) if parts else torch.zeros(0, dtype=torch.float64)
    if not log_prob.isfinite().all():
        raise TrainingError("the model's densities are not finite: its weights are damaged, or z is not finite")
    return GeneratedSeries([s for part in parts for s in part[0]], [e for part in parts for e in part[1]], log_prob)


def check_frame_options(*, temperature: float = 1.0, max_length: int = 128) -> None:
    """Raise a `ConfigError` if `decode_frames` could not use these options, so that a command can refuse early."""
    check_number(temperature=temperature)
    check_whole(1, max_length=max_length)
    if not 0 <= temperature < math.inf:
        raise ConfigError(f"temperature must be 0 (the mean of each frame) or more and finite, got {temperature}")


def _sample_noise(rows: int, steps: int, channels: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """Draw (N, T) of U[0, 1) and (N, T, F) of N(0, 1), row by row, so that later rows change nothing."""
    pairs = [
        (
            torch.rand(steps, dtype=torch.float64, generator=generator),
            torch.randn(steps, channels, dtype=torch.float64, generator=generator),
        )
        for _ in range(rows)
    ]
    return torch.stack([u for u, _ in pairs]), torch.stack([noise for _, noise in pairs])


def _generate(
    model: SequenceVAE, z: Tensor, random: tuple[Tensor, Tensor] | None, steps: int, lengths: Tensor | None
) -> tuple[list[np.ndarray], list[bool], Tensor]:
    """Generate frame after frame; a row that has ended leaves the batch."""
    channels = model.observation.size
    generated = torch.zeros(len(z), steps, channels, dtype=torch.float64, device=z.device)
    counts = torch.zeros(len(z), dtype=torch.long, device=z.device)
    ended = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    log_prob = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    log_survival = torch.zeros(len(z), dtype=torch.float64, device=z.device)  # log of the product of the 1 - s
    alive, state = torch.arange(len(z), device=z.device), None
    x = torch.eye(1, 1 + channels, dtype=torch.float64, device=z.device).expand(len(z), -1)  # BOS
    for step in range(steps):
        features, state = model.decode_step(x, z[alive], state)
        p = model.observation.distribution(features)
        assert isinstance(p, StopOrFrame)
        frame = p.frame_mean.double()
        if random is not None:
            frame = frame + p.scale.double() * random[1][alive, step]
        log_survival[alive] += torch.nn.functional.logsigmoid(-p.stop.double()) * (step > 0)
        if lengths is not None:
            stop = step >= lengths[alive]
        elif random is None:
            stop = log_survival[alive] < math.log(0.5)
        else:
            stop = p.stop.double().sigmoid() > random[0][alive, step]
        stop = stop & (step > 0)
        x = torch.cat([stop[:, None].double(), frame.masked_fill(stop[:, None], 0.0)], dim=1)
        log_prob[alive] += p.log_prob(x).double()
        generated[alive, step], ended[alive] = x[:, 1:], stop
        counts[alive] += ~stop
        going = (~stop).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(alive):
            alive, x, state = alive[going], x[going], tuple(part.index_select(0, going) for part in state)
    pairs = zip(generated.cpu().numpy(), counts.tolist(), strict=True)
    return [row[:count].copy() for row, count in pairs], ended.tolist(), log_prob.cpu()

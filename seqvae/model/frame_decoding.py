"""Unrolling: from points of the latent space to series of frames, one step after the other.

A series ends where the model says so; one that reached `max_length` first has no end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqvae.errors import ConfigError, TrainingError, check_number, check_whole
from seqvae.model.decoding import ROWS
from seqvae.model.modes import evaluating
from seqvae.model.observations import Frames
from seqvae.model.observations.frames import StopOrFrame
from seqvae.model.vae import SequenceVAE


@dataclass(frozen=True, eq=False)
class Unrolled:
    """What was said for each of R points.

    Attributes:
        series: R arrays (frames, F) float64, in the units of the data.
        ended: R truth values, false where a series was cut at the maximum length.
        log_prob: (R,) float64, nats: the model's own log p(series, end | z), whatever temperature chose them.
    """

    series: list[np.ndarray]
    ended: list[bool]
    log_prob: Tensor


def unroll(
    model: SequenceVAE,
    z: Tensor,
    *,
    temperature: float = 1.0,
    max_length: int = 128,
    frames: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Unrolled:
    """Say one series for each row of z: at each step the end with probability s, else mean + temperature sigma noise.

    The first step is always a frame, as in every series that a model can learn from. Without noise a series ends at the
    median of its length: where the product of the 1 - s so far falls below 1/2. To end where s > 1/2 would not do, for
    where z leaves the length open by many frames no single s comes near 1/2.

    All random numbers are drawn before the first step, row by row, so what a row says does not depend on how long the
    others go on nor on how many follow.

    Args:
        model: put in evaluation mode while it speaks, then back.
        z: (R, D), moved to the device and the precision of the model.
        temperature: of the noise; 0 takes the mean of each frame, and ends at the median of the length.
        max_length: the longest series in steps, its end included.
        frames: how many frames each of the R series shall have, whatever s says; None lets the model decide.
        generator: a CPU generator; None draws from the global one.

    Raises:
        ConfigError: for options out of range, or a model of another kind.
    """
    check_unrolling(temperature=temperature, max_length=max_length)
    if z.dim() != 2 or z.shape[1] != model.latent:
        raise ConfigError(f"z has shape {tuple(z.shape)}; this model needs (rows, {model.latent})")
    if not isinstance(model.observation, Frames):
        raise ConfigError("only a model of series can be unrolled; this one says tokens")
    wanted = None if frames is None else torch.tensor(frames)
    most = max_length if frames is None else max(frames, default=0)
    z, width = z.to(next(model.parameters())), model.observation.size
    u, noise = _drawn(len(z), most, width, generator) if temperature and len(z) else (None, None)
    found: list[tuple[list[np.ndarray], list[bool], Tensor]] = []
    with evaluating(model):
        for first in range(0, len(z), ROWS):
            part = slice(first, first + ROWS)
            draws = None
            if u is not None and noise is not None:
                draws = u[part].to(z.device), temperature * noise[part].to(z.device)
            rest = None if wanted is None else wanted[part].to(z.device)
            found.append(_say(model, z[part], draws, most, rest))
    log_prob = torch.cat([part[2] for part in found]) if found else torch.zeros(0, dtype=torch.float64)
    if not log_prob.isfinite().all():
        raise TrainingError("the model's densities are not finite: its weights are damaged, or z is not finite")
    return Unrolled([s for part in found for s in part[0]], [e for part in found for e in part[1]], log_prob)


def _drawn(rows: int, steps: int, width: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """(R, T) of U[0, 1) and (R, T, F) of N(0, 1), each row after the other, so that rows to come change nothing."""
    pairs = [
        (
            torch.rand(steps, dtype=torch.float64, generator=generator),
            torch.randn(steps, width, dtype=torch.float64, generator=generator),
        )
        for _ in range(rows)
    ]
    return torch.stack([u for u, _ in pairs]), torch.stack([noise for _, noise in pairs])


def check_unrolling(*, temperature: float = 1.0, max_length: int = 128) -> None:
    """Raise a `ConfigError` if `unroll` could not use these options, so that a command can refuse before any work."""
    check_number(temperature=temperature)
    check_whole(1, max_length=max_length)
    if not 0 <= temperature < math.inf:
        raise ConfigError(f"temperature must be 0 (the mean of each frame) or more and finite, got {temperature}")


def _say(
    model: SequenceVAE, z: Tensor, draws: tuple[Tensor, Tensor] | None, most: int, wanted: Tensor | None
) -> tuple[list[np.ndarray], list[bool], Tensor]:
    """Step after step; a row that has ended leaves the batch."""
    width = model.observation.size
    said = torch.zeros(len(z), most, width, dtype=torch.float64, device=z.device)
    counts = torch.zeros(len(z), dtype=torch.long, device=z.device)
    ended = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    log_prob = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    going_on = torch.zeros(len(z), dtype=torch.float64, device=z.device)  # log of the product of the 1 - s
    alive, state = torch.arange(len(z), device=z.device), None
    x = torch.eye(1, 1 + width, dtype=torch.float64, device=z.device).expand(len(z), -1)  # the start
    for step in range(most):
        features, state = model.follow(x, z[alive], state)
        p = model.observation.distribution(features)
        assert isinstance(p, StopOrFrame)
        frame = p.mean_frame.double()
        if draws is not None:
            frame = frame + p.scale.double() * draws[1][alive, step]
        going_on[alive] += torch.nn.functional.logsigmoid(-p.stop.double()) * (step > 0)
        if not step:
            stop = torch.zeros_like(ended)
        elif wanted is not None:
            stop = step >= wanted[alive]
        elif draws is None:
            stop = going_on[alive] < math.log(0.5)
        else:
            stop = p.stop.double().sigmoid() > draws[0][alive, step]
        x = torch.cat([stop[:, None].double(), frame.masked_fill(stop[:, None], 0.0)], dim=1)
        log_prob[alive] += p.log_prob(x).double()
        said[alive, step], ended[alive] = x[:, 1:], stop
        counts[alive] += ~stop
        going = (~stop).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(alive):
            alive, x, state = alive[going], x[going], tuple(part.index_select(0, going) for part in state)
    pairs = zip(said.cpu().numpy(), counts.tolist(), strict=True)
    return [row[:count].copy() for row, count in pairs], ended.tolist(), log_prob.cpu()

"""One step of several processes that is the step of one.

Every process has the whole batch, the same weights and the same random numbers. What treats each sentence by itself and
takes the time, encoding and scoring, is dealt out: row i to process i mod W, so that all get sentences of like lengths.
The results are gathered, and everything else is computed by all of them for the whole batch: the noise of the words, q
(of a batch-norm posterior too), the sample of z, and the loss with its terms, whatever these look at.

Gradients: a tensor of the whole batch has the same gradient in each process, and what belongs to the rows of one has W
times its gradient there. So of every parameter the mean over the processes is the gradient of the step, though some of
them (of the encoder) work row by row and others (of the prior) for the whole batch.

Dropout of sequences is drawn for the whole batch too. What else is random in encoder or decoder (dropout between layers
or of weights) each process draws for itself, so that with it the training is another one, of the same distribution.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather
from torch import Tensor, nn

from seqvae.data.batch import Batch
from seqvae.model.layers import DRAW, Masks
from seqvae.model.vae import Share, alone


@dataclass(frozen=True)
class Place:
    """Which of the processes this is.

    Attributes:
        rank: from 0.
        world: W, how many there are.
    """

    rank: int
    world: int

    def rows(self, total: int) -> Tensor:
        """(b,) int64, its rows of `total`; where there are fewer than processes, one that does not count."""
        return torch.arange(self.rank, total, self.world) if self.rank < total else torch.tensor([self.rank % total])

    def deal(self, whole: Tensor) -> Tensor:
        """(B, ...) -> (b, ...): its rows, whose gradients are sent to all."""
        return Dealt.apply(whole, self) if whole.numel() else whole[self.rows(len(whole))]

    def gather(self, mine: Tensor, total: int) -> Tensor:
        """(b, ...) -> (B, ...), the inverse, with the rows of all; in single precision at least."""
        mine = mine.float() if mine.dtype in (torch.bfloat16, torch.float16) else mine
        return Gathered.apply(mine, total, self) if mine.numel() else mine.new_zeros(total, *mine.shape[1:])


class Gathered(torch.autograd.Function):
    """The rows of all processes; backward, W times the gradient of one's own."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, total: int, place: Place) -> Tensor:
        """(b, ...) -> (B, ...)."""
        ctx.place = place
        most = -(-total // place.world)
        filled = torch.cat([mine, mine.new_zeros(most - len(mine), *mine.shape[1:])])
        every = gather(filled.contiguous())  # (W * most, ...)
        return every.unflatten(0, (place.world, most)).transpose(0, 1).flatten(0, 1)[:total].contiguous()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        """(B, ...) -> (b, ...)."""
        mine = ctx.place.world * ctx.place.deal(slope)
        return (mine if ctx.place.rank < len(slope) else 0 * mine), None, None


class Dealt(torch.autograd.Function):
    """One's own rows; backward, the gradients of all, each of which is W times too large."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, place: Place) -> Tensor:
        """(B, ...) -> (b, ...)."""
        ctx.place, ctx.total = place, len(whole)
        return whole[place.rows(len(whole)).to(whole.device)]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        """(b, ...) -> (B, ...)."""
        return ctx.place.gather(slope, ctx.total) / ctx.place.world, None


class Shared:
    """Computes a function of rows in all processes, each some of them; see `seqvae.model.vae.Share`.

    Args:
        place: of this process.
        device: where it computes.
        seed: of what it draws for itself.
    """

    def __init__(self, place: Place, device: torch.device, seed: int) -> None:
        self.place, self.device = place, device
        self.seeds = random.Random(f"{seed} {place.rank}")
        self.common: list[Tensor] = []  # the state of the common stream, while another one is drawn from

    def __call__(self, function: Callable[..., Tensor], batch: Batch, *tensors: Tensor) -> Tensor:
        """(B, ...), the same in all processes."""
        total = len(batch)
        rows = self.place.rows(total)
        dealt = [self.place.deal(tensor) for tensor in tensors]
        with self._own_stream(rows, total):
            mine = function(batch.select(rows.to(batch.lengths.device)), *dealt)
        return self.place.gather(mine, total)

    @contextmanager
    def _own_stream(self, rows: Tensor, total: int) -> Iterator[None]:
        """Draw what only this process needs from a stream of its own, and masks of all rows from the common one."""

        def draw(count: int, masks: Masks) -> Tensor:
            assert count == len(rows)
            own = random_state(self.device)
            set_random_state(self.device, self.common)
            drawn = masks(total)[rows.to(self.device)]
            self.common = random_state(self.device)
            set_random_state(self.device, own)
            return drawn

        self.common = random_state(self.device)
        torch.manual_seed(self.seeds.getrandbits(63))
        before = DRAW.set(draw)
        try:
            yield
        finally:
            DRAW.reset(before)
            set_random_state(self.device, self.common)


def share_of(accelerator: Accelerator, seed: int) -> Share:
    """How the processes of the accelerator share the work on a batch."""
    if accelerator.num_processes == 1:
        return alone
    return Shared(Place(accelerator.process_index, accelerator.num_processes), accelerator.device, seed)


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Give the parameters the mean gradient of all processes; none to those that have none in any of them."""
    if accelerator.num_processes == 1:
        return
    kinds: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.dtype, []).append(parameter)
    for some in kinds.values():
        known = torch.tensor([float(p.grad is not None) for p in some], dtype=some[0].dtype, device=some[0].device)
        mine = [torch.zeros_like(p) if p.grad is None else p.grad for p in some]
        mean = accelerator.reduce(torch.cat([known, *(slope.flatten() for slope in mine)]), reduction="mean")
        known, *slopes = mean.split([len(some), *(p.numel() for p in some)])
        for parameter, slope, has in zip(some, slopes, known.tolist(), strict=True):
            parameter.grad = slope.view_as(parameter) if has else None


def follow_main(accelerator: Accelerator, *modules: nn.Module) -> None:
    """Give all processes the buffers and the random numbers of the main one, by which they then decide alike."""
    if accelerator.num_processes == 1:
        return
    for module in modules:
        for buffer in module.buffers():
            buffer.copy_(broadcast(buffer.to(accelerator.device)))
    state = random_state(accelerator.device)
    set_random_state(accelerator.device, [broadcast(part.to(accelerator.device)).cpu() for part in state])


def random_state(device: torch.device) -> list[Tensor]:
    """Of the global generators of the CPU and of the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """The inverse."""
    torch.set_rng_state(state[0])
    for part in state[1:]:
        torch.cuda.set_rng_state(part, device)

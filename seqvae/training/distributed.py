"""Data parallelism that reproduces a training in one process: one step of W processes is the step of one.

Every process has the whole batch, the same weights and the same random numbers. The costly functions that treat each
sentence by itself, encoding and scoring, are divided: row i goes to process i mod W, so that all get sentences of
similar lengths. Their results are gathered, and all processes compute everything else for the whole batch: word noise,
q (of a batch-norm posterior too), the sample of z, and the loss with its terms, which may look at the whole batch.

Gradients: a tensor of the whole batch has the same gradient in each process; a tensor of the rows of one process has W
times its gradient there. So the mean over the processes is the gradient of the step for every parameter, whether it is
used row by row (encoder) or for the whole batch (prior).

Masks of sequence dropout are sampled for the whole batch too. Other random numbers of encoder and decoder (dropout
between layers or of weights) are each process's own: with them the training differs from that of one process, with the
same distribution.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from seqvae.data.batch import Batch
from seqvae.model.layers import MASK_SAMPLER, Masks
from seqvae.model.vae import Share, compute_locally

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Process:
    """The rank of this process, and how rows are divided among all.

    Attributes:
        rank: from 0.
        world: W, the number of processes.
    """

    rank: int
    world: int

    def rows(self, total: int) -> Tensor:
        """Return (b,) int64, its rows of `total`; one that does not count if there are fewer rows than processes."""
        return torch.arange(self.rank, total, self.world) if self.rank < total else torch.tensor([self.rank % total])

    def scatter(self, whole: Tensor) -> Tensor:
        """Take the rows of this process: (B, ...) -> (b, ...); their gradients are sent to all."""
        return ScatterRows.apply(whole, self) if whole.numel() else whole[self.rows(len(whole))]

    def gather(self, own: Tensor, total: int) -> Tensor:
        """Join the rows of all processes: (b, ...) -> (B, ...), the inverse; in fp32 at least."""
        own = own.float() if own.dtype in (torch.bfloat16, torch.float16) else own
        return GatherRows.apply(own, total, self) if own.numel() else own.new_zeros(total, *own.shape[1:])


class GatherRows(torch.autograd.Function):
    """The rows of all processes; backward, W times the gradient of the process's own rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, total: int, process: Process) -> Tensor:
        """Return (B, ...) of (b, ...)."""
        from accelerate.utils import gather

        ctx.process = process
        most = -(-total // process.world)
        padded = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
        every = gather(padded.contiguous())  # (W * most, ...)
        return every.unflatten(0, (process.world, most)).transpose(0, 1).flatten(0, 1)[:total].contiguous()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return (b, ...) of (B, ...)."""
        own = ctx.process.world * ctx.process.scatter(gradient)
        return (own if ctx.process.rank < len(gradient) else 0 * own), None, None


class ScatterRows(torch.autograd.Function):
    """The process's own rows; backward, the gradients of all processes, each of which is W times too large."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, process: Process) -> Tensor:
        """Return (b, ...) of (B, ...)."""
        ctx.process, ctx.total = process, len(whole)
        return whole[process.rows(len(whole)).to(whole.device)]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return (B, ...) of (b, ...)."""
        return ctx.process.gather(gradient, ctx.total) / ctx.process.world, None


class DistributedMap:
    """Computes a function that treats each row by itself, each process some rows; see `seqvae.model.vae.Share`.

    Args:
        process: this one.
        device: where it computes.
        seed: of the random numbers that are each process's own.
    """

    def __init__(self, process: Process, device: torch.device, seed: int) -> None:
        self.process, self.device = process, device
        self.seeds = random.Random(f"{seed} {process.rank}")
        self.common: list[Tensor] = []  # the state of the common stream while the process's own is in use

    def __call__(self, function: Callable[..., Tensor], batch: Batch, *tensors: Tensor) -> Tensor:
        """Return (B, ...), the same in all processes."""
        total = len(batch)
        rows = self.process.rows(total)
        scattered = [self.process.scatter(tensor) for tensor in tensors]
        with self._own_stream(rows, total):
            own = function(batch.select(rows.to(batch.lengths.device)), *scattered)
        return self.process.gather(own, total)

    @contextmanager
    def _own_stream(self, rows: Tensor, total: int) -> Iterator[None]:
        """Take random numbers from the process's own stream, but dropout masks, for all rows, from the common one."""

        def sample_masks(count: int, masks: Masks) -> Tensor:
            assert count == len(rows)
            own = get_random_state(self.device)
            set_random_state(self.device, self.common)
            sampled = masks(total)[rows.to(self.device)]
            self.common = get_random_state(self.device)
            set_random_state(self.device, own)
            return sampled

        self.common = get_random_state(self.device)
        torch.manual_seed(self.seeds.getrandbits(63))
        before = MASK_SAMPLER.set(sample_masks)
        try:
            yield
        finally:
            MASK_SAMPLER.reset(before)
            set_random_state(self.device, self.common)


def make_row_map(accelerator: Accelerator, seed: int) -> Share:
    """Return what computes functions of rows: in this process alone, or divided among those of the accelerator."""
    if accelerator.num_processes == 1:
        return compute_locally
    process = Process(accelerator.process_index, accelerator.num_processes)
    return DistributedMap(process, accelerator.device, seed)


def average_gradients(accelerator: Accelerator, parameters: Iterable[nn.Parameter]) -> None:
    """Give the parameters the mean gradient of all processes; none to those that have none in any of them."""
    if accelerator.num_processes == 1:
        return
    kinds: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        kinds.setdefault(parameter.dtype, []).append(parameter)
    for group in kinds.values():
        present = torch.tensor([float(p.grad is not None) for p in group], dtype=group[0].dtype, device=group[0].device)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in group]
        mean = accelerator.reduce(torch.cat([present, *(gradient.flatten() for gradient in own)]), reduction="mean")
        present, *gradients = mean.split([len(group), *(p.numel() for p in group)])
        for parameter, gradient, has in zip(group, gradients, present.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if has else None


def broadcast_state(accelerator: Accelerator, *modules: nn.Module) -> None:
    """Give all processes the buffers and the random state of the main one, so that they decide alike."""
    if accelerator.num_processes == 1:
        return
    from accelerate.utils import broadcast

    for module in modules:
        for buffer in module.buffers():
            buffer.copy_(broadcast(buffer.to(accelerator.device)))
    state = get_random_state(accelerator.device)
    set_random_state(accelerator.device, [broadcast(part.to(accelerator.device)).cpu() for part in state])


def any_process(accelerator: Accelerator, condition: bool) -> bool:
    """Return whether the condition holds in any process: the same answer in all."""
    if accelerator.num_processes == 1:
        return condition
    count = torch.tensor(float(condition), device=accelerator.device)
    return bool(accelerator.reduce(count, reduction="sum") > 0)


def get_random_state(device: torch.device) -> list[Tensor]:
    """Return the states of the global generators of the CPU and of the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Set the states that `get_random_state` returned."""
    torch.set_rng_state(state[0])
    for part in state[1:]:
        torch.cuda.set_rng_state(part, device)

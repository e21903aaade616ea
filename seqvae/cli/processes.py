"""Processes that `torchrun` started: training, encoding, evaluation and sampling share their work, and one prints.

All other commands are the work of the first process alone. `seqvae.training.distributed` divides a training.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqvae.evaluation.likelihood import Measurements

PLACES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SHARED = ("train", "encode", "evaluate", "sample")  # commands whose work is shared


def read_place(name: str, alone: int) -> int:
    """Read a number that a launcher puts into the environment, together with others; `alone` without a launcher."""
    return int(os.environ[name]) if set(PLACES) <= set(os.environ) else alone


def leave_launcher() -> None:
    """Forget the other processes: what this one does from now on, it does alone."""
    for name in (*PLACES, "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_USE_AGENT_STORE"):
        os.environ.pop(name, None)


@dataclass(frozen=True)
class Process:
    """One of the processes that `torchrun` started, or the only one.

    Attributes:
        rank: from 0; the first one prints.
        world: the number of processes.
    """

    rank: int = field(default_factory=lambda: read_place("RANK", 0))
    world: int = field(default_factory=lambda: read_place("WORLD_SIZE", 1))

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            self._join()
            from torch import distributed

            distributed.barrier()

    def gather(self, own: Any) -> list[Any]:
        """Return what each process has, in their order."""
        if self.world == 1:
            return [own]
        self._join()
        from torch import distributed

        found: list[Any] = [None] * self.world
        distributed.all_gather_object(found, own)
        return found

    def choose_rows(self, total: int) -> slice:
        """Return its part of `total` rows: consecutive ones, the parts in the order of the processes.

        >>> [Process(rank, 3).choose_rows(4) for rank in range(3)]
        [slice(0, 1, None), slice(1, 2, None), slice(2, 4, None)]
        """
        return slice(total * self.rank // self.world, total * (self.rank + 1) // self.world)

    def measure(self, model: Any, batches: Sequence[Any], **options: Any) -> Measurements:
        """Measure its part of some batches; return the table of all, as `seqvae.evaluation.likelihood.measure` does."""
        from seqvae.evaluation.likelihood import Measurements, measure

        if len(batches) < self.world:
            return measure(model, batches, **options)
        return Measurements.join(self.gather(measure(model, batches[self.rank :: self.world], **options)))

    def _join(self) -> None:
        """Join the others, where this has not been done."""
        from torch import distributed

        from seqvae.training.rendezvous import find_keys

        if not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=timedelta(days=7), **find_keys())
            atexit.register(distributed.destroy_process_group)  # else its threads may abort a process that ends

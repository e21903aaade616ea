"""Batch: the encoder's input, the decoder's inputs and its targets.

A sentence is a *sequence*: the ids of its tokens, then `END`. A sentence that was truncated at the maximum length has
no `END`, so that no end is trained or scored that the text does not have.

A real-valued series likewise: its frames, then an end unless it was truncated. A step of it has 1 + F channels, the
border and the frame: border 0 and the frame, or border 1 and zeros. The end is such a border, and so are the start and
the padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from torch import Tensor

# The first ids of every vocabulary. `UNKNOWN` is an ordinary word; the other three never come out of a text.
PADDING, START, END, UNKNOWN = range(4)


@dataclass(frozen=True)
class Batch:
    """B sentences of at most T tokens, padded on the right with `PADDING`; or B series of at most T steps.

    Attributes:
        source: (B, T) int64, the encoder's input: the tokens, then `END`.
        inputs: (B, T) int64, the decoder's inputs: `START`, then the tokens.
        targets: (B, T) int64, the decoder's targets: the tokens, then `END`.
        lengths: (B,) int64, the number of steps of each row, padding not counted.
        source_lengths: the same for `source`, where noise has made it shorter; None otherwise.
        labels: (B,) int64, the number of each sentence's label, for a model that is conditioned on it; None otherwise.
        weights: (B,) float32, how much each sentence counts in training, 1 on average over the training split; None
            where all count alike.

    Of series, `source`, `inputs` and `targets` are (B, T, 1 + F) and of floats.

    >>> batch = Batch.of([[7, 8, END], [9, END]])
    >>> batch.inputs.tolist(), batch.targets.tolist()
    ([[1, 7, 8], [1, 9, 0]], [[7, 8, 2], [9, 2, 0]])
    """

    source: Tensor
    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    source_lengths: Tensor | None = None
    labels: Tensor | None = None
    weights: Tensor | None = None

    @classmethod
    def of(cls, sequences: Sequence[Sequence[int]]) -> "Batch":
        """Pad `sequences` (one id or more each, the last `END` unless truncated) into a batch, in the given order."""
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        within = np.arange(lengths.max()) < lengths[:, None]  # (B, T)
        targets = np.full(within.shape, PADDING, np.int64)
        targets[within] = np.fromiter(chain.from_iterable(sequences), np.int64, lengths.sum())
        inputs = np.where(within, np.roll(targets, 1, axis=1), PADDING)
        inputs[:, 0] = START
        target = torch.from_numpy(targets)
        return cls(source=target, inputs=torch.from_numpy(inputs), targets=target, lengths=torch.from_numpy(lengths))

    @classmethod
    def of_frames(cls, series: Sequence[np.ndarray], *, longest: int | None = None) -> "Batch":
        """Pad series (each (N, F), of one F) into a batch, rows in the given order, float32 unless they are float64.

        Args:
            series: their frames. A series of N frames has N + 1 steps, the last of which is its end.
            longest: series of more steps than this are truncated and then have no end; None = no limit.

        >>> batch = Batch.of_frames([np.array([[5.0], [6.0]]), np.array([[7.0]])])
        >>> batch.targets[..., 0].tolist(), batch.targets[..., 1].tolist()
        ([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0]], [[5.0, 6.0, 0.0], [7.0, 0.0, 0.0]])
        """
        frames = np.fromiter(map(len, series), np.int64, len(series))
        lengths = frames + 1 if longest is None else np.minimum(frames + 1, longest)
        frames = np.minimum(frames, lengths)
        kind = np.result_type(np.float32, *{values.dtype for values in series})
        targets = np.zeros((len(series), lengths.max(), 1 + series[0].shape[1]), kind)
        targets[..., 0] = 1
        within = np.arange(lengths.max()) < frames[:, None]  # (B, T)
        targets[within, 0] = 0
        targets[within, 1:] = np.concatenate([values[:n] for values, n in zip(series, frames.tolist(), strict=True)])
        inputs = np.roll(targets, 1, axis=1)
        inputs[:, 0] = np.eye(1, targets.shape[2])
        target = torch.from_numpy(targets)
        return cls(source=target, inputs=torch.from_numpy(inputs), targets=target, lengths=torch.from_numpy(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def real(self) -> bool:
        """Whether the rows are real-valued series rather than sentences of ids."""
        return self.targets.dim() == 3

    @property
    def ended(self) -> Tensor:
        """(B,) bool, whether the last target of each row is its end; false where it was truncated."""
        last = self.targets[torch.arange(len(self), device=self.lengths.device), self.lengths - 1]
        return last[:, 0] == 1 if self.real else last == END

    @cached_property
    def mask(self) -> Tensor:
        """(B, T) bool, true at the steps of a row, false in its padding."""
        return torch.arange(self.targets.shape[1], device=self.lengths.device) < self.lengths[:, None]

    @cached_property
    def reading(self) -> "Batch":
        """The batch that an encoder reads: this one, with the lengths of `source` where noise has made it shorter."""
        if self.source_lengths is None:
            return self
        return replace(self, targets=self.source, lengths=self.source_lengths, source_lengths=None)

    @cached_property
    def tokens(self) -> int:
        """The number of targets: tokens and ends of complete sentences, without start and padding."""
        return int(self.lengths.sum())

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on `device`; on a GPU it arrives in the order of the work there, which is not waited for."""
        device = torch.device(device)
        moved: dict[int, Tensor] = {}
        tensors = self._tensors()
        for tensor in tensors.values():  # the targets may be the source too
            moved[id(tensor)] = tensor.to(device, non_blocking=device.type == "cuda")
        batch = Batch(**{name: moved[id(tensor)] for name, tensor in tensors.items()})
        batch.__dict__["tokens"] = self.tokens
        return batch

    def repeat(self, times: int) -> "Batch":
        """Return (times * B, T): each row `times` times in succession, as for several samples of z of one sentence."""
        return Batch(**{name: t.repeat_interleave(times, dim=0) for name, t in self._tensors().items()})

    def select(self, rows: Tensor) -> "Batch":
        """Return some rows, by number or by mask, at the same width."""
        return Batch(**{name: tensor[rows] for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {"source": self.source, "inputs": self.inputs, "targets": self.targets, "lengths": self.lengths}
        some = {"source_lengths": self.source_lengths, "labels": self.labels, "weights": self.weights}
        return tensors | {name: tensor for name, tensor in some.items() if tensor is not None}

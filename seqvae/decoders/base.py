"""The contract of decoders: what has been said so far, and z -> features of what comes next."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

State = tuple[Tensor, ...]


class Decoder(nn.Module, ABC):
    """One method serves training (all steps at once) and generation (one step, from the last state).

    Attributes:
        features: the size of the vector that it returns for each step.
    """

    features: int

    @abstractmethod
    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """(B, T, E) embedded inputs, (B, D) and the state after earlier steps -> (B, T, features) and the new state.

        Features at step t depend on inputs up to t alone. Every tensor of the state has B as its first axis, so that
        rows can be reordered, repeated and dropped.
        """

"""One of many choices, drawn by the inverse of their cumulative probability."""

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 128  # choices whose probabilities are added up before any is looked at alone


def inverse(p: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The first choice of each row whose cumulative probability exceeds u: never one of probability 0.

    Blocks of choices are summed first and only the one that u falls into is cumulated, so that most of the work is one
    sum over p; all sums are in double precision.

    Args:
        p: (R, V), at least 0, more than 0 somewhere in each row, of any sum.
        u: (R,) float64, uniform in [0, 1).

    Returns:
        (R,) choices, and (R,) float64 how far u lies between where its choice begins and ends: uniform again, and
        independent of the choice.

    >>> inverse(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([0.5], dtype=torch.float64))
    (tensor([2]), tensor([0.3333], dtype=torch.float64))
    """
    rows, choices = torch.arange(len(p), device=p.device), p.shape[1]
    blocks = F.pad(p, (0, -choices % BLOCK)).unflatten(1, (-(-choices // BLOCK), BLOCK))
    block, u = _within(blocks.sum(2, dtype=torch.float64), u)
    inside, u = _within(blocks[rows, block].double(), u)
    return (block * BLOCK + inside).clamp(max=choices - 1), u  # where p is not a number too


def relative(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """(R, C) -> softmax(logits / temperature) but for a factor of each row: the largest is 1.

    >>> relative(torch.tensor([[0.0, -1e9]]), temperature=1e-9).tolist()
    [[1.0, 0.0]]
    """
    logits = logits - logits.amax(-1, keepdim=True)
    return (logits if temperature == 1 else logits / temperature).exp()


def without(logits: Tensor, banned: list[int]) -> Tensor:
    """(..., V) -> the same, with -inf for choices that are not to be made."""
    return logits.index_fill(-1, torch.tensor(banned, device=logits.device), -torch.inf)


def _within(p: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The same for few choices: (R, C) float64."""
    cumulative = p.cumsum(-1)
    mark = cumulative[:, -1:] * u[:, None].clamp(max=1 - 1e-15)
    choice = torch.searchsorted(cumulative, mark, right=True).clamp(max=p.shape[-1] - 1)
    own = p.gather(-1, choice)
    rest = (mark - (cumulative.gather(-1, choice) - own)) / own
    return choice[:, 0], rest[:, 0].clamp(0, 1)

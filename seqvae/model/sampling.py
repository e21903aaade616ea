"""Sampling one of V tokens: temperature, top-k, top-p and min-p, then the inverse of the cumulative distribution."""

import torch
from torch import Tensor
from torch.nn import functional as F

NO_FILTER = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}  # leaves the model's probabilities unchanged


def filter_logits(
    logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Tensor:
    """Filter each row's distribution: temperature, then top-k, then top-p, then min-p, then normalize again.

    Each filter keeps at least the most probable token. Top-k keeps exactly k of tied tokens; top-p keeps the smallest
    set of most probable tokens whose total probability reaches `top_p`, min-p those with p >= min_p * max p.

    Args:
        logits: (N, V); minus infinity marks tokens that cannot be generated.
        temperature: divides the logits; 0 keeps only the most probable token (the lowest id of tied ones).
        top_k: number of tokens to keep; 0 keeps all.
        top_p: total probability of the kept tokens (Holtzman et al. 2020, arXiv:1904.09751); 1 keeps all.
        min_p: fraction of the largest probability (Nguyen et al. 2024, arXiv:2407.01082); 0 keeps all.

    Returns:
        (N, V) float64 log-probabilities, minus infinity where filtered out.

    >>> filter_logits(torch.tensor([[0.5, 0.3, 0.2]]).log(), top_k=2).exp()
    tensor([[0.6250, 0.3750, 0.0000]], dtype=torch.float64)
    """
    logits = logits.double()
    logits = logits - logits.amax(-1, keepdim=True)
    if temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    logits = logits / temperature
    if 0 < top_k < logits.shape[-1]:
        values, kept = logits.topk(top_k, dim=-1)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, kept, values)
    if top_p < 1:
        values, order = logits.sort(dim=-1, descending=True, stable=True)
        p = values.softmax(-1)
        values = values.masked_fill(p.cumsum(-1) - p >= top_p, -torch.inf)  # reached by more probable ones already
        values[..., 0] = 0.0
        logits = torch.empty_like(logits).scatter(-1, order, values)
    if min_p > 0:
        p = logits.softmax(-1)
        logits = logits.masked_fill(p < min_p * p.amax(-1, keepdim=True), -torch.inf)
    return logits.log_softmax(-1)


def filter_probabilities(logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """Return (N, V), the probabilities of `filter_logits` up to a factor of each row; it sorts only for top-p."""
    if top_p < 1:
        return filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p).exp()
    p = unnormalized_softmax(logits, temperature)
    if 0 < top_k < p.shape[-1]:
        values, kept = p.topk(top_k, dim=-1)
        p = torch.zeros_like(p).scatter(-1, kept, values)
    return p.masked_fill(p < min_p, 0.0) if min_p > 0 else p


def unnormalized_softmax(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return softmax(logits / temperature) (N, C), up to a factor of each row: the largest is 1.

    >>> unnormalized_softmax(torch.tensor([[0.0, -1e9]]), temperature=1e-9).tolist()
    [[1.0, 0.0]]
    """
    logits = logits - logits.amax(-1, keepdim=True)
    return (logits if temperature == 1 else logits / temperature).exp()


def ban_tokens(logits: Tensor, banned: list[int]) -> Tensor:
    """Return logits (..., V) with -inf for the banned ids."""
    logits = logits.clone()
    for token in banned:  # a tensor of them would have to be moved to the device
        logits[..., token] = -torch.inf
    return logits


BLOCK = 128  # choices whose probabilities are summed before any is compared


def invert_cdf(p: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Sample by inverse transform: the first choice of each row whose cumulative probability exceeds u.

    A choice of probability 0 is never made. Blocks of choices are summed first and only the one that u falls into is
    cumulated, so that most of the work is one sum over p; all sums are in double precision.

    Args:
        p: (N, V), at least 0, more than 0 somewhere in each row, of any sum.
        u: (N,) float64, uniform in [0, 1).

    Returns:
        (N,) choices, and (N,) float64, the position of u within the interval of its choice: uniform in [0, 1) again,
        and independent of the choice.

    >>> invert_cdf(torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([0.5], dtype=torch.float64))
    (tensor([2]), tensor([0.3333], dtype=torch.float64))
    """
    rows, choices = torch.arange(len(p), device=p.device), p.shape[1]
    blocks = F.pad(p, (0, -choices % BLOCK)).unflatten(1, (-(-choices // BLOCK), BLOCK))
    block, u = _invert_small(blocks.sum(2, dtype=torch.float64), u)
    inside, u = _invert_small(blocks[rows, block].double(), u)
    return (block * BLOCK + inside).clamp(max=choices - 1), u  # also where p is not a number


def _invert_small(p: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Sample as `invert_cdf` does, from few choices: p (N, C) float64."""
    cumulative = p.cumsum(-1)
    target = cumulative[:, -1:] * u[:, None].clamp(max=1 - 1e-15)
    choice = torch.searchsorted(cumulative, target, right=True).clamp(max=p.shape[-1] - 1)
    own = p.gather(-1, choice)
    rest = (target - (cumulative.gather(-1, choice) - own)) / own
    return choice[:, 0], rest[:, 0].clamp(0, 1)

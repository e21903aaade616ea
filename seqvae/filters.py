"""What becomes of the probabilities of the next token before one is drawn: temperature, top-k, top-p, min-p."""

import torch
from torch import Tensor

from seqvae.drawing import relative

UNCHANGED = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}  # that leave the model's probabilities alone


def filter_logits(
    logits: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> Tensor:
    """Reshape each row's distribution: temperature, then top-k, then top-p, then min-p, then normalize again.

    Each filter keeps at least the likeliest token. Top-k keeps exactly k of tied tokens; top-p keeps the smallest set
    of likeliest tokens whose probability reaches `top_p`, min-p those with p >= min_p * max p.

    Args:
        logits: (R, V); minus infinity marks what cannot be said.
        temperature: divides the logits; 0 leaves only the likeliest token (the lowest id of tied ones).
        top_k: how many tokens stay; 0 keeps all.
        top_p: the probability that the kept tokens reach (Holtzman et al. 2020, arXiv:1904.09751); 1 keeps all.
        min_p: the share of the largest probability (Nguyen et al. 2024, arXiv:2407.01082); 0 keeps all.

    Returns:
        (R, V) float64 log-probabilities, minus infinity where filtered out.

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
        values = values.masked_fill(p.cumsum(-1) - p >= top_p, -torch.inf)  # what the likelier ones already reached
        values[..., 0] = 0.0
        logits = torch.empty_like(logits).scatter(-1, order, values)
    if min_p > 0:
        p = logits.softmax(-1)
        logits = logits.masked_fill(p < min_p * p.amax(-1, keepdim=True), -torch.inf)
    return logits.log_softmax(-1)


def weights(logits: Tensor, temperature: float, top_k: int, top_p: float, min_p: float) -> Tensor:
    """(R, V), what `filter_logits` leaves as probabilities but for a factor of each row; without top-p in no sort."""
    if top_p < 1:
        return filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p).exp()
    p = relative(logits, temperature)
    if 0 < top_k < p.shape[-1]:
        values, kept = p.topk(top_k, dim=-1)
        p = torch.zeros_like(p).scatter(-1, kept, values)
    return p.masked_fill(p < min_p, 0.0) if min_p > 0 else p

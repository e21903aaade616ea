"""How far one distribution lies from another, in nats."""

from typing import cast

from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence


def kl(q: Distribution, p: Distribution, z: Tensor | None = None) -> Tensor:
    """KL(q||p) = E_q[log q(z) - log p(z)], in closed form if torch has one, else from the draw `z`.

    Args:
        q: batch (B,), event (D,).
        p: batch () or (B,), event (D,).
        z: (B, D), a draw of q; needed only where there is no closed form.

    Returns:
        (B,) nats. The estimate from one draw is unbiased but may be negative.

    Source: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, https://arxiv.org/abs/1312.6114, appendix B.

    >>> import torch
    >>> from torch.distributions import Normal
    >>> q, p = (Independent(Normal(torch.full((1, 2), m), torch.ones(1, 2)), 1) for m in (1.0, 0.0))
    >>> kl(q, p)
    tensor([1.])
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        if z is None:
            raise
        return cast(Tensor, q.log_prob(z) - p.log_prob(z))


def kl_dimensions(q: Distribution, p: Distribution) -> Tensor:
    """KL(q||p) of each latent dimension by itself, for q and p that are independent over dimensions.

    Returns:
        (B, D) nats; the sum over D is `kl(q, p)`.

    Raises:
        NotImplementedError: if q or p does not factorize over dimensions.
    """
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise NotImplementedError(f"{type(q).__name__} or {type(p).__name__} does not factorize over dimensions")
    return kl_divergence(q.base_dist, p.base_dist)

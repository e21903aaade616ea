"""A normalizing flow as the prior."""

from torch.distributions import Distribution

from seqvae.flows import Family, FlowDistribution, build_flow
from seqvae.priors.base import Prior


class Flow(Prior):
    """p(z) = N(f(z); 0, I) |det df/dz|, f an autoregressive flow that is learnt with the model; it starts as N(0, I).

    The KL has no closed form and is estimated from the draws of z, without bias but with noise. p does not factorize
    over dimensions, so of the free bits only the floor `total` goes with it. To draw from it takes D passes of the
    flow's networks, and to score one. It needs zuko: `pip install 'seqvae[flows]'`.

    Args:
        family: `maf` (affine) or `nsf` (splines within +-5: for richer shapes, at several times the cost).
        transforms: how many maps, one after the other.
        hidden: units of each of the two layers of the network inside each.

    Source: Chen, Kingma, Salimans, Duan, Dhariwal, Schulman, Sutskever & Abbeel, Variational Lossy Autoencoder, 2017,
    https://arxiv.org/abs/1611.02731 (an autoregressive flow as the prior); the flows, Papamakarios, Pavlakou & Murray,
    Masked Autoregressive Flow for Density Estimation, 2017, https://arxiv.org/abs/1705.07057, and Durkan, Bekasov,
    Murray & Papamakarios, Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032.
    """

    def __init__(self, *, latent: int, family: Family = "maf", transforms: int = 3, hidden: int = 64) -> None:
        super().__init__()
        self.flow = build_flow(latent, family=family, transforms=transforms, hidden=hidden)

    def forward(self) -> Distribution:
        """Batch (), event (D,), on the module's device and in its precision."""
        return FlowDistribution(self.flow)

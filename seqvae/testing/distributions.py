"""The laws of priors and posteriors."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import normalize

from seqvae.model.distributions import kl
from seqvae.model.encoders import RecurrentEncoder
from seqvae.model.posteriors import DiagonalGaussian, Posterior
from seqvae.model.priors import Prior
from seqvae.testing.density import check_density
from seqvae.testing.laws import EMBEDDING, FEATURES, LATENT, VOCABULARY, Laws, check_state, fix_seed, make_part

FAR = 30.0  # from the origin, in units of N(0, 1): where a posterior can put z early in training


def check_prior(prior: Any, *, latent: int = LATENT) -> None:
    """Check the laws of a prior: () -> p(z), one density over the latent space.

    Its distribution has batch () and event (D,); samples have no gradient and the precision of the module; `log_prob`
    is finite wherever a posterior can put z, integrates to 1, and is the density of the samples; it is the same in
    training and in evaluation; and it carries gradients to z and to every parameter.

    Args:
        prior: a class, an instance, or a function of `latent` (and of `encoder`, `posterior`, `embedding`, `features`).
        latent: D, the largest that is checked; an instance has its own.

    Raises:
        AssertionError: with the law that is broken.
    """
    with fix_seed():
        for size in (latent,) if isinstance(prior, nn.Module) else (1, 2, latent):
            for moved in (False, True):
                sizes, shared = make_prior_sizes(size)
                made = make_part(prior, Prior, moved, **sizes)
                if made is not None:
                    laws = Laws(made, Prior)
                    check_prior_distribution(laws, made, None if isinstance(prior, nn.Module) else size)
                    check_density(laws, made(), made.spherical)
                    check_prior_gradients(laws, made, shared)
                    check_prior_divergence(laws, made)
                    check_state(laws, made, lambda part: part().log_prob(part().sample((1,)) * 0 + 0.5))


def check_posterior(posterior: Any, *, latent: int = LATENT, features: int = FEATURES) -> None:
    """Check the laws of a posterior: (B, H) -> q(z|x), one distribution for each sentence.

    Its distribution has batch (B,) and event (D,); `rsample` carries gradients to the sentence's vector and to every
    parameter; `log_prob` integrates to 1 and is the density of the samples; each row depends on its own vector alone in
    evaluation; `mode` and `mean` are points; no vector breaks it; and half precision around it changes nothing.

    Args:
        posterior: a class, an instance, or a function of `features` and `latent`.
        latent: D, the largest that is checked; an instance has its own.
        features: H; for an instance, what it was made for.

    Raises:
        AssertionError: with the law that is broken.
    """
    with fix_seed():
        for size in (latent,) if isinstance(posterior, nn.Module) else (1, 2, latent):
            for moved in (False, True):
                made = make_part(posterior, Posterior, moved, features=features, latent=size)
                if made is not None:
                    laws, h = Laws(made, Posterior), torch.randn(4, features).double()
                    check_posterior_distribution(laws, made, h, None if isinstance(posterior, nn.Module) else size)
                    for row in range(2):
                        check_density(laws, made(h[row : row + 1]), made.spherical, row=True)
                    check_rows(laws, made, h)
                    check_extremes(laws, made, h)
                    check_half_precision(laws, made, h)
                    check_state(laws, made, lambda part, h=h: part(h).mode)


def make_prior_sizes(latent: int) -> tuple[dict[str, Any], set[int]]:
    """Return what a prior may ask for, and the parameters of the model that it may share."""
    embed = nn.Embedding(VOCABULARY, EMBEDDING)
    encoder = RecurrentEncoder(embed=embed, embedding=EMBEDDING, hidden=4)
    posterior = DiagonalGaussian(features=encoder.features, latent=latent)
    shared = {id(parameter) for module in (encoder, posterior) for parameter in module.parameters()}
    sizes = {"encoder": encoder, "posterior": posterior, "features": encoder.features, "embedding": EMBEDDING}
    return sizes | {"latent": latent}, shared


def project(z: Tensor, part: Any) -> Tensor:
    """Return points of the space that z lies in."""
    return normalize(z, dim=-1) if part.spherical else z


def check_prior_distribution(laws: Laws, prior: Prior, latent: int | None) -> None:
    """Check shapes, precision, finite values, and one density whoever asks."""
    p = prior()
    laws.require(isinstance(p, Distribution), "forward() returns a torch Distribution", type(p).__name__)
    laws.require(
        p.batch_shape == () and len(p.event_shape) == 1 and latent in (None, *p.event_shape),
        "forward() has batch () and event (latent,): wrap it in torch.distributions.Independent(..., 1)",
        f"batch {tuple(p.batch_shape)}, event {tuple(p.event_shape)}",
    )
    z = p.sample((5,))
    laws.require(z.shape == (5, *p.event_shape) and not z.requires_grad, "sample((5,)) is (5, D), without gradient")
    laws.require(p.log_prob(z).shape == (5,), "log_prob of (5, D) is (5,)", str(tuple(p.log_prob(z).shape)))
    table = project(torch.randn(4, 5, *p.event_shape).double(), prior)
    alone = torch.stack([p.log_prob(point) for point in table.flatten(0, 1)]).view(4, 5)
    laws.same(p.log_prob(table), alone, "log_prob of a table (S, B, D) is that of each point")
    laws.finite(p.log_prob(project(FAR * table, prior)), "log_prob at points far from the origin")
    laws.same(deepcopy(prior).train()().log_prob(z), p.log_prob(z), "the density is the same in training")
    for dtype in (torch.float32, torch.float64):
        found = deepcopy(prior).to(dtype)().sample().dtype
        laws.require(found == dtype, f"samples have the precision of the module, {dtype}: use buffers", str(found))


def check_prior_gradients(laws: Laws, prior: Prior, shared: set[int]) -> None:
    """Gradients of the density, to z twice."""
    z = project(torch.randn(8, *prior().event_shape).double(), prior).requires_grad_()
    (slope,) = torch.autograd.grad(prior().log_prob(z).sum(), z, create_graph=True)
    laws.finite(slope, "the gradients of log_prob by z")
    if slope.requires_grad:
        (second,) = torch.autograd.grad(slope.square().sum(), z, allow_unused=True, retain_graph=True)
        laws.finite(slope if second is None else second, "the second derivatives of log_prob by z")
    log_prob = prior().log_prob(z).sum()
    if log_prob.requires_grad:
        log_prob.backward()
    laws.gradients(prior, "every parameter through log_prob", shared)


def check_prior_divergence(laws: Laws, prior: Prior) -> None:
    """Check that KL(q||p) is not negative, on average."""
    p = prior()
    mean = torch.randn(5, *p.event_shape).double()
    q: Distribution = Independent(Normal(mean, torch.full_like(mean, 0.5)), 1)
    if prior.spherical:
        return
    z = q.sample((4_000,))
    samples = q.log_prob(z) - p.log_prob(z)
    error = samples.std(0) / len(samples) ** 0.5
    laws.finite(kl(q, p, z[0]), "the KL of a Gaussian posterior from it")
    laws.require(bool((samples.mean(0) > -5 * error).all()), "KL(q||p) is never negative", f"{samples.mean(0).min():g}")


def check_posterior_distribution(laws: Laws, posterior: Posterior, h: Tensor, latent: int | None) -> None:
    """Check shapes, gradients, and the points that stand for a sentence."""
    h = h.clone().requires_grad_()
    q = posterior(h)
    laws.require(isinstance(q, Distribution), "forward(h) returns a torch Distribution", type(q).__name__)
    laws.require(
        q.batch_shape == (len(h),) and len(q.event_shape) == 1 and latent in (None, *q.event_shape),
        "forward(h) has batch (B,) and event (latent,): wrap it in torch.distributions.Independent(..., 1)",
        f"batch {tuple(q.batch_shape)}, event {tuple(q.event_shape)}",
    )
    laws.require(q.has_rsample, "z is reparameterized: the distribution has rsample")
    z = q.rsample()
    laws.require(z.shape == (len(h), *q.event_shape), "rsample() is (B, D)", str(tuple(z.shape)))
    laws.require(q.log_prob(z).shape == (len(h),), "log_prob of (B, D) is (B,)", str(tuple(q.log_prob(z).shape)))
    for name in ("mode", "mean"):
        point = getattr(q, name)
        laws.require(point.shape == z.shape, f"`{name}` is (B, D), a point for each sentence", str(tuple(point.shape)))
        laws.finite(point, f"the values of `{name}`")
    laws.require(z.requires_grad, "rsample carries gradients to h")
    z.square().sum().backward()
    reached = h.grad is not None and bool(h.grad.isfinite().all() and h.grad.any())
    laws.require(reached, "rsample carries gradients to h, finite ones")
    laws.gradients(posterior, "every parameter through rsample")


def check_rows(laws: Laws, posterior: Posterior, h: Tensor) -> None:
    """In evaluation, a row depends on its own vector."""
    q, changed = posterior(h), posterior(torch.cat([h[:1], 2 * h[1:]]))
    z = project(torch.full((len(h), *q.event_shape), 0.1).double(), posterior)
    laws.same(changed.log_prob(z)[:1], q.log_prob(z)[:1], "each row depends on its own vector alone, in evaluation")
    laws.require(not torch.equal(changed.log_prob(z)[1:], q.log_prob(z)[1:]), "q(z|x) depends on the sentence")


def check_extremes(laws: Laws, posterior: Posterior, h: Tensor) -> None:
    """No vector of an encoder gives an infinite or zero scale."""
    for scale in (0.0, 1e3, 1e6):
        x = (scale * h).requires_grad_()
        q = posterior(x)
        z = q.rsample()
        laws.finite(z, f"samples for vectors {scale:g} times as large (bound the scale)")
        laws.finite(q.log_prob(z), f"log_prob of samples for vectors {scale:g} times as large (bound the scale)")
        (slope,) = torch.autograd.grad(z.sum(), x)
        laws.finite(slope, f"gradients for vectors {scale:g} times as large (bound the scale)")


def check_half_precision(laws: Laws, posterior: Posterior, h: Tensor) -> None:
    """Check that q is computed in single precision, as its KL, a difference of squares, needs."""
    single, h = deepcopy(posterior).float(), h.float()

    def sample(h: Tensor) -> Tensor:
        torch.manual_seed(0)
        return single(h).sample()

    expected = sample(h)
    advice = "in forward, use `with torch.autocast(h.device.type, enabled=False)` and h.to(weight.dtype)"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sample(h)
        laws.require(
            found.dtype == torch.float32 and torch.equal(found, expected),
            f"autocast around it changes nothing: {advice}",
        )
        laws.require(sample(h.bfloat16()).dtype == torch.float32, f"of a vector in bfloat16, z is float32: {advice}")

"""The public laws: every implementation of the package keeps them, and each law catches a part that breaks it."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Laplace, Normal, StudentT

from seqvae import testing
from seqvae.data.batch import UNKNOWN
from seqvae.model.decoders import DECODERS, Decoder, RecurrentDecoder
from seqvae.model.encoders import ENCODERS, Encoder, RecurrentEncoder
from seqvae.model.noise import NOISES, Noise
from seqvae.model.posteriors import POSTERIORS, DiagonalGaussian, Posterior
from seqvae.model.priors import PRIORS, LearntGaussian, Mixture, Prior
from seqvae.objective import AUXILIARIES, DIVERGENCES
from seqvae.objective.term import Term
from seqvae.schedules import SCHEDULES, Linear, Schedule

SMALL = {
    "recurrent": {"hidden": 5},
    "transformer": {"width": 8, "heads": 2, "hidden": 10},
    "vamp": {"components": 3, "length": 2},
    "flow": {"hidden": 8, "transforms": 2},
}
CHECKS = [
    (testing.check_prior, PRIORS),
    (testing.check_posterior, POSTERIORS),
    (testing.check_encoder, ENCODERS),
    (testing.check_decoder, DECODERS),
    (testing.check_term, DIVERGENCES),
    (testing.check_term, AUXILIARIES),
    (testing.check_schedule, SCHEDULES),
    (testing.check_noise, NOISES),
]
CASES = [(check, name, cls) for check, catalogue in CHECKS for name, cls in catalogue.items()]


@pytest.mark.parametrize(("check", "name", "cls"), CASES, ids=lambda value: value if isinstance(value, str) else None)
def test_every_implementation_keeps_the_laws(check, name, cls):
    check(partial(cls, **SMALL.get(name, {})))


# -- heavy tails, instances and functions ------------------------------------------------------------------------------


class HeavyPrior(Prior):
    """A prior whose tails have no variance (2 degrees of freedom) or no mean (1)."""

    def __init__(self, *, latent, df=2.0):
        super().__init__()
        self.df = df
        self.loc, self.log_scale = (nn.Parameter(torch.zeros(latent)) for _ in range(2))

    def forward(self):
        return Independent(StudentT(self.df, self.loc, self.log_scale.exp()), 1)


class LaplacePosterior(Posterior):
    def __init__(self, *, features, latent):
        super().__init__()
        self.linear = nn.Linear(features, 2 * latent)

    def forward(self, h):
        with torch.autocast(h.device.type, enabled=False):
            loc, log_scale = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        return Independent(Laplace(loc, log_scale.clamp(-8, 8).exp()), 1)


@pytest.mark.parametrize("df", [1.0, 2.0, 4.0])
def test_the_laws_fit_heavy_tails(df):
    testing.check_prior(partial(HeavyPrior, df=df))
    testing.check_posterior(LaplacePosterior)


INSTANCES = [
    (testing.check_prior, lambda: Mixture(latent=20, components=2)),
    (testing.check_prior, lambda: HeavyPrior(latent=5)),
    (testing.check_posterior, lambda: DiagonalGaussian(features=8, latent=12)),
    (testing.check_encoder, lambda: RecurrentEncoder(embed=nn.Identity(), embedding=6, hidden=5)),
    (testing.check_decoder, lambda: RecurrentDecoder(latent=3, embedding=6, hidden=5)),
    (testing.check_term, lambda: DIVERGENCES["kl"]()),
    (testing.check_schedule, lambda: Linear(steps=9)),
    (testing.check_noise, lambda: NOISES["denoising"]()),
]


@pytest.mark.parametrize(("check", "make"), INSTANCES, ids=lambda value: getattr(value, "__name__", None))
def test_an_instance_is_checked_at_its_own_sizes_and_stays_as_it_was(check, make):
    part, state = make(), torch.get_rng_state()
    before = {k: v.clone() for k, v in part.state_dict().items()} if isinstance(part, nn.Module) else None
    check(part)
    if before is not None:
        assert all(torch.equal(value, before[name]) for name, value in part.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_no_part_of_the_kind_is_refused():
    with pytest.raises(AssertionError, match=r"not a seqvae\.model\.priors:Prior"):
        testing.check_prior(DiagonalGaussian)


# -- each law catches a part that breaks it ----------------------------------------------------------------------------


class Unnormalized(HeavyPrior):
    def forward(self):
        p = super().forward()
        inner, p.log_prob = p.log_prob, lambda z: inner(z) + 0.2
        return p


class OtherSamples(HeavyPrior):
    def forward(self):
        p = super().forward()
        inner, p.sample = p.sample, lambda shape=(): 1.5 * inner(shape)
        return p


class NotIndependent(HeavyPrior):
    def forward(self):
        return super().forward().base_dist


class FrozenScale(HeavyPrior):
    def forward(self):
        return Independent(StudentT(self.df, self.loc, self.log_scale.detach().exp()), 1)


class SingleSamples(HeavyPrior):
    def forward(self):
        return Independent(Normal(torch.zeros(len(self.loc)), 1.0), 1)


class WithTraining(LearntGaussian):
    def forward(self):
        return Independent(Normal(self.mean + self.training, self.log_variance.exp() ** 0.5), 1)


class Unsaved(HeavyPrior):
    def __init__(self, *, latent):
        super().__init__(latent=latent)
        self.register_buffer("shift", torch.zeros(latent), persistent=False)

    def load_state_dict(self, *args, **kwargs):
        self.shift += 1
        return super().load_state_dict(*args, **kwargs)

    def forward(self):
        return Independent(StudentT(self.df, self.loc + self.shift, self.log_scale.exp()), 1)


class Bounded(HeavyPrior):
    def forward(self):
        return Independent(torch.distributions.Uniform(self.loc - 40, self.loc + 40, validate_args=False), 1)


PRIORS_OF_NO_LAW = {
    Unnormalized: "integrates to 1",
    OtherSamples: "the one that samples have",
    NotIndependent: r"Independent\(\.\.\., 1\)",
    FrozenScale: "none in log_scale",
    SingleSamples: "precision of the module",
    WithTraining: "the same in training",
    Unsaved: "what is saved is what is loaded",
    Bounded: "far from the origin",
}


class Pooled(LaplacePosterior):
    """A batch norm that does not know evaluation."""

    def forward(self, h):
        return super().forward(h - h.mean(0))


class Unbounded(LaplacePosterior):
    def forward(self, h):
        with torch.autocast(h.device.type, enabled=False):
            loc, log_scale = self.linear(h.to(self.linear.weight.dtype)).chunk(2, dim=-1)
        return Independent(Laplace(loc, log_scale.exp(), validate_args=False), 1, validate_args=False)


class Detached(LaplacePosterior):
    def forward(self, h):
        return super().forward(h.detach())


class Half(LaplacePosterior):
    def forward(self, h):
        loc, log_scale = self.linear(h).chunk(2, dim=-1)
        return Independent(Laplace(loc, log_scale.clamp(-8, 8).exp()), 1)


POSTERIORS_OF_NO_LAW = {
    Pooled: "its own vector alone",
    Unbounded: "bound the scale",
    Detached: "carries gradients to h",
    Half: "autocast",
}


class MeanEncoder(Encoder):
    """A mean of embeddings, which keeps the laws."""

    def __init__(self, *, embed, embedding):
        super().__init__()
        self.embed, self.features = embed, embedding

    def encode_embeddings(self, embedded, lengths):
        within = torch.arange(embedded.shape[1]) < lengths[:, None]
        return torch.where(within[..., None], embedded, 0).sum(1) / lengths[:, None]


class ReadsPadding(MeanEncoder):
    def encode_embeddings(self, embedded, lengths):
        return embedded.mean(1)


class ReadsOthers(MeanEncoder):
    def encode_embeddings(self, embedded, lengths):
        h = super().encode_embeddings(embedded, lengths)
        return h - h.mean(0)


class WrongSize(MeanEncoder):
    def encode_embeddings(self, embedded, lengths):
        return super().encode_embeddings(embedded, lengths)[:, 1:]


ENCODERS_OF_NO_LAW = {
    ReadsPadding: "padding changes nothing",
    ReadsOthers: "its own sentence alone",
    WrongSize: r"returns \(B, features\)",
}


class Window(Decoder):
    """Features of the current input and z, which keeps the laws."""

    def __init__(self, *, embedding, latent):
        super().__init__()
        self.features = embedding + latent

    def forward(self, inputs, z, state=None):
        return torch.cat([inputs, z[:, None].expand(-1, inputs.shape[1], -1)], -1), (z,)


class LooksAhead(Window):
    def forward(self, inputs, z, state=None):
        return super().forward(inputs + inputs.mean(1, keepdim=True), z, state)


class Forgets(Window):
    def forward(self, inputs, z, state=None):
        return super().forward(inputs.cumsum(1), z, state)


class WithoutZ(Window):
    def forward(self, inputs, z, state=None):
        return super().forward(inputs, torch.zeros_like(z), state)


class StateOfSteps(Window):
    def forward(self, inputs, z, state=None):
        features, _ = super().forward(inputs, z, state)
        return features, (features.transpose(0, 1),)


DECODERS_OF_NO_LAW = {
    LooksAhead: "up to their step alone",
    Forgets: "step by step",
    WithoutZ: "z matters at every step",
    StateOfSteps: "B as their first axis",
}


class Summed(Term):
    def forward(self, trace):
        return trace.kl.sum()


class ByPlace(Term):
    def forward(self, trace):
        return trace.kl * torch.arange(len(trace.kl))


class CountsPadding(Term):
    def forward(self, trace):
        return trace.kl * trace.batch.targets.shape[1]


class NoGradient(Term):
    def forward(self, trace):
        return trace.kl.detach()


class ChangesTheTrace(Term):
    def forward(self, trace):
        trace.__dict__["kl"] = trace.kl.clamp_min(1e6)
        return trace.kl + trace.z.sum(1)


class MovesInEvaluation(Term):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, trace):
        self.count += 1
        return trace.kl


class OfPairs(Term):
    """The variance over the batch, which is not a number for one sentence."""

    def forward(self, trace):
        return (trace.z - trace.z.mean(0)).square().sum().div(len(trace.z) - 1).expand(len(trace.z))


TERMS_OF_NO_LAW = {
    Summed: r"\(B,\), one value for each sentence",
    ByPlace: "move with their sentences",
    CountsPadding: "padding changes nothing",
    NoGradient: "gradients reach",
    ChangesTheTrace: "leaves the trace",
    MovesInEvaluation: "an evaluation changes nothing",
    OfPairs: "a batch of one sentence",
}


class Early(Linear):
    @property
    def annealing_steps(self):
        return 0


class Counting(Schedule):
    def __init__(self):
        self.calls = 0

    annealing_steps = 0

    def __call__(self, step):
        self.calls += 1
        return 1 / self.calls


class Infinite(Schedule):
    annealing_steps = 0

    def __call__(self, step):
        return float("inf") if step > 9000 else 1.0


SCHEDULES_OF_NO_LAW = {Early: "full value", Counting: "pure function", Infinite: "finite"}


class Everywhere(Noise):
    def forward(self, batch):
        batch.inputs[:, 1:] = UNKNOWN
        return batch


class InEvaluation(Noise):
    def forward(self, batch):
        return type(batch)(batch.source, batch.inputs * 0, batch.targets, batch.lengths)


class OfTargets(Noise):
    def forward(self, batch):
        return type(batch)(batch.source, batch.inputs, batch.targets + self.training, batch.lengths)


NOISES_OF_NO_LAW = {
    Everywhere: "is not changed|is the identity",
    InEvaluation: "is the identity",
    OfTargets: "never touches targets",
}

BROKEN = [
    *((testing.check_prior, cls, law) for cls, law in PRIORS_OF_NO_LAW.items()),
    *((testing.check_posterior, cls, law) for cls, law in POSTERIORS_OF_NO_LAW.items()),
    *((testing.check_encoder, cls, law) for cls, law in ENCODERS_OF_NO_LAW.items()),
    *((testing.check_decoder, cls, law) for cls, law in DECODERS_OF_NO_LAW.items()),
    *((testing.check_term, cls, law) for cls, law in TERMS_OF_NO_LAW.items()),
    *((testing.check_schedule, cls, law) for cls, law in SCHEDULES_OF_NO_LAW.items()),
    *((testing.check_noise, cls, law) for cls, law in NOISES_OF_NO_LAW.items()),
]


@pytest.mark.parametrize(("check", "cls", "law"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_part_that_breaks_a_law_is_caught_by_name_of_the_law(check, cls, law):
    with pytest.raises(AssertionError, match=law) as caught:
        check(cls)
    assert str(caught.value).startswith(cls.__name__) and "see seqvae." in str(caught.value)


@pytest.mark.parametrize(
    ("check", "cls"),
    [(testing.check_encoder, MeanEncoder), (testing.check_decoder, Window)],
    ids=["encoder", "decoder"],
)
def test_what_they_are_variants_of_keeps_the_laws(check, cls):
    check(cls)


def test_a_second_derivative_is_required_where_it_is_asked_for():
    class Rough(Term):
        def forward(self, trace):
            return torch.cdist(trace.z, trace.z.detach() + 1).mean(1)

    testing.check_term(Rough)
    with pytest.raises(AssertionError, match="second derivative"):
        testing.check_term(Rough, twice=True)

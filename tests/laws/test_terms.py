"""Laws of terms: Trace -> (B,) nats."""

import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae.errors import ConfigError
from seqvae.model.vae import Trace
from seqvae.objective import AUXILIARIES, DIVERGENCES
from seqvae.objective.kl import KL
from seqvae.objective.objective import Objective
from seqvae.objective.term import Reconstruction, Zero
from seqvae.schedules import Constant
from seqvae.training.build import make

PER = ("total", "dimension", "batch")
VARIANTS = {
    "kl": [{}, *({"free_bits": 3.0, "free_bits_per": per} for per in PER)],
    "mmd": [{"kernel": "imq"}, {"kernel": "rbf", "scale": 2.0}],
    "info": [{"alpha": 1.0}, {"alpha": 0.0, "lam": 1.0}, {"alpha": -1.0, "lam": 5.0, "kernel": "rbf"}],
    "adversarial": [{}, {"hidden": 7, "scale": 1.0}],
    "total-correlation": [{}, {"alpha": 0.0}, {"alpha": 1.0, "beta": 1.0, "gamma": 1.0}],
    "bag-of-words": [{}, {"hidden": 5, "weight": 0.3}],
    "sliced-wasserstein": [{"directions": 1}, {"directions": 20, "scale": 1.0}],
}
PLACES = {"objective.divergence": DIVERGENCES, "objective.auxiliary": AUXILIARIES}
CASES = [
    (place, {"name": name, **options})
    for place, catalogue in PLACES.items()
    for name in catalogue
    for options in VARIANTS.get(name, [{}])
]
TERMS = [("", {"name": "reconstruction"}), *CASES]


def made(place, part, latent=3):
    """Build a term for the small model, in double precision like it."""
    torch.manual_seed(0)  # of its parameters, if any
    sizes = {"latent": latent, "vocabulary": 11, "embedding": 6, "sentences": 100}
    whole = make(place, part, **sizes) if place else Reconstruction()
    return whole.double().eval()  # while training some change their weight at each call


@pytest.fixture(params=TERMS, ids=str)
def term(request):
    return made(*request.param)


def traced(model, batch, z=None):
    q = model.encode(batch)
    z = q.mean + q.stddev * torch.linspace(-1, 1, q.mean.numel()).view_as(q.mean).double() if z is None else z
    return Trace(batch=batch, q=q, p=model.prior(), z=z, log_prob=model.log_prob(batch, z))


def value(term, trace):
    """Return the values of a term with fixed random numbers: it may sample the prior."""
    torch.manual_seed(0)
    return term(trace)


def of(mean, scale=1.0):
    """Return mean (B, D) and a trace of which only q matters, with prior N(0, I)."""
    mean = torch.tensor(mean, dtype=torch.float64, requires_grad=True)
    q, p = (Independent(Normal(m, scale * torch.ones_like(m)), 1) for m in (mean, torch.zeros_like(mean[0])))
    return mean, Trace(batch=None, q=q, p=p, z=mean, log_prob=None)


def test_one_finite_number_for_each_sentence(term, small_model, random_batch):
    values = term(traced(small_model(), random_batch()))
    assert values.shape == (5,) and values.isfinite().all()


def test_gradient_reaches_the_encoder(term, small_model, random_batch):
    if isinstance(term, Zero):
        pytest.skip("it is 0")
    model = small_model(spread=2.0)  # far above all free bits
    term(traced(model, random_batch())).sum().backward()
    for name, parameter in model.encoder.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name


def test_permuting_the_sentences_permutes_the_values(term, small_model, random_batch, rows):
    model, batch, order = small_model(), random_batch(), torch.tensor([3, 0, 4, 1, 2])
    trace = traced(model, batch)
    permuted = traced(model, rows(batch, order), trace.z[order])
    torch.testing.assert_close(value(term, permuted), value(term, trace)[order], rtol=0, atol=1e-10)


def test_padding_changes_nothing(term, small_model, random_batch, lengthen):
    model, batch = small_model(), random_batch()
    trace = traced(model, batch)
    longer = traced(model, lengthen(batch, 4, fill=7), trace.z)
    torch.testing.assert_close(value(term, longer), value(term, trace), rtol=0, atol=1e-10)


def test_a_batch_of_one_sentence_has_a_finite_value_and_gradient(term, small_model, random_batch):
    """The last batch of an epoch may be one."""
    model = small_model()
    trace = traced(model, random_batch(lengths=(4,)))
    values = term(trace)
    assert values.shape == (1,) and values.isfinite().all()
    (values.sum() + trace.reconstruction.sum()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.encoder.parameters())


def test_a_term_changes_nothing_that_is_reported(term, small_model, random_batch):
    trace, untouched = (traced(small_model(), random_batch()) for _ in range(2))
    term(trace)
    assert torch.equal(trace.kl, untouched.kl) and torch.equal(trace.reconstruction, untouched.reconstruction)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_objective_of_a_language_model_is_its_reconstruction(case, random_batch):
    """Its z has no dimension, and no term is asked."""
    empty = torch.zeros(5, 0, dtype=torch.float64)
    q, p = (Independent(Normal(m, torch.ones_like(m), validate_args=False), 1) for m in (empty, empty[0]))
    trace = Trace(batch=random_batch(), q=q, p=p, z=empty, log_prob=torch.full((5, 7), -0.5))
    place, term = case[0].removeprefix("objective."), made(*case, latent=0)
    parts = {"divergence": KL(), "auxiliary": None} | {place: term}
    loss, report = Objective(reconstruction=Reconstruction(), weight=Constant(end=1.0), **parts)(trace, 0)
    assert not trace.has_latent and float(loss) == report.loss == report.reconstruction == 3.5 and report.kl == 0


def test_reconstruction_sums_over_the_words_and_eos(small_model, random_batch):
    trace = traced(small_model(), random_batch())
    by_hand = [-sum(trace.log_prob[row, :n].tolist()) for row, n in enumerate(trace.batch.lengths.tolist())]
    assert Reconstruction()(trace).tolist() == pytest.approx(by_hand, abs=1e-12)


# One unit Gaussian with mean m against N(0, 1) costs m^2 / 2: (2, 0) -> 2 + 0, (4, 2) -> 8 + 2.
TWO = [[2.0, 0.0], [4.0, 2.0]]


@pytest.mark.parametrize(
    ("options", "golden"),
    [
        ({}, [2.0, 10.0]),
        ({"free_bits": 6.0, "free_bits_per": "total"}, [6.0, 10.0]),
        ({"free_bits": 6.0, "free_bits_per": "dimension"}, [3.0 + 3.0, 8.0 + 3.0]),
        ({"free_bits": 6.0, "free_bits_per": "batch"}, [5.0 + 3.0] * 2),  # means over the batch: 5 and 1
        ({"free_bits": 1.0, "free_bits_per": "batch"}, [5.0 + 1.0] * 2),
        ({"free_bits": 1.0, "free_bits_per": "dimension"}, [2.0 + 0.5, 10.0]),
    ],
    ids=str,
)
def test_free_bits_have_their_golden_values(options, golden):
    assert KL(**options)(of(TWO)[1]).tolist() == pytest.approx(golden, abs=1e-12)


@pytest.mark.parametrize("per", PER)
def test_below_the_free_bits_the_gradient_is_zero(per):
    mean, trace = of([[0.1, 0.2], [0.3, 0.1]])
    KL(free_bits=5.0, free_bits_per=per)(trace).sum().backward()
    assert not mean.grad.any()


@pytest.mark.parametrize("per", PER)
def test_far_above_the_free_bits_the_gradient_is_that_of_the_plain_kl(per):
    (free, first), (plain, second) = of(TWO[1:] * 2), of(TWO[1:] * 2)
    KL(free_bits=1.0, free_bits_per=per)(first).sum().backward()
    KL()(second).sum().backward()
    torch.testing.assert_close(free.grad, plain.grad)


def test_free_bits_never_change_the_kl_of_the_trace():
    _, trace = of(TWO)
    KL(free_bits=50.0)(trace)
    assert trace.kl.tolist() == pytest.approx([2.0, 10.0])


def test_negative_free_bits_are_refused():
    with pytest.raises(ConfigError, match="free_bits"):
        KL(free_bits=-1.0)

"""A model in several threads behaves as in one: no call uses another's random numbers."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import distributions, nn

from seqvae import TextVAE
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.model.priors import PRIORS
from seqvae.rng import Stream, shift_seed
from seqvae.training.checkpoint import Checkpoint

HALF, TWO = torch.tensor(0.5), torch.tensor([0.3, 0.7])
SAMPLED = {
    "Bernoulli": lambda: distributions.Bernoulli(HALF),
    "Beta": lambda: distributions.Beta(HALF, HALF),
    "Binomial": lambda: distributions.Binomial(5, HALF),
    "Categorical": lambda: distributions.Categorical(TWO),
    "Dirichlet": lambda: distributions.Dirichlet(TWO),
    "Exponential": lambda: distributions.Exponential(HALF),
    "Gamma": lambda: distributions.Gamma(HALF, HALF),
    "Geometric": lambda: distributions.Geometric(HALF),
    "Laplace": lambda: distributions.Laplace(HALF, HALF),
    "LowRank": lambda: distributions.LowRankMultivariateNormal(TWO, torch.ones(2, 1), TWO),
    "Mixture": lambda: distributions.MixtureSameFamily(distributions.Categorical(TWO), distributions.Normal(TWO, TWO)),
    "MultivariateNormal": lambda: distributions.MultivariateNormal(TWO, torch.eye(2)),
    "Normal": lambda: distributions.Normal(HALF, HALF),
    "Poisson": lambda: distributions.Poisson(HALF),
    "StudentT": lambda: distributions.StudentT(HALF),
    "Uniform": lambda: distributions.Uniform(HALF, 1.0),
    "VonMises": lambda: distributions.VonMises(HALF, HALF),
}
LABELS = {"no": 3, "yes": 1}


@pytest.fixture(params=PRIORS)
def model(request, small_model, small_config):
    """A model with labels and random weights, which samples from every kind of distribution."""
    tokenizer = Tokenizer.train(["a b c d e f g"])
    prior = {"name": request.param}
    config = small_config(prior=prior).to_dict()
    config["data"] |= {"label_column": "answer", "max_length": 6}
    inner = small_model(prior=prior, vocabulary=len(tokenizer), labels=2, spread=0.3)
    return TextVAE(Checkpoint(type(small_config()).from_dict(config), inner, tokenizer, {}, LABELS))


@pytest.fixture
def beside():
    """Map a function over its arguments in four threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(4) as pool:
        yield lambda function, arguments: list(pool.map(function, arguments))
    sys.setswitchinterval(before)


def test_a_seed_gives_the_same_sentences_beside_other_calls_and_no_seed_gives_others_each_time(model, beside):
    def sample(seed):
        # A sentence of few words may come twice; z, of real numbers, does not.
        return model.sample(2, seed=seed), tuple(model.sample_prior(1, seed=seed)[0].tolist())

    alone = [sample(seed) for seed in range(20)]
    mixed = beside(sample, [seed for pair in zip(range(20), [None] * 20, strict=True) for seed in pair])
    assert mixed[::2] == alone
    assert len({z for _, z in mixed[1::2]}) == 20


def test_sampling_with_a_seed_leaves_the_global_random_state_unchanged(model):
    before = torch.get_rng_state()
    model.sample(2, seed=0)
    model.sample_labels(2, seed=0)
    model.score(["a b"], labels="no", samples=2)
    if not model.model.prior.spherical:
        model.aggregate(["a b", "c d", "e"], labels="no", components=1, seed=0).sample(2, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_without_randomness_use_no_random_number(model):
    z, before = model.sample_prior(2, seed=0), torch.get_rng_state()
    model.decode(z, labels="no")
    model.decode(z, labels="no", beam=2)
    model.reconstruct(["a b"], labels="no")
    with Stream(None):
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_seed_the_sentences_follow_the_seed_of_torch(model):
    texts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        texts.append(model.sample_prior(3).tolist())
    assert texts[0] == texts[1] != texts[2]


def test_loading_a_model_uses_no_random_number(model, tmp_path):
    model.checkpoint.save(tmp_path)
    before = torch.get_rng_state()
    Checkpoint.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SAMPLED)
def test_every_distribution_samples_from_the_stream_with_the_numbers_of_its_seed(name):
    torch.manual_seed(7)
    expected = SAMPLED[name]().sample((20,))
    before = torch.get_rng_state()
    with Stream(7):
        found = SAMPLED[name]().sample((20,))
    assert torch.equal(found, expected)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(2, 3, 2),
        lambda: nn.Linear(2, 3),
        lambda: nn.Embedding(4, 3),
        lambda: nn.MultiheadAttention(4, 2),
        lambda: nn.init.trunc_normal_(torch.empty(9)),
        lambda: torch.rand_like(torch.ones(3)) + torch.randn_like(torch.ones(3)) + torch.randperm(3),
        lambda: torch.ones(3).uniform_().bernoulli_() + torch.randint(9, (3,)),
    ],
)
def test_layers_and_random_numbers_of_all_kinds_are_those_of_the_seed(make):
    torch.manual_seed(7)
    expected, before = numbers(make()), torch.get_rng_state()
    with Stream(7):
        assert torch.equal(numbers(make()), expected)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_continues_when_entered_again_and_gives_its_generator():
    with Stream(3):
        whole = torch.rand(6)
    stream = Stream(3)
    with stream:
        first = torch.rand(2)
    with Stream(4):
        torch.rand(1)
    with stream:
        second = torch.rand(2)
    assert torch.equal(torch.cat([first, second, torch.rand(2, generator=stream.generator())]), whole)


def test_a_stream_acts_on_the_thread_that_entered_it(beside):
    with Stream(0):
        inside = beside(lambda _: torch.overrides._get_current_function_mode_stack(), range(4))
    assert not any(isinstance(mode, Stream) for stack in inside for mode in stack)


def test_shifted_seeds_differ_and_none_stays_none():
    assert shift_seed(None) is None
    seeds = [shift_seed(seed, number) for seed in (0, 1, 2**63 - 1) for number in (1, 2)]
    assert len(set(seeds)) == 6 and all(0 <= seed < 2**63 for seed in seeds)


def numbers(made):
    """The sampled numbers, in one row."""
    return nn.utils.parameters_to_vector(made.parameters()) if isinstance(made, nn.Module) else made

"""Terms with parameters, in parts, or added to the bound: values by hand, and that their parameters are trained."""

import io
import math
from itertools import islice

import pytest
import torch
from accelerate import Accelerator
from torch.distributions import Independent, MultivariateNormal, Normal

from seqvae.config import Config, resolve, to_toml
from seqvae.data.batch import Batch
from seqvae.data.batching import Batches
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.model.vae import Trace
from seqvae.objective.adversarial import Adversarial
from seqvae.objective.auxiliary import BagOfWords, MutualInformation
from seqvae.objective.kl import MinimumRate
from seqvae.objective.total_correlation import TotalCorrelation, decompose_kl
from seqvae.pretrained import build_config
from seqvae.text_vae import TextVAE
from seqvae.training.build import build_model, build_objective, build_update, resolve_all
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.trainer import Trainer


def trace_of(mean, scale=1.0, z=None, batch=None):
    mean = torch.as_tensor(mean, dtype=torch.float64)
    q, p = (Independent(Normal(m, torch.full_like(m, s)), 1) for m, s in ((mean, scale), (0 * mean[0], 1.0)))
    z = mean if z is None else torch.as_tensor(z, dtype=torch.float64)
    return Trace(batch=batch, q=q, p=p, z=z, log_prob=None)


def density(x, mean, scale=1.0):
    return math.exp(-(((x - mean) / scale) ** 2) / 2) / (scale * math.sqrt(2 * math.pi))


# -- the adversarial divergence ----------------------------------------------------------------------------------------


def adversary(latent=1, **options):
    """Return a term whose discriminator has weights of 1 only: D(z) is the logistic function of z, for z > 0."""
    term = Adversarial(latent=latent, hidden=1, **options).double()
    for name, parameter in term.named_parameters():
        torch.nn.init.constant_(parameter, 1.0 if name.endswith("weight") else 0.0)
    return term


def test_the_generator_loss_is_that_of_the_logistic_function():
    values = adversary(scale=2.0)(trace_of([[0.5], [3.0]]))
    by_hand = [-2 * math.log(1 / (1 + math.exp(-z))) for z in (0.5, 3.0)]  # D(z) = sigmoid(z)
    assert values.tolist() == pytest.approx(by_hand)


def test_the_discriminator_loss_is_the_cross_entropy_of_both_sides():
    z, prior = torch.tensor([[0.5]]).double(), torch.tensor([[3.0]]).double()
    fake, real = (1 / (1 + math.exp(-x)) for x in (0.5, 3.0))
    assert adversary().discriminator_loss(z, prior).item() == pytest.approx(-math.log(1 - fake) - math.log(real))


def test_neither_loss_reaches_the_parameters_of_the_other():
    torch.manual_seed(0)  # all 3 hidden units may be inactive
    term = Adversarial(latent=2, hidden=3).double()
    z = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    term.generator_loss(z).sum().backward()
    assert z.grad.any() and all(parameter.grad is None for parameter in term.parameters())
    z.grad = None
    term.discriminator_loss(z, torch.randn(4, 2).double()).sum().backward()
    assert z.grad is None and all(parameter.grad is not None for parameter in term.parameters())


def test_one_pass_gives_the_gradients_of_both_losses():
    term, mean = Adversarial(latent=2, hidden=3, scale=1.0).double(), torch.randn(4, 2, dtype=torch.float64)
    z = mean.clone().requires_grad_()
    torch.manual_seed(1)
    term(trace_of(mean, z=z)).sum().backward()
    joint = [z.grad.clone(), *(parameter.grad.clone() for parameter in term.parameters())]
    term.zero_grad()
    torch.manual_seed(1)
    prior = trace_of(mean).p.rsample((4,))
    separate = torch.autograd.grad(term.generator_loss(z).sum(), z)
    separate += torch.autograd.grad(term.discriminator_loss(z, prior).sum(), list(term.parameters()))
    for one, other in zip(joint, separate, strict=True):
        torch.testing.assert_close(one, other)


def test_the_discriminator_learns_and_z_is_pulled_to_the_prior():
    """A Gaussian at 4 moves to 0, where the discriminator can no longer tell it from N(0, 1)."""
    torch.manual_seed(0)
    term, shift = Adversarial(latent=1, hidden=16, scale=1.0), torch.full((1,), 4.0, requires_grad=True)
    optimizer = torch.optim.Adam([*term.parameters(), shift], lr=0.01, betas=(0.9, 0.99))  # those of the trainer
    for _ in range(1000):
        optimizer.zero_grad()
        mean = shift.expand(64, 1)
        q, p = (Independent(Normal(m, torch.ones_like(m)), 1) for m in (mean, torch.zeros(1)))
        term(Trace(batch=None, q=q, p=p, z=q.rsample(), log_prob=None)).mean().backward()
        optimizer.step()
    assert abs(shift.item()) < 1.0


# -- the KL in three parts --------------------------------------------------------------------------------------------


def test_with_weights_of_one_the_parts_sum_to_the_estimate_of_the_kl():
    torch.manual_seed(0)
    trace = trace_of(torch.randn(6, 3), 0.4, z=torch.randn(6, 3))
    whole = TotalCorrelation(sentences=1000, alpha=1.0, beta=1.0, gamma=1.0)(trace)
    torch.testing.assert_close(whole, trace.q.log_prob(trace.z) - trace.p.log_prob(trace.z), rtol=0, atol=1e-10)


def test_the_parts_of_two_sentences_by_hand():
    z, means, n = [[0.5, 1.0], [2.0, -1.0]], [[0.0, 1.0], [2.0, 0.0]], 10
    found = decompose_kl((t := trace_of(means, 1.0, z=z)).q, t.p, t.z, n)
    for i in range(2):
        each = [[density(z[i][d], means[j][d]) for d in range(2)] for j in range(2)]
        joint = math.log(sum(a * b for a, b in each) / (n * 2))
        marginals = sum(math.log(sum(row[d] for row in each) / (n * 2)) for d in range(2))
        own, prior = math.log(math.prod(each[i])), sum(math.log(density(x, 0)) for x in z[i])
        assert [part[i].item() for part in found] == pytest.approx([own - joint, joint - marginals, marginals - prior])


def test_the_number_of_sentences_moves_values_and_no_gradients():
    def gradient(sentences):
        mean = torch.tensor([[0.5, 1.0], [2.0, -1.0]], dtype=torch.float64, requires_grad=True)
        values = TotalCorrelation(sentences=sentences, beta=4.0)(trace_of(mean, 0.5, z=mean + 0.1))
        return values.detach(), torch.autograd.grad(values.sum(), mean)[0]

    (few, one), (many, other) = gradient(10), gradient(1000)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(many - few, torch.full((2,), 3 * (2 - 1) * math.log(100)).double())  # (beta - 1)(D - 1)


def test_a_posterior_with_correlations_is_refused():
    q = MultivariateNormal(torch.zeros(4, 2), torch.eye(2))
    p = MultivariateNormal(torch.zeros(2), torch.eye(2))
    with pytest.raises(ConfigError, match=r"factorizes.*model\.posterior"):
        TotalCorrelation(sentences=9)(Trace(batch=None, q=q, p=p, z=torch.zeros(4, 2), log_prob=None))


# -- auxiliary terms --------------------------------------------------------------------------------------------------


def test_a_bag_counts_every_target_and_no_padding():
    term = BagOfWords(latent=1, vocabulary=6, weight=0.5).double()
    scores = torch.tensor([0.0, 0.0, 1.0, 0.0, 2.0, 3.0]).double()
    term.words.weight.data, term.words.bias.data = scores[:, None], torch.zeros(6).double()
    batch = Batch.of([[4, 4, 5, 2], [5, 2]])
    z = [[1.0], [2.0]]
    by_hand = []
    for (at,), targets in zip(z, [[4, 4, 5, 2], [5, 2]], strict=True):
        total = math.log(sum(math.exp(at * s) for s in scores.tolist()))
        by_hand.append(0.5 * sum(total - at * scores[word].item() for word in targets))
    assert term(trace_of(z, batch=batch)).tolist() == pytest.approx(by_hand)


def test_a_bag_ignores_the_order_of_the_words():
    term = BagOfWords(latent=2, vocabulary=9, hidden=3).double()
    one, other = (term(trace_of([[1.0, 2.0]], batch=Batch.of([ids]))) for ids in ([4, 8, 5, 2], [8, 5, 4, 2]))
    assert one.item() == pytest.approx(other.item())


def test_the_information_of_two_sentences_by_hand():
    z, means = (0.3, 1.5), (0.0, 2.0)
    values = MutualInformation(weight=2.0)(trace_of([[m] for m in means], 1.0, z=[[x] for x in z]))
    for i in range(2):
        each = [density(z[i], mean) for mean in means]
        assert values[i].item() == pytest.approx(-2 * math.log(each[i] / (sum(each) / 2)))


@pytest.mark.parametrize(("distance", "expected"), [(0.0, 0.0), (1000.0, math.log(4))])
def test_the_information_is_between_0_and_the_log_of_the_batch(distance, expected):
    values = MutualInformation()(trace_of([[distance * n] for n in range(4)]))
    assert (-values).tolist() == pytest.approx([expected] * 4)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (BagOfWords, {"latent": 1, "vocabulary": 5, "weight": 0.0}),
        (BagOfWords, {"latent": 1, "vocabulary": 5, "hidden": -1}),
        (MutualInformation, {"weight": math.inf}),
        (Adversarial, {"latent": 1, "scale": 0.0}),
        (Adversarial, {"latent": 1, "hidden": 0}),
        (TotalCorrelation, {"sentences": 5, "beta": -1.0}),
        (MinimumRate, {"damping": -1.0}),
    ],
)
def test_values_out_of_range_are_refused(make, options):
    with pytest.raises(ConfigError, match="expected"):
        make(**options)


# -- the KL held at a target ------------------------------------------------------------------------------------------


def test_a_damped_multiplier_reacts_to_the_batch_at_once():
    term = MinimumRate(rate=8.0, step=0.08, damping=0.5)
    assert term(trace_of([[math.sqrt(8)]])).item() == pytest.approx(4 + (0.08 / 2 + 0.5 / 2) * (8 - 4))
    assert term(trace_of([[math.sqrt(64)]])).item() == pytest.approx(32)  # four times the rate: no multiplier is left


DIVERGENCE_OF = {"controller": "controlled", "minimum-rate": "minimum-rate"}


@pytest.mark.parametrize(("by", "divergence"), DIVERGENCE_OF.items())
def test_each_target_by_stands_for_a_divergence_with_that_target(by, divergence):
    config = resolve_all(build_config({"target_kl": 7.0, "target_by": by}))
    assert config.objective.divergence["name"] == divergence and 7.0 in config.objective.divergence.values()
    assert config.objective.weight["name"] == "constant"
    assert Config.from_dict(config.to_dict()) == config and f'target_by = "{by}"' in to_toml(config)


def test_other_options_of_the_divergence_are_kept_beside_its_target():
    given = {"name": "minimum-rate", "damping": 0.3, "rate": 3.0}
    config = resolve(build_config({"target_kl": 7.0, "target_by": "minimum-rate", "divergence": given}))
    assert config.objective.divergence == {"name": "minimum-rate", "damping": 0.3, "rate": 7.0}


def test_an_unknown_target_by_is_refused():
    with pytest.raises(ConfigError, match="did you mean 'minimum-rate'"):
        build_config({"target_kl": 7.0, "target_by": "minimum-rat"})


def test_a_target_by_without_a_target_is_refused():
    with pytest.raises(ConfigError, match="target_kl"):
        build_config({"target_by": "minimum-rate"})


# -- parameters of terms are trained ----------------------------------------------------------------------------------

OBJECTIVES = {
    "adversarial": {"divergence": {"name": "adversarial", "hidden": 5}},
    "bag-of-words": {"auxiliary": {"name": "bag-of-words", "hidden": 5}},
}


@pytest.fixture(params=OBJECTIVES.values(), ids=OBJECTIVES)
def trainer(request, tiny_corpus, training_config):
    def make(**training):
        weight = {"weight": {"name": "constant"}}
        config = training_config({}, request.param | weight, **training)
        torch.manual_seed(0)
        network = build_model(config, size := len(tiny_corpus.tokenizer))
        objective = build_objective(config, vocabulary=size, sentences=len(tiny_corpus.train))
        batches = Batches(tiny_corpus.train, batch_size=8, seed=0)
        accelerator, rule = Accelerator(mixed_precision="no"), build_update(config)
        return Trainer(network, objective, batches, config.training, accelerator, rule)

    return make


def parameters(trainer):
    whole = {**trainer.model.state_dict(), **trainer.objective.state_dict()}
    return {name: tensor.clone() for name, tensor in whole.items()}


def test_every_parameter_of_a_term_moves(trainer):
    it = trainer(weight_decay=0.0)
    before = {name: parameter.clone() for name, parameter in it.objective.named_parameters()}
    list(islice(it.steps(), 4))
    assert before and not any(torch.equal(p, before[name]) for name, p in it.objective.named_parameters())


def test_matrices_of_a_term_decay_and_its_biases_do_not(trainer):
    it = trainer(weight_decay=0.25)
    decay = {id(p): group["weight_decay"] for group in it.optimizer.param_groups for p in group["params"]}
    assert all(decay[id(p)] == (0.25 if p.dim() > 1 else 0.0) for p in it.objective.parameters())


def test_gradients_of_terms_are_clipped_with_those_of_the_model(trainer):
    it = trainer(clip=1e-3)
    next(it.steps())
    moments = [state["exp_avg"] for state in it.state()["optimizer"]["state"].values()]
    assert len(moments) == sum(1 for module in (it.model, it.objective) for _ in module.parameters())
    norm = math.sqrt(sum(float(m.double().pow(2).sum()) for m in moments)) / (1 - 0.9)
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_a_training_with_such_a_term_goes_on_bit_for_bit(trainer):
    whole = trainer()
    list(islice(whole.steps(), 7))
    first = trainer()
    list(islice(first.steps(), 3))
    torch.save(first.state(), file := io.BytesIO())
    file.seek(0)
    second = trainer()
    second.load_state(torch.load(file, weights_only=True))
    list(islice(second.steps(), 4))
    one, other = parameters(whole), parameters(second)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "objective",
    [
        {"divergence": {"name": "adversarial"}, "auxiliary": {"name": "bag-of-words"}},  # both have parameters
    ],
    ids=str,
)
def test_a_model_trained_with_such_terms_scores_samples_saves_and_loads(objective, tmp_path):
    sizes = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}}
    sentences = [f"{who} {does} {what} ." for who in "abcd" for does in "efgh" for what in "ijk"]
    options = {**sizes, **objective, "batch_size": 8, "max_epochs": 1, "precision": "fp32"}
    model = TextVAE.fit(sentences, **options)
    held_out = load(sentences, tokenizer=model.tokenizer).valid
    scores = model.evaluate(held_out, samples=5, refined=0)
    assert math.isfinite(scores.elbo) and len(model.sample(2, seed=0)) == 2
    model.checkpoint.save(tmp_path / "model")
    again = TextVAE(Checkpoint.load(tmp_path / "model"))
    assert again.sample(2, seed=0) == model.sample(2, seed=0)
    assert again.evaluate(held_out, samples=5, refined=0).elbo == scores.elbo

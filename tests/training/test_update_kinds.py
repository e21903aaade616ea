"""Each update rule: what it changes, what it minimizes, and when its stages end."""

import math
from dataclasses import replace
from itertools import islice

import pytest
import torch
from accelerate import Accelerator

from seqvae.data.batching import Batches
from seqvae.errors import ConfigError, SeqVAEError
from seqvae.evaluation.latent_space import LatentUsage
from seqvae.model.vae import Trace
from seqvae.training.build import build_model, build_objective, build_update
from seqvae.training.loop import Run, Validation, fit
from seqvae.training.trainer import Step, Trainer
from seqvae.training.updates.importance import find_weight, importance_loss
from seqvae.training.updates.lagging import find_encoder_parameters
from seqvae.training.updates.pretrain import find_decoder_tensors

APART = {"share_embedding": False}
RAMP = {"name": "linear", "end": 1.0, "steps": 4}


@pytest.fixture
def trainer(tiny_corpus, training_config):
    def make(update, model=None, weight=None, divergence=None, auxiliary="none", **training):
        objective = {"update": update, "weight": weight or {"name": "constant", "end": 0.5}}
        objective |= {"divergence": divergence or {"name": "kl"}, "auxiliary": {"name": auxiliary}}
        config = training_config(model or {}, objective, **training)
        torch.manual_seed(config.training.seed)
        network = build_model(config, len(tiny_corpus.tokenizer))
        batches = Batches(tiny_corpus.train, batch_size=config.training.batch_size, seed=config.training.seed)
        accelerator, rule = Accelerator(mixed_precision="no"), build_update(config)
        objective = build_objective(config, vocabulary=len(tiny_corpus.tokenizer), sentences=32)
        return Trainer(network, objective, batches, config.training, accelerator, rule)

    return make


def take(trainer, n):
    return list(islice(trainer.steps(), n))


def weights(trainer):
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def moved(trainer, before):
    return {name for name, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[name])}


def sides(trainer):
    encoder = {id(p) for p in find_encoder_parameters(trainer.model)}
    names = {name: id(p) for name, p in trainer.model.named_parameters()}
    return {n for n, p in names.items() if p in encoder}, {n for n, p in names.items() if p not in encoder}


def vitals(information):
    return LatentUsage(1000, 9.0, information, 9.0, 3, 1.0)


# -- lagging ----------------------------------------------------------------------------------------------------------


def watched(it):
    """The names of the parameters that each step of the optimizer changes."""
    seen, step = [], it.optimizer.step

    def watch():
        before = weights(it)
        step()
        seen.append(moved(it, before))

    it.optimizer.step = watch
    return seen


@pytest.mark.parametrize("shared", [False, True])
def test_an_aggressive_step_trains_the_encoder_on_other_batches_and_then_all_else_on_its_own(shared, trainer):
    model = {"share_embedding": shared, "prior": {"name": "gaussian"}}
    it = trainer({"name": "lagging", "window": 100, "steps": 3}, model)
    encoder, others = sides(it)
    assert ("encoder.embed.weight" in encoder) is not shared  # a shared one is of the decoder, under one of its names
    seen = watched(it)
    take(it, 2)
    assert seen == [encoder, encoder, encoder, others] * 2
    assert int(it.rule.inner_steps) == 6 and it.index == 2


def test_parameters_that_are_not_trained_keep_their_optimizer_state(trainer):
    it = trainer({"name": "lagging", "window": 100, "steps": 3})
    take(it, 2)
    mine = set(find_encoder_parameters(it.model))
    steps = {(parameter in mine, int(state["step"])) for parameter, state in it.optimizer.state.items()}
    assert steps == {(True, 6), (False, 2)}


# Windows of two steps, their losses per token, and the number of steps: the window that is not better is the last.
@pytest.mark.parametrize(
    ("losses", "steps"),
    [([3.0, 3.0], 4), ([3.0, 4.0], 4), ([3.0, 2.0, 2.5, 1.0], 6), ([5.0, 4.0, 3.0, 2.0, 1.0, 0.5], 9)],
)
def test_the_encoder_stops_when_its_loss_over_a_window_stops_falling(losses, steps, trainer, monkeypatch):
    it = trainer({"name": "lagging", "window": 2, "steps": 9})
    rows = iter([loss for loss in losses for _ in range(2)])
    whole = it.objective.forward

    def scripted(trace, step):
        loss, report = whole(trace, step)
        return loss, replace(report, loss=next(rows, 0.0) * report.tokens / report.sentences)

    monkeypatch.setattr(it.objective, "forward", scripted)
    seen = watched(it)
    take(it, 1)
    assert len(seen) == steps + 1 and int(it.rule.inner_steps) == steps


@pytest.mark.parametrize("then", [0.5, 0.2, None], ids=["no higher", "lower", "unknown"])
def test_the_stage_ends_for_good_when_the_mutual_information_stops_rising(then, trainer):
    it = trainer({"name": "lagging", "window": 100, "steps": 2})
    for value in (0.1, 0.5):
        it.rule.observe(vitals(value))
        assert not it.rule.stationary
    it.rule.observe(None if then is None else vitals(then))
    assert it.rule.stationary
    it.rule.observe(vitals(5.0))
    assert it.rule.stationary
    seen = watched(it)
    take(it, 2)
    assert seen == [set(weights(it))] * 2 and int(it.rule.inner_steps) == 0


def test_with_patience_it_ends_after_n_validations_in_a_row_below_the_highest(trainer):
    it, ended = trainer({"name": "lagging", "patience": 2}), []
    for value in (0.4, 0.3, 0.5, 0.4, 0.45, 0.6):
        it.rule.observe(vitals(value))
        ended.append(it.rule.stationary)
    assert ended == [False, False, False, False, True, True]


def test_after_the_stage_steps_are_joint_bit_for_bit(trainer):
    it, joint = trainer({"name": "lagging"}), trainer({"name": "joint"})
    it.rule.observe(None)
    made = []
    for one in (it, joint):
        torch.manual_seed(5)
        made.append([step.report for step in take(one, 3)])
    assert made[0] == made[1]


def test_the_other_batches_depend_on_seed_and_number_alone(tiny_corpus):
    batches = Batches(tiny_corpus.train, batch_size=8)
    whole = list(islice(batches.extra(), 9))
    for start in (1, 3, 4, 7):
        again = list(islice(Batches(tiny_corpus.train, batch_size=8).extra(start), 9 - start))
        assert [b.targets.tolist() for b in again] == [b.targets.tolist() for b in whole[start:]]
    assert sum(len(batch) for batch in whole[:4]) == 32  # an epoch of them, too, is each sentence once
    assert [b.targets.tolist() for b in whole[:4]] != [b.targets.tolist() for b in batches.epoch(0)]


def test_a_training_validates_its_way_out_of_the_stage_and_keeps_a_model_from_after_it(tiny_corpus, training_config):
    update = {"name": "lagging", "window": 2, "steps": 4}
    objective = {"update": update, "weight": {"name": "constant", "end": 0.5}}
    config = training_config({}, objective, validate_every=2, max_epochs=8)
    run, stages = Run(config, tiny_corpus, accelerator=Accelerator(mixed_precision="no")), []
    for event in fit(run):
        if isinstance(event, Validation):
            stages.append((event.kept, run.trainer.rule.stationary))
    ended = [stationary for _, stationary in stages].index(True)
    assert 0 < ended < len(stages) - 1
    assert all(kept for kept, _ in stages[: ended + 2])  # the latest so far, then the first stationary one
    assert run.best.tier and run.best.step > 2 * (ended + 1)


# -- autoencoder pre-training -----------------------------------------------------------------------------------------


def test_the_schedule_begins_when_the_autoencoder_is_done(trainer):
    it = trainer({"name": "pretrain", "steps": 3}, weight=RAMP)
    assert [step.report.weight for step in take(it, 8)] == [0, 0, 0, 0, 0.25, 0.5, 0.75, 1]


def test_a_schedule_that_is_a_fraction_begins_then_too_and_is_a_fraction_of_what_is_left(tiny_corpus, training_config):
    objective = {
        "update": {"name": "pretrain", "steps": 8},
        "weight": {"name": "linear", "end": 1.0, "fraction": 0.5},
    }
    config = training_config({}, objective, max_epochs=6)  # 24 steps
    run = Run(config, tiny_corpus, accelerator=Accelerator(mixed_precision="no"))
    learnt = {}
    for event in fit(run):
        if isinstance(event, Step):
            learnt[event.step] = event.report.weight
            assert bool(run.trainer.rule.initial) is (event.step <= 8)
    assert [round(learnt[step], 2) for step in (8, 9, 11, 13, 17, 24)] == [0, 0, 0.25, 0.5, 1, 1]


def test_a_longer_limit_moves_where_the_schedule_began_and_ends(tiny_corpus, training_config, tmp_path):
    rise = {"name": "linear", "end": 1.0, "fraction": 0.5}
    objective = {"update": {"name": "pretrain", "steps": 8}, "weight": rise}

    def learn(epochs, resume):  # 4 steps an epoch
        config = training_config({}, objective, max_epochs=epochs, learning_rate=1e-4)
        accelerator = Accelerator(mixed_precision="no")
        run = Run(config, tiny_corpus, tmp_path, resume=resume, accelerator=accelerator)
        return {event.step: round(event.report.weight, 2) for event in fit(run) if isinstance(event, Step)}

    assert learn(2, resume=False)[8] == 0  # the pretraining alone
    later = learn(6, resume=True)
    assert [later[step] for step in (9, 11, 13, 17, 24)] == [0, 0.25, 0.5, 1, 1]


@pytest.mark.parametrize(("shared", "tied"), [(False, False), (False, True), (True, False), (True, True)])
def test_the_decoder_is_then_reset_and_the_encoder_is_not(shared, tied, trainer):
    it = trainer({"name": "pretrain", "steps": 3}, {"share_embedding": shared, "observation": {"tied": tied}})
    first = weights(it)
    take(it, 3)
    learnt = weights(it)
    begun = []
    whole = it.trace
    it.trace = lambda batch: begun.append(weights(it)) or whole(batch)
    take(it, 1)
    (begun,) = begun
    fresh = {name for name in first if torch.equal(begun[name], first[name])}
    kept = {name for name in first if torch.equal(begun[name], learnt[name])}
    own = {name for name in first if name.startswith(("decoder", "observation"))}
    if shared:  # the encoder's own name for the table comes first
        own -= {"observation.embedding.weight", *(["observation.output.weight"] if tied else [])}
    assert fresh == own and kept == set(first) - own
    steps = {name: int(it.optimizer.state[p]["step"]) for name, p in it.model.named_parameters()}
    assert {steps[name] for name in own} == {1} and {steps[name] for name in set(first) - own} == {4}
    assert not it.rule.initial and not it.rule.state_dict()["_extra_state"]


def test_an_embedding_that_is_not_shared_is_of_the_decoder(trainer):
    it = trainer({"name": "pretrain", "steps": 3}, APART)
    assert "observation.embedding.weight" in find_decoder_tensors(it.model)
    assert "observation.embedding.weight" not in find_decoder_tensors(trainer({"name": "joint"}).model)


def test_the_best_model_is_one_from_after_the_rise_that_follows_the_autoencoder(tiny_corpus, training_config):
    objective = {"update": {"name": "pretrain", "steps": 6}, "weight": RAMP}
    config = training_config({}, objective, validate_every=2, max_epochs=4)
    run = Run(config, tiny_corpus, accelerator=Accelerator(mixed_precision="no"))
    kept = [event.kept for event in fit(run) if isinstance(event, Validation)]
    assert kept[:5] == [True] * 5 and run.best.tier and run.best.step >= 10


# -- importance-weighted bounds ---------------------------------------------------------------------------------------


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_the_bound_is_the_formula_sentence_by_sentence(small_model, random_batch):
    model, batch = small_model(), random_batch()
    trace = model(batch, samples=4)
    value, _ = importance_loss(trace, 4, 0.7, "plain")
    total = 0.0
    for i in range(len(batch)):
        ratios = []
        for k in range(4 * i, 4 * i + 4):
            q = torch.distributions.Normal(trace.q.mean[k], trace.q.stddev[k]).log_prob(trace.z[k]).sum()
            p = torch.distributions.Normal(0.0, 1.0).log_prob(trace.z[k]).sum()
            log_likelihood = model.log_prob(batch.select(torch.tensor([i])), trace.z[k : k + 1]).sum()
            ratios.append((log_likelihood + 0.7 * (p - q)).item())
        total -= math.log(sum(math.exp(r) for r in ratios) / 4)
    assert value.item() == pytest.approx(total / len(batch), abs=1e-10)


def test_a_trace_of_several_samples_has_the_rows_of_a_sentence_together_and_reads_it_once(small_model, random_batch):
    model, batch, read = small_model(), random_batch(), []
    model.encoder.register_forward_hook(lambda module, inputs, _: read.append(len(inputs[0])))
    trace = model(batch, samples=3)
    assert read == [5] and trace.z.shape == (15, 3) and len(trace.batch) == 15
    assert torch.equal(trace.q.mean, model.encode(batch).mean.repeat_interleave(3, 0))
    assert len({tuple(row) for row in trace.z.tolist()}) == 15


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_with_one_sample_the_plain_gradient_is_that_of_the_bound_of_one_sample(weight, small_model, random_batch):
    model, batch = small_model(), random_batch()
    torch.manual_seed(0)
    found = gradients(model, importance_loss(model(batch), 1, weight, "plain")[1])
    torch.manual_seed(0)
    trace = model(batch)
    divergence = trace.q.log_prob(trace.z) - trace.p.log_prob(trace.z)
    wanted = gradients(model, (trace.reconstruction + weight * divergence).mean())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-12)


def chunks(model, batch, loss_of, count=64, repetitions=40):
    """(count, P): gradients of the encoder's side, each the mean over `repetitions` of the batch."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        model.zero_grad()
        loss_of(batch.repeat(repetitions)).backward()
        found.append(torch.cat([p.grad.flatten() for p in find_encoder_parameters(model)]))
    return torch.stack(found)


def agree(one, other):
    """Whether paired rows have the same mean, each of P numbers within 6.5 standard errors.

    By Student's t with 63 degrees of freedom a number is farther once in 7e7 seeds, and there are about 100; the seeds
    are fixed.
    """
    difference = one - other
    error = difference.std(0) / len(difference) ** 0.5
    return bool((difference.mean(0).abs() <= 6.5 * error + 1e-12).all())


SMALLEST = {"latent": 2, "encoder": {"hidden": 2, "bidirectional": False}, "embedding": 3, "share_embedding": False}


@pytest.fixture
def smallest(small_model):
    return small_model(decoder={"hidden": 3}, **SMALLEST)


@pytest.mark.parametrize("weight", [1.0, 0.4, 0.0])
def test_the_doubly_reparameterized_gradient_has_the_expectation_of_the_plain_one(weight, smallest, random_batch):
    batch = random_batch((3, 4))
    plain, dreg = (
        chunks(smallest, batch, lambda b, how=how: importance_loss(smallest(b, samples=3), 3, weight, how)[1])
        for how in ("plain", "dreg")
    )
    assert agree(plain, dreg)
    if weight == 1.0:  # and not that of wrongly weighted samples: the test can fail

        def unsquared(b):
            trace = smallest(b, samples=3)
            fixed = Trace(trace.batch, torch.distributions.Normal(0, 1), trace.p, trace.z, trace.log_prob)
            logs = (trace.log_prob.sum(1) + trace.p.log_prob(trace.z)).view(-1, 3)
            z, q = fixed.z.detach(), trace.q.log_prob(fixed.z.detach()).view(-1, 3)
            normalized = (logs - q).detach().softmax(1)
            slope = (trace.q.mean.detach() - z) / trace.q.stddev.detach() ** 2
            return -(normalized * (logs - (slope * fixed.z).sum(1).view(-1, 3))).sum(1).mean()

        assert not agree(plain, chunks(smallest, batch, unsquared))


def test_with_one_sample_the_gradient_is_that_of_the_elbo_in_expectation(smallest, random_batch):
    batch = random_batch((3, 4))

    def elbo(b):
        trace = smallest(b)
        return (trace.reconstruction + trace.kl).mean()

    exact = chunks(smallest, batch, elbo)
    for how in ("plain", "dreg"):
        assert agree(chunks(smallest, batch, lambda b, how=how: importance_loss(smallest(b), 1, 1.0, how)[1]), exact)


@pytest.mark.parametrize("weight", [1.0, 0.4])
def test_what_p_learns_is_the_same_under_both_gradients(weight, small_model, random_batch):
    model, batch = small_model(share_embedding=False, prior={"name": "gaussian"}), random_batch()
    found = []
    for how in ("plain", "dreg"):
        torch.manual_seed(0)
        found.append(gradients(model, importance_loss(model(batch, samples=4), 4, weight, how)[1]))
    for name, gradient in found[0].items():
        same = torch.allclose(gradient, found[1][name], rtol=0, atol=1e-12)
        assert same is name.startswith(("decoder", "observation", "prior")), name


@pytest.mark.parametrize("divergence", [{"name": "kl", "free_bits": 3.0}, {"name": "mmd"}], ids=str)
def test_a_divergence_that_is_no_mean_of_log_ratios_is_refused(divergence, trainer):
    with pytest.raises(ConfigError, match=r"importance .*--objective\.divergence\.name kl"):
        take(trainer({"name": "importance"}, divergence=divergence), 1)


def test_a_controller_changes_the_weight_of_the_log_ratios(trainer):
    it = trainer({"name": "importance", "samples": 3}, divergence={"name": "controlled", "target": 50.0, "start": 0.5})
    term = it.objective.divergence
    take(it, 4)
    assert 0.5 * math.exp(-4 * term.gain) <= float(term.log_weight.exp()) < 0.5  # the KL is far below its target
    trace = it.trace(next(it.batches.epoch(0)), samples=3)
    assert find_weight(term, trace) == float(term.log_weight.exp())


def test_an_auxiliary_term_beside_it_is_refused(trainer):
    with pytest.raises(ConfigError, match=r"importance .*--objective\.auxiliary\.name none"):
        take(trainer({"name": "importance"}, auxiliary="bag-of-words"), 1)


# -- semi-amortized ---------------------------------------------------------------------------------------------------


def refined(trainer, batch, seed=0):
    from seqvae.training.updates.semi_amortized import Refinement

    torch.manual_seed(seed)
    refinement = Refinement(trainer.rule, trainer, batch)
    return refinement, trainer.trace(batch, refine=refinement)


def test_refining_lowers_the_loss(trainer):
    it = trainer({"name": "semi-amortized", "steps": 20}, {"encoder": {"dropout": 0.0}, "decoder": {"dropout": 0.0}})
    with torch.no_grad():
        for parameter in it.model.parameters():
            parameter.normal_(std=0.5)
    batch = next(it.batches.epoch(0)).repeat(50)
    _, trace = refined(it, batch)
    before, after = (it.objective(t, 0)[0].item() for t in (it.trace(batch), trace))
    assert after < before - 1  # nats; the standard error of each is below 0.2


def test_through_the_refinement_the_encoder_has_the_exact_gradient(trainer):
    """By central differences, with the same samples; the fp32 weights are converted to double precision."""
    plain = {"dropout": 0.0}
    it = trainer({"name": "semi-amortized", "steps": 2, "through": True}, {"encoder": plain, "decoder": plain})
    take(it, 4)
    it.model.double()
    batch = next(it.batches.epoch(0))
    bias = it.model.posterior.linear.bias

    def loss():
        refinement, trace = refined(it, batch)
        return it.objective(trace, 0)[0] + refinement.encoder_loss

    (found,) = torch.autograd.grad(loss(), bias)
    with torch.no_grad():
        for i in range(len(bias)):
            sides = []
            for shift in (1e-5, -2e-5):
                bias[i] += shift
                with torch.enable_grad():
                    sides.append(loss().item())
            bias[i] += 1e-5
            assert float(found[i]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-7)


def test_not_through_it_the_encoder_has_the_gradient_at_its_own_posterior(trainer):
    plain = {"dropout": 0.0}
    it = trainer({"name": "semi-amortized", "steps": 3}, {"encoder": plain, "decoder": plain, **APART})
    batch = next(it.batches.epoch(0))
    refinement, trace = refined(it, batch)
    (it.objective(trace, 0)[0] + refinement.encoder_loss).backward()
    assert refinement.encoder_loss.item() == 0
    found = [p.grad.clone() for p in find_encoder_parameters(it.model)]
    torch.manual_seed(0)  # the first sample of the refinement is that of a plain trace
    it.model.zero_grad()
    it.objective(it.trace(batch), 0)[0].backward()
    for gradient, parameter in zip(found, find_encoder_parameters(it.model), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_refinement_changes_no_controller_and_leaves_no_gradient(trainer):
    it = trainer({"name": "semi-amortized", "steps": 3}, divergence={"name": "controlled"})
    before = it.objective.divergence.log_weight.clone()
    refined(it, next(it.batches.epoch(0)))
    assert torch.equal(it.objective.divergence.log_weight, before) and it.objective.training
    assert all(p.grad is None for p in it.model.parameters())


def test_a_posterior_with_correlations_is_refused(trainer):
    with pytest.raises(ConfigError, match=r"semi-amortized needs .*--model\.posterior\.name gaussian"):
        take(trainer({"name": "semi-amortized"}, {"posterior": {"name": "low-rank"}}), 1)


@pytest.mark.parametrize(
    "update",
    [
        {"name": "lagging", "window": 0},
        {"name": "lagging", "steps": 0},
        {"name": "lagging", "patience": 0},
        {"name": "pretrain", "steps": 0},
        {"name": "importance", "samples": 0},
        {"name": "importance", "gradient": "best"},
        {"name": "semi-amortized", "steps": 0},
        {"name": "semi-amortized", "rate": 1.5},
        {"name": "semi-amortised"},
    ],
    ids=str,
)
def test_invalid_options_are_refused(update, trainer):
    with pytest.raises(SeqVAEError):
        trainer(update)


# -- beside terms with parameters of their own ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["joint", "lagging", "pretrain", "semi-amortized"])
def test_the_parameters_of_terms_are_trained_too_on_the_side_of_the_decoder(name, trainer):
    it = trainer({"name": name}, divergence={"name": "adversarial"}, auxiliary="bag-of-words")
    before = {key: p.detach().clone() for key, p in it.objective.named_parameters()}
    if name == "lagging":
        it.rule.steps = 3
    seen = dict.fromkeys(before, 0)
    step = it.optimizer.step

    def watch():
        earlier = {key: p.detach().clone() for key, p in it.objective.named_parameters()}
        step()
        for key, p in it.objective.named_parameters():
            seen[key] += not torch.equal(p, earlier[key])

    it.optimizer.step = watch
    made = take(it, 2)
    assert all(math.isfinite(s.gradient_norm) for s in made)
    constant = {key for key in before if name == "pretrain" and key.startswith("divergence")}  # of weight 0 until later
    assert {key: 2 * (key not in constant) for key in before} == seen

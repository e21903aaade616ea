"""The trainer: its steps, and exact continuation from its state."""

import copy
import io
import math
from itertools import islice

import pytest
import torch
from accelerate import Accelerator

from seqvae.data.batch import UNKNOWN
from seqvae.data.batching import Batches
from seqvae.errors import TrainingError
from seqvae.training.build import build_model, build_objective, build_update
from seqvae.training.trainer import Trainer, group_parameters, learning_rate

DROPOUT = {"encoder": {"dropout": 0.3}, "decoder": {"dropout": 0.3}, "noise": {"rate": 0.3}}


@pytest.fixture
def trainer(tiny_corpus, training_config):
    """Makes trainers of the 32 training sentences: 4 steps an epoch.

    Each seeds the global generator, so use one before making the next.
    """

    def make(model=None, objective=None, **training):
        config = training_config(model or DROPOUT, objective, **training)
        torch.manual_seed(config.training.seed)
        network = build_model(config, len(tiny_corpus.tokenizer))
        batches = Batches(tiny_corpus.train, batch_size=config.training.batch_size, seed=config.training.seed)
        accelerator, rule = Accelerator(mixed_precision="no"), build_update(config)
        return Trainer(network, build_objective(config), batches, config.training, accelerator, rule)

    return make


def take(steps, n):
    return list(islice(steps, n))


def reports(steps):
    return [(s.step, s.epoch, s.learning_rate, s.gradient_norm, s.report) for s in steps]


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("saved", [1, 4, 5, 8], ids=lambda n: f"after {n} of 4 an epoch")
def test_ten_steps_are_some_steps_saved_and_loaded_and_the_rest_bit_for_bit(saved, trainer):
    whole = trainer()
    steps = take(whole.steps(), 10)
    first = trainer()
    before = take(first.steps(), saved)
    state = through_a_file(first.state())
    second = trainer(seed=0)
    torch.manual_seed(99)  # as in another process, with another random state
    second.load_state(state)
    after = take(second.steps(), 10 - saved)
    assert reports(before + after) == reports(steps)
    assert same(weights(second), weights(whole))
    assert torch.equal(torch.get_rng_state(), second.state()["generator"])


@pytest.mark.parametrize("epochs", [2, 6])
def test_a_weight_by_fraction_is_the_same_at_the_same_progress_of_a_short_and_a_long_training(epochs, trainer):
    weight = {"name": "linear", "end": 0.4, "fraction": 0.5}
    steps = list(trainer(objective={"weight": weight}, max_epochs=epochs).steps())
    found = {step.progress: step.report.weight for step in steps}
    before = [0.0, *found]  # the progress that a step was made at is that after the one before it
    expected = [0.4 * min(1.0, progress / 0.5) for progress in before[:-1]]
    assert list(found.values()) == pytest.approx(expected, abs=1e-3)
    assert len(steps) == 4 * epochs and expected[0] == 0 and expected[-1] == 0.4


def test_the_optimizer_too_is_resumed_bit_for_bit(trainer):
    whole = trainer()
    take(whole.steps(), 7)
    first = trainer()
    take(first.steps(), 3)
    state = through_a_file(first.state())
    second = trainer()
    second.load_state(state)
    take(second.steps(), 4)
    one, other = (t.state()["optimizer"]["state"] for t in (whole, second))
    assert one.keys() == other.keys() and len(one)
    assert all(same(one[key], other[key]) for key in one)


def test_the_same_seed_gives_the_same_training_and_another_one_another(trainer):
    one, again, other = (reports(take(trainer(seed=seed).steps(), 3)) for seed in (0, 0, 1))
    assert one == again != other


def test_the_learning_rate_has_its_golden_shape(trainer):
    # 12 steps: up over 3, flat, down to 0 over the last half.
    steps = list(trainer(learning_rate=1.0, warmup=3, decay=0.5, max_epochs=3, clip=1e-9).steps())
    rates = [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [step.learning_rate for step in steps] == pytest.approx(rates, abs=1e-12)


def test_without_warmup_and_decay_the_learning_rate_is_flat(trainer):
    steps = trainer(learning_rate=0.5, warmup=0, decay=0.0, max_epochs=1, clip=1e-9).steps()
    assert [step.learning_rate for step in steps] == [0.5] * 4


def test_every_sentence_is_seen_once_an_epoch(trainer):
    steps = list(trainer(batch_size=7, max_epochs=2).steps())
    for epoch in (0, 1):
        assert sum(step.report.sentences for step in steps if step.epoch == epoch) == 32
    assert [step.step for step in steps] == list(range(1, 11))


def test_the_weight_of_the_schedule_is_that_of_the_step(trainer):
    ramp = {"weight": {"name": "linear", "end": 1.0, "steps": 4}}
    steps = take(trainer(objective=ramp).steps(), 6)
    assert [step.report.weight for step in steps] == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_every_parameter_moves(cell, trainer):
    it = trainer({"encoder": {"cell": cell, "layers": 2}, "decoder": {"cell": cell, "layers": 2}}, weight_decay=0.0)
    before = weights(it)
    take(it.steps(), 4)
    for name, parameter in it.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_the_loss_falls(trainer):
    losses = [step.report.reconstruction for step in trainer({}, max_epochs=8, learning_rate=0.05).steps()]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_gradients_are_clipped_to_the_norm(trainer):
    # AdamW takes the same step for any gradient of one direction, so the size shows in its first moment alone.
    it = trainer(clip=1e-3)
    (step,) = take(it.steps(), 1)
    moments = [s["exp_avg"] for s in it.state()["optimizer"]["state"].values()]
    norm = math.sqrt(sum(float(m.double().pow(2).sum()) for m in moments)) / (1 - 0.9)
    assert step.gradient_norm > 0.1 and norm == pytest.approx(1e-3, rel=1e-3)


def test_the_optimizer_stays_adamw(trainer):
    it = trainer(decay=1.0, max_epochs=2)

    def kind():
        return type(getattr(it.optimizer, "optimizer", it.optimizer))

    assert kind() is torch.optim.AdamW
    list(it.steps())
    it.load_state(through_a_file(it.state()))
    assert kind() is torch.optim.AdamW


def test_plain_gradient_descent_subtracts_the_gradient_times_the_rate(trainer):
    it = trainer(optimizer="sgd", learning_rate=0.5, warmup=0, decay=0.0, weight_decay=0.0, clip=1e9)
    before = {name: p.detach().clone() for name, p in it.model.named_parameters()}
    take(it.steps(), 1)
    for name, parameter in it.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - 0.5 * parameter.grad)


def test_each_halving_halves_the_learning_rate(training_config):
    training = training_config(learning_rate=0.8, warmup=0, decay=0.0).training
    assert [learning_rate(training, 9, 0.5, halvings) for halvings in (0, 1, 3)] == [0.8, 0.4, 0.1]


def test_matrices_decay_and_biases_do_not(trainer):
    model = trainer().model
    groups = group_parameters(model, 0.25)
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert len(decay) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert all(decay[id(p)] == (0.25 if p.dim() > 1 else 0.0) for p in model.parameters())


def test_minutes_end_the_training_and_the_learning_rate_with_it(trainer, monkeypatch):
    clock = iter(range(0, 10**6, 6))  # each reading of the clock is 6 seconds after the last
    monkeypatch.setattr("seqvae.training.trainer.time.perf_counter", lambda: float(next(clock)))
    steps = list(trainer(max_minutes=1.0, max_epochs=1000, decay=0.5, warmup=0, learning_rate=1e-3).steps())
    assert [step.progress for step in steps] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert steps[-1].learning_rate == pytest.approx(2e-4)


def test_a_limit_that_is_not_reached_changes_nothing(trainer):
    free = reports(trainer(max_epochs=2).steps())
    assert reports(trainer(max_epochs=2, max_minutes=60.0).steps()) == free


def test_the_model_is_trained_with_dropout_and_noise_on(trainer):
    it = trainer()
    modes = []
    it.model.encoder.register_forward_hook(lambda module, *_: modes.append(module.training))
    it.model.eval()  # as a validation may leave it
    take(it.steps(), 2)
    assert modes == [True, True]


def test_scheduled_word_dropout_is_that_of_the_step_also_after_a_resume(trainer):
    model = DROPOUT | {"noise": {"rate": 0.0, "start": 1.0, "steps": 4}}

    def record_dropout(it):
        fractions = []

        def listen(noise, inputs, output):
            words = inputs[0].inputs >= 4
            fractions.append(float((output.inputs[words] == UNKNOWN).double().mean()))

        it.model.noise.register_forward_hook(listen)
        return fractions

    it = trainer(model)
    fractions, whole = record_dropout(it), reports(take(it.steps(), 7))
    # About 40 words a batch: 5 standard errors are less than 0.4, a false alarm once in 1.7 million seeds each.
    assert fractions[0] == 1 and not any(fractions[4:])
    assert all(abs(found - rate) < 0.4 for found, rate in zip(fractions, (1, 0.75, 0.5, 0.25), strict=False))
    it = trainer(model)
    first = reports(take(it.steps(), 2))
    state = through_a_file(it.state())
    it = trainer(model)
    it.load_state(state)
    assert first + reports(take(it.steps(), 5)) == whole


# -- a loss that is no longer finite ----------------------------------------------------------------------------------


def poison(trainer, how):
    """After 3 good steps something goes wrong in the forward or backward pass."""
    calls = iter(range(10**6))

    def spoil(module, inputs, output):
        if next(calls) < 3:
            return None
        if how == "KL":
            return output * math.inf
        features, state = output
        if how == "gradient":
            features.register_hook(lambda gradient: gradient * math.inf)
            return None
        return features * math.nan, state

    (trainer.model.encoder if how == "KL" else trainer.model.decoder).register_forward_hook(spoil)


@pytest.mark.parametrize("how", ["KL", "reconstruction", "gradient"])
def test_a_loss_that_is_not_finite_stops_with_its_cause_and_the_last_good_weights(how, trainer):
    good = trainer()
    take(good.steps(), 3)
    bad = trainer()
    poison(bad, how)
    with pytest.raises(TrainingError, match=how) as caught:
        list(bad.steps())
    assert same(weights(bad), weights(good))
    assert all(torch.isfinite(t).all() for t in weights(bad).values())
    assert "step 4" in str(caught.value) and "\n" not in str(caught.value)


def test_after_a_loss_that_was_not_finite_the_optimizer_is_that_of_the_last_good_step(trainer):
    it = trainer()
    poison(it, "gradient")
    states = []
    with pytest.raises(TrainingError):
        for _ in it.steps():
            states.append(copy.deepcopy(it.state()["optimizer"]["state"]))
    left = it.state()["optimizer"]["state"]
    assert len(states) == 3 and all(same(left[key], states[-1][key]) for key in left)

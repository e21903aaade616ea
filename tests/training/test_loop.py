"""The training loop: which model is kept, what is logged, and exact continuation of a killed run."""

import json
import math
import os
import signal
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from seqvae.errors import SeqVAEError, TrainingError
from seqvae.evaluation.likelihood import Bound
from seqvae.model.encoders import ENCODERS
from seqvae.model.priors import Mixture
from seqvae.pretrained import build_config
from seqvae.training import checkpoint, loop
from seqvae.training.build import resolve_all
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.loop import Best, Run, Validation, fit
from seqvae.training.trainer import Step

NOISY = {"encoder": {"dropout": 0.2}, "decoder": {"dropout": 0.2}, "noise": {"rate": 0.2}}
PLAIN = {"name": "constant", "end": 1.0}
SPOILT = 8
SHORT = {"max_epochs": 5, "learning_rate": 1e-3, "validate_every": 4}  # validations at 4, 8, 12, 16, 20


@pytest.fixture
def run(tiny_corpus, training_config):
    def make(folder=None, resume=False, model=None, weight=None, **training):
        config = training_config(model or NOISY, {"weight": weight or PLAIN}, **training)
        return Run(config, tiny_corpus, folder, resume=resume, accelerator=Accelerator(mixed_precision="no"))

    return make


def finish(run, spoil=False, killed=None):
    """All that a training yields; with `spoil`, of one whose weights are randomized after step 8 and never recover.

    `killed` is the step in which it ends as by kill -9: nothing more is written.
    """
    events = []
    for event in fit(run):
        if isinstance(event, Step) and event.step == killed:
            break
        events.append(event)
        if spoil and isinstance(event, Validation) and event.step == SPOILT:
            with torch.no_grad():
                for parameter in run.model.parameters():
                    parameter.normal_(std=3.0)
    return events


def validations(events):
    return [event for event in events if isinstance(event, Validation)]


def lines(folder, kind=None):
    """The lines of metrics.jsonl without times."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        assert (line.pop("seconds", 1) > 0) and (line.pop("tokens_per_second", 1) > 0)
    return [line for line in found if kind in (None, line["kind"])]


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def bound(run, model):
    """The bound of some weights on the validation sentences, as the run measures it."""
    from seqvae.data.batching import iterate_by_length
    from seqvae.evaluation.likelihood import validate

    return -validate(model, iterate_by_length(run.corpus.valid), seed=run.config.training.seed).nll


def reconstruction(run):
    """Of the model as it is now, on the validation sentences."""
    from seqvae.data.batching import iterate_by_length
    from seqvae.evaluation.likelihood import validate

    found = validate(run.model, iterate_by_length(run.corpus.valid), seed=run.config.training.seed)
    return found.reconstruction / found.sentences


# -- killed and resumed ------------------------------------------------------------------------------------------------

# 14 epochs of 4 steps, a validation each 3 steps, a train line at step 50.
LONG = {"max_epochs": 14, "validate_every": 3}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, tiny_corpus, training_config):
    folder = tmp_path_factory.mktemp("uninterrupted")
    config = training_config(NOISY, {"weight": {"name": "linear", "end": 0.5, "steps": 20}}, **LONG)
    run = Run(config, tiny_corpus, folder, accelerator=Accelerator(mixed_precision="no"))
    events = finish(run)
    return run, events, folder


@pytest.mark.parametrize("killed", [4, 55])
def test_a_killed_and_resumed_run_equals_the_uninterrupted_one(killed, uninterrupted, run, tmp_path):
    whole, _, folder = uninterrupted
    options = {**LONG, "weight": {"name": "linear", "end": 0.5, "steps": 20}}
    finish(run(tmp_path, **options), killed=killed + 1)
    torch.manual_seed(12345)
    again = run(tmp_path, resume=True, **options)
    finish(again)
    assert same(weights(again.model), weights(whole.model))
    assert same(load_file(tmp_path / "model.safetensors"), load_file(folder / "model.safetensors"))
    assert vars(again.best) == vars(whole.best)
    assert lines(tmp_path) == lines(folder)


def test_a_resumed_run_keeps_the_best_model_from_before_it_was_killed(run, tmp_path):
    finish(run(tmp_path, **SHORT), spoil=True, killed=14)
    again = run(tmp_path, resume=True, **SHORT)
    seen = validations(finish(again))
    assert [validation.step for validation in seen][:2] == [16, 20] and not any(v.kept for v in seen)
    assert again.best.step == SPOILT
    assert bound(again, again.model) == pytest.approx(again.best.value, abs=1e-4)


def test_patience_goes_on_counting_in_a_resumed_run(run, tmp_path):
    finish(run(tmp_path, patience=2, **SHORT), spoil=True, killed=14)
    again = run(tmp_path, resume=True, patience=2, **SHORT)
    finish(again)
    assert again.trainer.step == 16


def test_a_run_that_was_out_of_patience_when_it_was_killed_makes_no_step_more(run, tmp_path):
    finish(run(tmp_path, patience=1, **SHORT), spoil=True)
    before = lines(tmp_path)
    assert not [e for e in finish(run(tmp_path, resume=True, patience=1, **SHORT)) if isinstance(e, Step)]
    assert lines(tmp_path) == before


def test_an_incomplete_line_of_a_killed_run_is_dropped(uninterrupted, run, tmp_path):
    _, _, folder = uninterrupted
    options = {**LONG, "weight": {"name": "linear", "end": 0.5, "steps": 20}}
    finish(run(tmp_path, **options), killed=8)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "valid", "st')
    finish(run(tmp_path, resume=True, **options))
    assert lines(tmp_path) == lines(folder)


def test_a_finished_run_that_is_resumed_stays_as_it_is(run, tmp_path):
    first = run(tmp_path, **SHORT)
    finish(first, spoil=True)
    before, kept = lines(tmp_path), weights(first.model)
    again = run(tmp_path, resume=True, **SHORT)
    assert not [event for event in finish(again) if isinstance(event, Step)]
    assert lines(tmp_path) == before and same(weights(again.model), kept)


def test_a_run_resumed_with_a_longer_limit_keeps_the_weight_it_had_reached_and_a_better_model(run, tmp_path):
    rise = {"weight": {"name": "linear", "end": 0.5, "fraction": 0.5}, "validate_every": 4}
    finish(run(tmp_path, max_epochs=5, **rise))
    again = run(tmp_path, resume=True, max_epochs=20, **rise)
    steps = [event for event in finish(again) if isinstance(event, Step)]
    assert {step.report.weight for step in steps} == {0.5} and steps[0].step == 21
    assert again.best.step > 20


def test_an_interrupt_in_the_last_step_does_not_cost_the_last_validation(run, tmp_path):
    options = {**SHORT, "validate_every": 6}
    for event in fit(run(tmp_path / "cut", **options)):
        if isinstance(event, Step) and event.step == 20:
            os.kill(os.getpid(), signal.SIGTERM)
    assert [line["step"] for line in lines(tmp_path / "cut", "valid")] == [6, 12, 18]
    again, whole = run(tmp_path / "cut", resume=True, **options), run(tmp_path / "whole", **options)
    (last,) = finish(again)
    *_, expected = finish(whole)
    assert replace(last, seconds=0, tokens_per_second=0) == replace(expected, seconds=0, tokens_per_second=0)
    assert last.step == 20 and vars(again.best) == vars(whole.best) and same(weights(again.model), weights(whole.model))


def test_resuming_where_nothing_was_saved_is_one_line(run, tmp_path):
    with pytest.raises(SeqVAEError, match="nothing to resume") as caught:
        run(tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_resuming_without_a_folder_is_one_line(run):
    with pytest.raises(SeqVAEError, match="folder"):
        run(None, resume=True)


@pytest.mark.parametrize("state", [{}, {"model": 3}, [1, 2], {"best": {"elbow": 1}}], ids=str)
def test_a_state_of_something_else_is_refused_in_one_line(state, run, tmp_path):
    (tmp_path / "resume").mkdir()
    torch.save(state, tmp_path / "resume" / "state.pt")
    with pytest.raises(SeqVAEError, match=r"state\.pt") as caught:
        run(tmp_path, resume=True)
    assert "\n" not in str(caught.value)


def test_a_state_of_a_model_of_another_shape_is_refused_in_one_line(run, tmp_path):
    finish(run(tmp_path, max_epochs=1))
    with pytest.raises(SeqVAEError) as caught:
        run(tmp_path, resume=True, model={"latent": 5}, max_epochs=1)
    assert "\n" not in str(caught.value)


# -- which model is kept -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_folder", [True, False])
def test_the_kept_model_is_the_one_with_the_best_true_bound(in_folder, run, tmp_path):
    it = run(tmp_path if in_folder else None, **SHORT)
    seen = validations(finish(it, spoil=True))
    best = max(seen, key=lambda validation: validation.elbo)
    assert best.step == SPOILT == it.best.step
    assert it.best.value == pytest.approx(best.elbo)
    assert bound(it, it.model) == pytest.approx(best.elbo, abs=1e-4)


def test_the_model_in_the_folder_is_the_one_in_memory(run, tmp_path):
    it = run(tmp_path, **SHORT)
    finish(it, spoil=True)
    assert same(weights(Checkpoint.load(tmp_path).model), weights(it.model))


class OwnEncoder(ENCODERS["recurrent"]):
    """A part from outside the catalogues."""


def test_a_model_with_a_part_of_the_user_s_own_is_written_again_with_its_new_prior(tiny_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "refit_prior", lambda *_, **__: Mixture(latent=3, components=5))
    prior = {"name": "mixture", "components": 2, "refit": 5}
    config = resolve_all(
        build_config({"latent": 3, "embedding": 6, "encoder": OwnEncoder, "prior": prior, "max_epochs": 1})
    )
    it = Run(config, tiny_corpus, tmp_path, accelerator=Accelerator(mixed_precision="no"))
    finish(it)
    again = Checkpoint.load(tmp_path, [OwnEncoder])
    assert type(again.model.encoder) is OwnEncoder and again.config.model.prior["components"] == 5
    assert same(weights(again.model), weights(it.model))


MIXTURE = {"prior": {"name": "mixture", "components": 2, "refit": 5}}


@pytest.mark.parametrize(("factor", "adopted"), [(1.03, True), (1.2, False), (0.8, False)])
def test_a_prior_fitted_again_is_left_out_where_the_kl_would_miss_its_target(factor, adopted, run, monkeypatch):
    monkeypatch.setattr(loop, "refit_prior", lambda *_, **__: None)
    it = run(None, model=MIXTURE, **SHORT)
    finish(it)
    other = Mixture(latent=it.config.model.latent, components=5)
    monkeypatch.setattr(loop, "refit_prior", lambda *_, **__: other)
    own, it.model.prior = it.model.prior, other
    kl = -bound(it, it.model) - reconstruction(it)
    it.model.prior = own
    it.config = replace(it.config, target_kl=factor * kl)
    it.best.tier = 1
    it.refit_prior()
    assert (it.target_warning is None) is adopted
    assert it.model.prior is (other if adopted else own)
    assert it.best.kl == pytest.approx(kl, abs=1e-4) if adopted else it.best.kl != pytest.approx(kl, abs=1e-4)


def test_a_kill_while_a_model_takes_the_place_of_one_whose_prior_was_fitted_again_leaves_the_old_one(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(loop, "refit_prior", lambda *_, **__: Mixture(latent=3, components=5))
    for event in fit(run(tmp_path, model={"latent": 3, **MIXTURE}, **SHORT)):
        if isinstance(event, Step) and event.step == 6:
            signal.raise_signal(signal.SIGINT)
    assert Checkpoint.load(tmp_path).config.model.prior["components"] == 5
    write = checkpoint.write

    def die(path, how):
        if path == tmp_path / "config.json":
            raise SystemError("killed")
        write(path, how)

    monkeypatch.setattr(checkpoint, "write", die)
    with pytest.raises(SystemError):
        finish(run(tmp_path, resume=True, model={"latent": 3, **MIXTURE}, **SHORT))
    monkeypatch.undo()
    with pytest.raises(SeqVAEError):
        Checkpoint.load(tmp_path)
    checkpoint.recover(tmp_path)
    assert Checkpoint.load(tmp_path).config.model.prior["components"] == 5


def test_a_terminated_run_does_not_fit_its_prior_again(run, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "refit_prior", lambda *_, **__: pytest.fail("there is no time"))
    for event in fit(run(tmp_path, model=MIXTURE, **SHORT)):
        if isinstance(event, Step) and event.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
    assert Checkpoint.load(tmp_path).config.model.prior["components"] == 2


RISING = {"name": "linear", "end": 1.0, "steps": 12}


def test_a_model_from_before_the_full_weight_that_was_better_is_named_at_the_end(run):
    it = run(weight=RISING, **SHORT)
    seen = validations(finish(it, spoil=True))
    assert [validation.stationary for validation in seen] == [False, False, False, True, True]
    lost = max(v.elbo for v in seen if not v.stationary) - it.best.value
    assert lost > 1 and f"step 8 was better by {lost:.1f} nats on the validation sentences" in it.overfit_warning
    assert "--model.noise.rate 0.3" in it.overfit_warning
    it.best.tier = 0  # broken off during the rise
    assert it.overfit_warning is None
    it.best.tier, it.config = 1, replace(it.config, target_kl=5.0)  # it may be worse because more is asked for
    assert it.overfit_warning is None


def test_nothing_is_named_where_the_model_that_is_kept_is_the_best(run):
    it = run(weight=RISING, **SHORT)
    finish(it)
    assert it.overfit_warning is None


def test_the_bound_has_weight_one_whatever_the_objective(run, tmp_path):
    it = run(weight={"name": "constant", "end": 0.0}, max_epochs=1)
    (validation,) = validations(finish(it))
    assert validation.elbo == pytest.approx(-(validation.reconstruction + validation.kl))
    assert bound(it, it.model) == pytest.approx(validation.elbo, abs=1e-4)


@pytest.mark.parametrize(
    ("divergence", "kl_weight"),
    [
        ({"name": "kl"}, 1.0),
        ({"name": "total-correlation"}, 1.0),
        ({"name": "info", "alpha": 0.9}, 0.1),
        ({"name": "mmd"}, 0.0),
        ({"name": "sliced-wasserstein"}, 0.0),
        ({"name": "adversarial"}, 0.0),
    ],
)
def test_a_model_is_chosen_by_what_its_divergence_bounds(run, tiny_corpus, divergence, kl_weight):
    it = run()
    objective = replace(it.config.objective, divergence=divergence)
    it = Run(replace(it.config, objective=objective), tiny_corpus)
    assert it.score(Bound(sentences=2, reconstruction=20.0, kl=60.0)) == pytest.approx(-10 - kl_weight * 30)


def test_a_kl_without_limit_takes_no_part_where_the_divergence_allows_it(run, tiny_corpus):
    it = run()
    for name, refused in (("mmd", False), ("kl", True)):
        objective = replace(it.config.objective, divergence={"name": name})
        one = Run(replace(it.config, objective=objective), tiny_corpus)
        with pytest.raises(TrainingError, match="not finite") if refused else nullcontext():
            assert one.score(Bound(sentences=1, reconstruction=5.0, kl=math.inf)) == -5.0


def test_no_bound_from_before_the_full_weight_is_kept(run):
    it = run(weight={"name": "linear", "end": 1.0, "steps": 12}, **SHORT)
    seen = validations(finish(it, spoil=True))
    assert max(seen, key=lambda v: v.elbo).step == SPOILT  # else the test has no case
    late = [validation for validation in seen if validation.step >= 12]
    assert it.best.step == max(late, key=lambda v: v.elbo).step


def test_before_the_objective_is_stationary_the_latest_bound_is_the_best_and_then_the_highest():
    best, kept = Best(), []
    offers = [(-1.0, False), (-5.0, False), (-9.0, True), (-7.0, True), (-8.0, True), (-7.0, True), (-6.0, True)]
    for step, (elbo, stationary) in enumerate(offers):
        kept.append(best.offer(elbo, step, stationary))
    assert kept == [True, True, True, True, False, False, True]
    assert (best.value, best.step, best.since_best) == (-6.0, 6, 0)


def test_a_rate_that_leaves_its_target_again_replaces_no_model_of_a_higher_tier():
    best = Best()
    assert best.offer(-9.0, 0, tier=1)
    assert not best.offer(-1.0, 1, tier=0) and (best.value, best.tier, best.since_best) == (-9.0, 1, 1)
    assert best.offer(-8.0, 2, tier=1)


def test_each_validation_says_whether_its_model_was_kept(run):
    seen = validations(finish(run(**SHORT), spoil=True))
    top = -math.inf
    for validation in seen:
        assert validation.kept is (validation.elbo > top)
        top = max(top, validation.elbo)


def test_a_model_that_was_never_validated_is_validated_at_the_end(run, tmp_path):
    seen = validations(finish(run(tmp_path, max_epochs=1, validate_every=1000)))
    assert [validation.step for validation in seen] == [4] and (tmp_path / "model.safetensors").exists()


# -- when it ends ------------------------------------------------------------------------------------------------------


def test_patience_ends_the_training_after_n_validations_without_a_better_bound(run):
    it = run(patience=2, **SHORT)
    seen = validations(finish(it, spoil=True))
    assert [validation.step for validation in seen if validation.kept] == [4, 8]
    assert it.trainer.step == seen[-1].step == 16


def test_the_learning_rate_is_halved_while_no_bound_is_better_and_a_sixth_time_ends_the_training(run):
    it = run(learning_rate_patience=2, max_epochs=30, validate_every=4, learning_rate=0.01, decay=0.0, warmup=0)
    rates = [validation.learning_rate for validation in validations(finish(it, spoil=True))]
    # Validations 1 and 2 are of good weights; two worse ones later, after 4, the rate of the next is half.
    assert rates[:8] == [0.01] * 4 + [0.005] * 2 + [0.0025] * 2
    assert it.trainer.halvings == 6 and len(rates) == 2 + 6 * 2


def test_a_resumed_run_keeps_its_halvings(run, tmp_path):
    options = {"learning_rate_patience": 1, "decay": 0.0, **SHORT}
    whole = validations(finish(run(tmp_path / "whole", **options), spoil=True))
    finish(run(tmp_path / "killed", **options), spoil=True, killed=14)
    rest = validations(finish(run(tmp_path / "killed", resume=True, **options)))
    assert [v.learning_rate for v in rest] == [v.learning_rate for v in whole][3:]
    assert rest[-1].learning_rate < rest[0].learning_rate < 1e-3


def test_without_patience_the_training_goes_on_to_its_end(run):
    it = run(**SHORT)
    finish(it, spoil=True)
    assert it.trainer.step == 20


def test_no_step_is_validated_twice(run):
    seen = validations(finish(run(**SHORT), spoil=True))
    steps = [validation.step for validation in seen]
    assert steps == sorted(set(steps))


@pytest.mark.parametrize(
    ("shortest", "validate_every", "steps"),
    [(1, None, [4, 8, 12]), (4, None, [4, 8, 12]), (5, None, [8, 12]), (50, None, [12]), (50, 5, [5, 10, 12])],
)
def test_validations_come_after_whole_epochs_or_each_n_steps(shortest, validate_every, steps, run, monkeypatch):
    monkeypatch.setattr(loop, "MIN_INTERVAL", shortest)
    seen = validations(finish(run(max_epochs=3, validate_every=validate_every)))
    assert [validation.step for validation in seen] == steps


def test_validating_more_often_does_not_change_the_training(run):
    seldom = [e.report for e in finish(run(max_epochs=2)) if isinstance(e, Step)]
    often = [e.report for e in finish(run(max_epochs=2, validate_every=1)) if isinstance(e, Step)]
    assert seldom == often


def test_a_loss_that_is_not_finite_leaves_the_last_good_model_in_the_folder(run, tmp_path):
    it = run(tmp_path, **SHORT)
    seen = []
    with pytest.raises(TrainingError):
        for event in fit(it):
            seen.append(event)
            if len(validations(seen)) == 2 and isinstance(event, Validation):
                it.model.encoder.register_forward_hook(lambda module, inputs, h: h * math.nan)
    assert bound(it, Checkpoint.load(tmp_path).model) == pytest.approx(it.best.value, abs=1e-4)


# -- metrics.jsonl -----------------------------------------------------------------------------------------------------


def test_metrics_are_lines_of_strict_json_with_their_kind_and_step(uninterrupted):
    _, events, folder = uninterrupted

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    text = (folder / "metrics.jsonl").read_text()
    found = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert text.endswith("\n") and {line["kind"] for line in found} == {"train", "valid"}
    assert [line["step"] for line in found] == sorted(line["step"] for line in found)
    seen = [(v.step, v.elbo, v.kept) for v in validations(events)]
    assert [(line["step"], line["elbo"], line["kept"]) for line in found if line["kind"] == "valid"] == seen


def test_a_line_of_training_holds_the_raw_terms_beside_the_minimized_loss(uninterrupted):
    (line,) = lines(uninterrupted[2], "train")
    assert line["step"] == 50 and line["weight"] == 0.5
    assert line["loss"] == pytest.approx(line["reconstruction"] + 0.5 * line["kl"], abs=1e-4)

"""Laws of updates: (trainer, batch) -> one step made, its report, the norm of the gradient."""

import io
import math
from itertools import islice

import pytest
import torch
from accelerate import Accelerator

from seqvae import TextVAE
from seqvae.config import Config, resolve
from seqvae.data.batching import Batches
from seqvae.errors import TrainingError
from seqvae.training.build import build_model, build_objective, build_update
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.loop import Run, fit
from seqvae.training.trainer import Trainer
from seqvae.training.updates import UPDATES

VARIANTS = {
    "lagging": [{"window": 2, "steps": 5}],
    "pretrain": [{"steps": 3}],
    "importance": [{"samples": 3, "gradient": "plain"}, {"samples": 3, "gradient": "dreg"}],
    "semi-amortized": [{"steps": 2}, {"steps": 2, "through": True}],
}
CASES = [{"name": name, **options} for name in UPDATES for options in VARIANTS.get(name, [{}])]
DROPOUT = {"encoder": {"dropout": 0.3}, "decoder": {"dropout": 0.3}, "noise": {"rate": 0.3}}
HALF = {"name": "constant", "end": 0.5}
TRANSFORMER = {"name": "transformer", "width": 8, "heads": 2, "layers": 1}
OTHERS = [
    {"posterior": {"name": "batch-norm"}},
    {"prior": {"name": "mixture"}},
    {"decoder": {"weight_dropout": 0.3}},
    {"encoder": {"cell": "gru", "layers": 2}, "decoder": {"cell": "gru", "layers": 2}},
    {"encoder": TRANSFORMER, "decoder": TRANSFORMER},
]


@pytest.fixture(params=CASES, ids=lambda part: "-".join(str(value) for value in part.values()))
def part(request):
    return request.param


@pytest.fixture
def trainer(part, tiny_corpus, training_config):
    """Makes trainers of the 32 training sentences, 4 steps an epoch, that start the global generator anew."""

    def make(model=None, precision="no", **training):
        config = training_config(model or DROPOUT, {"weight": HALF, "update": part}, **training)
        torch.manual_seed(config.training.seed)
        network = build_model(config, len(tiny_corpus.tokenizer))
        batches = Batches(tiny_corpus.train, batch_size=config.training.batch_size, seed=config.training.seed)
        accelerator, rule = Accelerator(mixed_precision=precision), build_update(config)
        return Trainer(network, build_objective(config), batches, config.training, accelerator, rule)

    return make


def take(trainer, n):
    return list(islice(trainer.steps(), n))


def reports(steps):
    return [(s.step, s.epoch, s.learning_rate, s.gradient_norm, s.report) for s in steps]


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_ten_steps_are_some_steps_saved_and_loaded_and_the_rest_bit_for_bit(part, trainer):
    model = DROPOUT | OTHERS[CASES.index(part) % len(OTHERS)]  # each with some update
    whole, first_steps = trainer(model), 3  # within the first stage of an update that has one
    steps = take(whole, 10)
    first = trainer(model)
    before = take(first, first_steps)
    state = through_a_file(first.state())
    second = trainer(model)
    torch.manual_seed(99)  # as in another process, where anything may have used random numbers
    second.load_state(state)
    after = take(second, 10 - first_steps)
    assert reports(before + after) == reports(steps)
    one, other = weights(second), weights(whole)
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert torch.equal(torch.get_rng_state(), second.state()["generator"])


def test_every_parameter_moves(trainer):
    it = trainer(weight_decay=0.0)
    before = weights(it)
    take(it, 2)
    for name, parameter in it.model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_a_step_consumes_one_batch_of_the_epoch_and_the_encoder_reads_each_batch_once(part, trainer, monkeypatch):
    it, extra, read = trainer(), [], []
    repeat_epochs = it.batches.extra
    monkeypatch.setattr(it.batches, "extra", lambda start: (extra.append(b) or b for b in repeat_epochs(start)))
    it.model.encoder.register_forward_hook(lambda module, inputs, _: read.append(len(inputs[0])))
    steps = take(it, 6)
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6] and (it.epoch, it.index) == (1, 2)
    assert sum(step.report.sentences for step in steps[:4]) == 32
    assert len(read) == 6 + len(extra) and max(read) == 8
    assert bool(extra) is (part["name"] == "lagging")


def test_the_optimizer_stays_the_same_adamw_over_the_same_parameters(trainer):
    it = trainer()
    inner = it.optimizer.optimizer
    owned = [[id(p) for p in group["params"]] for group in inner.param_groups]
    take(it, 5)
    assert it.optimizer.optimizer is inner and type(inner) is torch.optim.AdamW
    assert [[id(p) for p in group["params"]] for group in inner.param_groups] == owned
    assert {id(p) for p in inner.state} <= {id(p) for p in it.model.parameters()}


def test_the_report_is_raw_and_of_the_batch(trainer, monkeypatch):
    """The last trace of a step is that of its batch; reconstruction and KL are means over all its rows."""
    it, traces = trainer(), []
    whole = it.trace
    monkeypatch.setattr(it, "trace", lambda *a, **k: traces.append(whole(*a, **k)) or traces[-1])
    for batch in islice(it.batches.epoch(0), 3):
        report, norm = it.rule(it, batch)
        trace = traces[-1]
        q, p = trace.q.base_dist, trace.p.base_dist
        kl = torch.distributions.kl_divergence(q, p).sum(1).mean().item()
        nll = sum(-float(row[:n].sum()) for row, n in zip(trace.log_prob.detach(), trace.batch.lengths, strict=True))
        assert report.reconstruction == pytest.approx(nll / len(trace.batch), rel=1e-5)
        assert report.kl == pytest.approx(kl, rel=1e-5)
        assert report.elbo == -(report.reconstruction + report.kl)
        assert (report.sentences, report.tokens) == (len(batch), batch.tokens)
        assert report.weight == (0.5 if it.schedule_step >= 0 else 0.0) and norm > 0 and math.isfinite(report.loss)
        it.step += 1


def test_the_gradient_of_each_step_of_the_optimizer_is_clipped(trainer, monkeypatch):
    it, norms = trainer(clip=1e-3), []
    step = it.optimizer.step

    def watched():
        gradients = [p.grad for p in it.model.parameters() if p.grad is not None]
        norms.append(math.sqrt(sum(float(g.double().square().sum()) for g in gradients)))
        step()

    monkeypatch.setattr(it.optimizer, "step", watched)
    (made,) = take(it, 1)
    assert made.gradient_norm > 0.1 and norms == pytest.approx([1e-3] * len(norms), rel=1e-3)


def test_a_gradient_that_is_not_finite_stops_before_any_weight_is_spoilt(trainer):
    it = trainer()
    take(it, 4)

    def spoil(module, inputs, output):
        output[0].register_hook(lambda gradient: gradient * math.nan)

    it.model.decoder.register_forward_hook(spoil)
    with pytest.raises(TrainingError, match=r"step 5: the .* = nan"):
        take(it, 1)
    assert all(tensor.isfinite().all() for tensor in weights(it).values())


def test_in_half_precision_the_steps_are_finite_and_the_weights_stay_single(half, trainer):
    it = trainer(precision="bf16")
    steps = take(it, 5)
    assert all(math.isfinite(step.report.loss) and math.isfinite(step.gradient_norm) for step in steps)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in it.model.parameters())


def test_models_of_other_parts_are_trained_too(part, trainer):
    model = OTHERS[CASES.index(part) % len(OTHERS)]
    it = trainer(model)
    before = weights(it)
    steps = take(it, 5)
    assert all(math.isfinite(step.report.loss) for step in steps)
    moved = [name for name, p in it.model.named_parameters() if not torch.equal(p, before[name])]
    assert moved == [name for name, _ in it.model.named_parameters()]


@pytest.mark.parametrize("kind", ["lm", "ae"])
def test_a_baseline_is_trained_jointly_whatever_the_recipe(kind, part):
    config = resolve(Config.from_dict({"kind": kind, "objective": {"update": part}}))
    assert config.objective.update == {"name": "joint"} and Config.from_dict(config.to_dict()) == config


def test_a_model_is_trained_scored_sampled_saved_and_loaded(part, tmp_path):
    sentences = [f"{a} {b} {c} ." for a in ("cats", "dogs", "owls") for b in ("see", "hear") for c in ("him", "her")]
    small = {"latent": 2, "embedding": 6, "encoder": {"hidden": 6}, "decoder": {"hidden": 6}, "batch_size": 4}
    model = TextVAE.fit(sentences, **small, update=part, max_epochs=3, precision="fp32", seed=1)
    model.checkpoint.save(tmp_path)
    again = TextVAE(Checkpoint.load(tmp_path))
    assert again.checkpoint.config.objective.update.items() >= part.items()
    assert again.sample(3, seed=2) == model.sample(3, seed=2)
    assert again.score(sentences[:2], samples=5).tolist() == model.score(sentences[:2], samples=5).tolist()


def test_a_killed_and_resumed_run_equals_the_uninterrupted_one(part, tiny_corpus, training_config, tmp_path):
    """Validations included, which some steps depend on."""
    config = training_config(DROPOUT, {"weight": HALF, "update": part}, validate_every=2)

    def run(name, killed=None, resume=False):
        made = Run(config, tiny_corpus, tmp_path / name, resume, Accelerator(mixed_precision="no"))
        for event in fit(made):
            if event.step == killed:
                break  # nothing more is written
        return made

    whole = run("whole")
    run("part", killed=7)
    torch.manual_seed(99)
    again = run("part", resume=True)
    assert vars(again.best) == vars(whole.best)
    one, other = again.model.state_dict(), whole.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert str(again.trainer.rule.state_dict()) == str(whole.trainer.rule.state_dict())

"""Batches of series, and the model on them against explicit loops."""

import math

import numpy as np
import pytest
import torch

from seqvae.config import Config
from seqvae.data.batch import Batch
from seqvae.training.build import build_model, build_objective

FRAMES = {"name": "frames"}


def some_series(lengths=(5, 1, 7, 3), channels=2, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(3, 2, (n, channels)) for n in lengths]


def model_of(small_model, *, channels=2, **options):
    model = small_model(vocabulary=channels, observation=FRAMES | options.pop("observation", {}), **options)
    model.observation.scaler.fit(torch.full((channels,), 3.0), torch.full((channels,), 2.0))
    return model


def test_a_series_of_n_frames_has_n_steps_and_an_eos_unless_it_is_truncated():
    batch = Batch.of_frames(some_series((5, 1, 4)), longest=5)
    assert batch.lengths.tolist() == [5, 2, 5] and batch.ended.tolist() == [False, True, True]
    assert batch.targets.shape == (3, 5, 3) and batch.tokens == 12 and batch.real


def test_the_inputs_are_the_targets_one_step_later_after_a_start():
    series = some_series((3, 1))
    batch = Batch.of_frames(series)
    assert batch.inputs[:, 0].tolist() == [[1, 0, 0], [1, 0, 0]]
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    np.testing.assert_array_equal(batch.source[0, :3, 1:].numpy(), series[0])


def test_selecting_and_repeating_serve_series_too():
    batch = Batch.of_frames(some_series())
    again = batch.select(torch.tensor([2, 0])).repeat(2)
    assert again.lengths.tolist() == [8, 8, 6, 6] and torch.equal(again.targets[1], batch.targets[2])
    assert batch.mask.sum() == batch.tokens == 20


@pytest.mark.parametrize("lengths", [[7, 7, 7], [5, 1, 7]])
def test_sentences_know_their_ends_as_before(lengths):
    batch = Batch.of([[*range(4, 3 + n), 2] for n in lengths])
    assert batch.ended.all() and not batch.real
    assert not Batch.of([[4, 5]]).ended.any()


@pytest.mark.parametrize("variance", ["fixed", "learnt", "per-step"])
def test_log_p_is_that_of_an_explicit_loop(variance, small_model):
    """Frame by frame through the decoder, with Gaussian and stop written out."""
    model = model_of(small_model, observation={"variance": variance, "sigma": 0.4})
    o, batch = model.observation, Batch.of_frames(some_series(), longest=6)
    z = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = model.log_prob(batch, z).detach()
    for row, (series, length) in enumerate(zip(some_series(), batch.lengths.tolist(), strict=True)):
        x, state, total = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64), None, 0.0
        for step in range(length):
            features, state = model.decode_step(x, z[row : row + 1], state)
            out = (o.output.weight @ features[0] + o.output.bias).tolist()
            s, m, raw = 1 / (1 + math.exp(-out[0])), out[1:3], out[3:]
            if variance == "learnt":
                raw = o.raw.tolist()
            sigma = [1e-3 * 1e4 ** (1 / (1 + math.exp(-(a + o.start)))) for a in raw] or [0.4, 0.4]
            if step == len(series):
                value = math.log(s)
            else:
                value, frame = math.log(1 - s), series[step]
                for c in range(2):
                    mean, scale = 3 + 2 * m[c], 2 * sigma[c]
                    value += -0.5 * ((frame[c] - mean) / scale) ** 2 - math.log(scale * math.sqrt(2 * math.pi))
                x = torch.tensor([[0.0, *frame]], dtype=torch.float64)
            assert float(found[row, step]) == pytest.approx(value, abs=1e-9)
            total += value
        assert float(found[row].sum()) == pytest.approx(total, abs=1e-9)


def test_a_series_of_one_frame_by_hand(small_model):
    """With weights of zero: s = 1/2, m = mu, and sigma as it begins."""
    model = model_of(small_model, channels=1, observation={"variance": "fixed", "sigma": 0.5})
    for parameter in model.parameters():
        parameter.data.zero_()
    log_prob = model.log_prob(Batch.of_frames([np.array([[4.0]])]), torch.zeros(1, 3, dtype=torch.float64))
    frame = -math.log(2) - 0.5 * 1.0**2 - 0.5 * math.log(2 * math.pi)  # (4 - 3) / (0.5 * 2) = 1, and log 1 = 0
    assert log_prob[0].tolist() == pytest.approx([frame, -math.log(2)], abs=1e-12)


def test_padding_changes_nothing_whatever_stands_in_it(small_model):
    model, batch = model_of(small_model), Batch.of_frames(some_series())
    z = torch.randn(4, 3, dtype=torch.float64)
    wide = {name: torch.full((4, 11, 3), 99.0, dtype=torch.float64) for name in ("source", "inputs", "targets")}
    for name, tensor in wide.items():
        tensor[:, :8] = torch.where(batch.mask[..., None], getattr(batch, name), tensor[:, :8])
    other = Batch(**wide, lengths=batch.lengths)
    torch.testing.assert_close(model.log_prob(other, z)[:, :8], model.log_prob(batch, z), rtol=0, atol=1e-12)
    torch.testing.assert_close(model.encode(other).mean, model.encode(batch).mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("latent", [0, 3])
def test_the_objective_gives_every_parameter_a_finite_gradient(latent, small_model):
    weight = {"name": "constant", "end": 0.7}
    config = Config.from_dict({"objective": {"weight": weight}})
    model = model_of(small_model).train()
    if not latent:
        model = build_model(Config.from_dict({"kind": "lm", "model": {"observation": FRAMES}}), 2).double().train()
    loss, report = build_objective(config)(model(Batch.of_frames(some_series())), 0)
    loss.backward()
    assert math.isfinite(report.reconstruction) and report.tokens == 20
    for name, parameter in model.named_parameters():
        assert not parameter.numel() or (parameter.grad.isfinite().all() and parameter.grad.any()), name

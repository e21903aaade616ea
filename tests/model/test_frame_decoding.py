"""Unrolling: points to series."""

import math

import numpy as np
import pytest
import torch

from seqvae.data.batch import Batch
from seqvae.errors import ConfigError
from seqvae.model.frame_decoding import decode_frames


@pytest.fixture
def model(small_model):
    model = small_model(vocabulary=2, observation={"name": "frames"})
    model.observation.scaler.fit(torch.tensor([3.0, -1.0]), torch.tensor([2.0, 0.5]))
    model.observation.output.bias.data[0] = -1.5
    return model


def points(n, seed=0):
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generate(model, z, seed=1, **options):
    return decode_frames(model, z, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_the_log_density_is_that_of_the_model(temperature, model):
    z = points(40)
    found = generate(model, z, temperature=temperature, max_length=9)
    assert {True, False} >= set(found.ended) and max(map(len, found.series)) <= 9
    for row, (series, ended) in enumerate(zip(found.series, found.ended, strict=True)):
        batch = Batch.of_frames([series], longest=len(series) + ended)
        expected = float(model.log_prob(batch, z[row : row + 1]).detach().sum()) if len(batch.lengths) else 0
        assert float(found.log_prob[row]) == pytest.approx(expected, abs=1e-9)


def test_the_same_seed_gives_the_same_series_whatever_else_is_sampled(model):
    z = points(7)
    whole = generate(model, z)
    for one, other in zip(generate(model, z[:3]).series, whole.series[:3], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    assert not np.array_equal(generate(model, z, seed=2).series[0][0], whole.series[0][0])


def test_series_end_as_often_as_the_model_predicts(small_model):
    """With s the same at each step a length is one and a geometric number.

    4,000 samples at five standard errors: one false alarm in 10^6.
    """
    model = small_model(vocabulary=1, observation={"name": "frames"})
    model.observation.output.weight.data.zero_()
    model.observation.output.bias.data[0] = math.log(0.2 / 0.8)
    lengths = np.array([len(one) for one in generate(model, points(4000)).series])
    assert lengths.min() == 1 and abs(lengths.mean() - 5) < 5 * (0.8**0.5 / 0.2) / 4000**0.5
    again = generate(model, points(3), temperature=0.0)
    assert [len(one) for one in again.series] == [4, 4, 4]  # 0.8^4 is the first power below 1/2


def test_frames_are_sampled_from_the_gaussian_of_the_model(small_model):
    model = small_model(vocabulary=1, observation={"name": "frames", "variance": "fixed", "sigma": 0.5})
    model.observation.scaler.fit(torch.tensor([3.0]), torch.tensor([2.0]))
    model.observation.output.weight.data.zero_()
    model.observation.output.bias.data[:] = torch.tensor([-9.0, 0.25])
    for temperature in (1.0, 0.5):
        values = np.concatenate(generate(model, points(400), temperature=temperature, max_length=20).series)
        assert abs(values.mean() - 3.5) < 5 * temperature / len(values) ** 0.5
        assert abs(values.std() / temperature - 1) < 5 / (2 * len(values)) ** 0.5
    assert np.allclose(np.concatenate(generate(model, points(3), temperature=0.0, max_length=5).series), 3.5)


def test_what_is_longer_than_the_maximum_is_truncated_without_eos(model):
    model.observation.output.bias.data[0] = -50
    model.observation.output.weight.data[0] = 0
    found = generate(model, points(3), max_length=6)
    assert [len(one) for one in found.series] == [6, 6, 6] and found.ended == [False] * 3


def test_the_number_of_frames_can_be_given(model):
    found = generate(model, points(3), temperature=0.0, frames=[4, 1, 7])
    assert [len(one) for one in found.series] == [4, 1, 7]


def test_wrong_options_are_refused(model, small_model):
    for options, words in (({"temperature": -1}, "temperature"), ({"max_length": 0}, "max_length")):
        with pytest.raises(ConfigError, match=words):
            decode_frames(model, points(1), **options)
    with pytest.raises(ConfigError, match="shape"):
        decode_frames(model, torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="tokens"):
        decode_frames(small_model(), points(1))

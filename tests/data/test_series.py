"""Series: read from files and arrays, checked, divided, truncated; the built-in curves; the baselines."""

import math
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from seqvae.data.batching import Batches, iterate_by_length
from seqvae.data.series import curves
from seqvae.data.series.corpus import SeriesSplit, load_series
from seqvae.data.series.sources import is_series, open_series
from seqvae.errors import ConfigError, CorpusError
from seqvae.evaluation.baselines import LinearAutoregression, score_series_baselines

LENGTHS = (3, 1, 4, 2) * 6


def some(channels=2, lengths=LENGTHS, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=(n, channels)) for n in lengths]


def flat(series):
    return {"values": np.concatenate(series), "lengths": np.array([len(one) for one in series])}


@pytest.fixture
def npz(tmp_path):
    def write(name="s.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def same(split, series):
    return all(np.array_equal(a, b) for a, b in zip(split.series(), series, strict=True))


# -- reading ----------------------------------------------------------------------------------------------------------


def test_frames_below_each_other_and_padded_ones_read_alike(npz, tmp_path):
    series = some()
    padded = np.full((len(series), 4, 2), np.nan)
    for row, one in zip(padded, series, strict=True):
        row[: len(one)] = one
    below = load_series(npz(**flat(series), kind=np.arange(24)), whole=True).test
    beside = load_series(npz("x.npz", x=padded, lengths=flat(series)["lengths"]), whole=True).test
    assert same(below, series) and same(beside, series)
    assert below.columns == ["kind"] and below.column("kind")[3] == 3


def test_one_array_is_series_of_equal_length(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(4, 3))
    split = load_series(tmp_path / "a.npy", whole=True).test
    assert split.channels == 1 and split.lengths.tolist() == [4, 4, 4, 4] and split[1][:, 0].tolist() == [3, 4, 5]


@pytest.mark.parametrize("channels", [None, 2])
def test_a_parquet_file_has_a_column_of_lists(channels, tmp_path):
    series = some(channels or 1)
    lists = [one.tolist() if channels else one[:, 0].tolist() for one in series]
    pq.write_table(pa.table({"curve": lists, "kind": list(range(24))}), tmp_path / "s.parquet")
    assert is_series(str(tmp_path / "s.parquet"))
    split = load_series(tmp_path / "s.parquet", whole=True).test
    assert same(split, series) and split.column("kind") == list(range(24))


def test_a_table_with_a_text_column_is_one_of_sentences(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b"], "curve": [[1.0], [2.0]]}), tmp_path / "s.parquet")
    assert not is_series(str(tmp_path / "s.parquet")) and is_series(str(tmp_path / "s.parquet"), "curve")
    assert not is_series("sotu") and not is_series("no-such-file.parquet") and is_series("curves")


def test_a_folder_has_its_own_splits(npz, tmp_path):
    for name, n in (("train", 5), ("valid", 2), ("test", 3)):
        npz(f"{name}.npz", **flat(some(lengths=(2,) * n, seed=n)))
    assert is_series(tmp_path)
    corpus = load_series(tmp_path)
    assert [len(split) for split in corpus.splits.values()] == [5, 2, 3]


PADDED = np.zeros((3, 4, 1))
WRONG = [
    ({"values": np.zeros((4, 1))}, "no lengths"),
    ({"y": np.zeros((4, 1))}, r"has the arrays y: expected values"),
    ({"values": np.zeros((4, 1)), "lengths": np.array([2, 1])}, "sum to 4 frames"),
    ({"values": np.zeros((4, 1)), "lengths": np.array([2.0, 2.0])}, "whole numbers"),
    ({"values": np.zeros((4, 1)), "lengths": np.array([4, 0])}, r"series 1 of .* is empty: leave it out"),
    ({"values": np.array([[0.0], [1.0], [math.nan]]), "lengths": [1, 2]}, "series 1 .* nan in frame 1, channel 0"),
    ({"values": np.array([[0.0], [math.inf]]), "lengths": [2]}, "inf in frame 1"),
    ({"values": np.array([["a"]]), "lengths": [1]}, "expected numbers"),
    ({"values": np.zeros((2, 0)), "lengths": [2]}, "expected numbers"),
    ({"values": np.zeros((0, 1)), "lengths": np.zeros(0, int)}, "holds no series"),
    ({"x": PADDED, "lengths": np.array([5, 1, 1])}, "at most 4"),
    ({"x": np.zeros((2, 2, 2, 2))}, "shape"),
]


@pytest.mark.parametrize(("arrays", "words"), WRONG)
def test_a_wrong_file_is_refused_in_one_line(arrays, words, npz):
    with pytest.raises(CorpusError, match=words) as refusal:
        open_series(npz(**{name: np.asarray(array) for name, array in arrays.items()}))
    assert "\n" not in str(refusal.value)


def test_objects_are_never_unpickled(tmp_path):
    ragged = np.empty(2, object)
    ragged[:] = [np.zeros(2), np.zeros(3)]
    np.savez(tmp_path / "o.npz", values=ragged, lengths=np.array([2, 3]))
    with pytest.raises(CorpusError, match="never unpickled: write values"):
        open_series(tmp_path / "o.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x93NUMPY", b"some text"])
def test_a_damaged_file_is_refused(content, tmp_path):
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(CorpusError, match="cannot be read as a file of NumPy arrays"):
        open_series(tmp_path / "d.npz")


def test_a_table_of_numbers_is_refused_with_the_line_that_makes_it_an_array(tmp_path):
    (tmp_path / "s.csv").write_text("t0,t1\n1,2\n3,4\n")
    with pytest.raises(CorpusError, match=r"numpy\.save\('series.npy', numpy\.loadtxt\('s\.csv', delimiter=','"):
        open_series(tmp_path / "s.csv")


def test_arrays_in_memory_are_checked_too():
    for given, words in (
        ([], "empty"),
        ([np.zeros((2, 1)), np.zeros((2, 2))], "series 1 has 2 channels, the first one 1"),
        ([np.zeros((2, 1)), np.zeros((0, 1))], "series 1 of .* empty"),
        ([["a"]], "expected numbers"),
    ):
        with pytest.raises(CorpusError, match=words):
            load_series(given)


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 4), slice(9, None)])
def test_a_damaged_parquet_file_is_refused(tmp_path, damage):
    pq.write_table(pa.table({"curve": [[1.0], [2.0]]}), tmp_path / "s.parquet")
    (tmp_path / "s.parquet").write_bytes((tmp_path / "s.parquet").read_bytes()[damage])
    with pytest.raises(CorpusError, match="parquet"):
        open_series(tmp_path / "s.parquet")


def test_ragged_lists_are_refused(tmp_path):
    pq.write_table(pa.table({"c": [[[1.0, 2.0], [3.0]]]}), tmp_path / "r.parquet")
    with pytest.raises(CorpusError, match="frames of 1, 2 channels"):
        open_series(tmp_path / "r.parquet")
    pq.write_table(pa.table({"c": [[1.0, None]]}), tmp_path / "n.parquet")
    with pytest.raises(CorpusError, match="nan in frame 1"):
        open_series(tmp_path / "n.parquet")


# -- dividing, cutting, batching --------------------------------------------------------------------------------------


def test_missing_splits_are_drawn_from_train_and_have_no_series_in_common():
    corpus = load_series([np.full((3, 1), float(i)) for i in range(60)])
    samples = [sorted(one[0, 0] for one in split.series()) for split in corpus.splits.values()]
    assert [len(split) for split in samples] == [54, 3, 3] and sorted(chain(*samples)) == list(range(60))
    again, other = (load_series([np.full((3, 1), float(i)) for i in range(60)], seed=seed) for seed in (0, 1))
    assert again.fingerprint == corpus.fingerprint != other.fingerprint


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_series_are_refused(count):
    with pytest.raises(CorpusError, match=f"has {count} series, too few"):
        load_series([np.zeros((2, 1))] * count)


def test_long_series_are_truncated_and_then_have_no_end():
    split = load_series(some(lengths=(5, 4, 3, 8)), max_length=5, whole=True).test
    assert split.lengths.tolist() == [5, 5, 4, 5] and split.complete.tolist() == [False, True, True, False]
    batch = split.batch([0, 1, 2, 3])
    assert batch.ended.tolist() == split.complete.tolist() and batch.lengths.tolist() == split.lengths.tolist()
    assert [len(one) for one in split.series()] == [5, 4, 3, 5] and split.frames == 17
    with pytest.raises(ConfigError, match="max_length"):
        load_series(some(), max_length=1)


def test_batches_hold_each_series_once_an_epoch():
    split = load_series([np.full((n, 1), float(i)) for i, n in enumerate(LENGTHS)], whole=True).test
    found = [batch.targets[:, 0, 1].tolist() for batch in Batches(split, batch_size=5).epoch(0)]
    assert sorted(chain(*found)) == list(range(24))
    places = [int(place) for index, _ in iterate_by_length(split, batch_size=7) for place in index]
    assert sorted(places) == list(range(24)) and np.all(np.diff(split.lengths[places]) >= 0)


def test_the_moments_are_those_of_the_training_frames():
    corpus = load_series([one * [1, 0] + [5, 3] for one in some()])
    mean, std = corpus.moments
    frames = np.concatenate(corpus.train.series())
    np.testing.assert_allclose(mean, frames.mean(0))
    assert std[0] == pytest.approx(frames[:, 0].std()) and std[1] == 1  # the second channel never varies


def test_single_precision_stays_and_all_else_is_double():
    kinds = [load_series([np.zeros((2, 1), kind)] * 3).train[0].dtype for kind in ("f4", "f8", "i4", "f2")]
    assert kinds == ["f4", "f8", "f8", "f8"]


# -- curves -----------------------------------------------------------------------------------------------------------


def test_curves_are_their_factors_and_noise():
    samples = curves.sample(200, seed=3)
    ends = np.cumsum(samples.factors["length"])
    rest = []
    for i, end in enumerate(ends):
        factors = {name: column[i] for name, column in samples.factors.items()}
        rest.append(samples.values[end - factors["length"] : end, 0] - curves.compute_curve(**factors))
    noise = np.concatenate(rest)  # 8,400 numbers: the bounds are 5 standard errors, so one false alarm in 10^6
    assert abs(noise.mean()) < 5 * curves.NOISE / len(noise) ** 0.5
    assert abs(noise.std() / curves.NOISE - 1) < 5 / (2 * len(noise)) ** 0.5
    assert np.array_equal(curves.sample(200, seed=3).values, samples.values)


def test_the_entropy_of_the_noise_is_that_of_its_gaussians():
    assert curves.entropy() == pytest.approx(
        42 * float(torch.distributions.Normal(0, curves.NOISE).entropy()), rel=1e-6
    )


# -- floors -----------------------------------------------------------------------------------------------------------


def test_the_gaussian_baseline_by_hand():
    train = load_series([np.array([[1.0], [3.0]]), np.array([[2.0 + 2**0.5], [2.0 - 2**0.5]])], whole=True).test
    # mean 2, variance 3/2; 2 of 6 steps are ends
    frame = 0.5 * math.log(2 * math.pi * 1.5) - math.log(2 / 3)
    expected = 2 * frame + 0.5 * (1 + 1) / 1.5 - math.log(1 / 3)
    assert LinearAutoregression.fit(train, 0).nll(train)[0] == pytest.approx(expected)


def test_the_autoregression_finds_the_recursion_of_a_sine():
    random = np.random.default_rng(0)
    series = [np.sin(0.3 * np.arange(40) + random.uniform(0, 6))[:, None] for _ in range(20)]
    noisy = load_series([one + 1e-3 * random.normal(size=one.shape) for one in series], whole=True).test
    model = LinearAutoregression.fit(noisy, 2)
    np.testing.assert_allclose(model.weights[:, 0], [2 * math.cos(0.3), -1, 0], atol=0.02)
    found = score_series_baselines(noisy, noisy)
    assert found["autoregression"]["nll"] < found["gaussian"]["nll"] - 100
    assert found["gaussian"]["nll_per_frame"] == pytest.approx(found["gaussian"]["nll"] / 40)


@pytest.mark.parametrize("order", [0, 2])
def test_floors_count_in_the_units_of_the_data_and_serve_short_series(order):
    split = load_series(some(), whole=True).test
    larger = load_series([10 * one for one in some()], whole=True).test
    less, more = (LinearAutoregression.fit(one, order).nll(one) for one in (split, larger))
    frames = np.array([len(one) for one in split.series()])
    np.testing.assert_allclose(more - less, 2 * frames * math.log(10), atol=1e-6)
    assert isinstance(split, SeriesSplit) and np.isfinite(less).all()

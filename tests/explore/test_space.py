"""What a `Space` answers, for text and for series alike."""

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from seqvae.errors import ConfigError
from seqvae.explore.health import read_run
from seqvae.explore.projection import Projection, embed
from seqvae.explore.space import Space


def test_the_map_has_a_point_for_every_item_and_every_colour(space):
    points = space.points()
    assert len(points.xy) == len(points.texts) == len(space.items)
    assert len(points.prior_xy) == len(points.prior_texts) > 0
    assert [column.name for column in points.columns[:2]] == ["length", "-ELBO"]
    assert all(len(column.values) == len(space.items) for column in points.columns)
    json.dumps(dataclasses.asdict(points), allow_nan=False)


def test_a_click_on_an_item_returns_its_own_point(space):
    for index in (0, 5, 11):
        there = space.look_at(xy=space.points().xy[index])
        assert there.z == pytest.approx(space.z[index].tolist(), abs=1e-5)
        assert there.neighbours[0].index == index
        assert there.neighbours[0].distance < 1e-4


def test_empty_ground_decodes_to_what_is_projected_there(space):
    low, high = np.min(space.points().xy, 0), np.max(space.points().xy, 0)
    spot = (low + 0.3 * (high - low)).tolist()
    there = space.look_at(xy=spot)
    assert there.xy == pytest.approx(spot, abs=1e-4)
    assert np.isfinite([there.log_prob, there.log_prior, there.log_aggregate]).all()


def test_the_densities_are_those_of_the_prior_and_of_the_mean_posterior(text_space):
    there = text_space.look_at(index=2)
    z = torch.tensor(there.z)
    assert there.log_prior == pytest.approx(float(text_space.model.model.prior().log_prob(z)), abs=1e-4)
    expected = torch.logsumexp(text_space.q.log_prob(z).double(), 0) - np.log(len(text_space.items))
    assert there.log_aggregate == pytest.approx(float(expected), abs=1e-3)


def test_a_walk_begins_and_ends_at_its_ends(space):
    a, b = space.locate(index=0), space.locate(index=7)
    for spherical in (None, True):
        steps = space.walk(a, b, steps=5, spherical=spherical)
        assert len(steps) == 5
        assert steps[0].z == a and steps[-1].z == b
        assert steps[0].text == space.look_at(index=0).text
    assert space.walk(a, b, 3)[1].z == pytest.approx(((np.array(a) + b) / 2).tolist(), abs=1e-5)


def test_knobs_are_the_dimensions_that_vary_most(space):
    z = space.locate(index=3)
    knobs = space.knobs(z, 2)
    variance = space.z.var(0).tolist()
    assert [knob.dimension for knob in knobs] == sorted(range(len(variance)), key=lambda d: -variance[d])[:2]
    assert all(knob.low <= knob.value <= knob.high for knob in knobs)
    turned = space.turn(z, {knobs[0].dimension: 1.5})
    assert turned.z[knobs[0].dimension] == pytest.approx(1.5)
    assert turned.z[knobs[1].dimension] == pytest.approx(z[knobs[1].dimension])


def test_arithmetic_with_equal_terms_changes_nothing(space):
    a, b = space.locate(index=0), space.locate(index=4)
    assert space.add(a, b, b).z == pytest.approx(a, abs=1e-5)
    assert space.add(a, a, b).z == pytest.approx(b, abs=1e-5)


def test_steering_moves_along_the_difference_of_the_means(text_space):
    assert ("animal", "cat", 12) in [dataclasses.astuple(a) for a in text_space.attributes()]
    z = text_space.locate(index=20)
    assert text_space.steer(z, ("animal", "cat"), 0).z == pytest.approx(z)
    moved = np.array(text_space.steer(z, ("animal", "cat"), 2).z) - z
    means = text_space.z[:12].mean(0) - text_space.z[12:].mean(0)
    assert moved == pytest.approx((2 * means).tolist(), abs=1e-5)
    with pytest.raises(ConfigError, match="no such column"):
        text_space.steer(z, ("colour", "red"))


def test_a_reading_tells_each_target_with_and_without_z(space):
    item = space.items[4]
    found = space.read(item)
    assert found.mean == pytest.approx(space.z[4].tolist(), abs=1e-4)
    assert len(found.standard_deviation) == len(found.mean) and min(found.standard_deviation) > 0
    assert len(found.words) == space.split.lengths[4]
    exact = float(space.model.score([item], samples=400)[0])
    assert found.log_prob == pytest.approx(exact, abs=max(0.5, 10 * found.error))
    assert found == space.read(item)


def test_words_of_a_sentence_are_its_tokens_and_its_end(text_space):
    assert [word.text for word in text_space.read("a cat sat .").words] == ["a", "cat", "sat", ".", "(end)"]


def test_visitors_at_once_get_the_answers_of_one_alone(space):
    alone = [space.look_at(index=i) for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda i: space.look_at(index=i), range(12))) == alone


def test_user_errors_are_one_line(text_space):
    for options in ({}, {"index": 1, "xy": [0, 0]}, {"index": 10_000}, {"item": "  "}):
        with pytest.raises(ConfigError):
            text_space.locate(**options)
    with pytest.raises(ConfigError, match="expected 4 finite numbers"):
        text_space.look_at(z=[1.0, 2.0])
    with pytest.raises(ConfigError, match="3 or more"):
        Space.build(text_space.model, ["a cat sat ."])


def test_lift_inverts_the_projection():
    points = np.random.default_rng(0).normal(size=(30, 5))
    plane = Projection.fit(points)
    for row in (0, 9):
        assert np.allclose(plane.lift(plane.project(points[row])), points[row])
    assert np.allclose(plane.project(plane.lift(np.array([0.3, -0.2]))), [0.3, -0.2])


def test_tsne_embeds_every_point():
    found = embed(np.random.default_rng(0).normal(size=(12, 3)))
    assert found.shape == (12, 2) and np.isfinite(found).all()
    with pytest.raises(ConfigError, match="unknown method"):
        embed(np.zeros((5, 2)), "pca")


def test_a_run_in_progress_shows_what_is_written(tmp_path):
    assert read_run(tmp_path).curves == {}
    entry = {"kind": "valid", "step": 10, "elbo": -9.0, "reconstruction": 7.0, "kl": 2.0, "weight": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(entry) + '\n{"kind": "valid", "st')
    found = read_run(tmp_path)
    assert (found.rate, found.distortion, found.curves["elbo"]) == ([2.0], [7.0], [[10.0, -9.0]])


def test_the_diagnosis_of_a_model_is_told(space):
    assert ":" in space.health().diagnosis[0]

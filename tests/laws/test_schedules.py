"""Laws of schedules: step -> value."""

import dataclasses
import math

import pytest

from seqvae.errors import ConfigError
from seqvae.schedules import SCHEDULES, Constant, Cosine, Cyclical, Linear, Logistic, ZeroLinear

VARIANTS = {
    "constant": [{}, {"end": 0.0}],
    "linear": [{}, {"start": 2.0, "end": 0.5, "steps": 7}],
    "cosine": [{}, {"start": 2.0, "end": 0.5, "steps": 7}, {"steps": 1}],
    "logistic": [{}, {"end": 0.3, "midpoint": 50, "steepness": 0.1}, {"midpoint": 0, "steepness": 5.0}],
    "cyclical": [{}, {"steps": 10, "cycles": 3}, {"steps": 3, "cycles": 4}, {"ratio": 1.0}, {"end": 0.2}],
    "zero-linear": [{}, {"zero": 0, "steps": 5, "end": 0.4}],
}
CASES = [SCHEDULES[name](**options) for name in SCHEDULES for options in VARIANTS.get(name, [{}])]


@pytest.fixture(params=CASES, ids=str)
def schedule(request):
    return request.param


# The formula at 0, inside, at the corners and beyond; worked out by hand.
GOLDEN = [
    (Constant(end=0.7), {0: 0.7, 1: 0.7, 10**9: 0.7}),
    (Linear(end=1.0, steps=10), {0: 0, 1: 0.1, 5: 0.5, 9: 0.9, 10: 1, 11: 1, 10**9: 1}),
    (Linear(start=0.2, end=0.6, steps=4), {0: 0.2, 1: 0.3, 4: 0.6, 5: 0.6}),
    (Linear(start=1.0, end=0.0, steps=2), {0: 1, 1: 0.5, 2: 0, 3: 0}),
    # After a quarter, half a cosine has risen by (1 - sqrt(1/2)) / 2, and after a third by 1/4.
    (Cosine(end=1.0, steps=8), {0: 0, 2: (1 - 0.5**0.5) / 2, 4: 0.5, 6: (1 + 0.5**0.5) / 2, 8: 1, 9: 1, 10**9: 1}),
    (Cosine(start=0.2, end=0.6, steps=6), {0: 0.2, 2: 0.3, 3: 0.4, 4: 0.5, 6: 0.6, 7: 0.6}),
    (Cosine(start=1.0, end=0.0, steps=2), {0: 1, 1: 0.5, 2: 0, 3: 0}),
    (
        Logistic(midpoint=2500, steepness=0.0025),
        {0: 1 / (1 + math.exp(6.25)), 2100: 1 / (1 + math.e), 2500: 0.5, 2900: 1 / (1 + math.exp(-1)), 10**9: 1},
    ),
    (Logistic(end=0.5, midpoint=10, steepness=100.0), {0: 0, 10: 0.25, 20: 0.5}),
    (
        Cyclical(steps=400, cycles=4, ratio=0.5),
        {0: 0, 25: 0.5, 49: 0.98, 50: 1, 99: 1, 100: 0, 150: 1, 325: 0.5, 399: 1, 400: 1, 10**9: 1},
    ),
    (Cyclical(steps=100, cycles=1, ratio=1.0, end=2.0), {0: 0, 50: 1, 99: 1.98, 100: 2}),
    (ZeroLinear(zero=3, steps=2), {0: 0, 3: 0, 4: 0.5, 5: 1, 6: 1}),
    (ZeroLinear(zero=0, steps=4, end=0.2), {0: 0, 1: 0.05, 4: 0.2, 9: 0.2}),
]


@pytest.mark.parametrize(("schedule", "values"), GOLDEN, ids=str)
def test_golden_values(schedule, values):
    assert {step: schedule(step) for step in values} == pytest.approx(values, abs=1e-12)


def test_every_schedule_has_golden_values():
    assert {type(schedule) for schedule, _ in GOLDEN} == set(SCHEDULES.values())


def test_it_is_a_pure_function_of_the_step(schedule):
    steps = [5, 0, 3, 10**6, 3, 0]
    fresh = dataclasses.replace(schedule)
    assert [schedule(t) for t in steps] == [schedule(t) for t in steps] == [fresh(t) for t in steps]


def test_it_cannot_be_changed(schedule):
    with pytest.raises(dataclasses.FrozenInstanceError):
        schedule.end = 3.0


def test_it_stays_finite_and_between_its_ends(schedule):
    ends = sorted([getattr(schedule, "start", 0.0), schedule.end])
    for t in [*range(300), 10**4, 10**7, 10**12]:
        assert ends[0] <= schedule(t) <= ends[1] or isinstance(schedule, Constant)


def test_from_the_settled_step_on_it_first_has_its_full_value(schedule):
    assert schedule(schedule.annealing_steps) == pytest.approx(schedule.end, rel=0.01 + 1e-9, abs=1e-12)
    if schedule.annealing_steps > 1 and not isinstance(schedule, Logistic):
        assert schedule(schedule.annealing_steps - 1) != schedule.end


def test_in_the_end_every_schedule_rests_at_its_end(schedule):
    assert schedule(10**9) == pytest.approx(schedule.end)


def test_half_a_cosine_is_steepest_in_its_middle_and_the_same_read_backwards():
    schedule = Cosine(start=0.2, end=1.0, steps=100)
    rises = [schedule(t + 1) - schedule(t) for t in range(100)]
    assert rises[:50] == sorted(rises[:50]) and all(rise > 0 for rise in rises)
    assert rises == pytest.approx(rises[::-1], abs=1e-12)


BAD = [
    ("linear", "steps", 0),
    ("cosine", "steps", 0),
    ("logistic", "steepness", -0.1),
    ("cyclical", "steps", 0),
    ("cyclical", "cycles", 0),
    ("cyclical", "ratio", 0.0),
    ("zero-linear", "steps", -3),
    ("linear", "steps", math.nan),
    ("linear", "fraction", 0.0),
    ("cosine", "fraction", 1.5),
]


@pytest.mark.parametrize(("name", "option", "value"), BAD)
def test_a_length_that_is_not_above_zero_is_refused_by_name(name, option, value):
    with pytest.raises(ConfigError, match=option):
        SCHEDULES[name](**{option: value})

"""All parts with all others: each combination trains, or is refused in a line with what to write."""

import random
import re
import warnings
from itertools import combinations, product

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch.distributions import Cauchy, Independent

from seqvae.config import Config
from seqvae.errors import ConfigError
from seqvae.model.priors import LearntGaussian
from seqvae.objective import DIVERGENCES
from seqvae.objective.term import Term
from seqvae.pretrained import build_config
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE
from seqvae.training.build import CATALOGUES, build_small, resolve_all
from seqvae.training.dry_run import shrink

# What there is to choose from, the defaults first; some parts have options that make them another part in effect.
CHOICES = {
    place.split(".")[1]: [{"name": name} for name in catalogue]
    for place, catalogue in CATALOGUES.items()
    if place != "objective.weight"
}
CHOICES["update"].append({"name": "semi-amortized", "through": True})
CHOICES["encoder"].append({"name": "recurrent", "cell": "gru", "pooling": "mean"})
CHOICES["decoder"].append({"name": "recurrent", "cell": "gru", "layers": 2, "every_layer": True})
CHOICES["observation"].append({"name": "tokens", "head_size": 0})

# The pairs that do not go together, stated a second time.
DIAGONAL = ("gaussian", "batch-norm", "delta", "deterministic")
APART = [
    *[("posterior", "vmf", "prior", name) for name in ("normal", "gaussian", "mixture", "flow")],
    *[("posterior", name, "prior", "sphere") for name in (*DIAGONAL, "low-rank")],
    *[("update", "importance", "divergence", name) for name in DIVERGENCES if name not in ("kl", "controlled")],
    *[("update", "importance", "auxiliary", name) for name in ("bag-of-words", "mutual-information")],
    *[("update", "semi-amortized", "posterior", name) for name in ("low-rank", "vmf")],
    *[("divergence", "wasserstein", "prior", name) for name in ("mixture", "flow", "vamp")],
    *[
        ("divergence", name, "posterior", q)
        for name in ("wasserstein", "total-correlation")
        for q in ("low-rank", "vmf")
    ],
    ("update", "lagging", "prior", "vamp"),
    ("observation", "frames", "auxiliary", "bag-of-words"),
    ("observation", "frames", "noise", "denoising"),
]


def apart(row):
    """Whether two of these choices do not go together."""
    return any(row[a]["name"] == b and row[c]["name"] == d for a, b, c, d in APART if a in row and c in row)


def whole(row):
    """The row with the defaults for the places that are not in it."""
    return {place: choices[0] for place, choices in CHOICES.items()} | row


def configuration(row):
    return build_config(row)


def fill(pair, rng):
    """A whole row with these two choices, the others chosen among those that go with the ones before; or None."""
    row = dict(pair)
    for place in rng.sample(sorted(CHOICES.keys() - pair.keys()), len(CHOICES) - 2):
        free = [choice for choice in CHOICES[place] if not apart(row | {place: choice})]
        if not free:
            return None
        row[place] = rng.choice(free)
    return row


def cover():
    """Rows of choices that go together, in which each pair of them occurs, and the pairs that no third part goes with.

    Greedy, and always the same.
    """
    rng, rows, alone = random.Random(0), [], []
    pairs = [{a: x, b: y} for a, b in combinations(CHOICES, 2) for x in CHOICES[a] for y in CHOICES[b]]
    left = [pair for pair in pairs if not apart(pair)]
    while left:
        tried = [row for row in (fill(left[0], rng) for _ in range(20)) if row]
        if not tried:
            alone.append(left.pop(0))
            continue
        gains = [[pair for pair in left if all(row[place] == pair[place] for place in pair)] for row in tried]
        best = max(range(len(tried)), key=lambda i: len(gains[i]))
        rows.append(tried[best])
        left = [pair for pair in left if pair not in gains[best]]
    return rows, alone


ROWS, ALONE = cover()


def test_every_pair_of_parts_that_go_together_takes_a_step():
    for row in ROWS:
        resolve_all(configuration(row))


def test_only_the_sphere_leaves_two_parts_without_a_third():
    """The one posterior of the sphere goes neither with these divergences nor with this update."""
    assert {next(part["name"] for part in pair.values() if part["name"] != "sphere") for pair in ALONE} == {
        "wasserstein",
        "total-correlation",
        "semi-amortized",
    }
    assert all({"name": "sphere"} in pair.values() for pair in ALONE)


@pytest.mark.slow  # half a minute: 2,160 combinations
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_every_combination_takes_a_step_or_is_refused_as_stated(divergence):
    places = ("update", "prior", "posterior")
    for choices in product(*(CHOICES[place] for place in places)):
        row = dict(zip(places, choices, strict=True)) | {"divergence": {"name": divergence}}
        line = refusal(whole(row))
        assert apart(whole(row)) == bool(line) and "\n" not in line, (row, line)


@pytest.mark.parametrize(("place", "name", "other", "its_name"), APART)
def test_a_pair_that_does_not_go_together_is_refused_with_what_to_write(place, name, other, its_name):
    row = {place: {"name": name}, other: {"name": its_name}}
    if "vmf" in (name, its_name):  # which goes with one prior alone
        row = {"prior": {"name": "sphere"}} | row
    line = refusal(row)
    cause, _, advice = line.partition(": write ")
    assert "\n" not in line and f".{place}" in cause and f".{other}" in cause, line
    for words in advice.split(", or "):
        mended = follow_advice(words, row)
        for _ in range(3):  # away from the sphere it takes two parts, the second named by a refusal of its own
            if again := refusal(mended):
                assert again != line
                mended = follow_advice(again.partition(": write ")[2].split(", or ")[0], mended)
        assert refusal(mended) == ""


def refusal(row):
    """The line that refuses these choices, empty if they are accepted."""
    try:
        resolve_all(configuration(row))
    except ConfigError as error:
        return str(error)
    return ""


def follow_advice(words, row):
    """The choices after what a refusal asks to write."""
    row, found = dict(row), re.findall(r"--\w+\.([a-z]+)\.([a-z_]+) ([a-z0-9-]+)", words)
    assert found, words
    for place, option, value in found:
        row[place] = {"name": value} if option == "name" else row.get(place, {}) | {option: value}
    return row


@pytest.mark.parametrize("row", random.Random(1).sample(ROWS, 6), ids=range(6))
def test_what_a_dry_step_accepts_trains(row):
    config = shrink_first(configuration(row))
    short = {"batch_size": 14, "max_epochs": 1, "precision": "fp32"}
    given = vars(config.model) | vars(config.objective) | short
    if row["observation"]["name"] == "frames":
        model = SeriesVAE.fit([np.sin(np.arange(n)) for n in range(3, 30)], **given)
    else:
        model = TextVAE.fit([f"word{n % 7} and {n}" for n in range(27)], **given)
    assert model.checkpoint.facts["step"] == 2


def shrink_first(config):
    return next(shrink(resolve_all(config)))


# -- parts that others have written ------------------------------------------------------------------------------------


class Rough(Term):
    """A divergence without a second derivative."""

    def forward(self, trace):
        return torch.cdist(trace.z, trace.z.detach() + 1).mean(1)


class Wide(Term):
    """An auxiliary term of the wrong shape."""

    def __init__(self, *, more: int = 1) -> None:
        super().__init__()
        self.more = more

    def forward(self, trace):
        return trace.z @ torch.ones(trace.z.shape[1] + self.more, 1)


def test_parts_that_fail_only_together_are_named_with_what_mends_each(monkeypatch):
    monkeypatch.setitem(DIVERGENCES, "rough", Rough)
    row = {"divergence": {"name": "rough"}, "update": {"name": "semi-amortized", "through": True}}
    with pytest.raises(ConfigError) as caught:
        resolve_all(configuration(row | {"prior": {"name": "mixture"}}))
    line = str(caught.value)
    assert line.startswith("objective.divergence = rough with objective.update = semi-amortized cannot be trained (")
    assert line.endswith("write --objective.divergence.name kl, or --objective.update.through false")
    assert "\n" not in line and "prior" not in line
    for row["update"] in ({"name": "semi-amortized"}, {"name": "joint"}):
        resolve_all(configuration(row))


def test_a_part_that_fails_by_itself_is_named_alone(monkeypatch):
    monkeypatch.setitem(CATALOGUES["objective.auxiliary"], "wide", Wide)
    with pytest.raises(ConfigError) as caught:
        resolve_all(configuration({"auxiliary": {"name": "wide"}, "update": {"name": "pretrain"}}))
    line = str(caught.value)
    assert line.startswith("objective.auxiliary = wide cannot be trained (") and "\n" not in line
    assert line.endswith(": write --objective.auxiliary.name none")


def test_a_fault_that_no_other_part_mends_keeps_its_traceback(monkeypatch):
    monkeypatch.setitem(DIVERGENCES, "kl", Rough)
    monkeypatch.setattr(Rough, "forward", lambda self, trace: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        resolve_all(Config())


# -- which of two parts is to blame ------------------------------------------------------------------------------------


@pytest.mark.parametrize("per", ["dimension", "batch"])
@pytest.mark.parametrize(("place", "name"), [("prior", "mixture"), ("prior", "flow"), ("posterior", "low-rank")])
def test_free_bits_name_the_part_that_does_not_factorize_and_no_other(per, place, name):
    row = {place: {"name": name}, "divergence": {"name": "kl", "free_bits": 2.0, "free_bits_per": per}}
    other = {"prior": "posterior", "posterior": "prior"}[place]
    line = refusal(row)
    assert f"model.{place} does not factorize" in line and other not in line
    assert line.endswith("write --objective.divergence.free_bits_per total")
    row["divergence"]["free_bits_per"] = "total"
    assert refusal(row) == ""


def test_free_bits_of_parts_that_factorize_but_have_no_closed_form_say_so(monkeypatch):
    monkeypatch.setattr(LearntGaussian, "forward", lambda self: Independent(Cauchy(self.mean, 1.0), 1))
    row = {"prior": {"name": "gaussian"}, "divergence": {"name": "kl", "free_bits": 2.0}}
    with pytest.raises(ConfigError, match="no closed form"):
        resolve_all(configuration(row))


# -- a dry step leaves no trace --------------------------------------------------------------------------------------


def state():
    name, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (name, keys.tolist(), *rest),
        "python": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "warnings": list(warnings.filters),
        "accelerate": [dict(kind._shared_state) for kind in (AcceleratorState, GradientState, PartialState)],
        "switches": (torch.is_grad_enabled(), torch.get_default_dtype(), torch.backends.mkldnn.enabled),
    }


@pytest.mark.parametrize("through", [False, True])
def test_a_dry_step_changes_nothing_of_the_process(through):
    before = state()
    row = {"update": {"name": "semi-amortized", "through": through}, "divergence": {"name": "adversarial"}}
    resolve_all(configuration(row | {"prior": {"name": "mixture"}}))
    assert state() == before


def test_a_dry_step_costs_the_same_at_any_size():
    """Of the largest sizes that there can be, no part has more than a few thousand weights."""
    large = {"name": "recurrent", "hidden": 2**16, "layers": 64}
    row = {"encoder": large, "decoder": large, "prior": {"name": "vamp", "components": 2**16, "length": 2**16}}
    row |= {"posterior": {"name": "low-rank", "rank": 2**16}, "latent": 2**16, "embedding": 2**16}
    config = configuration(row)
    model, _, _ = build_small(resolve_all(config))
    assert sum(p.numel() for p in model.parameters()) < 10_000


def test_a_value_that_goes_with_the_sizes_as_they_are_is_not_refused_for_smaller_ones():
    config = resolve_all(configuration({"posterior": {"name": "delta", "rate": 200.0}}))  # at most 7 nats a dimension
    assert config.model.posterior["rate"] == 200.0

"""The laws of what trains a model: terms of the objective, schedules and noise."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from seqvae.data.batch import Batch
from seqvae.model.noise import Noise
from seqvae.model.vae import SequenceVAE, Trace
from seqvae.objective.term import Term
from seqvae.schedules import Schedule
from seqvae.testing.laws import (
    EMBEDDING,
    LATENT,
    LENGTHS,
    SENTENCES,
    VOCABULARY,
    Laws,
    call_with_sizes,
    check_state,
    fix_seed,
    lengthen,
    make_batch,
    make_model,
    make_part,
    make_trace,
)


def check_term(term: Any, *, latent: int = LATENT, vocabulary: int = VOCABULARY, twice: bool = False) -> None:
    """Check the laws of a term of the objective, a divergence or an auxiliary: a `Trace` -> (B,).

    One finite number for each sentence (or the batch's on every row), in a batch of one too; padding changes nothing;
    the values move with their sentences; gradients reach q(z|x); the trace stays as it was; and an evaluation changes
    nothing of the term.

    Args:
        term: a class, an instance, or a function of `latent`, `vocabulary`, `embedding` and `sentences`.
        latent: D; for an instance, what it was made for.
        vocabulary: V; likewise, 11 or more.
        twice: require a second derivative too, which the semi-amortized update takes with `through`.

    Raises:
        AssertionError: with the law that is broken.
    """
    with fix_seed():
        sizes = {"latent": latent, "vocabulary": vocabulary, "embedding": EMBEDDING, "sentences": SENTENCES}
        made, model = make_part(term, Term, False, **sizes), make_model(latent, vocabulary)
        laws, batch = Laws(made, Term), make_batch()
        trace, order = make_trace(model, batch), torch.tensor([3, 0, 4, 1, 2])
        raw = trace.kl.clone(), trace.reconstruction.clone()
        kept = {name: value.clone() for name, value in made.state_dict().items()}
        values = evaluate_term(made, trace)
        laws.require(values.shape == (len(LENGTHS),), "returns (B,), one value for each sentence", str(values.shape))
        laws.finite(values, "its values")
        laws.require(isinstance(made.stationary, bool), "`stationary` is a truth value", repr(made.stationary))
        moved = make_trace(model, batch.select(order), trace.z[order])
        laws.same(evaluate_term(made, moved), values[order], "the values move with their sentences")
        longer = make_trace(model, lengthen(batch), trace.z)
        laws.same(evaluate_term(made, longer), values, "padding changes nothing (`trace.batch.mask` counts)")
        one = evaluate_term(made, make_trace(model, make_batch((4,))))
        laws.require(one.shape == (1,) and bool(one.isfinite().all()), "a batch of one sentence has a value", str(one))
        same = torch.equal(trace.kl, raw[0]) and torch.equal(trace.reconstruction, raw[1])
        laws.require(same, "leaves the trace as it was, whose raw KL and reconstruction are reported")
        for name, value in made.state_dict().items():
            laws.same(value, kept[name], f"an evaluation changes nothing of the term ({name})")
        check_term_gradients(laws, made, model, batch, twice)
        check_state(laws, made, lambda part, trace=trace: evaluate_term(part, trace))


def check_schedule(schedule: Any) -> None:
    """Check the laws of a schedule: the number of steps made so far -> a weight.

    It is a pure function, finite at any step, and has its full value from the step `annealing_steps` on, after which
    the best model of a training is chosen.

    Args:
        schedule: a class, an instance, or a function without arguments.

    Raises:
        AssertionError: with the law that is broken.
    """
    made = schedule if isinstance(schedule, Schedule) else call_with_sizes(schedule, Schedule)
    laws, late = Laws(made, Schedule), [10**4, 10**7, 10**9]
    steps = [*range(300), *late]
    values = [made(step) for step in steps]
    laws.require(all(isinstance(v, int | float) for v in values), "returns a number", repr(values[0]))
    laws.require(all(math.isfinite(v) for v in values), "is finite at any step")
    laws.require([made(step) for step in reversed(steps)] == values[::-1], "is a pure function of the step")
    laws.require([deepcopy(made)(step) for step in steps] == values, "a copy is the same schedule")
    end = made.annealing_steps
    laws.require(isinstance(end, int) and end >= 0, "`annealing_steps` is a step, 0 or later", repr(end))
    full, later = abs(made(end)), max(abs(made(end + step)) for step in [*range(300), *late])
    laws.require(
        later <= full * 1.0101 + 1e-9,
        "has its full value at the step `annealing_steps`",
        f"{full:g} there, {later:g} later",
    )


def check_noise(noise: Any) -> None:
    """Check the laws of noise: a batch -> a batch, changed at random in training alone.

    Targets and lengths stay; the batch that was given is not changed in place; evaluation is the identity; the same
    seed gives the same noise.

    Args:
        noise: a class, an instance, or a function without arguments.

    Raises:
        AssertionError: with the law that is broken.
    """
    with fix_seed():
        made = make_part(noise, Noise, False)
        laws, batch, untouched = Laws(made, Noise), make_batch(LENGTHS * 6), make_batch(LENGTHS * 6)
        fields = ("source", "inputs", "targets", "lengths")
        after = made.eval()(batch)
        for name in fields:
            laws.same(getattr(after, name), getattr(batch, name), f"evaluation is the identity ({name})")
        made.train()
        noisy = []
        for _ in range(2):
            torch.manual_seed(1)
            noisy.append(made(batch))
        for name in fields:
            laws.same(getattr(batch, name), getattr(untouched, name), f"the given batch is not changed ({name})")
            laws.same(getattr(noisy[0], name), getattr(noisy[1], name), f"a seed always gives the same noise ({name})")
        for name in ("targets", "lengths"):
            laws.same(getattr(noisy[0], name), getattr(batch, name), f"noise never touches {name}")


def evaluate_term(term: Term, trace: Trace) -> Tensor:
    """Return the values of a term; one that samples has the same samples each time."""
    torch.manual_seed(0)
    return term(trace)


def check_term_gradients(laws: Laws, term: Term, model: SequenceVAE, batch: Batch, twice: bool) -> None:
    """Gradients reach q(z|x), unless the term is 0."""
    for lengths in (LENGTHS, (4,)):
        trace = make_trace(model, make_batch(lengths))
        values = evaluate_term(term, trace)
        h = list(model.encoder.parameters())
        if not values.requires_grad:
            laws.require(not values.any() or lengths == (4,), "gradients reach q(z|x)")
            continue
        slopes = torch.autograd.grad(values.sum(), h, allow_unused=True, create_graph=twice)
        found = [slope for slope in slopes if slope is not None]
        for slope in found:
            laws.finite(slope, "its gradients")
        laws.require(
            lengths == (4,) or not values.any() or any(bool(slope.any()) for slope in found), "gradients reach q(z|x)"
        )
        if twice and any(slope.requires_grad for slope in found):
            total = torch.stack([slope.square().sum() for slope in found if slope.requires_grad]).sum()
            try:
                seconds = torch.autograd.grad(total, h, allow_unused=True)
            except RuntimeError as error:  # torch: derivative for ... is not implemented
                raise laws.make_error("it has a second derivative", str(error)) from error
            for second in seconds:
                laws.finite(torch.zeros(()) if second is None else second, "its second derivatives")

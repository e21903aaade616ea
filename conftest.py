"""Fixtures around every test, doctests too: the state of the whole process stays as it was."""

import os
import random
import shutil
import signal
import sys
import tempfile

# `datasets` reads this when it is imported, so it is set before any test module is.
os.environ["HF_DATASETS_CACHE"] = tempfile.mkdtemp(prefix="seqvae-tests-")

from seqvae.training.machine import share_cores

share_cores()  # before torch is imported: the workers of pytest share the cores

import numpy as np
import pytest
import torch
from torch.distributions import Distribution

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

CHECKS = ("_validate_args", "arg_constraints")  # what the import of zuko turns off in torch's distributions


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_DATASETS_CACHE"], ignore_errors=True)


# Variables that pytest sets around each test, that torch sets when it first compiles, that the import of scikit-learn
# sets, and that the first training of a process sets for good.
OTHERS = ("PYTEST_", "TORCHINDUCTOR_", "TRITON_", "KMP_", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(OTHERS)}


def set_environment(values):
    for name in environment().keys() - values.keys():
        del os.environ[name]
    os.environ.update(values)


def set_checks(values):
    for name, value in zip(CHECKS, values, strict=True):
        setattr(Distribution, name, value)


# State that a test must leave unchanged: how to read it, and how to restore it.
STATES = {
    "the environment": (environment, set_environment),
    "the working directory": (os.getcwd, os.chdir),
    "the handler of Ctrl-C": (lambda: signal.getsignal(signal.SIGINT), lambda it: signal.signal(signal.SIGINT, it)),
    "torch's threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's default type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's algorithms": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    "the checks of torch's distributions": (lambda: [Distribution.__dict__[name] for name in CHECKS], set_checks),
}


def forget_accelerate():
    """Reset the singletons in which accelerate keeps device and precision after a training has begun."""
    if "accelerate.state" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState, PartialState

        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()
        GradientState._reset_state()


def restore_state():
    """Restore the random streams and accelerate afterwards, and fail if anything else was changed for good."""
    streams = random.getstate(), np.random.get_state(), torch.get_rng_state()
    before = {name: read() for name, (read, _) in STATES.items()}
    yield
    for restore, state in zip((random.setstate, np.random.set_state, torch.set_rng_state), streams, strict=True):
        restore(state)
    forget_accelerate()
    changed = []
    for name, (read, write) in STATES.items():
        if (now := read()) != before[name]:
            write(before[name])
            changed.append(f"{name} ({describe_change(before[name], now)})")
    assert not changed, f"changed for the whole process: {'; '.join(changed)}"


def describe_change(was, now):
    if isinstance(was, dict):
        was, now = dict(was.items() - now.items()), dict(now.items() - was.items())
    return f"{was} became {now}"


@pytest.fixture(autouse=True)
def state_around_the_test(request):
    torch.manual_seed(request.config.getoption("randomly_seed", 0))  # unseeded numbers differ from run to run
    yield from restore_state()


def pytest_addoption(parser):
    parser.addoption("--quicker", choices=["fp32", "bf16"], default="fp32", help="what `--precision auto` measures")


@pytest.fixture(autouse=True, scope="session")
def no_measurement_of_bf16(request):
    """Replace the measurement of bf16 by a constant: a test must not depend on how busy the machine is."""
    ratio = {"fp32": 2.0, "bf16": 0.5}[request.config.getoption("quicker")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqvae.training.runtime.measure_bf16", lambda *_: ratio)
        yield


@pytest.fixture(autouse=True, scope="module")
def state_around_the_module():
    yield from restore_state()

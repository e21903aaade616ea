"""What a training runs on, by way of accelerate: device, precision, trackers; and Ctrl-C."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, broadcast_object_list

from seqvae.config import Config, Training
from seqvae.errors import ConfigError, choose
from seqvae.training import machine
from seqvae.training.precision import Precision, choose_precision, measure_bf16
from seqvae.training.rendezvous import find_keys


def make_accelerator(config: Config, folder: Path | None, device: torch.device | None = None) -> Accelerator:
    """Make the accelerator for these options; trackers log below `folder`.

    Args:
        config: has the precision and the trackers.
        folder: of the run.
        device: to compute on; None is the one that accelerate finds.

    Raises:
        ConfigError: as `check_machine`, and for a device where there are several processes.
    """
    place_process(device)
    mixed = {"fp32": "no", "bf16": "bf16"}[decide_precision(config)[0].training.precision]
    trackers = list(config.training.trackers)
    check_machine(config.training)
    cpu = PartialState().device.type == "cpu"
    accelerator = Accelerator(cpu=cpu, mixed_precision=mixed, log_with=trackers or None, project_dir=folder)
    if trackers:
        accelerator.init_trackers("seqvae", config={"corpus": config.corpus, "seed": config.training.seed})
    return accelerator


def place_process(device: torch.device | None) -> None:
    """Begin the state of accelerate anew, since another training of this process may have had another one.

    Several processes keep their devices.

    Raises:
        ConfigError: for a device where there are several processes.
    """
    alone = join_processes().num_processes == 1
    if device is not None and not alone:
        raise ConfigError(f"device = {device}: each of several processes has its own device; leave it out")
    AcceleratorState._reset_state(reset_partial_state=alone)
    state = PartialState(cpu=use_cpu() if device is None else device.type == "cpu")
    if device is not None:
        state.device = device


def join_processes() -> PartialState:
    """Return accelerate's state of this process, which first joins the other ones of a launcher, if there are any."""
    joined = PartialState._shared_state or torch.distributed.is_initialized()
    return PartialState(cpu=use_cpu(), **({} if joined else find_keys()))


def check_machine(training: Training) -> None:
    """Raise a `ConfigError` for a tracker that is unknown or not installed, or a precision that this machine lacks."""
    installed = {tracker.value for tracker in get_available_trackers()}
    for tracker in training.trackers:
        choose("tracker", tracker, [kind.value for kind in LoggerType if kind.value != "all"])
        if tracker not in installed:
            raise ConfigError(f"--trackers {tracker}: its package is not installed: pip install {tracker}")
    if training.precision == "bf16":
        machine.limit_primitives(128)  # before the check builds the first one
    if training.precision != "auto":
        choose_precision(training.precision, join_processes().device)


def use_cpu() -> bool:
    """Return whether to compute on the CPU: there is no accelerator, or none with the double precision of the scores.

    accelerate needs this, since it does not join several processes on a CPU by itself.
    """
    device = torch.accelerator.current_accelerator()
    return device is None or device.type == "mps"


def decide_precision(config: Config) -> tuple[Config, str]:
    """Return the options with `auto` resolved, the same in all processes, and a log line with the reason.

    Raises:
        ConfigError: for bf16 where layers do not run in it.
    """
    state, choice = join_processes(), config.training.precision
    bf16 = choice == "bf16" or (choice == "auto" and torch.cpu.get_capabilities().get("avx512_bf16"))
    machine.limit_primitives(128 if bf16 else 32)  # in fp32 there are none of matrix products
    if choice == "auto":
        found: list[tuple[Precision, str] | None] = [None]
        if state.is_main_process:
            found = [choose_precision(choice, state.device, lambda: measure_bf16(config, state.device))]
        broadcast_object_list(found)
        assert found[0] is not None
        chosen, reason = found[0]
    else:
        chosen, reason = choose_precision(choice, state.device)
    return replace(config, training=replace(config.training, precision=chosen)), f"precision {chosen}: {reason}"


AGAIN = 1.0  # seconds in which a second Ctrl-C is taken for the same one


class Interrupt(threading.Event):
    """Whether a signal has asked the training to end; `terminated` where that was SIGTERM and not Ctrl-C."""

    terminated = False


@contextmanager
def catch_interrupt() -> Iterator[Interrupt]:
    """Yield an event that the first Ctrl-C or SIGTERM sets instead of ending the process.

    A Ctrl-C after that raises `KeyboardInterrupt`, but for `AGAIN` seconds: each worker of torchrun gets a signal to
    all processes twice, once from torchrun. Further SIGTERMs change nothing.
    """
    interrupt, first = Interrupt(), -math.inf
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    def handle(number: int, frame: Any) -> None:
        nonlocal first
        if interrupt.is_set():
            if number == signal.SIGINT and time.monotonic() - first > AGAIN:
                raise KeyboardInterrupt
            return
        first = time.monotonic()
        interrupt.terminated = number == signal.SIGTERM
        interrupt.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

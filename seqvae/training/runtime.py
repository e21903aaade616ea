"""The device, the precision and the other processes of a training, by way of accelerate."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, broadcast_object_list

from seqvae.config import Config, Training
from seqvae.errors import ConfigError, choose
from seqvae.rng import seeded
from seqvae.training import half_precision, machine


def accelerator_for(config: Config, folder: Path | None) -> Accelerator:
    """The accelerator that the options ask for.

    Raises:
        ConfigError: as `check_machine`.
    """
    mixed = {"fp32": "no", "bf16": "bf16"}[decide_precision(config)[0].training.precision]
    trackers = list(config.training.trackers)
    check_machine(config.training)
    AcceleratorState._reset_state()  # another training of this process may have had another precision
    accelerator = Accelerator(cpu=on_cpu(), mixed_precision=mixed, log_with=trackers or None, project_dir=folder)
    if trackers:
        accelerator.init_trackers("seqvae", config={"corpus": config.corpus, "seed": config.training.seed})
    return accelerator


def check_machine(training: Training) -> None:
    """Raise a `ConfigError` for a tracker that is not known or not installed, or a precision that there is not here."""
    installed = {tracker.value for tracker in get_available_trackers()}
    for tracker in training.trackers:
        choose("tracker", tracker, [kind.value for kind in LoggerType if kind.value != "all"])
        if tracker not in installed:
            raise ConfigError(f"--trackers {tracker}: its package is not installed: pip install {tracker}")
    if training.precision != "auto":
        precision(training.precision, PartialState(cpu=on_cpu()).device)


def on_cpu() -> bool:
    """Whether to compute on the processor: there is no accelerator, or one without the double precision of the scores.

    Told to accelerate, which would not join several processes on a CPU of itself.
    """
    device = torch.accelerator.current_accelerator()
    return device is None or device.type == "mps"


def decide_precision(config: Config) -> tuple[Config, str]:
    """The options with a precision other than `auto`, the same in all processes, and a line that says why.

    Raises:
        ConfigError: for bf16 where there is none.
    """
    state, choice = PartialState(cpu=on_cpu()), config.training.precision
    half = choice == "bf16" or (choice == "auto" and torch.cpu.get_capabilities().get("avx512_bf16"))
    machine.limit_primitives(128 if half else 32)  # of which those of products of matrices are of bf16 alone
    if choice == "auto":
        found = [
            precision(choice, state.device, lambda: half_precision.ratio(config)) if state.is_main_process else None
        ]
        broadcast_object_list(found)
        assert found[0] is not None
        chosen, reason = found[0]
    else:
        chosen, reason = precision(choice, state.device)
    return replace(config, training=replace(config.training, precision=chosen)), f"precision {chosen}: {reason}"


def precision(
    choice: str, device: torch.device, ratio: Callable[[], float] = lambda: 1.0
) -> tuple[Literal["fp32", "bf16"], str]:
    """`fp32` or `bf16`, where `auto` means bf16 where it is quicker, and the reason.

    Args:
        choice: `fp32`, `bf16` or `auto`.
        device: that computes.
        ratio: measures how many times as long as in fp32 a step takes in bf16; asked only where the choice is `auto`
            and the processor has bf16.

    Raises:
        ConfigError: for bf16 where there is none.
    """
    if choice == "bf16" and not half_possible(device):
        raise ConfigError(
            "precision = bf16: this processor has no AVX512, without which LSTM layers do not run in it: "
            "write --precision fp32, or auto"
        )
    if choice != "auto":
        return ("bf16" if choice == "bf16" else "fp32"), "as asked"
    if device.type == "cuda":
        known = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16" if known else "fp32"), f"this GPU computes in bf16{'' if known else ' by emulation at most'}"
    if device.type != "cpu" or not (torch.cpu.get_capabilities().get("avx512_bf16") and half_possible(device)):
        return "fp32", "this processor does not compute in bf16"
    times = ratio()
    chosen: Literal["fp32", "bf16"] = "bf16" if times <= half_precision.MARGIN else "fp32"
    return chosen, f"a step in bf16 takes {times:.2g} times as long as in fp32 here"


def half_possible(device: torch.device) -> bool:
    """Whether layers run in bf16 at all, be it by emulation: on x86 processors oneDNN asks for these instructions."""
    known = torch.cpu.get_capabilities()
    if device.type != "cpu" or known.get("architecture") != "x86_64":
        return True
    return all(known.get(name) for name in ("avx512_bw", "avx512_dq", "avx512_vl")) and _lstm_in_half()


@cache
def _lstm_in_half() -> bool:
    """Whether it does: oneDNN may have been told to do without instructions that there are (ONEDNN_MAX_CPU_ISA)."""
    try:
        with seeded(0), torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
            torch.nn.LSTM(1, 1)(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True


def agreed(accelerator: Accelerator, mine: bool) -> bool:
    """Whether any process wants to stop, so that all of them do."""
    if accelerator.num_processes == 1:
        return mine
    wish = torch.tensor(float(mine), device=accelerator.device)
    return bool(accelerator.reduce(wish, reduction="sum") > 0)


@contextmanager
def interruption() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets instead of breaking off; a second one breaks off as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)

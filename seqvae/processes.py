"""The device, the precision and the other processes of a training, by way of accelerate."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from seqvae.config import Config, Training
from seqvae.errors import ConfigError, choose


def accelerator_for(config: Config, folder: Path | None) -> Accelerator:
    """The accelerator that the options ask for.

    Raises:
        ConfigError: as `check_machine`.
    """
    mixed = {"fp32": "no", "bf16": "bf16"}[precision(config.training.precision, PartialState(cpu=on_cpu()).device)]
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


def precision(choice: str, device: torch.device) -> str:
    """`fp32` or `bf16`, where `auto` means bf16 if the processor computes in it rather than emulating it.

    Raises:
        ConfigError: for bf16 where there is none.
    """
    if choice == "bf16" and not half_possible(device):
        raise ConfigError(
            "precision = bf16: this processor has no AVX512, without which LSTM layers do not run in it: "
            "write --precision fp32, or auto"
        )
    if choice != "auto":
        return choice
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16") else "fp32"


def half_possible(device: torch.device) -> bool:
    """Whether layers run in bf16 at all, be it by emulation: on x86 processors oneDNN asks for these instructions."""
    known = torch.cpu.get_capabilities()
    if device.type != "cpu" or known.get("architecture") != "x86_64":
        return True
    return all(known.get(name) for name in ("avx512_bw", "avx512_dq", "avx512_vl"))


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

"""The campaigns of faults, a small part of each."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.campaigns.kills import MIXTURE, TEXT, read_lines, write_corpora

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_killed_trainings_are_resumed_to_the_same_end():
    command = [sys.executable, "-m", "tests.campaigns.kills", "--count", "25", "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stdout + run.stderr
    kills, resumed, *wrong = map(int, re.findall(r"\d+", run.stdout.split("| all |")[1].splitlines()[0]))
    assert kills >= resumed >= 22 and wrong == [0, 0, 0, 0]


def start_torchrun(folder, output):
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--max-restarts",
        "3",
    ]  # see docs/reliability.md
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = ["--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
    options = [*TEXT, *MIXTURE, "--max-epochs", "9", "--output", output, "--resume"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    command = [*launch, *meet, "-m", "seqvae", "train", *options]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def find_workers(pid):
    """The processes that torchrun has started, in the order of their ranks."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for path in children for child in path.read_text().split()]
    return sorted(pid for pid in pids if b"seqvae" in Path(f"/proc/{pid}/cmdline").read_bytes())


@pytest.mark.slow
@pytest.mark.xfail(reason="new workers may meet the address of the dead one", strict=False)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_worker_that_dies_is_started_again_and_the_result_is_that_of_the_undisturbed_run(tmp_path):
    write_corpora(tmp_path)
    whole = start_torchrun(tmp_path, "whole")
    assert whole.wait(timeout=120) == 0, whole.stderr.read()
    killed = start_torchrun(tmp_path, "run")
    end = time.monotonic() + 100
    while not (tmp_path / "run/resume/state.pt").exists():
        assert time.monotonic() < end and killed.poll() is None, killed.stderr.read()
        time.sleep(0.005)
    workers = find_workers(killed.pid)
    assert len(workers) == 2
    os.kill(random.choice(workers), signal.SIGKILL)
    _, errors = killed.communicate(timeout=170)
    assert killed.returncode == 0, errors
    assert "SIGKILL" in errors or "-9" in errors  # it was not over before
    mine, other = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    assert [line and line["step"] for line in read_lines(tmp_path / "run")] == [
        line and line["step"] for line in read_lines(tmp_path / "whole")
    ]

"""Processes that torchrun started: they share the work, one prints, and those that are started anew find each other."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from seqvae import cli
from seqvae.cli import main
from seqvae.cli.processes import Process
from seqvae.data.batching import iterate_by_length
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.evaluation.likelihood import measure
from seqvae.training import rendezvous
from seqvae.training.build import build_model
from tests import small_training
from tests.small_training import LINES

TRAIN = [*small_training.TRAIN, "6"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


class Meeting:
    """Threads in the place of processes, and what each brings."""

    def __init__(self, world):
        self.world, self.brought, self.barrier = world, [None] * world, threading.Barrier(world)

    def run(self, work):
        results = [None] * self.world

        def start(rank):
            results[rank] = work(self.make(rank))

        threads = [threading.Thread(target=start, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    def make(self, rank):
        meeting = self

        class Member(Process):
            def gather(self, own):
                meeting.brought[rank] = own
                meeting.barrier.wait(timeout=60)
                return list(meeting.brought)

        return Member(rank, self.world)


@pytest.fixture
def batches():
    corpus = load(LINES, whole=True)
    return corpus, [(torch.from_numpy(index), batch) for index, batch in iterate_by_length(corpus.test, batch_size=5)]


@pytest.mark.parametrize("world", [2, 3, 40])
def test_a_table_that_is_shared_is_that_of_one_process(world, batches, small_config):
    corpus, parts = batches
    model = build_model(small_config(), corpus.size).eval()
    expected = measure(model, parts, samples=3, seed=1)
    for table in Meeting(world).run(lambda process: process.measure(model, parts, samples=3, seed=1)):
        assert torch.equal(table.index, expected.index)
        torch.testing.assert_close(table.nll, expected.nll)
        torch.testing.assert_close(table.z, expected.z)


@pytest.mark.parametrize("total", [0, 1, 7, 12])
def test_the_parts_of_all_processes_are_all_rows(total):
    parts = [list(range(total))[Process(rank, 5).choose_rows(total)] for rank in range(5)]
    assert [row for part in parts for row in part] == list(range(total))


def test_a_number_in_the_environment_alone_is_no_launcher(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "1")
    assert Process() == Process(0, 1)


def test_the_first_process_does_what_is_not_shared_and_alone(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(cli, "_run", lambda words: seen.append((words, Process())) or 0)
    for rank in (1, 0):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
            monkeypatch.setenv(name, str(value))
        for command in ("recipes", "train", "encode", "evaluate", "sample"):
            main([command])
    assert seen[:4] == [([command], Process(1, 2)) for command in ("train", "encode", "evaluate", "sample")]
    assert seen[4:] == [([command], Process(0, 1)) for command in ("recipes", "train", "encode", "evaluate", "sample")]


def test_processes_cannot_share_standard_input(monkeypatch, capsys):
    for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SystemExit) as exit:
        main(["evaluate", "chitchat", "-"])
    assert exit.value.code == 2 and "standard input" in capsys.readouterr().err


def test_without_torchrun_there_is_nothing_to_agree_on(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    assert rendezvous.find_keys() == {}


def test_processes_of_each_start_agree_on_a_name_of_their_own(monkeypatch):
    """In one store that keeps what earlier starts have left, with the processes in any order."""
    store, names = torch.distributed.HashStore(), []
    for world in (1, 3, 3, 2, 4):

        def join(rank, world=world):
            time.sleep(random.random() / 10)
            return rendezvous.agree(store, rank, world, timeout=30)

        with ThreadPoolExecutor(world) as pool:
            found = set(pool.map(join, range(world)))
        assert len(found) == 1
        names += found
    assert len(set(names)) == 5


def test_a_process_does_not_wait_for_ever():
    store = torch.distributed.HashStore()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda rank: rendezvous.agree(store, rank, 2, timeout=30), range(2)))
    for rank in range(2):
        with pytest.raises(ConfigError, match=f"process {rank} of 2 waited"):
            rendezvous.agree(store, rank, 2, timeout=0.2)


def launch(place, *arguments, restarts=0, **options):
    command = [*TORCHRUN, "--max-restarts", str(restarts), "-m", "seqvae", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("processes")
    (place / "lines.txt").write_text("\n".join(LINES * 3))
    (place / "others.txt").write_text("\n".join(f"{line} {line}" for line in LINES * 3 + LINES[::2]))
    main(["train", str(place / "lines.txt"), "--output", str(place / "model"), *TRAIN])
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "model", "others.txt", "--samples", "5", "--refine", "2", "--json"],
        ["sample", "model", "-n", "7", "--seed", "3"],
        ["reconstruct", "model", "lines.txt"],
    ],
)
def test_two_processes_print_what_one_prints(words, place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    capsys.readouterr()
    main(words)
    process = launch(place, *words)
    assert process.communicate(timeout=120)[0] == capsys.readouterr().out
    assert process.returncode == 0


def list_children(parent):
    lines = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(line.split()[0]) for line in lines[1:] if int(line.split()[1]) == parent]


def launch_each(place, machines, *words):
    """Launch two processes, on one machine or on two that are this one."""
    if machines == 1:
        return [launch(place, *words, restarts=3, stderr=subprocess.DEVNULL)]
    meeting = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "7"]
    meeting += ["--rdzv-endpoint", f"127.0.0.1:{find_port()}", "--max-restarts", "3", "-m", "seqvae"]
    environment, quiet = os.environ | {"OMP_NUM_THREADS": "1"}, subprocess.DEVNULL
    command = [*TORCHRUN[:3], *meeting, *words]
    return [subprocess.Popen(command, cwd=place, env=environment, stdout=quiet, stderr=quiet) for _ in range(2)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs ps and SIGKILL")
@pytest.mark.parametrize(("machines", "victim"), [(1, 0), (2, 1)])
def test_a_training_goes_on_when_a_worker_has_died(machines, victim, place):
    """torchrun starts both workers anew; their store still has the addresses of the dead."""
    words = ["train", "lines.txt", "--model.prior.name", "mixture", *TRAIN, "--output"]
    if not (place / "whole").exists():
        assert launch(place, *words, "whole").wait(timeout=120) == 0
    launchers = launch_each(place, machines, *words, f"killed-{machines}", "--resume")
    states, begin = place / f"killed-{machines}" / "resume", time.monotonic()
    try:
        while not (states / "state.pt").exists():
            assert time.monotonic() - begin < 60 and launchers[0].poll() is None
            time.sleep(0.02)
        workers = [child for launcher in launchers for child in sorted(list_children(launcher.pid))]
        os.kill(workers[victim], signal.SIGKILL)
        for launcher in launchers:
            launcher.communicate(timeout=120)
    finally:
        for launcher in launchers:
            if launcher.poll() is None:
                for process in [*list_children(launcher.pid), launcher.pid]:
                    os.kill(process, signal.SIGKILL)
    assert [launcher.returncode for launcher in launchers] == [0] * machines
    found, expected = (load_file(place / name / "model.safetensors") for name in (f"killed-{machines}", "whole"))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "train-on-a-cluster.md").read_text(encoding="utf-8")
SRUN = 'for rank in 0 1; do SLURM_PROCID=$rank "$@" & done; wait -n && wait -n'  # both on this machine


@pytest.mark.slow
def test_the_file_for_slurm_trains_on_two_machines(place):
    """With stand-ins for scontrol and srun, and small sizes."""
    [script] = re.findall(r"^```bash\n(.*?)^```$", PAGE, re.M | re.S)
    tools = place / "tools"
    tools.mkdir()
    for name, text in {"scontrol": "echo 127.0.0.1; echo 127.0.0.1", "srun": SRUN}.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)
    script = script.replace("corpus.txt --output run", f"lines.txt --output slurm {' '.join(TRAIN)}")
    script = script.replace("torchrun", f"{sys.executable} -m torch.distributed.run").replace("29500", str(find_port()))
    given = {"NODELIST": "a,b", "NUM_NODES": "2", "ID": "7"}
    environment = os.environ | {f"SLURM_JOB_{name}": value for name, value in given.items()}
    environment |= {"SLURM_CPUS_PER_TASK": "1", "PATH": f"{tools}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", script], cwd=place, env=environment, check=True, timeout=120)
    found, expected = (load_file(place / name / "model.safetensors") for name in ("slurm", "model"))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-3, atol=1e-4)


def find_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]

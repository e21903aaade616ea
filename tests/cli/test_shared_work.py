"""Processes that torchrun started: they share the work, one prints, and those that are started anew find each other."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file

from seqvae.cli import main, processes
from seqvae.cli.processes import Process
from seqvae.data.batching import iterate_by_length
from seqvae.data.text.corpus import load
from seqvae.evaluation.likelihood import measure
from seqvae.training.build import build_model
from seqvae.training.distributed import find_keys

LINES = [
    f"a {animal} {verb} {place} ."
    for animal in ("cat", "dog", "bird", "cow")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there", "in a house", "on the old mat")
]
SIZE = "--model.latent 2 --model.embedding 8 --model.encoder.hidden 8 --model.decoder.hidden 8"
TRAIN = f"{SIZE} --batch-size 4 --validate-every 4 --precision fp32 --max-epochs 6".split()
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


def test_the_first_process_does_what_is_not_shared(monkeypatch, capsys):
    launch = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    main(["recipes"])
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    main(["recipes"])
    assert "bowman2016" in capsys.readouterr().out
    assert {"train", "encode", "evaluate", "sample"} == set(processes.SHARED)


def test_the_first_start_needs_no_keys_of_its_own(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    assert find_keys() == {}


def launch(place, *arguments, restarts=0, **options):
    command = [*TORCHRUN, "--max-restarts", str(restarts), "-m", "seqvae", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("processes")
    (place / "lines.txt").write_text("\n".join(LINES * 3))
    main(["train", str(place / "lines.txt"), "--output", str(place / "model"), *TRAIN])
    return place


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "model", "lines.txt", "--samples", "5", "--refine", "2", "--json"],
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs ps and SIGKILL")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_training_goes_on_when_a_worker_has_died(victim, place):
    """torchrun starts both workers anew; their store still has the addresses of the dead."""
    words = ["train", "lines.txt", "--model.prior.name", "mixture", *TRAIN]
    whole = f"whole-{victim}"
    assert launch(place, *words, "--output", whole).wait(timeout=120) == 0
    process = launch(place, *words, "--output", f"killed-{victim}", "--resume", restarts=3, stderr=subprocess.DEVNULL)
    try:
        begin, states = time.monotonic(), place / f"killed-{victim}" / "resume"
        while not (states.is_dir() and any(states.iterdir())):
            assert time.monotonic() - begin < 60 and process.poll() is None
            time.sleep(0.02)
        os.kill(sorted(list_children(process.pid))[victim], signal.SIGKILL)
        process.communicate(timeout=120)
    finally:
        for child in [*list_children(process.pid), process.pid]:
            if process.poll() is None:
                os.kill(child, signal.SIGKILL)
    assert process.returncode == 0
    found, expected = (load_file(place / name / "model.safetensors") for name in (f"killed-{victim}", whole))
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())

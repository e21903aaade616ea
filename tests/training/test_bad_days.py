"""Bad days: a folder is moved away, the clock is set back, two trainings fill one cache, a reader is slow."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from seqvae.cli import main
from seqvae.errors import ConfigError
from seqvae.training import runtime
from seqvae.training.loop import Run
from seqvae.training.runs import lock
from seqvae.training.runtime import catch_interrupt
from tests.small_training import LINES, TRAIN


@pytest.fixture
def lines(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    return tmp_path


def find_weights(folder):
    return load_file(folder / "model.safetensors")


def assert_equal(one, other):
    found, expected = find_weights(one), find_weights(other)
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize("how", ["moved", pytest.param("removed", marks=pytest.mark.slow), "removed at once"])
def test_a_folder_that_is_gone_is_made_again_with_all_that_a_resumed_run_needs(how, lines, monkeypatch):
    main(["train", "lines.txt", "--output", "whole", *TRAIN, "1"])
    usual, saves = Run.save_state, []

    def save(run):
        if how == "removed at once" and not saves:
            shutil.rmtree(run.folder)
        usual(run)
        saves.append(run.trainer.step)
        with pytest.raises(ConfigError, match="another process trains"), lock(run.folder):
            pass
        if len(saves) == 2 and how != "removed at once":
            shutil.move(run.folder, "elsewhere") if how == "moved" else shutil.rmtree(run.folder)

    monkeypatch.setattr(Run, "save_state", save)
    main(["train", "lines.txt", "--output", "run", *TRAIN, "1"])
    monkeypatch.undo()
    monkeypatch.chdir(lines)
    assert len(saves) == 3
    main(["train", "--resume", "--output", "run"])
    names = [sorted(path.relative_to(lines / run) for path in (lines / run).rglob("*")) for run in ("whole", "run")]
    assert names[0] == names[1]
    if how == "moved":
        main(["train", "--resume", "--output", "elsewhere"])
    for run in ("run", "elsewhere") if how == "moved" else ("run",):
        assert_equal(lines / run, lines / "whole")


def test_a_clock_that_is_set_back_changes_nothing(lines, monkeypatch):
    main(["train", "lines.txt", "--output", "whole", *TRAIN, "1"])
    now = iter(range(4_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    main(["train", "lines.txt", "--output", "run", *TRAIN, "1"])
    monkeypatch.undo()
    assert_equal(lines / "run", lines / "whole")


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signals_that_come_twice_end_a_training_once(monkeypatch):
    """torchrun passes on to each worker a signal that all processes of a job have got."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with catch_interrupt() as interrupt:
            for _ in range(3):
                os.kill(os.getpid(), number)
            assert interrupt.is_set() and interrupt.terminated == (number == signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            monkeypatch.setattr(runtime, "AGAIN", 0.0)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        monkeypatch.undo()


@pytest.mark.slow
def test_two_trainings_fill_one_cache_at_once(lines):
    words = [sys.executable, "-m", "seqvae", "train", "lines.txt", *TRAIN, "1", "--output"]
    environment = os.environ | {"SEQVAE_CACHE": str(lines / "cache"), "HF_DATASETS_CACHE": str(lines / "hf")}
    runs = [subprocess.Popen([*words, name], cwd=lines, env=environment) for name in ("one", "other")]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert_equal(lines / "one", lines / "other")


@pytest.mark.slow
def test_a_reader_that_is_slow_gets_every_line(lines):
    main(["train", "lines.txt", "--output", "run", *TRAIN, "1"])
    words = [sys.executable, "-m", "seqvae", "sample", "run", "-n", "3500", "--seed", "1"]
    expected = subprocess.run(words, capture_output=True, check=True, timeout=120).stdout
    assert len(expected) > 2**16  # more than a pipe holds
    sample, found = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL), b""
    while part := sample.stdout.read1(4096):
        found += part
        time.sleep(0.002)
    assert found == expected and sample.wait(timeout=60) == 0

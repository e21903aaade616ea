"""Faults of the system: a few cases of the campaign, and what it cannot make."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from seqvae.cli import main
from seqvae.errors import ConfigError
from seqvae.training.runs import lock

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits files")
def test_a_few_faults_lose_nothing():
    command = [sys.executable, "-m", "tests.campaigns.faults", "--kind", "ENOSPC", "--kind", "short", "--step", "3"]
    run = subprocess.run([*command, "--command", "encode"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_two_trainings_in_one_folder_are_refused_and_a_lock_ends_with_its_process(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(ConfigError, match="another process trains in"), lock(tmp_path):
        pass
    os.close(held)  # as the end of a process does
    with lock(tmp_path):
        pass
    assert not [*tmp_path.iterdir()]


def test_an_error_of_the_system_is_one_line(monkeypatch, capsys):
    def fail(arguments):
        raise OSError(5, "Input/output error", "place")

    monkeypatch.setattr("seqvae.cli._parse_and_run", fail)
    with pytest.raises(SystemExit) as stop:
        main(["sample"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "seqvae: the system reports: Input/output error for place: is the disk full, the place writable?"
    ]

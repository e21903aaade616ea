"""A sample of the campaign of bad inputs: each is refused, or read where it is sound after all; none does worse."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.campaigns.bad_inputs import judge

ROOT = Path(__file__).parents[1]
COUNT = 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sample_of_bad_inputs_has_no_traceback_no_hang_no_full_memory_and_no_code_run():
    command = [sys.executable, "-m", "tests.campaigns.bad_inputs", "--count", str(COUNT), "--seed", "7"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    row = [cell.strip() for cell in done.stdout.splitlines()[-2].strip("| ").split("|")]
    assert (done.returncode, row[:2], row[4:]) == (0, ["all", str(COUNT)], ["0"] * 4), done.stdout + done.stderr
    assert int(row[2]) > COUNT // 2


@pytest.mark.parametrize(
    ("status", "error", "kind", "code_run", "outcome"),
    [
        (2, "seqvae: no such file\n", "corpora", False, "refused"),
        (0, "", "corpora", False, "accepted"),
        (0, "", "corpora", True, "code"),
        (2, "Traceback ...\nseqvae: no\n", "corpora", False, "traceback"),
        (2, "usage: another program\n", "options", False, "traceback"),
        (99, "Traceback ...\nKeyError: 1\n", "folders", False, "traceback"),
        (-11, "", "folders", False, "traceback"),
        (-24, "", "folders", False, "hang"),
        (99, "Traceback ...\nMemoryError\n", "options", False, "memory"),
        (2, "seqvae: x is damaged (not enough memory)\n", "folders", False, "memory"),
        (2, "seqvae: hidden = 65536: not enough memory\n", "options", False, "refused"),
    ],
)
def test_each_end_of_a_command_has_its_outcome(status, error, kind, code_run, outcome):
    assert judge(status, error, 1.0, kind, code_run) == outcome

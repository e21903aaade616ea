"""A small part of the campaign of kills."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_trainings_are_resumed_to_the_same_end():
    command = [sys.executable, "-m", "tests.campaigns.kills", "--count", "25", "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880)
    assert run.returncode == 0, run.stdout + run.stderr
    kills, resumed, *wrong = map(int, re.findall(r"\d+", run.stdout.split("| all |")[1].splitlines()[0]))
    assert kills >= resumed >= 22 and wrong == [0, 0, 0, 0]

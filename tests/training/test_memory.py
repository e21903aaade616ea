"""Memory of a training does not grow after its first hundred steps."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")

TRAINING = """
import sys
from itertools import islice
from pathlib import Path

from seqvae.training.machine import keep_freed_memory, share_cores

share_cores()

import numpy as np
import torch

from seqvae.config import Config
from seqvae.training.loop import Run
from seqvae.training.runtime import make_accelerator
from seqvae.data.text.corpus import load

def held():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024

torch.set_num_threads(1)
random = np.random.default_rng(0)
lengths = random.integers(2, 81, 4000)
words = [f"w{i}" for i in (4000 ** random.random(lengths.sum())).astype(int)]  # as frequent as 1 / i
ends = lengths.cumsum()
lines = [" ".join(words[end - length : end]) for end, length in zip(ends, lengths)]
part = {"name": "recurrent", "hidden": 16}
tokens = {"name": "tokens", "head_size": 50}
model = {"latent": 4, "embedding": 64, "encoder": part, "decoder": part, "observation": tokens}
training = {"batch_size": 8, "max_epochs": 1000, "precision": sys.argv[1]}
config = Config.from_dict({"model": model, "training": training})
run = Run(config, load(lines, vocabulary_size=4000), accelerator=make_accelerator(config, None))
keep_freed_memory()
steps = run.trainer.steps()
for count in (100, 200):
    for _ in islice(steps, count):
        pass
    print(held())
"""


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_memory_does_not_grow_after_the_first_hundred_steps_on_sentences_of_all_lengths(precision, request):
    if precision == "bf16":
        request.getfixturevalue("half")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN_PRIMITIVE_CACHE")}
    command = [sys.executable, "-c", TRAINING, precision]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    early, late = map(float, done.stdout.split())
    assert late < 1.1 * early

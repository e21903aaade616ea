"""Two processes that train together, by gloo on one machine, reproduce the training in one process.

Both run this file as a script, which trains every case; the tests compare what they wrote with a training in the
process of the tests. In double precision, since Adam makes steps of equal size from gradients that are only rounding.
"""

import math
import os
import socket
import subprocess
import sys
from itertools import islice
from pathlib import Path

if __name__ == "__main__":
    os.environ["HF_DATASETS_CACHE"] = str(Path(sys.argv[1], "cache" + os.environ["RANK"]))

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from seqvae.config import Config
from seqvae.data.text.corpus import load
from seqvae.errors import TrainingError
from seqvae.training.loop import Run, fit
from seqvae.training.trainer import Step

pytestmark = pytest.mark.slow

SIZES = {
    "latent": 3,
    "embedding": 6,
    "encoder": {"name": "recurrent", "hidden": 4, "dropout": 0.3},
    "decoder": {"name": "recurrent", "hidden": 5, "dropout": 0.3},
    "prior": {"name": "normal"},
    "noise": {"name": "word-dropout", "rate": 0.3},
}
# 32 training sentences: steps of 9 and a last one of 5, of which the first process has one more than the second.
USUAL = {"batch_size": 9, "max_epochs": 1, "precision": "fp32", "warmup": 2, "learning_rate": 0.01}
FEW = {"max_epochs": 4, "validate_every": 4}
ALONE = {"batch_size": 31}  # a last step of one sentence, none of which is the second process's
ODD = {"batch_size": 29}  # a last step of 3
CONSTANT = {"weight": {"name": "constant", "end": 1.0}}
RISE = {"weight": {"name": "linear", "end": 0.5, "steps": 1500}}


def divergence(name, **options):
    return {"objective": CONSTANT | {"divergence": {"name": name, **options}}}


def update(name, **options):
    return {"objective": CONSTANT | {"update": {"name": name, **options}}}


TRANSFORMER = {"width": 8, "heads": 2, "layers": 1, "dropout": 0.2}
CASES = {
    "kl": {"training": ODD | {"max_epochs": 3}},
    "one sentence": {"training": ALONE | {"max_epochs": 3}},
    "other masks at each step": {"model": {"encoder": SIZES["encoder"] | {"locked": False}}},
    "batches of few tokens": {"training": {"tokens_per_batch": 17, "exact_length": True}},
    "free bits of the batch": divergence("kl", free_bits=2.0, free_bits_per="batch"),
    "free bits, one sentence": divergence("kl", free_bits=2.0, free_bits_per="batch") | {"training": ALONE},
    "target": {"target_kl": 1.0, "training": FEW},
    "minimum rate": divergence("minimum-rate", rate=2.0, damping=1.0),
    "info": divergence("info"),
    "sliced Wasserstein": divergence("sliced-wasserstein"),
    "adversarial": divergence("adversarial", hidden=4),
    "total correlation": divergence("total-correlation"),
    "bag of words": {"objective": CONSTANT | {"auxiliary": {"name": "bag-of-words"}}},
    "mutual information": {"objective": CONSTANT | {"auxiliary": {"name": "mutual-information"}}},
    "batch norm": {"model": {"posterior": {"name": "batch-norm"}}, "training": ALONE},
    "low rank": {"model": {"posterior": {"name": "low-rank"}}},
    "sphere": {"model": {"posterior": {"name": "vmf"}, "prior": {"name": "sphere"}}},
    "learnt prior": {"model": {"prior": {"name": "gaussian"}}},
    "mixture": {"model": {"prior": {"name": "mixture", "components": 3}}},
    "mixture, fitted again": {"model": {"prior": {"name": "mixture", "components": 3, "refit": 2}}},
    "vamp": {"model": {"prior": {"name": "vamp", "components": 3, "length": 4}}, "training": ODD},
    "transformers": {
        "model": {"encoder": TRANSFORMER | {"name": "transformer"}, "decoder": TRANSFORMER | {"name": "transformer"}}
    },
    "importance": update("importance", samples=3),
    "lagging": update("lagging", window=2, steps=4) | {"training": FEW | {"max_epochs": 2}},
    "pretrain": update("pretrain", steps=3),
    "semi-amortized": update("semi-amortized", steps=2) | {"training": ALONE},
    "semi-amortized, through": update("semi-amortized", steps=2, through=True),
    "language model": {"kind": "lm"},
    "patience and halving": {
        "objective": CONSTANT,
        "training": {
            "max_epochs": 9,
            "validate_every": 2,
            "learning_rate": 1.0,
            "learning_rate_patience": 1,
            "patience": 4,
        },
    },
}
RESUMED = {"training": {"max_epochs": 2, "validate_every": 3}}


def corpus():
    subjects, verbs, places = (
        ("a cat", "the dog", "one bird"),
        ("sat", "ran", "ate"),
        ("", "here", "there now", "at home"),
    )
    return load([" ".join(f"{s} {v} {p} .".split()) for s in subjects for v in verbs for p in places], max_length=20)


def run_of(case, read, folder=None, resume=False):
    options = {
        "objective": RISE,
        **case,
        "model": SIZES | case.get("model", {}),
        "training": USUAL | case.get("training", {}),
    }
    config = Config.from_dict(options)
    return Run(config, read, folder, resume=resume, accelerator=Accelerator(cpu=True, mixed_precision="no"))


def result(run):
    """Train, and return all that must not depend on the number of processes."""
    events = list(fit(run))
    steps = [event for event in events if isinstance(event, Step)]
    others = [event for event in events if not isinstance(event, Step)]
    return {
        "kept": run.model.state_dict(),
        "last": {str(i): value for i, value in enumerate(moments(run.trainer.optimizer))},
        "objective": run.objective.state_dict(),
        "reports": [[s.report.loss, s.report.kl, s.learning_rate, s.gradient_norm] for s in steps],
        "counts": [[s.report.sentences, s.report.tokens] for s in steps],
        "validations": [[v.step, v.reconstruction, v.kl, float(v.kept), v.learning_rate] for v in others],
    }


def moments(optimizer):
    return [value for state in optimizer.state_dict()["state"].values() for value in state.values()]


def resumed(folder, read):
    """A training that was killed and is resumed."""
    for event in islice(fit(run_of(RESUMED, read, folder)), 9):
        assert event
    return result(run_of(RESUMED, read, folder, resume=True))


def diverged(read):
    """The error of a training in which a number of the last process is no longer finite."""
    run = run_of({}, read)
    for event in islice(fit(run), 2):
        assert event
    if run.accelerator.is_last_process:
        run.model.encoder.register_forward_hook(lambda module, inputs, h: h * math.nan)
    with pytest.raises(TrainingError) as caught:
        list(fit(run))
    return {"step": torch.tensor(run.trainer.step), "error": str(caught.value).split(" at ")[1:]}


def train_all(folder):
    """The results of each case, of a training that is resumed and of one that diverges."""
    torch.set_default_dtype(torch.float64)
    try:
        read = corpus()
        found = {name: result(run_of(case, read)) for name, case in CASES.items()}
        return found | {"resumed": resumed(folder, read), "diverged": diverged(read)}
    finally:
        torch.set_default_dtype(torch.float32)


def environment(rank, port):
    """As torchrun gives it to one of two processes."""
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank))
    worlds = dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "2")
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | ranks | worlds | meeting


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """The results of both processes, which meet at the port of a closed socket."""
    folder = tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, str(folder)]
    options = {"stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(command, env=environment(rank, port), **options) for rank in (0, 1)]
    try:
        errors = [one.communicate(timeout=600)[1] for one in both]
    finally:
        for one in both:
            one.kill()
    assert all(one.returncode == 0 for one in both), "\n".join(text[-3000:] for text in errors)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The results of a training in this process."""
    found = train_all(tmp_path_factory.mktemp("alone"))
    for state in (AcceleratorState, PartialState, GradientState):
        state._reset_state()
    return found


@pytest.mark.parametrize("case", [*CASES, "resumed"])
def test_two_processes_reproduce_the_training_of_one(case, together, alone):
    for mine in together:
        torch.testing.assert_close(mine[case], alone[case], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("case", [*CASES, "resumed"])
def test_both_processes_end_with_the_same_bits(case, together):
    torch.testing.assert_close(together[0][case], together[1][case], rtol=0, atol=0)


def test_an_error_in_one_process_ends_the_training_in_both(together, alone):
    for found in (*together, alone):
        assert found["diverged"] == {"step": 2, "error": alone["diverged"]["error"]}


def test_the_cases_try_what_they_are_meant_to(alone):
    assert {count for count, _ in alone["one sentence"]["counts"]} == {31, 1}
    rates = {rate for *_, rate in alone["patience and halving"]["validations"]}
    assert len(rates) > 2 and len(alone["patience and halving"]["reports"]) < 9 * 4


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save(train_all(Path(sys.argv[1], "run")), Path(sys.argv[1], os.environ["RANK"] + ".pt"))

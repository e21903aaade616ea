"""Places of a training at which it can be killed: calls of its functions, and what it does to its files.

A place is a label, such as "saving the model", and a number: a training passes the same places in the same order each
time, so that one which is killed at the fifth can be killed there again.
"""

import importlib
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

OPTIONS, READING, VALIDATING = "writing the options", "reading and tokenizing", "validating"
FIRST, BETWEEN, LAST = "the first step", "a step between", "the last step"
MODEL, STATE, METRICS, END = "saving the model", "saving the state", "writing metrics.jsonl", "after the last step"
LABELS = (OPTIONS, READING, FIRST, BETWEEN, LAST, VALIDATING, MODEL, STATE, METRICS, END)

CALLS = {  # before and after each call of these functions there is a place
    "seqvae.text_vae:TextVAE.read_corpus": READING,
    "seqvae.data.text.corpus:train_tokenizer": READING,
    "seqvae.data.text.corpus:encode": READING,
    "seqvae.series_vae:load_series": READING,
    "seqvae.training.trainer:Trainer._step": BETWEEN,
    "seqvae.training.trainer:Trainer.descend": BETWEEN,
    "seqvae.training.trainer:average_gradients": BETWEEN,
    "seqvae.training.loop:validate": VALIDATING,
    "seqvae.training.loop:measure_bound": VALIDATING,
    "seqvae.training.loop:measure_usage": VALIDATING,
    "seqvae.training.loop:refit_prior": END,
    "seqvae.cli.train:report": END,
    "seqvae.reports.examine:examine": END,
}
FILES = {
    "recipe.toml": OPTIONS,
    "resume/config.json": OPTIONS,
    "tokenizer.json": MODEL,
    "model.safetensors": MODEL,
    "config.json": MODEL,
    "resume/state.pt": STATE,
    "metrics.jsonl": METRICS,
}
EVENTS = ("open", "os.mkdir", "os.chmod", "os.rename", "os.remove")  # that Python reports of files


@dataclass
class Watch:
    """What a training passes, and the place at which it dies.

    Attributes:
        run: the folder of the model.
        cache: the folder of the tokenized corpus.
        steps: the number of steps of the whole training, so that the last one is known.
        label, number: the place; no label where it is not killed.
        written: the fraction of the file being written at that place that is on the disk.
        passed: the number of places passed, by label.
    """

    run: Path
    cache: Path
    steps: int = 0
    label: str | None = None
    number: int = 0
    written: float = 1.0
    step: int = 0
    over: bool = False
    passed: Counter = field(default_factory=Counter)

    def begin(self) -> None:
        """Watch this process from now on."""
        for name, label in CALLS.items():
            self.wrap(name, label)
        import seqvae.training.loop as loop

        append = loop.append

        def append_part(path: Path, text: str) -> None:
            self.step_over(METRICS, lambda: append(path, text[: int(self.written * len(text))]))
            append(path, text)

        loop.append = append_part
        sys.addaudithook(self.hear)

    def step_over(self, label: str, last_act=None) -> None:
        """Pass a place; die if it is the one, after a last act."""
        if self.over and label in (MODEL, READING):
            label = END
        if label == BETWEEN and self.step in (1, self.steps):
            label = FIRST if self.step == 1 else LAST
        self.passed[label] += 1
        if (label, self.passed[label]) == (self.label, self.number):
            if last_act is not None:
                self.label = None  # the act is not watched
                last_act()
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, name: str, label: str) -> None:
        """Put a place before and after each call of a function."""
        module, _, path = name.partition(":")
        *owners, last = path.split(".")
        owner = importlib.import_module(module)
        for part in owners:
            owner = getattr(owner, part)
        static = owner.__dict__[last]
        call = getattr(owner, last) if isinstance(static, classmethod) else static

        def watched(*args, **kwargs):
            self.step += last == "_step"
            self.over |= label == END
            self.step_over(label)
            found = call(*args, **kwargs)
            self.step_over(label)
            return found

        setattr(owner, last, staticmethod(watched) if isinstance(static, classmethod) else watched)

    def hear(self, event: str, args: tuple) -> None:
        """Pass a place where the training is about to do something to one of its files."""
        if event not in EVENTS or not isinstance(args[0], str | os.PathLike):
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        path = Path(os.path.abspath(args[0]))
        label = self.find_label(path)
        if label is not None:
            torn = event == "os.chmod" and path.suffix == ".part" and self.written < 1
            self.step_over(
                label, (lambda: os.truncate(path, int(self.written * path.stat().st_size))) if torn else None
            )

    def find_label(self, path: Path) -> str | None:
        """Return the label of a file; None for one that is not of this training."""
        if self.cache in (path, *path.parents):
            return READING
        if self.run not in (path, *path.parents):
            return None
        name = str(path.relative_to(self.run))
        if path.suffix == ".part":
            name = str(path.relative_to(self.run).with_name(path.stem.removeprefix(".")))
        return FILES.get(name, END if self.over else OPTIONS)

"""What trained models of text and of series share: their folder, the hub, the model card, encoding, paths."""

import dataclasses
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.config import Config, Data, Model, Objective, Training
from seqvae.data.series.corpus import SeriesCorpus
from seqvae.data.text.corpus import Corpus
from seqvae.data.text.labels import listed
from seqvae.errors import CheckpointError, ConfigError, choose, expand, shorten
from seqvae.evaluation.likelihood import Indexed
from seqvae.evaluation.scores import Scores, rows
from seqvae.latent.paths import path as path_named
from seqvae.latent.paths import sample_prior
from seqvae.model.modes import evaluating, read_points
from seqvae.training import loop
from seqvae.training.checkpoint import CARD, CONFIG, TOKENIZER, WEIGHTS, Checkpoint, write
from seqvae.training.runtime import accelerator_for


class Pretrained(ABC):
    """A trained model and the configuration of its run."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model.eval()
        self.config = checkpoint.config

    @classmethod
    def from_pretrained(cls, name: str | Path) -> Self:
        """Load a model folder, or a model `owner/name` of the Hugging Face hub.

        Raises:
            CheckpointError: one line if it is missing, damaged, not ours, or of another kind.
        """
        return cls(stored(name))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what a model folder holds, and the card, into `folder`."""
        self.checkpoint.save(expand(folder))
        self.write_card(expand(folder))

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model as `owner/name` and return its address."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        config = dataclasses.replace(self.config, corpus=self.checkpoint.facts.get("corpus", "sentences"))
        public = type(self)(dataclasses.replace(self.checkpoint, config=config))  # without the paths of this machine
        with tempfile.TemporaryDirectory() as folder:
            public.save_pretrained(folder)
            return str(api.upload_folder(repo_id=name, folder_path=folder))

    def write_card(self, folder: Path, scores: Scores | None = None) -> None:
        """Write README.md: what the model is, its corpus, its scores if given, and a few samples."""
        text = card(self.checkpoint, self.shown_samples(), scores)
        write(folder / CARD, lambda path: path.write_text(text, encoding="utf-8"))

    @abstractmethod
    def shown_samples(self) -> list[str]:
        """A few samples from the prior, a line each, for the card."""

    @property
    def straight(self) -> str:
        """The path between two encoded points that stays in the latent space: `linear`, on a sphere `slerp`."""
        return "slerp" if self.model.prior.spherical else "linear"

    def prior_draws(self, n: int, *, seed: int | None = None) -> Tensor:
        """(n, D) draws of p(z)."""
        return sample_prior(self.model, n, seed=seed)

    def walk(self, z0: Tensor | np.ndarray, z1: Tensor | np.ndarray, *, steps: int = 7, path: str = "linear") -> Tensor:
        """(steps, D) points from z0 (D,) to z1 (D,), both included."""
        like = next(self.model.parameters())
        z0, z1 = (read_points(z[None], self.model.latent, like)[0] for z in (z0, z1))
        return path_named(path)(z0, z1, steps)

    def _posterior(self, batches: Indexed) -> Distribution:
        """q(z|x) of all rows, in the order of their places: batch (B,), event (D,)."""
        if not self.model.latent:
            raise ConfigError("this model is of kind lm: it has no latent space to encode into; train one of kind vae")
        with evaluating(self.model):
            places, hidden = zip(*((torch.as_tensor(p), self.model.hidden(batch)) for p, batch in batches), strict=True)
            return self.model.posterior(torch.cat(hidden)[torch.cat(places).argsort()])


def stored(name: str | Path) -> Checkpoint:
    """What a model folder holds, or a model `owner/name` of the hub."""
    if not isinstance(name, str | Path):
        raise ConfigError(f"a model of the name {shorten(name)}: expected a folder, or owner/name of the hub")
    folder = expand(name)
    if not folder.exists() and str(name).count("/") == 1 and not str(name).startswith((".", "/", "~")):
        folder = _download(str(name))
    return Checkpoint.load(folder)


def fitted(config: Config, corpus: Corpus | SeriesCorpus, folder: Path | None) -> Checkpoint:
    """Train without a word; the best model, which then also stands in `folder`."""
    run = loop.Run(config, corpus, folder, accelerator=accelerator_for(config, folder))
    for _ in loop.fit(run):
        pass
    if folder is None:
        return dataclasses.replace(run.checkpoint, facts=run.checkpoint.facts | {"update": run.best.step})
    return Checkpoint.load(folder)


def config_of(options: dict[str, Any]) -> Config:
    """Sort options into the groups that they belong to, by name."""
    groups = {"data": Data, "model": Model, "objective": Objective, "training": Training}
    options = dict(options)
    whole = {name: options.pop(name) for name in ("kind", "target_kl", "target_by") if name in options}
    places = {field.name: name for name, group in groups.items() for field in dataclasses.fields(group)}
    values: dict[str, dict[str, Any]] = {name: {} for name in groups}
    for name, value in options.items():
        values[places[choose("option", name, places)]][name] = value
    return Config.from_dict(values | whole)


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, TOKENIZER]))
    except Exception as error:  # a dozen kinds: no network, no such model, no permission
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"no folder {name}, and no model of that name could be fetched from the hub ({reason})"
        ) from None


KINDS = {"vae": "VAE", "ae": "autoencoder", "lm": "language model"}


def card(checkpoint: Checkpoint, samples: list[str], scores: Scores | None = None) -> str:
    """Markdown with what the model is, how to use it, its corpus, its scores and some samples from the prior."""
    config, model, tokenizer = checkpoint.config, checkpoint.model, checkpoint.tokenizer
    parameters = sum(p.numel() for p in model.parameters())
    label = f"label={next(iter(checkpoint.labels))!r}, " if checkpoint.labels else ""
    text = tokenizer is not None
    made_of = f"{len(tokenizer):,} {tokenizer.kind} tokens" if tokenizer else f"{model.observation.size:,} channels"
    name, unit = ("TextVAE", "sentence") if text else ("SeriesVAE", "series")
    use = f"{label}temperature=0.8, " if text else ""
    lines = [
        "---",
        "library_name: seqvae",
        f"tags: [variational-autoencoder, {'text-generation' if text else 'time-series'}]",
        "---",
        "",
        f"# A {unit} {KINDS[config.kind]} of {checkpoint.facts.get('corpus', config.corpus)}",
        "",
        f"{config.model.latent} latent dimensions, {parameters:,} parameters, {made_of}. "
        f"Trained with `seqvae` for {checkpoint.facts.get('update', 0):,} steps.",
        "",
        *([f"Conditioned on labels: {labels(checkpoint)}.", ""] if checkpoint.labels else []),
        "```python",
        f"from seqvae import {name}",
        f'model = {name}.from_pretrained("this/folder")',
        f"model.sample(5, {use}seed=1)",
        "```",
        "",
        "## Corpus",
        "",
        *[f"- {note}" for note in checkpoint.facts.get("notes", [])],
        "",
        "## Samples from the prior",
        "",
        *[f"- {text}" for text in samples],
    ]
    if scores is not None:
        lines += ["", "## Held-out scores", ""]
        if checkpoint.labels:
            lines += [given(config.data.label_column), ""]
        lines += ["| score | value | meaning |", "|---|---|---|"]
        lines += [f"| {row.name} | {row.value} | {escaped(row.definition)} |" for row in rows(scores)]
    return "\n".join(lines) + "\n"


def labels(checkpoint: Checkpoint) -> str:
    """The column of the labels, and the labels with their shares of the training sentences, the commonest first."""
    total = sum(checkpoint.labels.values())
    order = sorted(checkpoint.labels, key=checkpoint.labels.__getitem__, reverse=True)
    shares = listed(f"{name} ({checkpoint.labels[name] / total:.1%})" for name in order)
    return f"{checkpoint.config.data.label_column}: {shares}"


def given(column: str | None) -> str:
    """What the scores of a conditional model mean."""
    return (
        f"Each sentence is scored given its label y, the {column}: p(x) is p(x|y), q(z|x) is q(z|x, y), I(x; z) "
        "is the information of z about sentence and label together; the floors see no label."
    )


def escaped(text: str) -> str:
    """`text` as a cell of a Markdown table."""
    return text.replace("|", r"\|")

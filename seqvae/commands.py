"""The commands: results go to standard output, progress and remarks to standard error."""

import json as json_
from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqvae import show
from seqvae.decoding import check_options
from seqvae.errors import ConfigError, CorpusError
from seqvae.text.corpus import Split, load
from seqvae.text.sources import located, open_source
from seqvae.textvae import TextVAE


def sample(
    name: str, number: int, *, seed: int | None, json: bool, allow_unknown: bool, temperature: float, **options: Any
) -> None:
    """Sentences from the prior."""
    if number < 1:
        raise ConfigError(f"--number {number}: expected 1 or more sentences")
    check_options(temperature=temperature, **options)
    model = TextVAE.from_pretrained(name)
    said = model.samples(number, seed=seed, temperature=temperature, allow_unknown=allow_unknown, **options)
    show.sentences(said, json)


def reconstruct(name: str, source: str, *, beam: int, json: bool) -> None:
    """Each sentence through its posterior mean and back."""
    model = TextVAE.from_pretrained(name)
    texts = lines_of(source)
    said = model.sentences(model.encode(texts).mean, beam=beam)
    show.sentences(said, json, originals=texts)


def interpolate(
    name: str,
    start: str | None,
    end: str | None,
    *,
    steps: int,
    path: str | None,
    seed: int | None,
    json: bool,
) -> None:
    """From one sentence, or draw of the prior, to another."""
    if (start is None) != (end is None):
        raise ConfigError("one sentence was given: expected two (START END), or none for two draws of the prior")
    model = TextVAE.from_pretrained(name)
    if start is None or end is None:
        z0, z1 = model.prior_draws(2, seed=seed)
    else:
        z0, z1 = model.encode([start, end]).mean
    way = model.walk(z0, z1, steps=steps, path=path or ("slerp" if start is None else "linear"))
    show.sentences(model.sentences(way), json)


def encode(name: str, source: str, *, output: Path, scale: bool) -> None:
    """Sentences to a NumPy array."""
    if output.suffix != ".npy":
        raise ConfigError(f"--output {output}: expected a name that ends in .npy")
    _expect_folder("--output", output)
    model = TextVAE.from_pretrained(name)
    q = model.encode(lines_of(source))
    try:
        with open(output, "wb") as file:
            np.save(file, (q.stddev if scale else q.mean).numpy())
    except OSError as error:
        raise ConfigError(f"--output {output} cannot be written: {error.strerror}") from None


def decode(name: str, latents: Path, *, temperature: float, beam: int, seed: int | None, json: bool) -> None:
    """A NumPy array to sentences."""
    check_options(temperature=temperature or float(beam > 0), beam=beam)
    model = TextVAE.from_pretrained(name)
    try:
        z = np.load(latents, allow_pickle=False)
    except FileNotFoundError:
        raise ConfigError(f"there is no file {latents}: expected a .npy file as `seqvae encode` writes it") from None
    except (OSError, ValueError, EOFError):
        raise ConfigError(
            f"{latents} is not a NumPy array: expected a .npy file as `seqvae encode` writes it"
        ) from None
    if z.dtype.kind not in "fiu" or z.ndim != 2 or z.shape[1] != model.config.model.latent:
        wanted = f"numbers (sentences, {model.config.model.latent})"
        raise ConfigError(f"{latents} holds {z.dtype} of shape {z.shape}: expected {wanted}")
    if not np.isfinite(z).all():
        raise ConfigError(f"{latents} holds values that are not finite")
    show.sentences(model.sentences(torch.from_numpy(z), temperature=temperature, beam=beam, seed=seed), json)


def evaluate(
    name: str,
    corpus: str | None,
    *,
    split: str,
    column: str | None,
    samples: int,
    limit: int | None,
    seed: int,
    json: Path | None,
) -> None:
    """Scores with their definitions."""
    if limit is not None and limit < 2:
        raise ConfigError(f"--limit {limit}: expected 2 or more sentences")
    if json is not None:
        _expect_folder("--json", json)
    model = TextVAE.from_pretrained(name)
    scores = model.evaluate(_split(model, corpus, split, column).at_most(limit), samples=samples, seed=seed)
    show.scores(scores)
    if json is not None:
        try:
            json.write_text(json_.dumps(vars(scores), indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--json {json} cannot be written: {error.strerror}") from None


def _split(model: TextVAE, corpus: str | None, split: str, column: str | None) -> Split:
    """The sentences to score, divided as they were for training if they are those of the training."""
    config, facts = model.config, model.checkpoint.facts
    if corpus is None and (config.corpus == "-" or facts.get("corpus") == "sentences"):
        raise ConfigError("the model was trained on standard input or a list in memory: name the corpus to score")
    own = corpus is None or (corpus != "-" and located(corpus) == config.corpus)
    read = load(
        corpus or config.corpus,
        column=column or (config.data.column if own else None),
        tokenizer=model.tokenizer,
        max_length=config.data.max_length,
        seed=config.data.split_seed,
        whole=not own,
    )
    if own and facts.get("fingerprint", "") not in ("", read.fingerprint):
        show.remark(f"{config.corpus} has changed since the training: what is scored may have been trained on")
    if split not in read.splits:
        raise CorpusError(f"{read.name} has no {split} sentences; it has: {', '.join(read.splits)}")
    return read.splits[split]


def describe(name: str) -> None:
    """What a model is."""
    show.description(TextVAE.from_pretrained(name))


def lines_of(source: str) -> list[str]:
    """The sentences of a file, or of standard input, in their order and with their duplicates."""
    opened = open_source(source)
    if len(opened.datasets) > 1:
        raise CorpusError(f"{source} has several splits: name one file")
    ((split, dataset),) = opened.datasets.items()
    lines = dataset[opened.columns[split]]
    texts = [text for text in lines if text and text.strip()]
    if not texts:
        raise CorpusError(f"{source} holds only blank lines")
    if len(texts) < len(lines):
        show.remark(
            f"{len(lines) - len(texts):,} blank lines skipped: results follow the other {len(texts):,} in order"
        )
    return texts


def _expect_folder(option: str, path: Path) -> None:
    """Refuse a file whose folder is not there before any work is done for it."""
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.parent}")

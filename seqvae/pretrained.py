"""What trained models of text and of series have in common: folder, hub, model card, encoding, paths between points."""

import copy
import dataclasses
import difflib
import os
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from seqvae.config import Config, Data, Model, Objective, Training
from seqvae.config.recipes import add_recipe
from seqvae.data.corpus import Corpus
from seqvae.data.text.sources import locate
from seqvae.errors import CheckpointError, ConfigError, choose, expand, list_names, shorten
from seqvae.evaluation.likelihood import IndexedBatches, find_device
from seqvae.evaluation.scores import Scores, format_rows
from seqvae.latent import paths
from seqvae.latent.ranking import check_sampling
from seqvae.latent.refit import refit_mixture
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.modes import evaluating, read_points
from seqvae.training import loop
from seqvae.training.checkpoint import CARD, CONFIG, METRICS, TOKENIZER, WEIGHTS, Checkpoint, refuse_foreign, write
from seqvae.training.devices import Device, choose_device
from seqvae.training.init import Init, hide_place
from seqvae.training.own_parts import Handed, get_own_parts
from seqvae.training.rounding import DTYPES, check_dtype
from seqvae.training.session import History, Session

BUILT_IN = Path(__file__).parent / "models"


class Pretrained(ABC):
    """A trained model with the configuration of its run.

    Attributes:
        unit: what one item of a corpus is called; `units`, several.
        tag: what the hub calls what such a model does.
        sampling_options: those that a `generation_config` can have.
        history: what was logged while it was trained: a list of dicts, `.to_pandas()`, `.plot()`. It is stored in the
            folder that the training wrote, not in others.
    """

    unit: ClassVar[str]
    units: ClassVar[str]
    tag: ClassVar[str]
    sampling_options: ClassVar[tuple[str, ...]]

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model.eval()
        self.config = checkpoint.config
        self.generation_config = checkpoint.generation_config
        self.history = History()

    # -- folder, hub and card -----------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, name: str | Path, *, parts: Handed = (), device: Device = None) -> Self:
        """Load a model folder, a built-in model, or a model `owner/name` of the Hugging Face hub.

        Args:
            name: the folder; or the name of a built-in model, `chitchat` or `chitchat-fluent`; or the name on the hub.
                A folder of the same name goes first.
            parts: the classes of your own that the model is made of, `[MyPrior]`, or by place,
                `{"model.prior": MyPrior}`. A folder names such classes; its code is never imported by that name.
            device: as of `to`; None is the CPU.

        Raises:
            ConfigError: for a device that is not there.
            CheckpointError: one line if it is missing, damaged, not written by seqvae, or of another class.
        """
        device = choose_device(device)
        model = cls(load_checkpoint(name, parts))
        model.history = History.read(expand(name) / METRICS)
        return model.to(device)

    def to(self, device: Device) -> Self:
        """Move the model to a device, where it computes from then on, and return it.

        Args:
            device: `cpu`, `cuda`, `cuda:1` and so on. Tensors that the model returns are there too; None does nothing.

        Raises:
            ConfigError: for a device that is not there.
        """
        if (found := choose_device(device)) is not None:
            self.model.to(found)
        return self

    @classmethod
    def _prepare(
        cls,
        config: Config,
        corpus: Corpus[Any],
        source: Any,
        folder: Path | None,
        progress: bool | None,
        init: Init | None = None,
        device: Device = None,
    ) -> Session[Self]:
        """Prepare to train on a corpus that was read from `source`; into a folder, with its card, if one is given."""
        from seqvae.training.runtime import make_accelerator

        def finish(run: loop.Run) -> Any:
            model = cls(complete_checkpoint(run))
            model.history = History(run.history)
            if folder is not None:
                model.write_card(folder)
            return model.to(device)

        place = locate(source) if isinstance(source, str | os.PathLike) else corpus.name
        config = dataclasses.replace(config, corpus=place)
        accelerator = make_accelerator(config, folder, choose_device(device))
        run = loop.Run(config, corpus, folder, accelerator=accelerator, init=init)
        return Session(run, finish, progress)

    def plot_history(self) -> Any:
        """Draw the curves of the training (`History.plot`); a notebook shows them. Needs the extra `plot`."""
        return self.history.plot()

    def save_pretrained(self, folder: str | Path, *, dtype: str | None = None) -> None:
        """Write the model and its card into `folder`.

        Args:
            folder: is made if missing.
            dtype: of the stored weights: `float32`; `bfloat16`, half the bytes; `int8`, a quarter of them (see
                `seqvae.training.rounding`). None is that of the folder that the model was loaded from, else float32.

        Raises:
            ConfigError: for another dtype.
            CheckpointError: if the folder cannot be written, or has a config.json that is of something else.
        """
        folder, checkpoint = expand(folder), self.checkpoint
        refuse_foreign(folder)
        if dtype is None or dtype == checkpoint.dtype:
            checkpoint.save(folder)
            return self.write_card(folder)
        dataclasses.replace(checkpoint, dtype=dtype).save(folder)
        rounded = type(self)(Checkpoint.load(folder, get_own_parts(self.config)))
        return rounded.write_card(folder)  # with samples of the weights as they are stored

    def push_to_hub(
        self, name: str, *, private: bool = False, token: str | None = None, dtype: str | None = None
    ) -> str:
        """Upload the model as `owner/name` and return its address; `dtype` as of `save_pretrained`."""
        import tempfile

        from huggingface_hub import HfApi

        check_dtype(dtype or self.checkpoint.dtype)
        api = HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        config = hide_paths(hide_place(self.config), self.checkpoint.facts.get("corpus", self.units))
        public = type(self)(dataclasses.replace(self.checkpoint, config=config))  # without the paths of this machine
        with tempfile.TemporaryDirectory() as folder:
            public.save_pretrained(folder, dtype=dtype)
            return str(api.upload_folder(repo_id=name, folder_path=folder))

    def write_card(self, folder: str | Path, scores: Scores | None = None) -> None:
        """Write README.md: what the model is, its corpus, its scores if given, and a few samples."""
        text = format_card(self, scores)
        write(Path(folder) / CARD, lambda path: path.write_text(text, encoding="utf-8"))

    @abstractmethod
    def preview_samples(self) -> list[str]:
        """Generate a few samples from the prior for the card, a line each."""

    def refit_prior(self, items: Any, *, components: int = 1000, iterations: int = 6, seed: int = 0) -> Self:
        """Return a model with the same encoder and decoder, its prior a mixture fitted to the aggregate posterior.

        Args:
            items: sentences or series, as many as there are of the training: q(z|x) of each is a point of the fit.
            components: K of the mixture.
            iterations: passes over the items.
            seed: of the fit.

        Raises:
            ConfigError: for posteriors that are no diagonal Gaussians, a model of labels, or too few items.
        """
        q = self.encode(items)  # type: ignore[attr-defined]
        parameters = get_gaussian_parameters(q)
        if parameters is None or self.checkpoint.labels:
            raise ConfigError("the prior of this model cannot be fitted again: expected Gaussian posteriors, no labels")
        prior = refit_mixture(
            *(each.cpu() for each in parameters), components=components, iterations=iterations, seed=seed
        )
        part = {"name": "mixture", "components": components, "spread": 0.5}
        config = dataclasses.replace(self.config, model=dataclasses.replace(self.config.model, prior=part))
        model = copy.deepcopy(self.model)
        model.prior = prior.to(next(model.parameters()))
        return type(self)(dataclasses.replace(self.checkpoint, model=model, config=config))

    # -- how it samples -----------------------------------------------------------------------------------------------

    @property
    def generation_config(self) -> dict[str, float]:
        """The options that `sample` takes where none is given, such as `{"prior_temperature": 0.7}`; by default none.

        They are stored with the model, and its card and `seqvae sample` sample by them. No score depends on them.
        """
        return dict(self.checkpoint.generation_config)

    @generation_config.setter
    def generation_config(self, options: dict[str, float]) -> None:
        for name in options:
            choose("option of generation_config", name, self.sampling_options)
        check_sampling(**options)  # type: ignore[arg-type]
        self.checkpoint = dataclasses.replace(self.checkpoint, generation_config=dict(options))

    @abstractmethod
    def recommend_sampling(self) -> dict[str, float]:
        """Return options of `sample` that read well, the `generation_config` that `seqvae train` gives a model."""

    def choose_sampling(self, options: dict[str, Any]) -> dict[str, Any]:
        """Complete the options of `sample`, of which None is not given.

        Where none of them says how to sample (`sampling_options`, `beam`), those of `generation_config` do; else these
        play no part, so that temperature 1 is the model itself.
        """
        given = {name: value for name, value in options.items() if value is not None}
        if given.keys().isdisjoint(("beam", *self.sampling_options)):
            given |= self.checkpoint.generation_config
        return {"temperature": 1.0} | given

    def explore(self, items: Any = None, *, limit: int = 2000, seed: int = 0, height: int = 720) -> Any:
        """Show the latent space in a notebook: a map to hover, search and click.

        Args:
            items: sentences or series to draw, as `load_corpus` takes them; None draws those of the training's corpus,
                held-out ones where there are any.
            limit: of the items, which are then evenly spaced.
            seed: of the samples of the prior.
            height: of the frame, pixels.

        Returns:
            an object that a notebook displays.

        Raises:
            ConfigError: for a model without a latent space, or fewer than 3 items.
        """
        page = import_module("seqvae.explore.export")  # from a layer above this one, so only when it is asked for
        return page.show_inline(self, items, limit=limit, seed=seed, height=height)

    # -- the latent space ---------------------------------------------------------------------------------------------

    @property
    def default_path(self) -> str:
        """The path between two encoded points that stays in the latent space: `linear`, on a sphere `slerp`."""
        return "slerp" if self.model.prior.spherical else "linear"

    def sample_prior(self, n: int, *, seed: int | None = None, temperature: float = 1.0) -> Tensor:
        """Sample (n, D) points from p(z), or from it at a temperature (see `seqvae.latent.prior_temperature`)."""
        return paths.sample_prior(self.model, n, seed=seed, temperature=temperature)

    def interpolate_points(
        self, z0: Tensor | np.ndarray, z1: Tensor | np.ndarray, *, steps: int = 7, path: str = "linear"
    ) -> Tensor:
        """Return (steps, D) points from z0 (D,) to z1 (D,), both included, along `linear` or `slerp`."""
        self._require_latent()
        like = next(self.model.parameters())
        z0, z1 = (read_points(z[None], self.model.latent, like)[0] for z in (z0, z1))
        return paths.get_path(path)(z0, z1, steps)

    def _require_latent(self) -> None:
        if not self.model.has_latent:
            raise ConfigError("this model is of kind lm: it has no latent space to encode into; train one of kind vae")

    def _posterior(self, batches: IndexedBatches) -> Distribution:
        """Encode all rows: q(z|x), batch (B,) in the order of their indices, event (D,)."""
        self._require_latent()
        device = find_device(self.model)
        with evaluating(self.model):
            places, hidden = zip(
                *((torch.as_tensor(p), self.model.encode_features(batch.to(device))) for p, batch in batches),
                strict=True,
            )
            return self.model.posterior(torch.cat(hidden)[torch.cat(places).argsort()])


def load_checkpoint(name: str | Path, parts: Handed = ()) -> Checkpoint:
    """Load a model folder; or where there is none, a built-in model, or a model `owner/name` of the hub."""
    if not isinstance(name, str | Path):
        raise ConfigError(f"the name of a model is {shorten(name)}: expected a folder, or owner/name of the hub")
    folder, built_in = expand(name), list_built_in()
    if folder.exists():
        return Checkpoint.load(folder, parts)
    if str(name) in built_in:
        return Checkpoint.load(BUILT_IN / str(name), parts)
    if str(name).count("/") == 1 and not str(name).startswith((".", "/", "~")):
        return Checkpoint.load(_download(str(name)), parts)
    near = difflib.get_close_matches(str(name), built_in, n=1, cutoff=0.5)
    raise CheckpointError(
        f"no model folder at {folder}: expected a folder that `seqvae train` has written, OWNER/NAME of the hub, or a "
        f"built-in model: {', '.join(built_in)}" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def open_init(config: Config, folder: Path | None = None) -> Init | None:
    """Load the model that a run begins with; None if it begins with new weights.

    Args:
        config: of the run.
        folder: of a run that is resumed, which has all that is needed of that model.

    Raises:
        CheckpointError: if there is no such model.
        ConfigError: if it is not of text, or has no latent space.
    """
    name, parts = config.training.init, get_own_parts(config)
    if name is None:
        return None
    if folder is not None:
        return Init(name, Checkpoint.load(folder, parts), resumed=True)
    return Init(name, load_checkpoint(name, parts))


def read_init(options: dict[str, Any]) -> tuple[Config, Init | None]:
    """Return the configuration of some options, and the model that `init` names or is, if any."""
    given = options.get("init")
    if isinstance(given, Pretrained):
        init = Init.of(given)
        return build_config(options | {"init": init.name}), init
    config = build_config(options | ({"init": os.fspath(given)} if isinstance(given, os.PathLike) else {}))
    return config, open_init(config)


def list_built_in() -> list[str]:
    """List the names of the models that the package has in it."""
    return sorted(path.parent.name for path in BUILT_IN.glob(f"*/{CONFIG}"))


def complete_checkpoint(run: loop.Run) -> Checkpoint:
    """Return the best model of a training that is over."""
    if run.folder is None:
        return dataclasses.replace(run.checkpoint, facts=run.checkpoint.facts | {"step": run.best.step})
    return Checkpoint.load(run.folder, get_own_parts(run.config))


def build_config(options: dict[str, Any]) -> Config:
    """Build a configuration from options by name, each of which belongs to one group, and `config`, a recipe."""
    groups = {"data": Data, "model": Model, "objective": Objective, "training": Training}
    options = dict(options)
    if (recipe := options.pop("config", None)) is not None:
        options = add_recipe(recipe, options)
    whole = {name: options.pop(name) for name in ("kind", "target_kl", "target_by") if name in options}
    places = {field.name: name for name, group in groups.items() for field in dataclasses.fields(group)}
    values: dict[str, dict[str, Any]] = {name: {} for name in groups}
    for name, value in options.items():
        values[places[choose("option", name, places)]][name] = value
    return Config.from_dict(values | whole)


def hide_paths(config: Config, corpus: str) -> Config:
    """Return the configuration with names in place of the paths of the corpus, a tokenizer and a file of vectors."""
    paths = {name: getattr(config.data, name) for name in ("tokenizer", "embeddings")}
    names: dict[str, Any] = {
        n: Path(path).name for n, path in paths.items() if path is not None and Path(path).is_absolute()
    }
    return dataclasses.replace(config, corpus=corpus, data=dataclasses.replace(config.data, **names))


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, TOKENIZER]))
    except Exception as error:  # of a dozen types: no network, no such model, no permission
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"there is no folder {name}, and no model of that name could be fetched from the hub ({reason})"
        ) from None


# -- the model card ---------------------------------------------------------------------------------------------------

KINDS = {"vae": "VAE", "ae": "autoencoder", "lm": "language model"}


def format_card(trained: Pretrained, scores: Scores | None = None) -> str:
    """Format the model card: what the model is, how to use it, its corpus, samples from the prior and its scores."""
    checkpoint, config = trained.checkpoint, trained.config
    facts, conditioned, init = checkpoint.facts, bool(checkpoint.labels), checkpoint.facts.get("init")
    lines = [
        "---",
        "library_name: seqvae",
        f"tags: [variational-autoencoder, {trained.tag}]",
        *([f"pipeline_tag: {trained.tag}"] if checkpoint.tokenizer else []),
        "---",
        "",
        f"# A {trained.unit} {KINDS[config.kind]} of {facts.get('corpus', config.corpus)}",
        "",
        f"{describe_size(checkpoint)} Trained with `seqvae` for {facts.get('step', 0):,} steps.",
        "",
        *([f"Fine-tuned from `{init['name']}` (SHA-256 {init['sha256']} of its weights).", ""] if init else []),
        *([f"Conditioned on labels: {describe_labels(checkpoint)}.", ""] if conditioned else []),
        *format_usage(trained),
        "",
        "## Corpus",
        "",
        *[f"- {note}" for note in facts.get("notes", [])],
        "",
        "## Samples from the prior",
        "",
        *([f"Drawn with {describe_sampling(trained)}.", ""] if trained.generation_config else []),
        *[f"- {sample}" for sample in trained.preview_samples()],
    ]
    if scores is not None:
        lines += ["", "## Held-out scores", ""]
        lines += [explain_conditioning(config.data.label_column), ""] if conditioned else []
        lines += ["| score | value | meaning |", "|---|---|---|"]
        lines += [f"| {row.name} | {row.value} | {escape_cell(row.definition)} |" for row in format_rows(scores)]
    return "\n".join(lines) + "\n"


def describe_size(checkpoint: Checkpoint) -> str:
    """Return a sentence with the dimensions of z, the number of parameters, and the tokens or channels."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    parameters = sum(p.numel() for p in model.parameters())
    steps = f"{len(tokenizer):,} {tokenizer.kind} tokens" if tokenizer else f"{model.observation.size:,} channels"
    rounded = "" if checkpoint.dtype == DTYPES[0] else f", stored in {checkpoint.dtype}"
    return f"{model.latent} latent dimensions, {parameters:,} parameters{rounded}, {steps}."


def describe_sampling(trained: Pretrained) -> str:
    """Return the options that `sample` takes where none is given: `temperature 0.7, top_p 0.9`; or temperature 1."""
    return ", ".join(f"{name} {value:g}" for name, value in trained.choose_sampling({}).items())


def format_usage(trained: Pretrained) -> list[str]:
    """Return the lines of a block of Python that loads the model and samples from it."""
    name, checkpoint = type(trained).__name__, trained.checkpoint
    label = f"label={next(iter(checkpoint.labels))!r}, " if checkpoint.labels else ""
    temperature = "temperature=0.8, " if checkpoint.tokenizer and not trained.generation_config else ""
    return [
        "```python",
        f"from seqvae import {name}",
        f'model = {name}.from_pretrained("this/folder")',
        f"model.sample(5, {label}{temperature}seed=1)",
        "```",
    ]


def describe_labels(checkpoint: Checkpoint) -> str:
    """Return the label column and its labels with their fractions of the training sentences, the most common first."""
    total = sum(checkpoint.labels.values())
    order = sorted(checkpoint.labels, key=checkpoint.labels.__getitem__, reverse=True)
    fractions = list_names(f"{name} ({checkpoint.labels[name] / total:.1%})" for name in order)
    return f"{checkpoint.config.data.label_column}: {fractions}"


def explain_conditioning(column: str | None) -> str:
    """Return what the scores of a conditional model mean."""
    return (
        f"Each sentence is scored given its label y, the {column}: p(x) is p(x|y), q(z|x) is q(z|x, y), I(x; z) "
        "is the information of z about sentence and label together; the baselines have no label."
    )


def escape_cell(text: str) -> str:
    """Escape a text for a cell of a Markdown table."""
    return text.replace("|", r"\|")

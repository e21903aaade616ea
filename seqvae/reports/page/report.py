"""The page of a model as one HTML file that loads nothing else: no network, readable in light, in dark and on a phone.

All of it is there without JavaScript; a little of it, inline, shows the sentence at a point of the map.
"""

import os
import platform
import shlex
from collections.abc import Mapping
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch

import seqvae
from seqvae import pretrained
from seqvae.auto import AnyVAE
from seqvae.config import Config
from seqvae.evaluation.scores import Row, format_rows
from seqvae.pretrained import KINDS, describe_size
from seqvae.reports.examine import Examination
from seqvae.reports.page.drawing import draw_panel
from seqvae.reports.page.examples import STEPS, Examples, format_options, make_examples
from seqvae.reports.page.figures import draw_bars, draw_curves, draw_map, read_validations
from seqvae.reports.page.summary import Quality, TextQuality, summarize
from seqvae.training.checkpoint import METRICS, write
from seqvae.training.precision import CPU, identify

REPORT = "report.html"


def write_report(
    model: AnyVAE,
    folder: Path,
    *,
    split: Any = None,
    found: Examination | None = None,
    examples: Examples | None = None,
    quality: Quality | None = None,
    machine: str = "",
) -> Path:
    """Write `report.html` into a model folder and return its path.

    Args:
        model: the model; its training is read from `metrics.jsonl` of the folder, if there is one.
        folder: an existing folder.
        split: held-out items, those of `found`; None leaves out what needs them.
        found: their scores and the diagnosis.
        examples: what is shown; by default samples, and of `split` reconstructions and walks.
        quality: of the reconstructions, for the table of scores.
        machine: what the model was trained on (see `describe_machine`).

    Raises:
        CheckpointError: if it cannot be written.
    """
    examples = examples or make_examples(model, split, seed=model.config.training.seed)
    page = render(model, folder, split, found, examples, quality, machine)
    write(folder / REPORT, lambda path: path.write_text(page, encoding="utf-8"))
    return folder / REPORT


def render(
    model: AnyVAE,
    folder: Path,
    split: Any,
    found: Examination | None,
    examples: Examples,
    quality: Quality | None,
    machine: str,
) -> str:
    """Render the page from `page.html.jinja`; arguments as of `write_report`."""
    from jinja2 import Environment, PackageLoader

    config, facts = model.config, model.checkpoint.facts
    validations = read_validations(folder / METRICS)
    environment = Environment(
        loader=PackageLoader("seqvae.reports.page", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    mapped = bool(model.model.latent) and found is not None and split is not None
    return environment.get_template("page.html.jinja").render(
        title=f"A {model.unit} {KINDS[config.kind]} of {facts.get('corpus', config.corpus)}",
        model=model,
        size=describe_size(model.checkpoint),
        diagnosis=found and found.diagnosis,
        summary=summarize(model, found, quality) if found else [],
        examples=examples,
        steps=STEPS,
        sampling=format_options(examples.options),
        panels=Panels(examples) if examples.drawn else None,
        map=draw_map(model, split, _get_means(found), seed=config.training.seed) if mapped else None,
        curves=draw_curves(validations, latent=bool(model.model.latent)),
        bars=draw_bars(found.scores) if found and model.model.latent else None,
        sections=group_rows(found, quality) if found else {},
        baselines=found.baselines if found else {},
        condition=pretrained.explain_conditioning(config.data.label_column) if model.labels else "",
        options=find_changed_options(model),
        facts=list_facts(model, folder, validations, machine),
    )


def _get_means(found: Examination | None) -> np.ndarray:
    assert found is not None
    means: np.ndarray = found.table.mean.cpu().numpy()
    return means


class Panels:
    """The series of a page as lines in small panels, all with the same axes."""

    def __init__(self, examples: Examples) -> None:
        series = [item for _, item in examples.samples]
        series += [one for pair in examples.reconstructions for one in (pair.original, pair.result)]
        series += [step for walk in examples.walks for step, _ in walk.steps]
        values = np.concatenate([np.asarray(one).ravel() for one in series])
        values = values[np.isfinite(values)]
        self.low, self.high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        self.frames = max(len(one) for one in series)

    def draw(self, series: np.ndarray) -> list[str]:
        """Return the `points` of each channel."""
        return draw_panel(series, self.low, self.high, self.frames)


def group_rows(found: Examination, quality: Quality | None) -> dict[str, list[Row]]:
    """Return the rows of all scores by section, those of the reconstructions last."""
    sections = {name: list(rows) for name, rows in groupby(format_rows(found.scores), attrgetter("section"))}
    if isinstance(quality, TextQuality):
        sections["reconstruction"] = [
            Row(
                "",
                "exact_match",
                f"{quality.exact_match:.3f}",
                "fraction of these sentences that come back word for word",
            ),
            *(
                []
                if quality.bleu is None
                else [Row("", "bleu", f"{quality.bleu:.1f}", "their corpus BLEU-4, 0 to 100")]
            ),
        ]
    elif quality is not None:
        sections |= {name: list(rows) for name, rows in groupby(format_rows(quality), attrgetter("section"))}
    return sections


def find_changed_options(model: AnyVAE) -> list[tuple[str, str, str]]:
    """Return the options that differ from the defaults of such a model: name, value, default."""
    config = model.config
    usual = flatten(type(model).resolve(Config(corpus=config.corpus, kind=config.kind)))
    given = flatten(config)
    given = {name: value for name, value in given.items() if name not in ("corpus", "kind")}
    return [
        (name, _format_option(value), _format_option(usual.get(name)))
        for name, value in given.items()
        if value != usual.get(name) and not (name == "target_by" and config.target_kl is None)
    ]


def flatten(config: Config) -> dict[str, Any]:
    """Return all options by the names that the command line has for them."""
    flat: dict[str, Any] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                add(f"{prefix}{name}.", value)
            else:
                flat[f"{prefix}{name}"] = value

    for name, value in config.to_dict().items():
        add("" if name in ("data", "training") else f"{name}.", value) if isinstance(value, Mapping) else add(
            "", {name: value}
        )
    return flat


def _format_option(value: Any) -> str:
    return "not set" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def list_facts(
    model: AnyVAE, folder: Path, validations: list[dict[str, Any]], machine: str
) -> list[tuple[str, list[str]]]:
    """Return names and values of what made the model: command, corpus, duration, machine, versions."""
    config, facts = model.config, model.checkpoint.facts
    recipe = shlex.quote(str(folder / "recipe.toml"))
    command = f"seqvae train {shlex.quote(config.corpus)} --config {recipe}"
    seconds = max((float(entry.get("seconds", 0)) for entry in validations), default=0.0)
    duration = f"{facts.get('step', 0):,} steps to the kept model"
    duration += f", {format_seconds(seconds)} of training to the last validation" if seconds else ""
    rows = [
        ("command", [command]),
        ("corpus", [str(facts.get("corpus", config.corpus)), *facts.get("notes", [])]),
        ("model", [describe_size(model.checkpoint)]),
        ("duration", [duration]),
        ("machine", [machine] if machine else []),
        ("seed", [str(config.training.seed)]),
        ("versions", [f"seqvae {seqvae.__version__}, torch {torch.__version__}, Python {platform.python_version()}"]),
    ]
    return [(name, values) for name, values in rows if values]


def format_seconds(seconds: float) -> str:
    """Format a duration.

    >>> format_seconds(42), format_seconds(300), format_seconds(9000)
    ('42 seconds', '5.0 minutes', '2.5 hours')
    """
    for limit, size, unit in ((100, 1, "seconds"), (6000, 60, "minutes")):
        if seconds < limit:
            return f"{seconds:.0f} {unit}" if size == 1 else f"{seconds / size:.1f} {unit}"
    return f"{seconds / 3600:.1f} hours"


def describe_machine(device: torch.device) -> str:
    """Describe what this process computes on: an accelerator, or the processor and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = identify(CPU).partition("{")[0].partition(":")[2].strip()
    processor = name or platform.processor() or platform.machine()
    return f"{processor}, threads: {torch.get_num_threads()} on {os.cpu_count()} processors, {platform.system()}"

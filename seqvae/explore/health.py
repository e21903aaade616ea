"""The health of a model: its diagnosis, and the curves of its training, also while it runs."""

from pathlib import Path
from typing import Any

from seqvae.evaluation.evaluate import score_split
from seqvae.explore.answers import Health
from seqvae.reports.examine import diagnose_scores
from seqvae.reports.page.figures import read_validations
from seqvae.training.checkpoint import METRICS

DIAGNOSED = 100  # items that the diagnosis is made from, at most
SAMPLES = 4
CURVES = ("elbo", "reconstruction", "kl", "weight")


def read_run(folder: str | Path) -> Health:
    """Read the curves of a run from its metrics.jsonl, as far as it is written; empty ones if there is none yet."""
    found = read_validations(Path(folder) / METRICS)
    return Health(
        rate=[float(entry["kl"]) for entry in found],
        distortion=[float(entry["reconstruction"]) for entry in found],
        curves={name: [[float(e["step"]), float(e[name])] for e in found] for name in CURVES} if found else {},
    )


def examine_space(model: Any, split: Any, folder: str | Path | None = None) -> Health:
    """Diagnose a model on at most 100 items (4 samples each; without baselines), and read its run if one is named."""
    options: dict[str, Any] = {"samples": SAMPLES, "seed": 0, "seeds": 1, "refined": 0}
    scores, _ = score_split(model.model, split.at_most(DIAGNOSED), target_kl=model.config.kl_target, **options)
    found = diagnose_scores(model, scores, folder=None if folder is None else str(folder))
    named = {f"Evidence, of {scores.sentences} {model.units}": found.evidence, "What may help": found.advice}
    lines = [f"{found.state}: {found.meaning}"]
    lines += [f"{name}: {'; '.join(texts)}" for name, texts in named.items() if texts]
    run = read_run(folder) if folder is not None else Health()
    lines += [f"Command: {found.command}"] if found.command else []
    return Health(lines, run.rate, run.distortion, run.curves)

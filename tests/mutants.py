"""Mistakes planted in the mathematics, one at a time: how many of them do the tests notice?

    python -m tests.mutants

Each is planted in a copy of the package, where the tests named beside it in the table run until the first fails.
About 15 minutes on two cores. Not part of the suite; a test that is thinned out is judged by this.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAWS = "tests/laws"
# The code, the mistake in its place, and the tests that should notice.
MUTANTS = [
    ("return cast(Tensor, q.log_prob(z) - p.log_prob(z))", "return cast(Tensor, p.log_prob(z) - q.log_prob(z))", LAWS),
    ("return -self.log_prob.sum(1)", "return -self.log_prob.mean(1)", f"{LAWS}/test_objective.py"),
    ("(log_variance.clamp(-15, 15) / 2).exp()", "log_variance.clamp(-15, 15).exp()", f"{LAWS} tests/oracle"),
    ("loss = loss + weight * self.divergence(trace).mean()", "loss = loss + self.divergence(trace).mean()", LAWS),
    ("return self.weight(step) if step >= 0 else 0.0", "return self.weight(step + 1) if step >= 0 else 0.0", LAWS),
    (".clamp_min(self.free_bits / dimensions.shape[1]).sum(1)", ".clamp_min(self.free_bits).sum(1)", "tests/objective/test_term_values.py tests/laws"),
    ("self.rate - mean)", "mean - self.rate)", "tests/objective/test_kl_controlled.py"),
    ("(values.sum() - values.diagonal().sum()) / (len(a) * (len(a) - 1))", "values.mean()", "tests/objective/test_term_values.py tests/laws"),
    ("2 * dimensions * s / (2 * dimensions * s + squares)", "2 * s / (2 * s + squares)", "tests/objective/test_term_values.py tests/objective/test_term_parts.py"),
    ("shift.square().sum(1) + scaling.square().sum(1)", "shift.square().sum(1) + scaling.abs().sum(1)", "tests/objective/test_term_values.py tests/objective/test_term_parts.py"),
    ("joint - marginals, marginals - p.log_prob(z)", "marginals - joint, marginals - p.log_prob(z)", "tests/objective/test_term_values.py tests/objective/test_term_parts.py"),
    ("F.softplus(fake) + F.softplus(-real)", "F.softplus(-fake) + F.softplus(real)", "tests/objective/test_term_parts.py"),
    ("torch.logsumexp(each, 1) - math.log(len(each))", "torch.logsumexp(each, 1)", "tests/objective/test_term_parts.py tests/objective/test_term_values.py"),
    ("(math.log(samples) - logs.logsumexp(1)).mean()", "-logs.logsumexp(1).mean()", "tests/training/test_update_kinds.py"),
    ("factor = (1 - weight * (1 - normalized)).view(-1, 1)", "factor = normalized.view(-1, 1)", "tests/training/test_update_kinds.py"),
    ("self._sums()[0] - math.log(self.count)", "self._sums()[0]", "tests/evaluation/test_bounds.py tests/evaluation/test_metrics.py"),
    ("return (2 * total - squares).exp()", "return (total - squares).exp()", "tests/evaluation/test_bounds.py tests/evaluation/test_metrics.py seqvae/evaluation"),
    ("weights.add(log_prob - log_ratio)", "weights.add(log_prob + log_ratio)", "tests/evaluation/test_bounds.py"),
    ("return nll / (units * math.log(2))", "return nll / units", "tests/evaluation/test_metrics.py seqvae/evaluation"),
    ("/ max(1, len(means) - 1)", "/ len(means)", "tests/evaluation/test_metrics.py seqvae/evaluation"),
    ("float(values.double().std()) / math.sqrt(len(values))", "float(values.double().std()) / len(values)", "tests/evaluation/test_metrics.py seqvae/evaluation"),
    ("low = own - torch.logaddexp(others, own) + math.log(count)", "low = own - others + math.log(count)", "tests/evaluation/test_aggregate_posterior.py tests/evaluation/test_numbers.py"),
    ("return p.log_prob(z).double() - aggregate_log_prob(q, z)", "return aggregate_log_prob(q, z) - p.log_prob(z).double()", "tests/evaluation/test_aggregate_posterior.py tests/latent/test_density.py"),
    ("return total - math.log(count if own else count - 1)", "return total - math.log(count)", "tests/evaluation/test_aggregate_posterior.py"),
    ("self.gamma * m + self.shift", "m + self.shift", "tests/model/test_posterior_kinds.py"),
    ("if 0.5 * math.expm1(2 * middle) - middle >= rate:", "if 0.5 * math.expm1(2 * middle) >= rate:", "tests/model/test_posterior_kinds.py tests/model/test_spaces.py seqvae/model/posteriors.py"),
    ("return 0.5 * (terms.sum(-1) - q.log_determinant)", "return 0.5 * (terms.sum(-1) + q.log_determinant)", "tests/laws/test_posteriors.py tests/model/test_posterior_kinds.py"),
    ("order * math.log(kappa) - dimensions / 2 * math.log(2 * math.pi) - log_i", "order * math.log(kappa) - log_i", "tests/laws/test_posteriors.py tests/model/test_spaces.py"),
    ("math.log1p(-(spread**2))", "-(spread**2)", "tests/laws/test_priors.py tests/model/test_learnt_priors.py"),
    ("log_prob = log_prob.index_add(0, rows, gain)", "log_prob = log_prob.index_add(0, rows, -gain)", "tests/laws/test_observations.py tests/model/test_decoding.py"),
    ("0.5 * error**2 + self.scale.log() + 0.5 * math.log(2 * math.pi)", "0.5 * error**2 + 0.5 * math.log(2 * math.pi)", "tests/laws/test_observations.py tests/model/test_frames.py"),
    ("p.cumsum(-1) - p >= top_p", "p.cumsum(-1) >= top_p", "tests/model/test_decoding.py tests/model/test_sampling.py"),
    ("p < min_p * p.amax(-1, keepdim=True)", "p < min_p", "tests/model/test_decoding.py tests/model/test_sampling.py"),
    ("torch.lerp(norm_a, norm_b, t) * (angle.cos() * u + angle.sin() * e)", "norm_a * (angle.cos() * u + angle.sin() * e)", "tests/latent/test_paths.py"),
    ("return self.end * min(1.0, tau / self.ratio)", "return self.end * min(1.0, tau)", "tests/laws/test_schedules.py"),
    ("(tokens != PADDING) & (tokens != START) & (tokens != END)", "(tokens != PADDING) & (tokens != START)", "tests/laws/test_noise.py tests/model/test_denoising.py"),
    ("return training.learning_rate * warmup * decay * 0.5**halvings", "return training.learning_rate * warmup * decay", "tests/training/test_trainer.py tests/training/test_loop.py"),
    ("{\"params\": others, \"weight_decay\": 0.0}", "{\"params\": others, \"weight_decay\": weight_decay}", "tests/training/test_trainer.py"),
    ("return torch.where(batch.mask, self.observation.log_prob(features, batch.targets), 0.0)", "return self.observation.log_prob(features, batch.targets)", LAWS),
    ("torch.cat([vectors, self.condition(labels.to(vectors.device))], dim=-1)", "torch.cat([vectors, 0 * self.condition(labels.to(vectors.device))], dim=-1)", "tests/laws/test_conditions.py"),
]  # fmt: skip


def place_of(before: str) -> Path:
    """Return the one file of the package that contains the text, once."""
    found = [p for p in sorted((ROOT / "seqvae").rglob("*.py")) if before in p.read_text(encoding="utf-8")]
    assert len(found) == 1 and found[0].read_text(encoding="utf-8").count(before) == 1, (before, found)
    return found[0].relative_to(ROOT)


def run_tests(mutant: tuple[str, str, str]) -> str:
    """Return the first test that fails with the mistake in place; empty if none does."""
    before, after, tests = mutant
    path = place_of(before)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "seqvae"
        ignored = shutil.ignore_patterns(".git", "runs", "logs", "comparisons", "__pycache__", ".*cache")
        shutil.copytree(ROOT, copy, ignore=ignored)
        text = (copy / path).read_text(encoding="utf-8")
        (copy / path).write_text(text.replace(before, after), encoding="utf-8")
        options = ["-n", "0", "-x", "-q", "--no-header", "--tb=no", "-p", "no:randomly", "-p", "no:cacheprovider"]
        existing = [test for test in tests.split() if (ROOT / test).exists()]
        environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", *options, *existing]
        run = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return failed[0].split(" - ")[0] if run.returncode else ""


def main() -> None:
    """Print a line for each mistake, and how many were noticed."""
    for before, _, _ in MUTANTS:
        place_of(before)
    chosen = MUTANTS[int(sys.argv[1]) :: int(sys.argv[2])] if len(sys.argv) == 3 else MUTANTS
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(run_tests, chosen))
    for (before, after, _), by in zip(chosen, results, strict=True):
        print(f"{'noticed ' if by else 'ESCAPED '} {place_of(before)}: {before} -> {after}\n           {by}")
    print(f"{sum(map(bool, results))} of {len(results)} noticed")


if __name__ == "__main__":
    main()

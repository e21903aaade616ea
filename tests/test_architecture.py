"""The layers: a module imports only from lower ones, or from siblings of its own without going round in a circle."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqvae

ROOT = Path(seqvae.__file__).parent

# Every module has its place here; a new one fails until somebody has thought about where it belongs.
LAYERS = [
    "batch drawing divergences spherical flows schedules errors arguments rng options targets config pace machine "
    "validity measures measures.scores measures.text_scores comparison comparison.tables",
    "dropout filters noise noise.base noise.denoising noise.word_dropout "
    "attention encoders encoders.base encoders.recurrent encoders.transformer "
    "decoders decoders.base decoders.recurrent decoders.transformer "
    "observations observations.base observations.tokens observations.frames "
    "posteriors posteriors.base posteriors.gaussian posteriors.batch_norm posteriors.delta posteriors.deterministic "
    "posteriors.low_rank posteriors.von_mises_fisher "
    "priors priors.base priors.normal priors.gaussian priors.flow priors.mixture priors.sphere priors.vamp "
    "series series.corpus series.curves series.floors series.sources "
    "text text.batching text.containers text.corpus text.dialects text.encoding text.faults text.files text.folders "
    "text.grammar text.labels text.lexicon text.ngrams text.pipelines text.records text.sotu text.sources "
    "text.spacing text.splitting text.tokenizer text.unknown",
    "vae",
    "terms terms.term terms.rate terms.controlled terms.discrepancy terms.transport "
    "terms.adversarial terms.total_correlation terms.auxiliary objective",
    "half_precision processes sharing decoding unrolling measures.tracking "
    "measures.metrics measures.measured measures.draws measures.aggregate measures.bounds "
    "densities measures.proposals measures.refinement measures.probes measures.surface measures.diversity",
    "trainer updates updates.joint updates.lagging updates.pretraining updates.importance updates.semi_amortized "
    "generation aggregated steering measures.space measures.evaluation measures.held_out measures.vitals "
    "measures.remedies measures.doctor comparison.outcomes comparison.drawing comparison.scales comparison.plots "
    "comparison.report",
    "dry_run build checkpoint card recipes",
    "validation fitting runs pretrained textvae seriesvae "
    "text_evaluation examination show show_series series_plots "
    "commands commands.comparing commands.generating commands.measuring commands.reading commands.series "
    "commands.steering commands.training "
    "cli cli.arguments cli.comparing cli.generating cli.measuring cli.shared cli.steering cli.streams cli.training "
    "__main__",
]
LAYER = {module: layer for layer, modules in enumerate(LAYERS) for module in modules.split()}
SPEAKERS = {"cli", "commands", "show", "show_series"}
LIGHT = ["seqvae", "seqvae.config", "seqvae.errors", "seqvae.cli"]
HEAVY = ["torch", "datasets", "accelerate", "transformers", "pandas", "pyarrow", "numpy", "matplotlib"]


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = [name for name in FILES if name]  # all but the front door, which only names what it opens on demand


def imports(tree):
    """The modules of the package that a module imports, wherever in the file, annotations' ones too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name.removeprefix("seqvae.") in FILES else node.module for name in whole}
    return {name.removeprefix("seqvae.") for name in found if name.startswith("seqvae.")}


TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
GRAPH = {name: imports(TREES[name]) for name in MODULES}


def test_every_module_has_its_layer_and_every_place_its_module():
    assert set(MODULES) == set(LAYER)


def test_a_module_imports_from_no_higher_layer():
    upward = {f"{m} -> {other}" for m in MODULES for other in GRAPH[m] if LAYER.get(other, -1) > LAYER.get(m, -1)}
    assert not upward


def test_no_module_imports_itself_by_a_detour():
    def reachable(module, seen):
        for other in GRAPH.get(module, ()):
            if other not in seen:
                seen.add(other)
                reachable(other, seen)
        return seen

    assert not [module for module in MODULES if module in reachable(module, set())]


def test_the_graph_sees_the_imports_that_there_are():
    assert GRAPH["vae"] >= {"batch", "encoders", "decoders"} and GRAPH["text.corpus"] >= {"text.tokenizer", "batch"}
    assert imports(ast.parse("from seqvae.text import sotu\ndef f():\n    import seqvae.cli")) == {"text.sotu", "cli"}


def test_text_and_the_rooms_know_no_model():
    low = [m for m in MODULES if m.startswith(("text.", "series.")) or LAYER.get(m) == 1]
    assert not [m for m in low if GRAPH[m] & {"vae", "objective", "trainer", "checkpoint", "build"}]


def calls(tree):
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def test_the_library_never_prints():
    assert not [module for module in TREES.keys() - SPEAKERS if "print" in calls(TREES[module])]


def test_nothing_is_pickled_or_executed():
    for name, tree in TREES.items():
        modules = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
        modules |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        assert not modules & {"pickle", "cloudpickle", "dill", "joblib", "marshal"}, name
        assert not calls(tree) & {"eval", "exec"}, name


def test_files_of_torch_are_read_with_weights_only():
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert ("weights_only", "True") in {(k.arg, ast.unparse(k.value)) for k in node.keywords}, name


@pytest.mark.parametrize("module", LIGHT)
def test_what_answers_help_imports_nothing_heavy(module):
    code = f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT.parent, check=True)
    assert run.stdout.split() == []


def test_the_public_names_are_there():
    assert all(hasattr(seqvae, name) for name in seqvae.__all__)
    with pytest.raises(AttributeError, match="TextVEA"):
        seqvae.TextVEA  # noqa: B018

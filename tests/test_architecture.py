"""The packages: one imports only from lower ones, and no module imports itself, even indirectly."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqvae

ROOT = Path(seqvae.__file__).parent

# From the lowest layer up: a package imports from those above it in this list, and from itself without a circle.
LAYERS = [
    "errors rng schedules config",
    "data",
    "model",
    "objective",
    "evaluation",
    "latent",
    "training",
    "pretrained testing",
    "writing",
    "text_vae series_vae",
    "auto export sentence_encoder",
    "reports",
    "explore",
    "cli __main__",
]
LAYER = {package: layer for layer, packages in enumerate(LAYERS) for package in packages.split()}
PRINTING = {"cli"}
LIGHT = ["seqvae", "seqvae.config", "seqvae.errors", "seqvae.cli"]
HEAVY = ["torch", "datasets", "accelerate", "transformers", "pandas", "pyarrow", "numpy", "matplotlib"]


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}
MODULES = [name for name in FILES if name]  # all but the package itself, which only names what it imports on demand


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


def package_of(module):
    return module.partition(".")[0]


def test_every_package_has_its_layer():
    assert {package_of(module) for module in MODULES} == set(LAYER)


def test_a_package_imports_only_from_lower_ones():
    arrows = {(package_of(m), package_of(other)) for m in MODULES for other in GRAPH[m]}
    assert not [(one, other) for one, other in arrows if LAYER[other] > LAYER[one]]


def test_no_module_imports_itself_indirectly():
    def reachable(module, seen):
        for other in GRAPH.get(module, ()):
            if other not in seen:
                seen.add(other)
                reachable(other, seen)
        return seen

    assert not [module for module in MODULES if module in reachable(module, set())]


def test_the_graph_sees_the_imports_that_there_are():
    assert GRAPH["model.vae"] >= {"data.batch", "model.encoders", "model.decoders"}
    assert imports(ast.parse("from seqvae.data.text import sotu\ndef f():\n    import seqvae.cli")) == {
        "data.text.sotu",
        "cli",
    }


# Imported by name inside a function, against the layers: module -> what, and why.
BY_NAME = {"pretrained": "seqvae.explore.export"}  # `model.explore()` is a method of the model, for notebooks


def test_what_is_imported_by_name_is_listed():
    found = [
        (module, node.args[0].value)
        for module in MODULES
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module")
        if isinstance(node.args[0], ast.Constant) and node.args[0].value.startswith("seqvae")
    ]
    assert found == list(BY_NAME.items())


def calls(tree):
    return {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}


def test_the_library_never_prints():
    quiet = [module for module in TREES if package_of(module) not in PRINTING]
    assert not [module for module in quiet if "print" in calls(TREES[module])]


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

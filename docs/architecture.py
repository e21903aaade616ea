"""Draw the packages of seqvae, and list the files that a text enters on its way to its loss, and z on its way to text.

    python docs/architecture.py

writes docs/architecture.svg and the lists in docs/architecture.md. Both come from the code as it is: the picture from
its imports, the lists from a training step and a `seqvae sample` that are run and watched. About 20 seconds.
"""

import ast
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from html import escape
from pathlib import Path
from textwrap import wrap

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "seqvae"
TEXT_TO_LOSS = "text_vae.py:read_corpus,training/trainer.py:_step"  # between these, a training is set up
Z_TO_TEXT = "text_vae.py:generate,text_vae.py:sample_prior,pretrained.py:sample_prior,cli/output.py:print_sentences"
WIDTH, GAP, LINE, TEXT = 340, 26, 17, 43  # pixels, and characters in a line of a box


def find_modules() -> dict[str, Path]:
    """Return the path of each module by its name below `seqvae`, but for the file that only names what it opens."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found.pop("")
    return found


def find_imports(modules: dict[str, Path]) -> set[tuple[str, str]]:
    """Return which package (or module at the top) imports which, wherever in a file the import stands."""
    arrows = set()
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "seqvae":
                for alias in node.names:
                    full = f"{node.module}.{alias.name}".removeprefix("seqvae.")
                    arrows.add((name.split(".")[0], full.split(".")[0]))
    tops = {name.split(".")[0] for name in modules}
    return {(one, other) for one, other in arrows if one != other and other in tops}


def find_floors(tops: set[str], arrows: set[tuple[str, str]]) -> dict[str, int]:
    """Return the floor of each package: 0 imports none, others stand one above the highest that they import."""
    below = {top: {other for one, other in arrows if one == top} for top in tops}
    floors: dict[str, int] = {}
    while len(floors) < len(tops):
        ready = [top for top in tops - floors.keys() if below[top] <= floors.keys()]
        assert ready, "packages import each other in a circle"
        floors |= {top: max((floors[other] + 1 for other in below[top]), default=0) for top in ready}
    return floors


def thin_out(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the arrows that no chain of others stands for."""
    below = defaultdict(set)
    for one, other in arrows:
        below[one].add(other)

    def reach(top: str) -> set[str]:
        return below[top].union(*(reach(other) for other in below[top]))

    return {(a, b) for a, b in arrows if not any(b in reach(c) for c in below[a] - {b})}


def describe(top: str, modules: dict[str, Path]) -> list[str]:
    """Return the lines of a box: what it is for, then its files."""
    names = [name for name in modules if name.split(".")[0] == top]
    docstring = ast.get_docstring(ast.parse(modules[top].read_text(encoding="utf-8"))) or ""
    purpose = docstring.split("\n\n")[0].replace("\n", " ").split(". ")[0].split("; ")[0].rstrip(".")
    inside = [name.removeprefix(f"{top}.") for name in names if name != top]
    packages = {name.split(".")[0] for name in inside if "." in name}
    grouped = [name for name in inside if "." not in name and name not in packages]
    for package in sorted(packages):
        files = [name.split(".")[1] for name in inside if name.startswith(f"{package}.")]
        grouped.append(f"{package} ({', '.join(files)})")
    return [*wrap(purpose, TEXT), *([""] if grouped else []), *wrap(", ".join(grouped), TEXT)]


def draw(modules: dict[str, Path]) -> str:
    """Return the picture as SVG: a row for each floor, an arrow down for each import that no chain stands for."""
    arrows = find_imports(modules)
    tops = {name.split(".")[0] for name in modules}
    floors = find_floors(tops, arrows)
    rows = [sorted(top for top in tops if floors[top] == floor) for floor in range(max(floors.values()), -1, -1)]
    widest = max(map(len, rows))
    whole = widest * (WIDTH + GAP) + GAP
    places, boxes, y = {}, [], GAP
    for row in rows:
        texts = {top: describe(top, modules) for top in row}
        height = max(map(len, texts.values())) * LINE + 34
        x = (whole - len(row) * (WIDTH + GAP) + GAP) / 2
        for top in row:
            lines = sum(
                len(p.read_text(encoding="utf-8").splitlines()) for n, p in modules.items() if n.split(".")[0] == top
            )
            places[top] = (x + WIDTH / 2, y, y + height)
            boxes.append(f'<rect x="{x:.0f}" y="{y}" width="{WIDTH}" height="{height}" rx="6"/>')
            boxes.append(f'<text class="name" x="{x + 10:.0f}" y="{y + 21}">{top}</text>')
            boxes.append(f'<text class="size" x="{x + WIDTH - 10:.0f}" y="{y + 21}">{lines:,} lines</text>')
            for number, text in enumerate(texts[top]):
                boxes.append(f'<text x="{x + 10:.0f}" y="{y + 41 + number * LINE}">{escape(text)}</text>')
            x += WIDTH + GAP
        y += height + GAP + 14
    lines = []
    for one, other in sorted(thin_out(arrows)):
        (x0, _, y0), (x1, y1, _) = places[one], places[other]
        middle = (y0 + y1) / 2
        lines.append(f'<path d="M{x0:.0f} {y0} C{x0:.0f} {middle:.0f} {x1:.0f} {middle:.0f} {x1:.0f} {y1 - 3}"/>')
    style = (
        "svg{background:#fff} rect{fill:#f4f6fa;stroke:#49597a} text{font:12px monospace;fill:#222} "
        ".name{font:bold 15px sans-serif;fill:#16305e} .size{text-anchor:end;fill:#667} "
        "path{fill:none;stroke:#8a97b1;marker-end:url(#tip)}"
    )
    tip = '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    tip += '<path d="M0 0L8 4L0 8z" style="fill:#8a97b1;stroke:none;marker-end:none"/></marker>'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {y - GAP}" width="{whole}" height="{y - GAP}">'
    )
    return "\n".join([head, f"<style>{style}</style><defs>{tip}</defs>", *lines, *boxes, "</svg>"]) + "\n"


WATCH = """
import sys
from seqvae.cli import main
from seqvae.training.trainer import Trainer

place, windows, entered, inside = sys.argv[1] + "/", sys.argv[2].split(","), {}, {}


def watch(frame, event, argument):
    code = frame.f_code
    name = code.co_filename.removeprefix(place)
    if event != "call" or name == code.co_filename or name in inside or code.co_name.startswith("<"):
        return
    above, within = frame, False
    while above is not None:  # what runs while a module is imported, a class body among it, is no visit
        if not above.f_code.co_flags & 2 and above.f_code.co_filename != "<string>":
            return
        within |= above.f_code.co_filename.removeprefix(place) + ":" + above.f_code.co_name in windows
        above = above.f_back
    entered.setdefault(name, code.co_name)
    if within:
        inside[name] = code.co_name


class Seen(Exception):
    pass


def step_once(self, *arguments):
    step(self, *arguments)
    raise Seen


step, Trainer._step = Trainer._step, step_once
sys.setprofile(watch)
try:
    main(sys.argv[3:])
except Seen:
    pass
sys.setprofile(None)
print()
print(*(f"INSIDE {name} {function}" for name, function in inside.items()), sep="\\n")
print(*(f"AROUND {name} {function}" for name, function in entered.items() if name not in inside), sep="\\n")
"""


def trace(windows: str, *arguments: str) -> dict[str, list[tuple[str, str]]]:
    """Return the files that a command enters up to its first step, or its end, and the function by which it does.

    Args:
        windows: functions, as `text_vae.py:generate`, separated by commas: what runs in them is INSIDE.
        arguments: of the command.
    """
    run = subprocess.run(
        [sys.executable, "-c", WATCH, str(PACKAGE), windows, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=DOCS.parent,
    )
    found: dict[str, list[tuple[str, str]]] = {"INSIDE": [], "AROUND": []}
    for line in run.stdout.splitlines():
        if line.startswith(("INSIDE ", "AROUND ")):
            kind, name, function = line.split()
            found[kind].append((name, function))
    return found


def to_text(visits: dict[str, list[tuple[str, str]]]) -> str:
    """Return the visits: a numbered list of those INSIDE, then those AROUND in a paragraph."""
    rows = [f"{number}. `{name}`: `{function}`" for number, (name, function) in enumerate(visits["INSIDE"], 1)]
    around = ", ".join(f"`{name}`" for name, _ in visits["AROUND"])
    text = f"What comes before it, {len(visits['AROUND'])} files: {around}."
    return "\n".join([*rows, "", *wrap(text, 120, break_on_hyphens=False)])


def main() -> None:
    """Write the picture and the lists."""
    modules = find_modules()
    (DOCS / "architecture.svg").write_text(draw(modules), encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_DATASETS_CACHE"] = folder  # as on a machine that has not read this corpus before
        corpus, model = Path(folder, "corpus.txt"), str(Path(folder, "model"))
        corpus.write_text("".join(f"this is sentence {number} .\n" for number in range(60)), encoding="utf-8")
        small = ["--max-epochs", "1", "--precision", "fp32", "--output"]
        lists = {"training": trace(TEXT_TO_LOSS, "train", str(corpus), *small, str(Path(folder, "watched")))}
        subprocess.run(
            [sys.executable, "-m", "seqvae", "train", str(corpus), *small, model], check=True, capture_output=True
        )
        lists["sampling"] = trace(Z_TO_TEXT, "sample", model, "--number", "1", "--seed", "0")
    page = DOCS / "architecture.md"
    text = page.read_text(encoding="utf-8")
    for name, visits in lists.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        text = re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{to_text(visits)}\n\n{end}", text, flags=re.S)  # noqa: B023
        print(f"{name}: {len(visits['INSIDE'])} files, {len(visits['AROUND'])} before it")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

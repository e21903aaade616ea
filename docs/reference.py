"""Write the pages of docs/reference that come from the code: commands, options, parts and scores.

    python docs/reference.py

replaces what stands between the marks `<!-- begin NAME ... -->` and `<!-- end -->`. A test compares the pages with it.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from seqvae.cli import app
from seqvae.config import Data, Model, Objective, Training
from seqvae.evaluation.scores import TEXT, Scores, TextScores
from seqvae.training.build import CATALOGUES, find_options

DOCS = Path(__file__).parent
GROUPS = {"": Data, "model.": Model, "objective.": Objective, " ": Training}  # two have no prefix


def main() -> None:
    """Write every generated section anew."""
    for name in SECTIONS:
        path = DOCS / "reference" / f"{name}.md"
        path.write_text(renew(name, path.read_text(encoding="utf-8")), encoding="utf-8")


def renew(name: str, page: str) -> str:
    """Return a page with its generated section as the code has it now."""
    begin = f"<!-- begin {name}: made by docs/reference.py -->\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition("<!-- end -->")
    return f"{before}{begin}\n{SECTIONS[name]().strip()}\n\n<!-- end -->{after}"


def write_commands() -> str:
    """Return all commands with their options."""
    found = app.generate_docs(output_format="markdown", heading_level=2, recursive=True)
    found = found.replace("**Commands**:", "**Commands**").replace(str(Path.cwd()), ".")
    found = found.replace("\\[", "[")  # as it writes brackets once a help page was shown
    return re.sub(r"[ \t]+$", "", found, flags=re.M)


def write_options() -> str:
    """Return a table for each group of options; a part's own options are on the page of parts."""
    return "\n\n".join("\n".join(list_options(prefix.strip(), group)) for prefix, group in GROUPS.items())


def list_options(prefix: str, group: type) -> Iterator[str]:
    """Yield the lines of the table of one group."""
    yield f"## {group.__name__}\n\n| option | default | meaning |\n|---|---|---|"
    meanings = read_meanings(group, "Attributes")
    for field in dataclasses.fields(group):
        default = field.default_factory() if field.default is dataclasses.MISSING else field.default
        name = field.name.replace("_", "-")
        yield f"| `--{prefix}{name}` | {show(default)} | {escape(meanings.get(field.name, ''))} |"


def write_parts() -> str:
    """Return each part of the catalogues: what its docstring says, and its options."""
    lines = ["## Every part and its options"]
    for place, catalogue in CATALOGUES.items():
        lines.append(f"### {place}")
        for name, cls in catalogue.items():
            lines += [f"#### `--{place}.name {name}`", describe(cls)]
            options = find_options(cls)
            if options:
                meanings = read_meanings(cls, "Args")
                rows = [
                    f"| `{option}` | {show(given.default)} | {escape(meanings.get(option, ''))} |"
                    for option, given in options.items()
                ]
                lines.append("\n".join(["| option | default | meaning |\n|---|---|---|", *rows]))
    return "\n\n".join(lines)


def write_scores() -> str:
    """Return every score with its definition."""
    lines = ["## Every score"]
    for group in (Scores, TextScores):
        lines.append(
            f"### {group.__name__}\n\n{escape(describe(group))}\n\n| score | formula, unit, meaning |\n|---|---|"
        )
        for field in dataclasses.fields(group):
            definition = field.metadata.get("definition", "").replace("{", "{{").replace("}", "}}")
            for unit in ("sentence", "sentences", "tokens"):
                definition = definition.replace("{{" + unit + "}}", getattr(TEXT, unit))
            if definition:
                lines[-1] += f"\n| `{field.name}` | {escape(definition)} |"
    return "\n\n".join(lines)


def describe(cls: type) -> str:
    """Return a class's docstring above its sections, as one block of plain text per paragraph."""
    text = (inspect.getdoc(cls) or "").split("\nArgs:")[0].split("\nAttributes:")[0].split("\n>>>")[0]
    return "\n\n".join(escape(" ".join(paragraph.split())) for paragraph in text.split("\n\n") if paragraph.strip())


def read_meanings(cls: type, section: str) -> dict[str, str]:
    """Return the entries of one section of a class's docstring."""
    _, _, rest = (inspect.getdoc(cls) or "").partition(f"{section}:\n")
    body = rest.split("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", body, re.M | re.S)
    return {name: " ".join(meaning.split()) for name, meaning in found}


def show(value: object) -> str:
    """Return a default as it is written on the command line."""
    if value is inspect.Parameter.empty:
        return "required"
    if isinstance(value, dict):
        return escape(", ".join(f"{name} = {given}" for name, given in value.items()))
    return f"`{value}`"


def escape(text: str) -> str:
    """Escape what Markdown would take for a tag, a column or emphasis outside code."""
    pieces = re.split(r"(`[^`]*`)", text)
    plain = [re.sub(r"([*_\[\]|])", r"\\\1", p.replace("&", "&amp;").replace("<", "&lt;")) for p in pieces[::2]]
    code = [piece.replace("|", "\\|") for piece in pieces[1::2]]
    return "".join(part for pair in zip(plain, [*code, ""], strict=True) for part in pair)


SECTIONS: dict[str, Callable[[], str]] = {
    "commands": write_commands,
    "options": write_options,
    "parts": write_parts,
    "scores": write_scores,
}

if __name__ == "__main__":
    main()

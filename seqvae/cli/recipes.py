"""`seqvae recipes`: the recipes of the package, and the text of one to start from."""

import sys

from seqvae.cli.shared import app

WIDTH = 110  # of a line of the list


@app.command(sort_key=13)
def recipes(name: str | None = None, /) -> None:
    """List the recipes of the package with year, source and a line on each, or print one to start from.

    `seqvae train CORPUS --config NAME` trains one; `seqvae recipes NAME > mine.toml` is the beginning of your own.

    Args:
        name: of a recipe; none lists all.
    """
    from seqvae.config.recipes import list_recipes
    from seqvae.errors import choose, truncate

    found = {recipe.name: recipe for recipe in list_recipes()}
    if name is not None:
        path = found[choose("recipe", name.removesuffix(".toml"), found)].path
        sys.stdout.write(path.read_text(encoding="utf-8"))
        return
    usages = {"train": "seqvae train CORPUS --config NAME", "compare": "seqvae compare NAME CORPUS"}
    for command, usage in usages.items():
        print(f"{usage}\n")
        for recipe in found.values():
            if recipe.command == command:
                print(f"  {recipe.name:16} {recipe.year:4}  {recipe.source}")
                print(f"      {truncate(recipe.summary, WIDTH)}")
        print(end="" if command == "compare" else "\n")

"""Write a built-in corpus as text files, a sentence a line: `prepare.py NAME[:OPTION] [--output FILE|FOLDER]`."""

import argparse
import sys
from pathlib import Path

from seqvae.data.corpus import BUILT_IN_TEXTS
from seqvae.data.text.sources import is_built_in
from seqvae.data.text.splits import Texts, read_splits
from seqvae.errors import SeqVAEError


def main() -> int:
    """Write train.txt, valid.txt and test.txt to a folder, or everything to one .txt file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", help=f"one of {', '.join(BUILT_IN_TEXTS)}; chitchat with options, as chitchat:messages")
    parser.add_argument("--output", type=Path, help="a folder, or a file ending in .txt (default: data/NAME)")
    parser.add_argument("--seed", type=int, default=0, help="of the splits of sotu; the others have their own")
    chosen = parser.parse_args()
    if not is_built_in(chosen.name):
        parser.error(f"{chosen.name!r} is not built in; what is: {', '.join(BUILT_IN_TEXTS)}")
    folder = Path(__file__).parent / chosen.name.replace(":", "-")
    try:
        texts = read_splits(chosen.name, seed=chosen.seed, lowercase=True)
        written = write(texts, chosen.output or folder)
    except (SeqVAEError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join([*texts.notes, *(f"wrote {path}" for path in written)]))
    return 0


def write(texts: Texts, output: Path) -> list[Path]:
    """Write the texts to `output` if that is a .txt file, else to one file a split in that folder; return the files."""
    if output.suffix == ".txt":
        output.parent.mkdir(parents=True, exist_ok=True)
        with output.open("w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for rows in texts.splits.values() for text in rows)
        return [output]
    output.mkdir(parents=True, exist_ok=True)
    for split, rows in texts.splits.items():
        with (output / f"{split}.txt").open("w", encoding="utf-8") as file:
            file.writelines(f"{text}\n" for text in rows)
    return [output / f"{split}.txt" for split in texts.splits]


if __name__ == "__main__":
    sys.exit(main())

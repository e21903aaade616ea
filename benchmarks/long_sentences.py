"""A corpus of the size and kind of the Penn Treebank, whose text may not be passed on.

    python -m benchmarks.long_sentences FOLDER

writes train.txt, valid.txt and test.txt: 42,000, 3,400 and 3,800 different sentences of at most 45 words, 22 on
average, drawn with a fixed seed from all addresses and messages that the package `sotu` carries (1790 to 2026, public
domain), in lower case. As in that corpus, each word that is not among the 10,000 most frequent of train.txt is then
`<unk>`, which makes ten of the lines equal to others, one of them a test sentence that is in train.txt too.
"""

import argparse
import random
import re
from collections import Counter
from pathlib import Path

from seqvae.data.text import sotu

MOST_WORDS = 45
SIZES = {"train": 42_000, "valid": 3_400, "test": 3_800}
WORDS = 10_000
_TOKEN = re.compile(r"\w+|[^\w\s]")  # as the tokenizer `word` divides a line


def draw_splits() -> dict[str, list[str]]:
    """Return the sentences of each split, rare words replaced; the same ones each time."""
    sentences = sotu.read_sentences(first_year=0, most_words=MOST_WORDS)
    distinct = list(dict.fromkeys(sentence.lower() for sentence in sentences))
    random.Random(0).shuffle(distinct)
    pool = iter(distinct)
    splits = {split: [next(pool) for _ in range(size)] for split, size in SIZES.items()}
    counts = Counter(token for sentence in splits["train"] for token in _TOKEN.findall(sentence))
    frequent = {token for token, _ in counts.most_common(WORDS)}
    return {
        split: [_TOKEN.sub(lambda token: token[0] if token[0] in frequent else "<unk>", text) for text in texts]
        for split, texts in splits.items()
    }


def main() -> None:
    """Write the corpus to the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for split, texts in draw_splits().items():
        (folder / f"{split}.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        words = sum(len(text.split()) for text in texts)
        print(f"{folder / split}.txt: {len(texts):,} sentences of {words / len(texts):.1f} words")


if __name__ == "__main__":
    main()

"""What beginning with a trained model is worth: -log p(x), reconstructions and samples with and without, same minutes.

    python -m benchmarks.fine_tuning FOLDER OUTPUT --sizes 300 1000 3000 --minutes 1

FOLDER holds train.txt, valid.txt and test.txt, a sentence a line. Each size is that many sentences of train.txt, and
500 and 1,000 of the others, shuffled with seed 0. All models have the words of `chitchat`, so that -log p(x) compares:
a vocabulary of fewer words makes more of them `<unk>`, which costs little.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import torch

from seqvae.text_vae import TextVAE

HELD_OUT = {"valid": 500, "test": 1000}


def divide(folder: Path, place: Path, size: int) -> None:
    """Write train.txt, valid.txt and test.txt of so many sentences, without duplicates, below `place`."""
    place.mkdir(parents=True, exist_ok=True)
    for name, count in ({"train": size} | HELD_OUT).items():
        sentences = list(dict.fromkeys((folder / f"{name}.txt").read_text(encoding="utf-8").split("\n")))
        sentences = [sentence for sentence in sentences if sentence]
        random.Random(0).shuffle(sentences)
        (place / f"{name}.txt").write_text("\n".join(sentences[:count]) + "\n", encoding="utf-8")


def train(corpus: Path, output: Path, init: str | None, **options: object) -> TextVAE:
    """Train with `init`, or else from new weights with the default options and the same words."""
    begin = {"tokenizer": "chitchat", "max_length": 24} if init is None else {"init": init}
    return TextVAE.fit(str(corpus), output=output, **begin | options)


def measure(model: TextVAE, folder: Path, corpus: Path) -> dict[str, object]:
    """Score a model by the command, and sample from it."""
    scores = folder.with_suffix(".json")
    command = ["evaluate", folder, corpus, "--split", "test", "--text", "--samples", 20, "--refine", 0]
    command += ["--limit", HELD_OUT["test"], "--output", scores]
    subprocess.run([sys.executable, "-m", "seqvae", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    model.generation_config = model.recommend_sampling()
    return json.loads(scores.read_text(encoding="utf-8")) | {"drawn": model.sample(6, seed=1)}


def main() -> None:
    """Train and score all of them, a line of JSON each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for size in given.sizes:
        corpus = given.output / f"corpus-{size}"
        divide(given.folder, corpus, size)
        for init in ("chitchat", None):
            folder, begin = given.output / f"{size}-{init}", time.process_time()
            model = train(corpus, folder, init, max_minutes=given.minutes, seed=given.seed)
            seconds, steps = time.process_time() - begin, model.checkpoint.facts["step"]
            row = {"size": size, "init": init, "processor_seconds": seconds, "kept_step": steps}
            print(json.dumps(row | measure(model, folder, corpus)), flush=True)


if __name__ == "__main__":
    main()

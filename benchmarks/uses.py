"""What vectors of sentences are good for: labels from few examples, and finding a paraphrase.

    python -m benchmarks.uses TEXT MODEL [MODEL ...]

TEXT is a file with a sentence a line, of held-out sentences; a .csv of them with the columns `text` and `label`; or
`grammar`, the held-out ones of that built-in corpus.
The vector of a sentence is the posterior mean of a model of kind vae or ae; of a language model the features at the
last step, all words read; and, beside the models, counts of words (log(1 + count), of the 2,000 most frequent).

- question: whether a sentence ends in "?"; that sign, and "." and "!", are removed from all sentences first.
- negation: whether it has "not" or a word in "n't"; these are removed, contractions split first.
  Accuracy of logistic regression from 10, 100 and 500 labelled sentences, as many of each class, on at
  most 1,000 others, as many of each class; mean and standard error over 20 choices of the labelled ones.
  In place of these two, nothing removed: of `grammar` each factor that has two values; of a .csv its label, or, where
  there are more than two labels, for each whether it is that one.
- paraphrase: a sentence with a contraction ("i'm", "don't") is written out ("i am", "do not"); recall@1 and mean
  reciprocal rank of that among all sentences of the text but the one asked for, by cosine of the vectors less their
  mean.
"""

import argparse
import csv
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from seqvae import TextVAE
from seqvae.data.batching import iterate_by_length
from seqvae.data.text import grammar
from seqvae.errors import UnknownWordsWarning
from seqvae.model.modes import evaluating

SHOTS, DRAWS, HELD_OUT, WORDS = (10, 100, 500), 20, 1000, 2000
CONTRACTIONS = {
    r"\bi'm\b": "i am",
    r"\bcan't\b": "can not",
    r"\bwon't\b": "will not",
    r"n't\b": " not",
    r"'re\b": " are",
    r"'ll\b": " will",
    r"'ve\b": " have",
    r"\b(it|that|he|she|what|there)'s\b": r"\1 is",
}

Embed = Callable[[Sequence[str]], np.ndarray]


def expand(sentence: str) -> str:
    """Write contractions out.

    >>> expand("i'm sure it isn't here .")
    'i am sure it is not here .'
    """
    for pattern, words in CONTRACTIONS.items():
        sentence = re.sub(pattern, words, sentence)
    return sentence


def label_questions(sentences: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the sentences without their last sign, and (N,) bool, whether it was a question mark."""
    bare = [re.sub(r"[\s.?!]+$", "", sentence) for sentence in sentences]
    return drop_blank(bare, [sentence.rstrip().endswith("?") for sentence in sentences])


def label_negations(sentences: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the sentences without "not", contractions written out, and (N,) bool, whether they had it."""
    written = [expand(sentence) for sentence in sentences]
    labels = [bool(re.search(r"\bnot\b", sentence)) for sentence in written]
    return drop_blank([re.sub(r"\bnot\b ?", "", sentence) for sentence in written], labels)


def read_tasks(text: str) -> tuple[list[str], dict[str, tuple[list[str], np.ndarray]]]:
    """Return the different sentences of a text, and of each task the sentences and their labels (N,) bool."""
    if text == "grammar":
        held_out = [part for name, part in grammar.build_splits().items() if name != "train"]
        columns = {name: [value for part in held_out for value in part[name]] for name in ("text", *grammar.FACTORS)}
        rows = list({sentence: row for row, sentence in enumerate(columns["text"])}.values())
        sentences = [columns["text"][row] for row in rows]
        return sentences, {
            factor: (sentences, np.array([columns[factor][row] == min(values) for row in rows]))
            for factor, values in grammar.FACTORS.items()
            if len(values) == 2
        }
    if text.endswith(".csv"):
        return read_labelled(text)
    lines = Path(text).read_text(encoding="utf-8").splitlines()
    sentences = list(dict.fromkeys(line for line in lines if line.strip()))
    return sentences, {"question": label_questions(sentences), "negation": label_negations(sentences)}


def read_labelled(table: str) -> tuple[list[str], dict[str, tuple[list[str], np.ndarray]]]:
    """Return the sentences of a .csv with the columns `text` and `label`, and a task for each label, or one for two."""
    with Path(table).open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if not {"text", "label"} <= set(rows.fieldnames or ()):
            raise SystemExit(f"{table} has the columns {rows.fieldnames}: it needs `text` and `label`")
        label_of = {row["text"]: row["label"] for row in rows if row["text"].strip()}
    sentences, names = list(label_of), sorted(set(label_of.values()))
    tasks = names[1:] if len(names) == 2 else names
    return sentences, {name: (sentences, np.array([label_of[text] == name for text in sentences])) for name in tasks}


def drop_blank(sentences: list[str], labels: list[bool]) -> tuple[list[str], np.ndarray]:
    """Return those sentences, and their labels (N,), in which a word is left."""
    kept = [row for row, sentence in enumerate(sentences) if sentence.strip()]
    return [sentences[row] for row in kept], np.array([labels[row] for row in kept])


def embed_by(model: TextVAE) -> Embed:
    """Return the function from sentences to vectors (N, H) of a model."""
    if model.model.has_latent:
        return lambda sentences: model.encode(list(sentences)).mode.numpy()

    def embed(sentences: Sequence[str]) -> np.ndarray:
        split = model.load_corpus(list(sentences), whole=True).test
        assert split is not None and len(split) == len(sentences)
        found = None
        with evaluating(model.model):
            for index, batch in iterate_by_length(split):
                inputs = model.model.observation.embed(batch.inputs)
                features, _ = model.model.decoder(inputs, torch.zeros(len(batch), 0))
                last = features[torch.arange(len(batch)), batch.lengths - 1].numpy()
                found = np.zeros((len(split), last.shape[1]), np.float32) if found is None else found
                found[index] = last
        assert found is not None
        return found

    return embed


def embed_by_words(sentences: Sequence[str]) -> np.ndarray:
    """Return log(1 + counts) (N, at most 2,000) of the most frequent words that are in two sentences or more."""
    from sklearn.feature_extraction.text import CountVectorizer

    counts = CountVectorizer(analyzer=str.split, min_df=2, max_features=WORDS).fit_transform(sentences)
    return np.log1p(counts.toarray().astype(np.float64))


def classify(vectors: np.ndarray, labels: np.ndarray, shots: int, seed: int) -> float:
    """Return the accuracy from so many labelled vectors, as many of each class, on others; nan if there are too few."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    random = np.random.default_rng([seed, shots])
    classes = [random.permutation(np.flatnonzero(labels == value)) for value in (False, True)]
    train = np.concatenate([rows[: shots // 2] for rows in classes])
    each = min(HELD_OUT // 2, min(map(len, classes)) - shots // 2)
    if each < 1:
        return math.nan
    test = np.concatenate([rows[shots // 2 :][:each] for rows in classes])
    scaler = StandardScaler().fit(vectors)  # of all sentences, without their labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = LogisticRegression(C=0.1, max_iter=500).fit(scaler.transform(vectors[train]), labels[train])
    return float(found.score(scaler.transform(vectors[test]), labels[test]))


def retrieve(embed: Embed, sentences: Sequence[str]) -> tuple[float, float, int]:
    """Return recall@1 and the mean reciprocal rank of paraphrases, and their number: nan and 0 if there are none."""
    asked = [row for row, sentence in enumerate(sentences) if expand(sentence) != sentence]
    if not asked:
        return math.nan, math.nan, 0
    every = embed([*sentences, *(expand(sentences[row]) for row in asked)])
    every = every - every.mean(0)
    every /= np.maximum(np.linalg.norm(every, axis=1, keepdims=True), 1e-12)
    ranks = []
    for number, row in enumerate(asked):
        near = every[: len(sentences)] @ every[row]
        near[row] = -np.inf
        ranks.append(1 + int((near >= every[len(sentences) + number] @ every[row]).sum()))
    return float(np.mean([rank == 1 for rank in ranks])), float(np.mean([1 / rank for rank in ranks])), len(ranks)


def main() -> None:
    """Print a line for each model, and one for the words."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.uses", description=__doc__.splitlines()[0])
    parser.add_argument("text")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnknownWordsWarning)
    sentences, tasks = read_tasks(given.text)
    sides: dict[str, Embed] = {name: embed_by(TextVAE.from_pretrained(name)) for name in given.models}
    sides["counts of words"] = embed_by_words
    print("| vectors | size |", " | ".join(f"{task}, {n}" for task in tasks for n in SHOTS), "| recall@1 | MRR |")
    print("| --- | ---: |", " | ".join("---:" for _ in range(len(tasks) * len(SHOTS) + 2)), "|")
    for name, embed in sides.items():
        cells = []
        for bare, labels in tasks.values():
            vectors = embed(bare)
            for shots in SHOTS:
                found = [classify(vectors, labels, shots, seed) for seed in range(given.draws)]
                error = np.std(found, ddof=1) / len(found) ** 0.5
                cells.append("too few" if np.isnan(found[0]) else f"{np.mean(found):.1%} ± {error:.1%}")
        recall, reciprocal, count = retrieve(embed, sentences)
        size = vectors.shape[1]
        cells += [f"{recall:.1%}", f"{reciprocal:.2f}"] if count else ["none", "none"]
        print(f"| {name} | {size} |", " | ".join(cells), "|", flush=True)
    print(f"\n{len(sentences):,} sentences, {count:,} with a contraction")


if __name__ == "__main__":
    main()

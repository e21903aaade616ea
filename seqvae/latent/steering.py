"""Attribute vectors: the direction in which an attribute of sentences lies, and what becomes of sentences moved in it.

With mu(x) the mean of q(z|x), a sentence is steered by decoding mu(x) + strength * v. Both directions v are scaled so
that strength 1 moves a sentence as far along v as the two classes lie apart, on average.

Source: Larsen, Sønderby, Larochelle & Winther, Autoencoding beyond pixels using a learned similarity metric, 2016,
arXiv:1512.09300 (attribute vectors as differences of means).
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from seqvae.errors import ConfigError
from seqvae.evaluation.metrics import standard_error
from seqvae.evaluation.text_metrics import edit_distance

STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
VOCABULARY = 2_000  # words that a judge counts, at most
L2 = 1.0
NAMED = 20  # values of a column that an error names, at most

# -- which sentences --------------------------------------------------------------------------------------------------


def divide(values: Sequence[Any], attribute: str) -> tuple[list[int], list[int]]:
    """The rows that have the attribute, and those that have another value; rows with none are in neither.

    >>> divide(["past", "present", None, " past", ""], "past")
    ([0, 3], [1])
    """
    names = [("" if value is None else str(value)).strip() for value in values]
    having = [row for row, name in enumerate(names) if name == attribute]
    return having, [row for row, name in enumerate(names) if name not in ("", attribute)]


def check(column: str, values: Sequence[Any], attribute: str) -> None:
    """Raise a `ConfigError` unless 2 rows or more have the attribute and 2 or more have another value."""
    having, lacking = divide(values, attribute)
    if not having:
        counts = Counter(name for value in values if value is not None and (name := str(value).strip()))
        known = [name for name, _ in counts.most_common(NAMED)]
        rest = f" and {len(counts) - len(known):,} more" if len(counts) > len(known) else ""
        raise ConfigError(
            f"--attribute {attribute}: no sentence has it in column {column!r}; its values are: "
            f"{', '.join(sorted(known)) or 'none'}{rest}"
        )
    for rows, which in ((having, "the value"), (lacking, "another value than")):
        if len(rows) < 2:
            raise ConfigError(
                f"--attribute {attribute}: {len(rows)} of the sentences to learn from have {which} {attribute!r} in "
                f"column {column!r}: expected 2 or more; choose another value, or write --corpus FILE with more"
            )


def apart(texts: Sequence[str], *, share: int = 5, seed: int = 0) -> tuple[list[int], list[int]]:
    """The rows to learn from, and those held out: one in `share` of the different texts, equal ones on one side.

    >>> learnt, held = apart(["a", "b", "c", "d", "e"])
    >>> len(learnt), len(held)
    (4, 1)
    """
    distinct = list(dict.fromkeys(texts))
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {distinct[place] for place in order[: len(distinct) // share]}
    learnt = [row for row, text in enumerate(texts) if text not in held]
    return learnt, [row for row, text in enumerate(texts) if text in held]


# -- directions -------------------------------------------------------------------------------------------------------


def mean_direction(having: Tensor, lacking: Tensor) -> Tensor:
    """v = mean of mu(x) with the attribute - mean of mu(x) without it.

    It also carries whatever else the two groups differ in.

    Args:
        having: (N, D), posterior means of sentences that have the attribute.
        lacking: (M, D), of others.

    Returns:
        (D,) float64.

    Source: Larsen et al., arXiv:1512.09300.

    >>> mean_direction(torch.tensor([[2.0, 0.0], [4.0, 2.0]]), torch.tensor([[1.0, 1.0]])).tolist()
    [2.0, 0.0]
    """
    return having.double().mean(0) - lacking.double().mean(0)


def logistic_direction(having: Tensor, lacking: Tensor, *, l2: float = L2) -> Tensor:
    """v = n <n, d>: n = w / |w| the normal of a logistic classifier, d the difference of the means.

    Where an attribute goes along with others, the normal leaves out what does not help to tell it. As the loss is
    convex, <n, d> is never negative. Arguments and result as of `mean_direction`; `l2` as of `logistic`.

    >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    >>> logistic_direction(corners, -corners).round(decimals=6).tolist()
    [2.0, 0.0]
    """
    target = torch.cat([having.new_ones(len(having)), lacking.new_zeros(len(lacking))])
    weights, _ = logistic(torch.cat([having, lacking]), target, l2=l2)
    normal = F.normalize(weights, dim=0)
    return normal * (normal @ mean_direction(having, lacking))


DIRECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean_direction, "logistic": logistic_direction}


def logistic(features: Tensor, target: Tensor, *, l2: float = L2) -> tuple[Tensor, Tensor]:
    """Logistic regression: w and b that minimize sum_n -log p(y_n|f_n) + l2/2 |w|^2, p(1|f) = sigmoid(<w, f> + b).

    Args:
        features: (N, F).
        target: (N,), 1 or 0.
        l2: above 0, or the weights of classes that a plane divides would have no bound.

    Returns:
        (F,) and (), both float64.
    """
    features, target = features.double(), target.double()
    weights, bias = features.new_zeros(features.shape[1]), features.new_zeros(())
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=200, tolerance_change=1e-13, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        logits = features @ weights + bias
        slope = (logits.sigmoid() - target) / len(target)
        weights.grad = features.t() @ slope + l2 / len(target) * weights
        bias.grad = slope.sum()
        data = F.binary_cross_entropy_with_logits(logits, target)
        return data + l2 / (2 * len(target)) * weights.square().sum()

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weights, bias


# -- what it is worth -------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words and marks of a text, in lower case.

    >>> words("Did the cat sleep?")
    ['did', 'the', 'cat', 'sleep', '?']
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


@dataclass(frozen=True)
class Judge:
    """Whether a text has the attribute, by a logistic classifier that sees which words it has; it knows no z.

    Attributes:
        place: the column of each word that counts.
        weights: (W,) float64.
        bias: () float64.
    """

    place: dict[str, int]
    weights: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, having: Sequence[str], lacking: Sequence[str], *, vocabulary: int = VOCABULARY) -> "Judge":
        """Learn from texts with the attribute and texts without it.

        Args:
            having: texts that have it.
            lacking: texts that have it not.
            vocabulary: words that count, at most: those in the most texts, and in 2 or more.
        """
        texts = [*having, *lacking]
        spread = Counter(word for text in texts for word in set(words(text)))
        kept = sorted(word for word in spread if spread[word] > 1)
        place = {word: i for i, word in enumerate(sorted(kept, key=spread.__getitem__, reverse=True)[:vocabulary])}
        target = torch.cat([torch.ones(len(having)), torch.zeros(len(lacking))])
        return cls(place, *logistic(_present(texts, place), target))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(N,) bool, whether each text rather has the attribute than not."""
        return _present(texts, self.place) @ self.weights + self.bias > 0


def _present(texts: Sequence[str], place: dict[str, int]) -> Tensor:
    """(N, W) float64, 1 where a text has a word."""
    found = torch.zeros(len(texts), len(place), dtype=torch.float64)
    for row, text in enumerate(texts):
        found[row, [place[word] for word in set(words(text)) if word in place]] = 1
    return found


@dataclass(frozen=True)
class Step:
    """What sentences without the attribute become at one strength, each mean with its standard error.

    Attributes:
        strength: of the move.
        success: share of the decoded sentences that the judge says have the attribute.
        success_standard_error: over the sentences.
        content: mean of 1 - (words to insert, delete or replace) / (words of the longer), against the same sentence
            decoded at strength 0. The words that carry the attribute count too: full success cannot keep all.
        content_standard_error: over the sentences.
    """

    strength: float
    success: float
    success_standard_error: float
    content: float
    content_standard_error: float


def steered(
    decode: Callable[[Tensor], list[str]],
    means: Tensor,
    direction: Tensor,
    judge: Callable[[Sequence[str]], Tensor],
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> list[Step]:
    """Success against content kept, at each strength.

    Args:
        decode: (N, D) -> N texts.
        means: (N, D), posterior means of sentences without the attribute, 2 or more.
        direction: (D,).
        judge: N texts -> (N,) bool.
        strengths: of the moves.

    Raises:
        ConfigError: if rapidfuzz is not installed.
    """
    plain = [" ".join(words(text)) for text in decode(means)]
    found = []
    for strength in strengths:
        said = decode(means + strength * direction.to(means))
        pairs = zip(plain, said, strict=True)
        kept = torch.tensor([1 - edit_distance([a], [" ".join(words(b))]) for a, b in pairs], dtype=torch.float64)
        success = judge(said).double()
        figures = (float(success.mean()), standard_error(success), float(kept.mean()), standard_error(kept))
        found.append(Step(strength, *figures))
    return found


@dataclass(frozen=True)
class Report:
    """How well steering works, on sentences that nothing was learnt from.

    Attributes:
        sentences: held-out ones without the attribute, which were steered.
        judge_having: share of held-out sentences with the attribute of which the judge says so; None if there are none.
        judge_lacking: the same share of those without it, which is what the judge gets wrong.
        steps: at each strength.
    """

    sentences: int
    judge_having: float | None
    judge_lacking: float
    steps: list[Step]

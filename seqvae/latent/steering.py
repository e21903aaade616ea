"""Attribute vectors: the direction of an attribute of sentences in latent space, and how well it steers sentences.

With mu(x) the mean of q(z|x), a sentence is steered by decoding mu(x) + strength * v. Both directions v are scaled so
that strength 1 moves a sentence along v by the distance between the means of the two classes.

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
VOCABULARY = 2_000  # words that the classifier of the attribute sees, at most
L2 = 1.0
NAMED = 20  # values of a column that an error names, at most

# -- sentences --------------------------------------------------------------------------------------------------------


def split_by_attribute(values: Sequence[Any], attribute: str) -> tuple[list[int], list[int]]:
    """Return the rows that have the attribute, and those that have another value; rows without a value are in neither.

    >>> split_by_attribute(["past", "present", None, " past", ""], "past")
    ([0, 3], [1])
    """
    names = [("" if value is None else str(value)).strip() for value in values]
    having = [row for row, name in enumerate(names) if name == attribute]
    return having, [row for row, name in enumerate(names) if name not in ("", attribute)]


def check_attribute(column: str, values: Sequence[Any], attribute: str) -> None:
    """Raise a `ConfigError` unless 2 rows or more have the attribute and 2 or more have another value."""
    having, lacking = split_by_attribute(values, attribute)
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


def hold_out(texts: Sequence[str], *, fraction: float = 0.2, seed: int = 0) -> tuple[list[int], list[int]]:
    """Split the rows into training and held-out ones; equal texts are on one side.

    Args:
        texts: N of them.
        fraction: of the different texts that is held out, rounded down.
        seed: of the choice.

    >>> train, held_out = hold_out(["a", "b", "c", "d", "e"])
    >>> len(train), len(held_out)
    (4, 1)
    """
    distinct = list(dict.fromkeys(texts))
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {distinct[place] for place in order[: int(len(distinct) * fraction)]}
    train = [row for row, text in enumerate(texts) if text not in chosen]
    return train, [row for row, text in enumerate(texts) if text in chosen]


# -- directions -------------------------------------------------------------------------------------------------------


def mean_direction(having: Tensor, lacking: Tensor) -> Tensor:
    """Return the difference of the means of mu(x), with the attribute and without it.

    It also holds all else that the two groups differ in.

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
    """Return n <n, d>: n = w / |w| the normal of a logistic classifier, d the difference of the means.

    Where an attribute is correlated with others, the normal leaves out what does not help to predict it. As the loss is
    convex, <n, d> is never negative. Arguments and result as of `mean_direction`; `l2` as of `fit_logistic`.

    >>> corners = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    >>> logistic_direction(corners, -corners).round(decimals=6).tolist()
    [2.0, 0.0]
    """
    target = torch.cat([having.new_ones(len(having)), lacking.new_zeros(len(lacking))])
    weights, _ = fit_logistic(torch.cat([having, lacking]), target, l2=l2)
    normal = F.normalize(weights, dim=0)
    return normal * (normal @ mean_direction(having, lacking))


DIRECTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean_direction, "logistic": logistic_direction}


def fit_logistic(features: Tensor, target: Tensor, *, l2: float = L2) -> tuple[Tensor, Tensor]:
    """Fit logistic regression: minimize sum_n -log p(y_n|f_n) + l2/2 |w|^2, p(1|f) = sigmoid(<w, f> + b).

    Args:
        features: (N, F).
        target: (N,), 1 or 0.
        l2: above 0, or the weights of linearly separable classes would have no bound.

    Returns:
        w (F,) and b (), both float64.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = features.double().detach().cpu().numpy(), target.cpu().numpy()
    model = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=1000).fit(x, y)
    weights, bias = torch.from_numpy(model.coef_[0]), torch.tensor(model.intercept_[0])
    return weights.to(features.device), bias.to(features.device)


# -- evaluation -------------------------------------------------------------------------------------------------------


def split_words(text: str) -> list[str]:
    """Split a text into its words and punctuation marks, in lower case.

    >>> split_words("Did the cat sleep?")
    ['did', 'the', 'cat', 'sleep', '?']
    """
    return re.findall(r"\w+|[^\w\s]", text.lower())


@dataclass(frozen=True)
class AttributeClassifier:
    """A logistic classifier of the attribute, which sees the set of words of a text; it does not depend on z.

    Attributes:
        pipeline: of scikit-learn, from texts to whether they have the attribute.
    """

    pipeline: Any

    @classmethod
    def fit(
        cls, having: Sequence[str], lacking: Sequence[str], *, vocabulary: int = VOCABULARY
    ) -> "AttributeClassifier":
        """Fit the classifier to texts with the attribute and texts without it.

        Args:
            having: texts with it.
            lacking: texts without it.
            vocabulary: maximum number of words that count: those in the most texts, and in 2 or more.

        Raises:
            ConfigError: if no word is in 2 texts.
        """
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        counts = CountVectorizer(analyzer=split_words, binary=True, min_df=2, max_features=vocabulary)
        pipeline = make_pipeline(counts, LogisticRegression(C=1 / L2, tol=1e-8, max_iter=1000))
        try:
            return cls(pipeline.fit([*having, *lacking], [True] * len(having) + [False] * len(lacking)))
        except ValueError:
            raise ConfigError(
                f"no word is in 2 of the {len(having) + len(lacking)} sentences to learn from, so that no classifier "
                "can tell the attribute from words; write --corpus FILE with more sentences"
            ) from None

    @property
    def vocabulary(self) -> set[str]:
        """The words that count."""
        return set(self.pipeline[0].vocabulary_)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return whether each text is classified as having the attribute, (N,) bool."""
        return torch.from_numpy(self.pipeline.predict(texts))


@dataclass(frozen=True)
class SteeringStep:
    """The result of steering sentences without the attribute at one strength, each mean with its standard error.

    Attributes:
        strength: of the steering.
        success: fraction of the decoded sentences that are classified as having the attribute.
        success_standard_error: over the sentences.
        content: mean of 1 - (words to insert, delete or replace) / (words of the longer), against the same sentence
            decoded at strength 0. The words of the attribute count too: with full success it is below 1.
        content_standard_error: over the sentences.
    """

    strength: float
    success: float
    success_standard_error: float
    content: float
    content_standard_error: float


def evaluate_steering(
    decode: Callable[[Tensor], list[str]],
    means: Tensor,
    direction: Tensor,
    classifier: Callable[[Sequence[str]], Tensor],
    *,
    strengths: Sequence[float] = STRENGTHS,
) -> list[SteeringStep]:
    """Measure the success and the preserved content at each strength.

    Args:
        decode: (N, D) -> N texts.
        means: (N, D), posterior means of sentences without the attribute, 2 or more.
        direction: (D,).
        classifier: N texts -> (N,) bool.
        strengths: of the steering.

    Raises:
        ConfigError: if rapidfuzz is not installed.
    """
    originals = [" ".join(split_words(text)) for text in decode(means)]
    steps = []
    for strength in strengths:
        texts = decode(means + strength * direction.to(means))
        distances = [edit_distance([a], [" ".join(split_words(b))]) for a, b in zip(originals, texts, strict=True)]
        content = 1 - torch.tensor(distances, dtype=torch.float64)
        success = classifier(texts).double()
        numbers = (float(success.mean()), standard_error(success), float(content.mean()), standard_error(content))
        steps.append(SteeringStep(strength, *numbers))
    return steps


@dataclass(frozen=True)
class SteeringReport:
    """How well steering works, on held-out sentences.

    Attributes:
        sentences: number of held-out sentences without the attribute that were steered.
        true_positive_rate: of the classifier, on held-out sentences with the attribute; None if there are none.
        false_positive_rate: of the classifier, on held-out sentences without it.
        steps: at each strength.
    """

    sentences: int
    true_positive_rate: float | None
    false_positive_rate: float
    steps: list[SteeringStep]

"""SentenceEncoder: posterior means of sentences as features, a transformer of scikit-learn."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from seqvae.text_vae import TextVAE


class SentenceEncoder(TransformerMixin, BaseEstimator):
    """Sentences -> (N, D) posterior means of a trained model; nothing is learnt in `fit`.

    Args:
        model: a `TextVAE`, or the name of one as `TextVAE.from_pretrained` takes it.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> texts, labels = ["i love this!", "i hate this.", "what a great day!", "what a bad day."], [1, 0, 1, 0]
    >>> make_pipeline(SentenceEncoder("chitchat"), LogisticRegression()).fit(texts, labels).predict(texts).tolist()
    [1, 0, 1, 0]
    """

    def __init__(self, model: str | TextVAE = "chitchat") -> None:
        self.model = model

    def fit(self, X: Iterable[str], y: Any = None) -> Self:
        """Load the model."""
        self._load()
        return self

    def transform(self, X: Iterable[str]) -> np.ndarray:
        """Encode sentences: (N, D) float32.

        Raises:
            ConfigError: for what are no sentences, and for a model without a latent space.
        """
        means: np.ndarray = self._load().encode(X).mode.cpu().numpy()
        return means

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the D features: z0, z1 ..."""
        return np.array([f"z{i}" for i in range(self._load().model.latent)], dtype=object)

    def _load(self) -> TextVAE:
        if isinstance(self.model, TextVAE):
            return self.model
        loaded = vars(self).get("_loaded")
        if loaded is None or loaded[0] != self.model:
            loaded = self._loaded = (self.model, TextVAE.from_pretrained(self.model))
        return loaded[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the model that a name stands for: it is loaded again where it is needed."""
        return {name: value for name, value in super().__getstate__().items() if name != "_loaded"}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

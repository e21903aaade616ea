"""The one place that chooses between `TextVAE` and `SeriesVAE`; whoever has a model then need not know which it is."""

from pathlib import Path

from seqvae.config import Config
from seqvae.data.series.sources import is_series
from seqvae.errors import SeqVAEError
from seqvae.pretrained import load_checkpoint
from seqvae.series_vae import SeriesVAE
from seqvae.text_vae import TextVAE
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.own_parts import Handed

AnyVAE = TextVAE | SeriesVAE
CLASSES: dict[str, type[TextVAE] | type[SeriesVAE]] = {"tokens": TextVAE, "frames": SeriesVAE}  # by the observation


def load(name: str | Path, *, parts: Handed = ()) -> AnyVAE:
    """Load a model folder, or a model `owner/name` of the Hugging Face hub, as the class that it is of.

    Args:
        name: of the folder, or on the hub.
        parts: as of `from_pretrained`.

    Raises:
        CheckpointError: one line if it is missing, damaged or not ours.
    """
    checkpoint = load_checkpoint(name, parts)
    return find_class(checkpoint.config)(checkpoint)


def find_class(config: Config) -> type[TextVAE] | type[SeriesVAE]:
    """Find the class of the models of a run, by what it observes."""
    return CLASSES[config.model.observation["name"]]


def choose_class(corpus: str, column: str | None = None) -> type[TextVAE] | type[SeriesVAE]:
    """Choose the class of model to train on a corpus, by its name or by the columns of its table."""
    return SeriesVAE if is_series(corpus, column) else TextVAE


def has_same_content(folder: Path, config: Config, parts: Handed = ()) -> bool:
    """Tell whether the model in `folder` was trained on the same data as `config` reads, divided alike."""
    try:
        known = Checkpoint.load(folder, parts).facts.get("content")
        return known is not None and known == find_class(config).hash_corpus(config)
    except SeqVAEError:
        return False

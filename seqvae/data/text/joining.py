"""Training, validation and test sentences that are given one by one, with their labels, as one source."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import xxhash

from seqvae.data.containers import read_values
from seqvae.data.corpus import SPLITS
from seqvae.data.text.files import set_fingerprint
from seqvae.data.text.labels import format_label
from seqvae.data.text.sources import Source, open_source
from seqvae.data.text.weights import add_weights
from seqvae.errors import ConfigError, CorpusError

LABEL = "label"  # the column that labels in a list become


def join_splits(
    train: Any,
    *,
    valid: Any = None,
    test: Any = None,
    labels: Any = None,
    weights: Any = None,
    column: str | None = None,
) -> Source:
    """Open sentences, held-out ones beside them, and give each its label, and those of training their weights.

    Args:
        train: anything that `open_source` takes.
        valid: the same, with one split, in place of sentences that are drawn from `train`; None draws them.
        test: likewise.
        labels: a list with the label of each training sentence, or a dict of such lists by split.
        weights: a list with the weight of each training sentence.
        column: the column of a table that holds the sentences.

    Raises:
        CorpusError: for a split that is given twice, and what cannot be read.
        ConfigError: for labels that are too few or too many, or of a split that is not there, and for weights that are
            too few or too many, or no numbers of 0 or more.
    """
    source = open_source(train, column)
    datasets, columns, on_disk = dict(source.datasets), dict(source.columns), source.on_disk
    for split, given in (("valid", valid), ("test", test)):
        if given is None:
            continue
        part = open_source(given, column)
        if split in datasets or len(part.datasets) > 1:
            whose = "the training data has" if split in datasets else f"{split} = {part.name} holds"
            found = f"a {split} split" if split in datasets else f"the splits {', '.join(part.datasets)}"
            raise CorpusError(f"{whose} {found}: expected the {split} sentences once, without splits of their own")
        datasets[split], columns[split] = part.datasets["train"], part.columns["train"]
        on_disk = on_disk and part.on_disk
    joined = replace(source, name="sentences", datasets=datasets, columns=columns, on_disk=on_disk)
    joined = joined if labels is None else _add_labels(joined, labels)
    return joined if weights is None else add_weights(joined, weights)


def _add_labels(source: Source, labels: Any) -> Source:
    named: dict[str, Any] = {"train": labels}
    if isinstance(labels, Mapping):
        named = {SPLITS.get(name, str(name)): values for name, values in labels.items()}
    if named.keys() != source.datasets.keys():
        raise ConfigError(
            f"labels were given for {', '.join(named)}, sentences for {', '.join(source.datasets)}: expected both for "
            "the same splits, as labels={'train': [...], 'valid': [...]}"
        )
    datasets = {}
    for split, dataset in source.datasets.items():
        values = [format_label(value, LABEL) for value in read_values(named[split], "label", "labels")]
        if len(values) != len(dataset):
            raise ConfigError(
                f"labels of {split} sentences: {len(values):,} given, expected one for each of {len(dataset):,}"
            )
        if LABEL in dataset.column_names:
            raise ConfigError(f"labels were given, but the table has a column {LABEL!r}: write label_column={LABEL!r}")
        key = xxhash.xxh3_128_hexdigest("|".join([dataset._fingerprint, *values]).encode())
        datasets[split] = set_fingerprint(dataset.add_column(LABEL, values), key)
    return replace(source, datasets=datasets)

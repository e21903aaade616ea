"""Points of the latent space as tables for other tools, and as files of TensorBoard's projector."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from seqvae.errors import ConfigError, write_atomically, write_output

FORMATS = (".npy", ".csv", ".tsv", ".parquet")
CONFIG = """embeddings {
  tensor_name: "seqvae"
  tensor_path: "vectors.tsv"
  metadata_path: "metadata.tsv"
}
"""


def check_format(path: Path) -> None:
    """Raise a `ConfigError` unless a file of this name can be written."""
    if path.suffix not in FORMATS:
        raise ConfigError(f"--output {path}: expected a name that ends in .npy, .csv, .tsv or .parquet")


def write_table(
    path: Path, z: np.ndarray, texts: Sequence[str] | None = None, labels: Sequence[str] | None = None
) -> None:
    """Write points (N, D) as the ending of the name says: an array, or a table with `text`, `label`, `z0`, `z1` ...

    Raises:
        ConfigError: for another ending, or a file that cannot be written.
    """
    check_format(path)
    try:
        write_output(path, lambda beside: _write(path.suffix, beside, z, texts, labels))
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror or error}") from None


def _write(ending: str, path: Path, z: np.ndarray, texts: Sequence[str] | None, labels: Sequence[str] | None) -> None:
    if ending == ".npy":
        with open(path, "wb") as file:
            np.save(file, z)
        return
    import pyarrow
    from pyarrow import csv, parquet

    columns = {name: pyarrow.array(values) for name, values in (("text", texts), ("label", labels)) if values}
    table = pyarrow.table(columns | {f"z{i}": pyarrow.array(column) for i, column in enumerate(z.T)})
    if ending == ".parquet":
        parquet.write_table(table, path)
    else:
        csv.write_csv(table, path, csv.WriteOptions(delimiter="\t" if ending == ".tsv" else ","))


def write_projector(
    folder: Path, z: np.ndarray, texts: Sequence[str] | None = None, labels: Sequence[str] | None = None
) -> None:
    """Write `vectors.tsv`, `metadata.tsv` and `projector_config.pbtxt`, which `tensorboard --logdir FOLDER` shows.

    https://projector.tensorflow.org loads the first two by hand. Metadata of one column have no heading.

    Raises:
        ConfigError: if the files cannot be written.
    """
    rows = [" ".join(text.split()) for text in texts] if texts else [str(i) for i in range(len(z))]
    if labels:
        pairs = zip(rows, labels, strict=True)
        rows = ["text\tlabel", *(f"{text}\t{' '.join(str(label).split())}" for text, label in pairs)]
    vectors = ["\t".join(f"{value:.6g}" for value in row) for row in z.tolist()]
    files = {name: "\n".join(lines) + "\n" for name, lines in (("vectors.tsv", vectors), ("metadata.tsv", rows))}
    files["projector_config.pbtxt"] = CONFIG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, partial(Path.write_text, data=text, encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--projector {folder} cannot be written: {error.strerror}") from None

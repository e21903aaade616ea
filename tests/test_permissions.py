"""Every file that a run writes has the permissions that the umask leaves to new files."""

import io
import os
import stat
import sys

import datasets
import pytest

from seqvae.cli import main

LINES = "".join(f"{who} {what} .\n" for who in ("a cat", "a dog", "a bird", "a cow") for what in ("sat", "ran", "ate"))
RUN = ("--model.latent", "2", "--model.embedding", "4", "--max-epochs", "1", "--precision", "fp32")


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_files_of_models_and_caches_follow_the_umask(mask, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode() * 3)))
    before = os.umask(mask)
    try:
        main(["train", "-", "--output", str(tmp_path / "model"), *RUN])
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "metrics.jsonl", "state.pt"} <= set(modes)
    assert any(name.startswith("stream-") for name in modes)
    assert {name: mode for name, mode in modes.items() if mode != 0o666 & ~mask} == {}

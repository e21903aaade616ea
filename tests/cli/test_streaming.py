"""Encoding in blocks gives what encoding at once gives, and continues after an interruption."""

import numpy as np
import pytest

from seqvae import TextVAE
from seqvae.cli import main, streaming

LINES = [f"a {animal} {verb} ." for animal in ("cat", "dog", "bird", "cow") for verb in ("sat", "ran", "ate")]


@pytest.fixture
def place(tmp_path, monkeypatch):
    sizes = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "max_epochs": 1}
    TextVAE.fit(LINES, output=tmp_path / "model", **sizes)
    (tmp_path / "lines.txt").write_text("\n".join([*LINES[:5], "", *LINES[5:]]) + "\n")
    monkeypatch.setattr(streaming, "BLOCK", 4)
    return tmp_path


def encode(place, name):
    main(["encode", str(place / "model"), str(place / "lines.txt"), "--output", str(place / name)])
    return np.load(place / name)


def test_blocks_give_what_all_at_once_gives(place, monkeypatch):
    whole = encode(place, "whole.npy")
    monkeypatch.setattr(streaming, "MANY", 1)
    blocks = encode(place, "blocks.npy")
    assert whole.shape == blocks.shape == (12, 2)
    np.testing.assert_allclose(blocks, whole, atol=1e-5)
    assert sorted(path.name for path in place.glob("blocks*")) == ["blocks.npy"]


def test_an_interrupted_command_continues(place, monkeypatch):
    whole = encode(place, "whole.npy")
    monkeypatch.setattr(streaming, "MANY", 1)
    calls, usual = [], TextVAE.encode

    def stop(self, texts, **options):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return usual(self, texts, **options)

    monkeypatch.setattr(TextVAE, "encode", stop)
    with pytest.raises(SystemExit):
        encode(place, "z.npy")
    assert not (place / "z.npy").exists()
    np.testing.assert_allclose(encode(place, "z.npy"), whole, atol=1e-5)
    assert len(calls) == 5, "of four blocks two were done before the third was interrupted, and two were left"

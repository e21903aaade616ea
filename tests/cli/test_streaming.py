"""Files read in parts give what they give at once; an encoding continues, and several processes share it."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from seqvae import TextVAE
from seqvae.cli import interfaces, main, streaming
from seqvae.cli.processes import Process

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


def test_an_interrupted_command_says_so_and_continues(place, monkeypatch, capsys):
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
    assert "interrupted: z.npy.part has what is done, the same command goes on from there" in capsys.readouterr().err
    assert not (place / "z.npy").exists()
    np.testing.assert_allclose(encode(place, "z.npy"), whole, atol=1e-5)
    assert len(calls) == 5, "of four blocks two were done before the third was interrupted, and two were left"


def test_processes_share_the_blocks(place, monkeypatch):
    whole = encode(place, "whole.npy")
    monkeypatch.setattr(streaming, "MANY", 1)
    meeting, encoded, usual = threading.Barrier(3), [], TextVAE.encode

    class Rank(Process):
        def wait(self):
            meeting.wait(timeout=60)

    def note(self, texts, **options):
        encoded.append((threading.current_thread().name, len(texts)))
        return usual(self, texts, **options)

    monkeypatch.setattr(TextVAE, "encode", note)
    model = TextVAE.from_pretrained(place / "model")
    dataset, column = interfaces.open_file(str(place / "lines.txt"), None)

    def work(rank):
        options = {"label": None, "scale": False, "process": Rank(rank, 3)}
        streaming.encode_blocks(model, dataset, column, place / "z.npy", **options)

    threads = [threading.Thread(target=work, args=(rank,), name=str(rank)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(np.load(place / "z.npy"), whole, atol=1e-5)
    assert sorted(encoded) == [("0", 1), ("0", 4), ("1", 3), ("2", 4)]
    assert sorted(path.name for path in place.glob("z.*")) == ["z.npy"]


@pytest.mark.slow
def test_torchrun_starts_processes_that_share_a_file(place, monkeypatch):
    whole = encode(place, "whole.npy")
    (place / "run.py").write_text(
        "import sys\n\nfrom seqvae.cli import main, streaming\n\n"
        "streaming.MANY, streaming.BLOCK = 1, 4\nmain(sys.argv[1:])\n"
    )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(place / "run.py")]
    command += ["encode", str(place / "model"), str(place / "lines.txt"), "--output", str(place / "z.npy")]
    subprocess.run([sys.executable, *command], check=True, timeout=120)
    np.testing.assert_allclose(np.load(place / "z.npy"), whole, atol=1e-5)


@pytest.mark.parametrize("command", ["reconstruct", "decode"])
def test_parts_give_what_all_at_once_gives(command, place, monkeypatch, capsys):
    encode(place, "z.npy")
    source = str(place / ("z.npy" if command == "decode" else "lines.txt"))
    printed = []
    for size in (1000, 5):
        monkeypatch.setattr(streaming, "ROWS", size)
        main([command, str(place / "model"), source, *(["--temperature", "0"] if command == "decode" else [])])
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and printed[0].count("\n") >= 12

"""A model on the Hugging Face hub: uploaded to a stand-in of it by the hub's own package, and loaded from there."""

import json
import os
import subprocess
import sys

import pytest
from stand_in_hub import run_hub

from seqvae import TextVAE
from seqvae.training.checkpoint import Checkpoint

pytestmark = pytest.mark.slow

PUSH_AND_LOAD = """
import sys
from seqvae import TextVAE

model = TextVAE.from_pretrained(sys.argv[1])
print(model.push_to_hub("me/mine", private=True, token="hf_secret"))
print(TextVAE.from_pretrained("me/mine").sample(3, seed=0))
"""


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(["a cat sat .", "a dog sat .", "a cat ran .", "a dog ran ."] * 9, latent=2, max_epochs=1)


def run(script, hub, folder, *arguments):
    """Run Python with that hub in place of the real one, and an empty cache."""
    names = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1"}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    env = environment | names | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120)


def test_a_model_is_uploaded_with_all_its_files_and_loaded_again(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    with run_hub() as hub:
        done = run(PUSH_AND_LOAD, hub, tmp_path, tmp_path / "model")
    assert done.returncode == 0, done.stderr[-2000:]
    address, samples = done.stdout.splitlines()
    assert samples == str(model.sample(3, seed=0))
    assert address.startswith(hub.address) and "me/mine" in address
    assert (hub.created["organization"], hub.created["name"]) == ("me", "mine")
    assert hub.created.get("visibility") == "private" or hub.created.get("private")
    assert hub.tokens == {"Bearer hf_secret"}
    assert not [request for request in hub.unknown if "mine" in request]  # others are no concern of a model
    assert set(hub.files) == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}


def test_what_is_uploaded_is_the_model_without_the_paths_of_this_machine(tmp_path):
    corpus = tmp_path / "private" / "corpus.txt"
    corpus.parent.mkdir()
    corpus.write_text("".join(f"the {n} sat {place} .\n" for n in "abcd" for place in "uvwxyz"))
    TextVAE.fit(str(corpus), latent=2, max_epochs=1, output=tmp_path / "model")
    with run_hub() as hub:
        done = run(PUSH_AND_LOAD, hub, tmp_path, tmp_path / "model")
    assert done.returncode == 0, done.stderr[-2000:]
    assert not [name for name, content in hub.files.items() if str(tmp_path).encode() in content]
    received = tmp_path / "received"
    received.mkdir()
    for name, content in hub.files.items():
        (received / name).write_bytes(content)
    assert json.loads(hub.files["config.json"])["library"] == "seqvae"
    assert hub.files["README.md"].startswith(b"---\nlibrary_name: seqvae\n")
    weights = (Checkpoint.load(folder).model.state_dict() for folder in (received, tmp_path / "model"))
    for one, other in zip(*(states.values() for states in weights), strict=True):
        assert one.equal(other)


def test_a_model_that_the_hub_has_not_is_one_line(tmp_path):
    script = "from seqvae.cli import main; main(['describe', 'me/other'])"
    with run_hub() as hub:
        done = run(script, hub, tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "me/other" in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert any("me/other" in request for request in hub.unknown)

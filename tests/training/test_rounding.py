"""Rounded weights: small in a folder, close to those of the model, and themselves again when loaded and saved."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file

from seqvae import TextVAE
from seqvae.errors import CheckpointError, ConfigError
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.rounding import DTYPES, restore_weights, round_weights

SENTENCES = [
    f"{who} {did} {where} ." for who in ("a cat", "the dog", "a bird") for did in ("sat", "ran") for where in "xyz"
]
SIZES = {"latent": 4, "embedding": 16, "encoder": {"hidden": 16}, "decoder": {"hidden": 16}}


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(SENTENCES, max_epochs=20, warmup=2, learning_rate=0.02, batch_size=8, precision="fp32", **SIZES)


def test_bfloat16_keeps_each_number_to_its_eighth_bit():
    weights = {"w": torch.randn(50, 40), "b": torch.randn(50)}
    restored = restore_weights(round_weights(weights, "bfloat16"))
    for name, weight in weights.items():
        assert restored[name].dtype == torch.bfloat16
        assert ((restored[name].float() - weight).abs() <= weight.abs() / 256).all()


def test_int8_keeps_each_number_of_a_matrix_to_half_a_step_of_its_row():
    weights = {"w": torch.randn(50, 40) * torch.logspace(-6, 6, 50)[:, None], "b": torch.randn(50)}
    restored = restore_weights(round_weights(weights, "int8"))
    step = weights["w"].abs().amax(1, keepdim=True) / 127
    assert ((restored["w"] - weights["w"]).abs() <= step * 0.501).all()
    assert torch.equal(restored["b"], weights["b"])


def test_int8_of_rows_of_zeros_and_of_whole_numbers_is_exact():
    weights = {"w": torch.tensor([[0.0, 0.0], [127.0, -5.0]]), "n": torch.arange(3)}
    restored = restore_weights(round_weights(weights, "int8"))
    assert all(torch.equal(restored[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_rounded_is_itself_when_loaded_and_saved_again(dtype, model, tmp_path):
    model.save_pretrained(tmp_path / "one", dtype=dtype)
    TextVAE.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "two")
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(one[name].dtype == two[name].dtype and torch.equal(one[name], two[name]) for name in one)
    assert Checkpoint.load(tmp_path / "two").dtype == dtype


@pytest.mark.parametrize(("dtype", "bytes_each", "tolerance"), [("bfloat16", 2, 0.05), ("int8", 1, 0.1)])
def test_a_rounded_folder_is_smaller_and_scores_alike_in_float32(dtype, bytes_each, tolerance, model, tmp_path):
    model.save_pretrained(tmp_path, dtype=dtype)
    rounded = TextVAE.from_pretrained(tmp_path)
    assert {p.dtype for p in rounded.model.parameters()} == {torch.float32}
    before, after = (m.score(SENTENCES, samples=20, seed=0) for m in (model, rounded))
    assert not torch.equal(before, after)
    assert (after - before).abs().max() < tolerance
    numbers = sum(p.numel() for p in model.model.parameters())
    assert (tmp_path / "model.safetensors").stat().st_size < 1.5 * bytes_each * numbers + 4_000
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == dtype
    assert f"stored in {dtype}" in (tmp_path / "README.md").read_text()
    assert all(f"- {text}" in (tmp_path / "README.md").read_text() for text in rounded.preview_samples())


def test_saving_a_rounded_copy_leaves_the_model_as_it_was(model, tmp_path):
    before = model.score(SENTENCES, samples=5)
    model.save_pretrained(tmp_path, dtype="int8")
    assert torch.equal(model.score(SENTENCES, samples=5), before) and model.checkpoint.dtype == "float32"


def test_an_unknown_dtype_is_refused_before_anything_is_written(model, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown dtype 'bf16'.*known: bfloat16, float32, int8"):
        model.save_pretrained(tmp_path / "m", dtype="bf16")
    assert not (tmp_path / "m").exists()


def test_a_dtype_that_there_is_not_is_damage(model, tmp_path):
    model.save_pretrained(tmp_path, dtype="int8")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dtype": 7}))
    with pytest.raises(CheckpointError, match=r"config.json.*dtype"):
        Checkpoint.load(tmp_path)


def test_tied_weights_are_stored_once_in_int8_too(model, tmp_path):
    dataclasses.replace(model.checkpoint, dtype="int8").save(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    matrices = [name for name, tensor in stored.items() if tensor.dtype == torch.int8]
    assert len(matrices) == len({id(p) for p in model.model.parameters() if p.dim() == 2})

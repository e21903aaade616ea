"""The model folder: what is loaded is what was saved, and whatever is damaged, foreign or hostile is one clear line."""

import json
import pickle
import resource
import struct
import sys
from itertools import cycle

import pytest
import torch
from covering import pairwise
from safetensors.torch import load_file, save_file

from seqvae.config import Config
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import CheckpointError
from seqvae.training.build import build_model
from seqvae.training.checkpoint import FORMAT, OLDEST, Checkpoint, load_state, recover, save_state, write

FILES = ("config.json", "model.safetensors", "tokenizer.json")


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.train(["a cat sat .", "the dog ran .", "one bird ate"])


def checkpoint_of(config, tokenizer, seed=0):
    torch.manual_seed(seed)
    facts = {"corpus": "three", "notes": ["3 sentences"], "update": 7}
    return Checkpoint(config, build_model(config, len(tokenizer)).eval(), tokenizer, facts)


@pytest.fixture
def checkpoint(small_config, tokenizer):
    return checkpoint_of(small_config(), tokenizer)


@pytest.fixture
def folder(checkpoint, tmp_path):
    checkpoint.save(tmp_path / "model")
    return tmp_path / "model"


def refused(folder, *words):
    """The one line that loading the folder ends in."""
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(folder)
    line = str(caught.value)
    assert "\n" not in line and str(folder) in line and len(line) < 600
    for word in words:
        assert word in line
    return line


def edit(folder, *path, value):
    values = json.loads((folder / "config.json").read_text())
    at = values
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(values))


# -- what is loaded is what was saved ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("tied", "shared", "cell"), pairwise([True, False], [True, False], ["lstm", "gru"]))
def test_a_loaded_model_gives_the_same_bound_bit_for_bit(
    tied, shared, cell, small_config, tokenizer, random_batch, tmp_path
):
    parts = {"encoder": {"cell": cell, "layers": 2}, "decoder": {"cell": cell}, "observation": {"tied": tied}}
    before = checkpoint_of(small_config(share_embedding=shared, **parts), tokenizer)
    before.save(tmp_path)
    after = Checkpoint.load(tmp_path)
    batch, bounds = random_batch(vocabulary=len(tokenizer)), []
    for model in (before.model, after.model):
        torch.manual_seed(0)
        trace = model(batch)
        bounds.append(trace.reconstruction + trace.kl)
    assert torch.equal(*bounds)
    assert not after.model.training


def test_config_tokenizer_and_facts_come_back(checkpoint, folder):
    after = Checkpoint.load(folder)
    assert (after.config, after.facts) == (checkpoint.config, checkpoint.facts)
    assert after.tokenizer.to_json() == checkpoint.tokenizer.to_json()


def test_saving_what_was_loaded_gives_the_same_files(folder, tmp_path):
    Checkpoint.load(folder).save(tmp_path / "again")
    for name in ("config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    # The header of safetensors lists its metadata in any order, so only its tensors can be compared.
    one, other = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "again"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_folder_holds_its_three_files_and_no_other(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_saving_over_another_model_replaces_it(folder, small_config, tokenizer):
    other = checkpoint_of(small_config(latent=2), tokenizer, seed=1)
    other.save(folder)
    assert Checkpoint.load(folder).config.model.latent == 2


def test_loading_changes_no_random_numbers_of_the_file(folder):
    torch.manual_seed(0)
    one = Checkpoint.load(folder).model.state_dict()
    torch.manual_seed(1)
    other = Checkpoint.load(folder).model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


# -- damaged -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    refused(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(name, folder):
    data = (folder / name).read_bytes()
    for fraction in (0.0, 0.3, 0.97):
        (folder / name).write_bytes(data[: int(fraction * len(data))])
        refused(folder, name)


GARBAGE = [
    b"\x00" * 100,
    b"\xff\xfe\xfd" * 50,
    b"[1, 2, 3]",
    b"{}",
    b"null",
    b'"text"',
    b"7",
    b"<html></html>",
    b"[" * 10**5,
]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_garbage_is_named(name, folder):
    for data in GARBAGE:
        (folder / name).write_bytes(data)
        refused(folder, name)


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_named(name, folder):
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    refused(tmp_path / "nowhere")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("text")
    refused(tmp_path / "file")


def test_an_empty_folder_is_no_model(tmp_path):
    refused(tmp_path, "config.json")


# -- foreign -----------------------------------------------------------------------------------------------------------


def test_a_model_of_another_library_is_refused(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 50257}))
    refused(folder, "config.json")


def test_a_tokenizer_of_another_vocabulary_is_refused(folder):
    Tokenizer.train(["many more other words than those of the model stand here"]).save(folder / "tokenizer.json")
    refused(folder, "tokenizer.json")


@pytest.mark.parametrize("value", [OLDEST - 1, FORMAT + 1, 10**6, "3", "a\nb", None], ids=repr)
def test_any_other_format_is_refused_by_its_number(folder, value):
    edit(folder, "format", value=value)
    refused(folder, repr(value), f"formats {OLDEST} to {FORMAT}", "train the model again")


@pytest.mark.parametrize("value", range(OLDEST, FORMAT + 1))
def test_a_folder_of_an_older_format_loads_which_says_nothing_of_dtype_or_sampling(value, folder, checkpoint):
    values = json.loads((folder / "config.json").read_text()) | {"format": value}
    del values["dtype"]
    (folder / "config.json").write_text(json.dumps(values))
    loaded = Checkpoint.load(folder)
    assert (loaded.facts, loaded.dtype, loaded.generation_config) == (checkpoint.facts, "float32", {})


def test_weights_of_another_shape_are_refused_by_name(folder, small_config, tokenizer, tmp_path):
    checkpoint_of(small_config(decoder={"hidden": 9}), tokenizer).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    refused(folder, "model.safetensors", "decoder")


def test_a_missing_weight_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["posterior.linear.bias"]
    save_file(tensors, folder / "model.safetensors")
    refused(folder, "posterior.linear.bias")


def test_a_superfluous_weight_is_named(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"stranger": torch.zeros(2)}, folder / "model.safetensors")
    refused(folder, "stranger")


# -- hostile -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("config", "model", "encoder", "name"), "recurent", "recurrent"),
        (("config", "model", "encoder", "hiden"), 3, "hidden"),
        (("config", "model", "latnt"), 3, "latent"),
        (("config", "modell"), {}, "model"),
        (("config", "model", "decoder", "name"), "os.system", "model.decoder"),
    ],
)
def test_an_unknown_name_is_named_with_the_nearest(path, value, word, folder):
    edit(folder, *path, value=value)
    refused(folder, word)


MODEL = ("config", "model")
SIZES = [(*MODEL, "latent"), (*MODEL, "embedding"), (*MODEL, "encoder", "hidden"), (*MODEL, "decoder", "layers")]
NO_SIZES = [None, "many", 0, -1, 2.5, [3], 1e300]
OTHERS = [(*MODEL, "encoder"), (*MODEL, "encoder", "name"), ("config", "model"), ("config",), ("vocabulary",)]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *zip(cycle(SIZES), NO_SIZES, strict=False),
        *zip(SIZES, cycle(NO_SIZES), strict=False),
        *zip(OTHERS, cycle((None, "many", 5, [3])), strict=False),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(path, value, folder):
    edit(folder, *path, value=value)
    refused(folder)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("config", "model", "latent"), 3 * 10**6),
        (("config", "model", "latent"), 10**9),
        (("config", "model", "latent"), 10**15),
        (("config", "model", "encoder", "hidden"), 10**4),
        (("config", "model", "embedding"), 10**8),
        (("config", "model", "decoder", "layers"), 10**6),
        (("config", "model", "latent"), 10**30),
        (("config", "model", "encoder", "hidden"), 10**30),
        (("vocabulary",), 10**9),
    ],
    ids=str,
)
def test_a_huge_size_is_refused_without_a_huge_memory_or_time(path, value, folder):
    Checkpoint.load(folder)  # what a first load needs is not counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit(folder, *path, value=value)
    refused(folder)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * unit < 60e6


def test_a_false_header_length_of_the_weights_is_refused(folder):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + data[8:])
    refused(folder, "model.safetensors")


class Bomb:
    """Whoever unpickles it has run foreign code."""

    def __reduce__(self):
        return (_explode, ())


def _explode():
    raise SystemExit("foreign code has run")


@pytest.mark.parametrize("name", FILES)
def test_a_pickle_in_the_place_of_a_file_is_never_opened(name, folder):
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    refused(folder, name)


def test_a_pickled_object_in_the_state_is_refused(tmp_path):
    save_state(tmp_path, {"best": Bomb()})
    with pytest.raises(CheckpointError, match="cannot be resumed") as caught:
        load_state(tmp_path)
    assert "\n" not in str(caught.value)


# -- the state of a training -------------------------------------------------------------------------------------------


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"model": {"w": torch.randn(3)}, "counters": {"update": 3, "seconds": 0.1}, "best": {"elbo": -float("inf")}}
    save_state(tmp_path, state)
    after = load_state(tmp_path)
    assert torch.equal(after["model"].pop("w"), state["model"].pop("w")) and after == state


@pytest.mark.parametrize("data", [b"", b"garbage", b"PK\x03\x04" + b"\x00" * 50])
def test_a_damaged_state_is_refused_in_one_line(data, tmp_path):
    save_state(tmp_path, {"a": torch.zeros(1000)})
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged") as caught:
        load_state(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_state_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="nothing to resume"):
        load_state(tmp_path)


# -- writing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("broken\nsecond line")])
def test_a_writer_that_fails_half_way_leaves_the_old_file_and_nothing_else(error, tmp_path):
    (tmp_path / "file").write_text("old")

    def half(path):
        path.write_text("ne")
        raise error

    with pytest.raises(CheckpointError, match="cannot write") as caught:
        write(tmp_path / "file", half)
    assert "\n" not in str(caught.value)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")

    def killed(path):
        path.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "file", killed)
    assert (tmp_path / "file").read_text() == "old"


def test_at_no_moment_of_a_save_is_a_file_missing_or_half_written(folder, checkpoint, monkeypatch):
    """Before every single move the three old or new files are whole, whatever has been moved already."""
    import os

    moves, move = [], os.replace

    def watched(source, target):
        moves.append(target)
        Checkpoint.load(folder)
        move(source, target)
        Checkpoint.load(folder)

    monkeypatch.setattr("seqvae.errors.os.replace", watched)
    checkpoint.save(folder)
    assert len(moves) == 3


def test_a_kill_while_a_model_of_another_size_is_written_leaves_one_that_can_be_recovered(
    folder, checkpoint, small_config, tokenizer, monkeypatch
):
    import os

    moves, move = [], os.replace

    def killed(source, target):
        move(source, target)
        moves.append(target)
        if target == folder / "model.safetensors":
            raise KeyboardInterrupt

    monkeypatch.setattr("seqvae.errors.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_of(small_config(latent=2), tokenizer).save_over(folder, checkpoint)
    refused(folder, "does not fit")
    monkeypatch.undo()
    for _ in range(2):  # the second finds nothing to do
        recover(folder)
        assert Checkpoint.load(folder).config == checkpoint.config
        assert not (folder / "resume" / "before").exists()


def test_a_place_that_cannot_be_written_is_named_in_one_line(checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write") as caught:
        checkpoint.save(tmp_path / "file" / "model")
    assert "\n" not in str(caught.value)


def test_the_configuration_is_readable_json_without_code(folder):
    values = json.loads((folder / "config.json").read_text())
    assert Config.from_dict(values["config"]) and values["library"] == "seqvae"

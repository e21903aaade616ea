"""Fine-tuning: what a run takes from the model that it begins with, what may differ, and what its weights become."""

import json
import shutil

import pytest
import torch

from seqvae import SeriesVAE, TextVAE
from seqvae.cli import main
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.errors import ConfigError, UnknownWordsWarning
from seqvae.model.observations.tokens import Tokens
from seqvae.training.checkpoint import Checkpoint
from seqvae.training.new_vocabulary import map_output, map_rows, map_tokens

WORDS = ("a cat", "the dog", "one bird"), ("sat", "ran", "ate"), ("", "here", "there now", "at home")
SENTENCES = [" ".join(f"{a} {b} {c} .".split()) for a in WORDS[0] for b in WORDS[1] for c in WORDS[2]]
OTHERS = [sentence.replace("cat", "zebra").replace("home", "sea") for sentence in SENTENCES]
SIZES = {"latent": 3, "embedding": 6, "encoder": {"hidden": 4}, "decoder": {"hidden": 5}}
SHORT = {"max_epochs": 1, "batch_size": 16, "precision": "fp32"}
HELD = {"divergence": "kl", "weight": {"name": "constant", "end": 0.3}}
TRAINED = {"train": SENTENCES, "valid": SENTENCES[:6], "test": SENTENCES[:6]}


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a tiny model with a mixture for its prior and clusters of words."""
    folder = tmp_path_factory.mktemp("init") / "first"
    mixture = {"name": "mixture", "components": 3, "refit": 0}
    observation = {"head_size": 6, "largest_cluster": 4}
    TextVAE.fit(TRAINED, output=folder, prior=mixture, observation=observation, seed=5, **SIZES, **SHORT, **HELD)
    return folder


@pytest.fixture
def corpus(file):
    return file("corpus.txt", "\n".join(SENTENCES) + "\n")


def fine_tune(init, sentences=None, **options):
    sentences = {"train": OTHERS, "valid": OTHERS[:6], "test": OTHERS[:6]} if sentences is None else sentences
    return TextVAE.fit(sentences, init=init, **SHORT | {"learning_rate": 1e-4} | options)


def run(*arguments):
    main([str(argument) for argument in arguments])


# -- what is taken ----------------------------------------------------------------------------------------------------


def test_a_run_has_the_sizes_the_words_and_nearly_the_weights_of_its_init(trained):
    first = TextVAE.from_pretrained(trained)
    model = fine_tune(str(trained), TRAINED, learning_rate=1e-9)
    assert model.config.model.encoder == first.config.model.encoder | {"name": "recurrent"}
    assert model.tokenizer.to_json() == first.tokenizer.to_json()
    for name, tensor in first.model.state_dict().items():
        if not name.startswith("prior"):
            torch.testing.assert_close(model.model.state_dict()[name], tensor, rtol=0, atol=1e-6)


def test_a_run_without_init_has_other_weights(trained):
    first, other = TextVAE.from_pretrained(trained), TextVAE.fit(TRAINED, **SIZES, **SHORT, learning_rate=1e-9)
    name = "decoder.rnn.weight_hh_l0"
    assert not torch.allclose(other.model.state_dict()[name], first.model.state_dict()[name], atol=0.1)


def test_the_weight_of_the_kl_has_no_warmup_and_the_learnt_prior_is_kept(trained):
    config = fine_tune(str(trained), TRAINED).config
    assert config.objective.weight == {"name": "constant", "end": 0.32}
    assert (config.model.prior["name"], config.model.prior["refit"]) == ("mixture", 1000)


def test_a_loaded_model_serves_as_well_and_stays_as_it_was(trained):
    first = TextVAE.from_pretrained(trained)
    before = {name: tensor.clone() for name, tensor in first.model.state_dict().items()}
    by_name, loaded = fine_tune(trained), fine_tune(first)  # a path
    for name, tensor in by_name.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert all(torch.equal(first.model.state_dict()[name], tensor) for name, tensor in before.items())


def test_the_built_in_model_is_an_init_by_name():
    config = TextVAE.resolve(TextVAE.from_pretrained("chitchat").config)
    made = fine_tune("chitchat", max_length=9).config
    assert (made.model.encoder["hidden"], made.data.max_length) == (config.model.encoder["hidden"], 9)


# -- what may differ, and what cannot ---------------------------------------------------------------------------------

CANNOT = {
    "latent": ({"latent": 5}, "--model.latent 5", "has 3"),
    "embedding": ({"embedding": 7}, "--model.embedding 7", "has 6"),
    "hidden": ({"encoder": {"hidden": 9}}, "--model.encoder.hidden 9", "has 4"),
    "cell": ({"decoder": {"cell": "gru"}}, "--model.decoder.cell gru", "has lstm"),
    "part": ({"decoder": "transformer"}, "--model.decoder.name transformer", "has recurrent"),
    "prior": ({"prior": "normal"}, "--model.prior.name normal", "has mixture"),
    "components": ({"prior": {"components": 9}}, "--model.prior.components 9", "has 3"),
    "labels": ({"label_column": "mood"}, "--label-column mood", "no labels"),
    "kind": ({"kind": "lm"}, "--kind lm", "latent space"),
}


@pytest.mark.parametrize("options, given, has", CANNOT.values(), ids=CANNOT)
def test_an_option_that_cannot_differ_is_refused_by_name_with_what_the_init_has(options, given, has, trained, tmp_path):
    with pytest.raises(ConfigError) as error:
        fine_tune(str(trained), output=tmp_path / "new", **options)
    assert given in str(error.value) and has in str(error.value) and not (tmp_path / "new").exists()


def test_options_of_training_may_differ(trained):
    model = fine_tune(
        str(trained),
        learning_rate=2e-3,
        target_kl=2.0,
        encoder={"dropout": 0.5},
        decoder={"name": "recurrent", "hidden": 5, "dropout": 0.4},
        noise={"rate": 0.2},
        prior={"refit": 0},
    )
    parts = model.config.model
    assert (parts.encoder["dropout"], parts.encoder["hidden"], parts.decoder["dropout"]) == (0.5, 4, 0.4)
    assert (model.config.training.learning_rate, model.config.kl_target) == (2e-3, 2.0)
    assert (parts.noise["rate"], parts.prior["components"]) == (0.2, 3)


def test_resolving_again_changes_nothing(trained):
    config = fine_tune(str(trained), sentences=TRAINED, prior={"refit": 0}).config
    assert TextVAE.resolve(config) == config


# -- another vocabulary -----------------------------------------------------------------------------------------------


def test_rows_of_shared_tokens_are_copied_and_new_ones_begin_at_the_mean(trained):
    first = TextVAE.from_pretrained(trained)
    model = fine_tune(str(trained), own_vocabulary=True, learning_rate=1e-9)
    old, new = (m.model.observation.embedding.weight for m in (first, model))
    places = {first.tokenizer.get_token(id): id for id in range(len(first.tokenizer))}
    for id in range(len(model.tokenizer)):
        token = model.tokenizer.get_token(id)
        if token in places:
            torch.testing.assert_close(new[id], old[places[token]], rtol=0, atol=1e-6)
        else:
            assert token in ("zebra", "sea")
            assert ((new[id] - old.mean(0)).abs() < 0.5 * old.std(0)).all() and not torch.equal(new[id], old.mean(0))


def test_an_option_of_the_tokenizer_asks_for_a_vocabulary_of_its_own(trained):
    model = fine_tune(str(trained), vocabulary_size=9)
    assert len(model.tokenizer) == 9 and model.config.training.own_vocabulary


def test_words_of_another_kind_of_tokenizer_are_found():
    word, bpe = Tokenizer.train(SENTENCES), Tokenizer.train(SENTENCES, kind="bpe", vocabulary_size=320)
    cased = Tokenizer.train(["The Dog sat"], lowercase=False)
    rows = dict(zip(map(bpe.get_token, range(len(bpe))), map_tokens(word, bpe).tolist(), strict=True))
    assert word.get_token(rows["Ġdog"]) == "dog" and rows["a"] == -1
    assert [word.get_token(row) for row in map_tokens(word, cased).tolist()[4:]] == ["dog", "the", "sat"]


def test_tokens_that_change_cluster_stay_as_likely_relative_to_others():
    """At features of 0 the odds of any two shared tokens are those of the old output layer, wherever they have come."""
    torch.manual_seed(0)
    old = Tokens(vocabulary=30, embedding=4, features=4, head_size=6, largest_cluster=8).double()
    new = Tokens(vocabulary=24, embedding=4, features=4, head_size=10, largest_cluster=5).double()
    for parameter in (old.output.bias, old.output.clusters.bias):
        torch.nn.init.normal_(parameter)
    rows = torch.randperm(30)[:24]
    values = new.output.state_dict() | {
        name.removeprefix("observation.output."): value for name, value in map_output(old, new, rows).items()
    }
    new.output.load_state_dict(values)
    x = torch.zeros(1, 4, dtype=torch.float64)
    before, after = (layer(x).log_softmax(-1)[0].detach() for layer in (old.output, new.output))
    torch.testing.assert_close(after, before[rows].log_softmax(-1))


def test_new_rows_differ_from_each_other_and_are_the_same_each_time():
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(1))
    first, again = (map_rows(table, torch.tensor([3, -1, -1])) for _ in range(2))
    assert torch.equal(first, again) and torch.equal(first[0], table[3]) and not torch.equal(first[1], first[2])


def test_a_vocabulary_that_covers_the_corpus_badly_is_reported_with_what_to_write(trained):
    unknown = {name: ["zebra okapi sat .", "zebra gnu ran .", "gnu zebra ate ."] * 3 for name in ("train", "valid")}
    unknown["valid"] = ["okapi zebra ran ."]
    with pytest.warns(UnknownWordsWarning, match=r"has [0-9.]+% of the tokens .*--own-vocabulary"):
        fine_tune(str(trained), unknown)


# -- frozen parts -----------------------------------------------------------------------------------------------------

FROZEN = {
    "encoder": "encoder.rnn.",
    "posterior": "posterior.",
    "decoder": "decoder.",
    "embedding": "observation.embedding.",
    "prior": "prior.",
    "observation": "observation.",
}


@pytest.mark.parametrize("part, prefix", FROZEN.items())
def test_a_frozen_part_stays_as_it_is_and_others_are_trained(part, prefix, trained):
    model = fine_tune(str(trained), freeze=(part,), learning_rate=0.05, weight_decay=0.5)
    before, after = TextVAE.from_pretrained(trained).model.state_dict(), model.model.state_dict()
    same = {name for name, tensor in before.items() if torch.equal(after[name], tensor)}
    assert {name for name in before if name.startswith(prefix)} <= same
    assert any(name.startswith("decoder.rnn" if part != "decoder" else "encoder.rnn") for name in before.keys() - same)


def test_the_q_of_a_frozen_encoder_with_batch_norm_stays_as_it_is():
    first = TextVAE.fit(TRAINED, posterior="batch-norm", **SIZES, **SHORT)
    frozen = ("encoder", "posterior", "embedding")
    model = fine_tune(first, freeze=frozen, learning_rate=0.05, max_epochs=3)
    assert torch.equal(model.encode(OTHERS[:5]).mean, first.encode(OTHERS[:5]).mean)


def test_freezing_the_encoder_leaves_the_embedding_that_it_shares(trained):
    model = fine_tune(str(trained), freeze=("encoder",), learning_rate=0.05)
    old = TextVAE.from_pretrained(trained).model.observation.embedding.weight
    assert not torch.equal(model.model.observation.embedding.weight, old)


def test_what_cannot_be_frozen_is_refused(trained):
    for options, words in (
        ({"freeze": ("decodr",)}, "decoder"),
        ({"freeze": tuple(FROZEN)}, "nothing to train"),
        ({"freeze": ("encoder",), "update": "lagging"}, "lagging"),
    ):
        with pytest.raises(ConfigError, match=words):
            fine_tune(str(trained), **options)
    with pytest.raises(ConfigError, match="init"):
        TextVAE.fit(TRAINED, freeze=("encoder",), **SHORT)


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_begins_with_and_the_folder_keeps_it(trained, corpus, tmp_path, capsys):
    folder = tmp_path / "tuned"
    run("train", corpus, "--init", trained, "--freeze", "encoder", "--freeze", "prior", "--max-epochs", 1, "--output",
        folder)  # fmt: skip
    said = capsys.readouterr().err
    values = json.loads((folder / "config.json").read_text())
    origin = values["facts"]["init"]
    assert f"begins with {trained} (sha256 {origin['sha256']})" in said and "frozen: encoder, prior; " in said
    assert "% of the tokens of the training sentences" in said
    assert origin["name"] == "first" and len(origin["sha256"]) == 16
    assert f"Fine-tuned from `first` (SHA-256 {origin['sha256']}" in (folder / "README.md").read_text()
    assert values["config"]["model"]["encoder"]["hidden"] == 4


def test_a_run_is_resumed_without_the_model_that_it_began_with(trained, corpus, tmp_path, capsys):
    folder, copy = tmp_path / "tuned", tmp_path / "copy"
    shutil.copytree(trained, copy)
    common = "--max-epochs", 2, "--validate-every", 2, "--output"
    run("train", corpus, "--init", copy, *common, folder)
    first = Checkpoint.load(folder)
    shutil.rmtree(copy)
    run("train", "--resume", "--output", folder, "--max-epochs", 3)
    again = Checkpoint.load(folder)
    assert again.facts["init"] == first.facts["init"]
    assert again.tokenizer.to_json() == first.tokenizer.to_json()
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] > first.facts["step"] - 1


@pytest.fixture(scope="session")
def unfit(tmp_path_factory):
    """Folders that no model of text with a latent space can begin with."""
    place = tmp_path_factory.mktemp("unfit")
    TextVAE.fit(TRAINED, kind="lm", output=place / "lm", **SIZES, **SHORT)
    SeriesVAE.fit([torch.randn(5, 2).numpy() for _ in range(30)], output=place / "series", **SIZES, **SHORT)
    (place / "broken").mkdir()
    (place / "broken" / "config.json").write_text("{")
    return place


@pytest.mark.parametrize("name", ["lm", "series", "broken", "missing", "chitchatt"])
def test_a_model_that_cannot_be_begun_with_is_one_line_and_leaves_nothing(name, unfit, corpus, tmp_path, refused):
    init = name if name == "chitchatt" else unfit / name
    line = refused("train", corpus, "--init", init, "--max-epochs", 1, "--output", tmp_path / "new" / "run")
    assert name in line and not (tmp_path / "new").exists()


def test_series_cannot_begin_with_a_model(trained, tmp_path, refused):
    line = refused("train", "curves", "--init", trained, "--output", tmp_path / "run")
    assert "series" in line and not (tmp_path / "run").exists()


def test_an_option_that_cannot_differ_is_one_line_of_the_command(trained, corpus, tmp_path, refused):
    line = refused("train", corpus, "--init", trained, "--model.encoder.hidden", 9, "--output", tmp_path / "run")
    assert "--model.encoder.hidden 9" in line and "has 4" in line and not (tmp_path / "run").exists()

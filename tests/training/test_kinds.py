"""The kinds of model: a language model and an autoencoder in the same harness as the VAE."""

import itertools

import pytest
import torch

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.config import Config, resolve, to_toml
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.training.build import build_model, build_objective

WORDS = ["a cat", "the dog", "one bird"], ["sat", "ran", "ate"], ["here", "there", "home", "now"]
SENTENCES = [" ".join(words) + " ." for words in itertools.product(*WORDS)]
SMALL = {"embedding": 12, "encoder": {"hidden": 16}, "decoder": {"hidden": 24}, "batch_size": 8, "precision": "fp32"}
LONGER = {"learning_rate": 0.02, "warmup": 5, "max_epochs": 40, "noise": {"rate": 0.0}}


def fit(**options):
    return TextVAE.fit(SENTENCES, **SMALL | options)


def test_a_language_model_is_the_decoder_alone():
    model = build_model(Config.from_dict({"kind": "lm"}), 50)
    assert model.latent == 0 and not list(model.encoder.parameters())
    vae = build_model(Config(), 50)
    assert model.decoder.rnn.hidden_size == vae.decoder.rnn.hidden_size
    assert sum(p.numel() for p in model.posterior.parameters()) == 0


def test_the_scores_of_a_language_model_have_no_latent_part():
    model = fit(kind="lm", max_epochs=2)
    scores = model.evaluate(load(SENTENCES, tokenizer=model.tokenizer, whole=True).test, samples=7)
    assert scores.kl == 0 and scores.nll == pytest.approx(scores.reconstruction, rel=1e-6)
    assert (scores.samples, scores.active_units, scores.mutual_information_upper) == (1, 0, 0)
    assert scores.permuted_nll_increase == 0 and scores.holes is None and scores.inference_gap is None


def test_a_language_model_generates_sentences_but_has_no_latent_to_encode_into():
    model = fit(kind="lm", max_epochs=2)
    assert len(model.sample(3, seed=1)) == 3
    for refused in (lambda: model.encode(["a cat"]), lambda: model.interpolate("a cat", "the dog")):
        with pytest.raises(ConfigError, match=r"kind lm.*no latent"):
            refused()


def test_a_language_model_may_be_a_transformer(tmp_path):
    small = {"width": 16, "heads": 2, "hidden": 24, "layers": 2}
    decoder = {"name": "transformer", **small}
    # Without a latent nothing is encoded, and a warning of empty weights would fail the test.
    model = TextVAE.fit(SENTENCES, embedding=12, decoder=decoder, batch_size=8, kind="lm", max_epochs=2)
    assert model.config.model.latent == 0 and len(model.sample(3, seed=1)) == 3
    split = load(SENTENCES, tokenizer=model.tokenizer, whole=True).test
    scores = model.evaluate(split, samples=3)
    model.save_pretrained(tmp_path / "lm")
    assert TextVAE.from_pretrained(tmp_path / "lm").evaluate(split, samples=3).nll == pytest.approx(
        scores.nll, rel=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_transformers_train_score_generate_and_are_stored(precision, tmp_path, request):
    if precision == "bf16":
        request.getfixturevalue("half")
    part = {"name": "transformer", "width": 16, "heads": 2, "hidden": 24, "layers": 2}
    options = {"embedding": 12, "batch_size": 8, "max_epochs": 40, "learning_rate": 0.01, "precision": precision}
    model = TextVAE.fit(SENTENCES, encoder=part, decoder=part, latent=4, **options)
    split = load(SENTENCES, tokenizer=model.tokenizer, whole=True).test
    scores = model.evaluate(split, samples=20)
    assert 0 < scores.nll < 12
    for options in ({"temperature": 0.0}, {"seed": 1}, {"beam": 3}):
        assert len(model.decode(model.encode(SENTENCES[:5]).mean, **options)) == 5
    model.save_pretrained(tmp_path / "vae")
    assert TextVAE.from_pretrained(tmp_path / "vae").sample(5, seed=1) == model.sample(5, seed=1)


def test_an_autoencoder_never_pays_for_the_divergence():
    weight = build_objective(Config.from_dict({"kind": "ae"})).weight
    assert {weight(step) for step in (0, 10, 10_000)} == {0.0} and weight.annealing_steps == 0


@pytest.mark.slow
def test_the_autoencoder_that_is_kept_reconstructs_best_whatever_its_bound():
    """Its KL rises without end, so by the bound the first would be kept."""
    from accelerate import Accelerator

    from seqvae.pretrained import build_config
    from seqvae.training.build import resolve_all
    from seqvae.training.loop import Run, Validation, fit

    config = resolve_all(build_config(SMALL | LONGER | {"kind": "ae", "validate_every": 10}))
    run = Run(config, load(SENTENCES), accelerator=Accelerator(mixed_precision="no"))
    validations = [event for event in fit(run) if isinstance(event, Validation)]
    best = min(validations, key=lambda validation: validation.reconstruction)
    assert run.best.step == best.step and run.best.value == pytest.approx(-best.reconstruction)
    assert best.step != max(validations, key=lambda validation: validation.elbo).step  # else nothing is tested here


@pytest.mark.parametrize("kind", ["lm", "ae"])
def test_a_recipe_for_a_vae_serves_its_baselines(kind):
    recipe = {"model": {"latent": 7, "noise": {"rate": 0.3}}, "objective": {"weight": {"name": "cyclical"}}}
    config = resolve(Config.from_dict(recipe | {"kind": kind}))
    assert config.model.latent == (0 if kind == "lm" else 7)
    assert config.model.noise["rate"] == (0 if kind == "lm" else 0.3)
    assert config.objective.weight["name"] == "constant"
    assert Config.from_dict(config.to_dict()) == config and f'kind = "{kind}"' in to_toml(config)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ConfigError, match="ae, lm, vae"):
        Config.from_dict({"kind": "gan"})


@pytest.mark.parametrize("kind", ["lm", "ae"])
def test_the_command_trains_saves_and_loads_each_kind(kind, tmp_path, capsys, refused):
    text, folder = tmp_path / "some.txt", tmp_path / kind
    text.write_text("\n".join(SENTENCES * 3))
    sizes = ["--model.encoder.hidden", "8", "--model.decoder.hidden", "8", "--max-epochs", "1"]
    main(["train", str(text), "--kind", kind, *sizes, "--output", str(folder)])
    out = capsys.readouterr().out
    assert "Samples from the prior" in out and ("Reconstructions" in out) == (kind == "ae")
    model = TextVAE.from_pretrained(folder)
    assert model.config.kind == kind
    assert (
        f"# A sentence {'language model' if kind == 'lm' else 'autoencoder'} of" in (folder / "README.md").read_text()
    )
    assert torch.equal(
        model.model.log_prob(*batch(model)), TextVAE.from_pretrained(folder).model.log_prob(*batch(model))
    )
    assert f"kind = {kind}" in refused(
        "train", "--resume", "--output", folder, "--kind", "lm" if kind == "ae" else "ae"
    )


def batch(model):
    from seqvae.data.batch import Batch

    return Batch.of([[5, 6, 2], [7, 2]]), torch.zeros(2, model.model.latent)

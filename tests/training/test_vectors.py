"""Embeddings that begin as word vectors: where they are put, that frozen ones stay, and what the log says."""

import json

import numpy as np
import pytest
import torch

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.config import Config, Data
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError
from seqvae.training.build import build_model
from seqvae.training.vectors import find_tables, fit_width, place_vectors

TEXTS = [f"the {a} sat {b} ." for a in ("cat", "dog", "hen", "fox") for b in "abcdefgh"]
WORDS = ["the", "cat", "dog", "Hen", "sat"]
TINY = {"latent": 2, "embedding": 4, "decoder": {"hidden": 4}, "encoder": {"hidden": 4}, "max_epochs": 2}


@pytest.fixture
def vectors(tmp_path):
    values = np.random.default_rng(0).normal(size=(len(WORDS), 6))
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{w} {' '.join(map(str, row))}\n" for w, row in zip(WORDS, values, strict=True)))
    return path


def test_wider_vectors_keep_their_principal_components_and_narrower_ones_all():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 8)) + 3
    fitted, kept = fit_width(values, 3, scale=0.1)
    assert kept == pytest.approx(1) and np.sqrt((fitted**2).mean()) == pytest.approx(0.1)
    centred = values - values.mean(0)

    def distances(x):
        return np.linalg.norm(x[:, None] - x[None], axis=-1)

    ratio = distances(fitted)[0, 1:] / distances(centred)[0, 1:]
    np.testing.assert_allclose(ratio, ratio[0])
    wide, kept = fit_width(values, 10, scale=0.1)
    assert kept == 1 and (wide[:, 8:] == 0).all()
    assert fit_width(rng.normal(size=(50, 8)), 4, 1.0)[1] < 0.9


@pytest.mark.parametrize("shared", [True, False])
def test_rows_of_words_begin_as_their_vectors_and_the_tied_output_has_them_too(shared, vectors):
    corpus = load(TEXTS)
    options = {"model": {"latent": 2, "embedding": 4, "share_embedding": shared}, "data": {"embeddings": str(vectors)}}
    config = Config.from_dict(options)
    torch.manual_seed(0)
    model = build_model(config, corpus.size)
    before = model.observation.embedding.weight.detach().clone()
    ids = place_vectors(model, corpus, config.data)
    assert {corpus.tokenizer.get_token(id) for id in ids.tolist()} == {"the", "cat", "dog", "hen", "sat"}
    assert len(find_tables(model)) == (1 if shared else 2)
    after = model.observation.embedding.weight
    assert model.observation.output.weight is after
    others = [id for id in range(corpus.size) if id not in ids]
    assert torch.equal(after[others], before[others]) and not torch.isclose(after[ids], before[ids]).any()
    for table in find_tables(model):  # alike but for their scale
        torch.testing.assert_close(table[ids] / table[ids].norm(), after[ids] / after[ids].norm())
    assert f"5 of {corpus.size - 4} words" in corpus.notes[-1]
    for part in (
        "of the training tokens",
        "1 by a word in another case",
        "6 dimensions fitted to 4",
        "trained further",
    ):
        assert part in corpus.notes[-1]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_frozen_rows_stay_and_the_others_are_trained(optimizer, vectors):
    corpus = load(TEXTS)
    model = TextVAE.fit(TEXTS, embeddings=vectors, embeddings_frozen=True, optimizer=optimizer, seed=3, **TINY)
    torch.manual_seed(3)
    fresh = build_model(model.config, corpus.size)
    ids = place_vectors(fresh, corpus, model.config.data)
    ours, first = (m.observation.embedding.weight for m in (model.model, fresh))
    assert torch.equal(ours[ids], first[ids])
    others = [id for id in range(corpus.size) if id not in ids]
    assert not torch.isclose(ours[others], first[others]).all()
    free = TextVAE.fit(TEXTS, embeddings=vectors, optimizer=optimizer, seed=3, **TINY)
    assert not torch.isclose(free.model.observation.embedding.weight[ids], first[ids]).all()


def test_the_log_names_the_coverage_and_a_damaged_file_leaves_nothing_behind(vectors, tmp_path, capsys):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS))
    sizes = ["--model.latent", "2", "--model.embedding", "4", "--model.decoder.hidden", "4", "--max-epochs", "1"]
    arguments = ["train", str(tmp_path / "corpus.txt"), *sizes, "--output", str(tmp_path / "model"), "--embeddings"]
    main([*arguments, str(vectors), "--embeddings-frozen"])
    assert "words (" in (log := "".join(capsys.readouterr())) and "; frozen" in log
    stored = json.loads((tmp_path / "model/config.json").read_text())["config"]["data"]
    assert stored["embeddings"] == str(vectors) and stored["embeddings_frozen"] is True
    vectors.write_text(vectors.read_text() + "fox 1 2\n")
    arguments[arguments.index(str(tmp_path / "model"))] = str(tmp_path / "other")
    with pytest.raises(SystemExit) as caught:
        main([*arguments, str(vectors)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and "line 6: expected a word and 6 numbers, found 2" in error
    assert error.strip().splitlines()[-1].startswith("seqvae:") and "Traceback" not in error
    assert not (tmp_path / "other").exists()


def test_options_that_need_a_file_or_words_are_refused():
    with pytest.raises(ConfigError, match="write --embeddings FILE"):
        Data(embeddings_frozen=True)
    from seqvae import SeriesVAE

    with pytest.raises(ConfigError, match="models of series have no words"):
        SeriesVAE.fit(np.zeros((9, 5, 1)), embeddings="x.txt")

"""SeriesVAE and the commands on series: train, score, sample, save, load, refuse."""

import json
import math

import numpy as np
import pytest
import torch

from seqvae import SeriesVAE, TextVAE, load
from seqvae.cli import main
from seqvae.data.batch import Batch
from seqvae.data.series.corpus import load_series
from seqvae.errors import CheckpointError, ConfigError, CorpusError
from seqvae.evaluation.probes import compare_reconstructions, linear_r2
from seqvae.model.frame_decoding import GeneratedSeries
from seqvae.series_vae import draw_line

SMALL = {
    "latent": 3,
    "embedding": 8,
    "encoder": {"hidden": 8},
    "decoder": {"hidden": 8},
    "batch_size": 16,
    "precision": "fp32",
    "warmup": 2,
    "learning_rate": 0.02,
}


def waves(count=60, channels=2):
    random = np.random.default_rng(0)
    t = [np.arange(random.integers(3, 9)) for _ in range(count)]
    phase = random.uniform(0, 6, count)
    return [np.stack([50 + 9 * np.sin(one + p + c) for c in range(channels)], axis=1) for one, p in zip(t, phase)]  # noqa: B905


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("series") / "waves.npz"
    series = waves()
    arrays = {"values": np.concatenate(series), "lengths": np.array([len(one) for one in series])}
    np.savez(path, **arrays, size=arrays["lengths"].astype(float), name=np.array(["a"] * 60))
    return path


@pytest.fixture(scope="module")
def folder(file, tmp_path_factory):
    path = tmp_path_factory.mktemp("series") / "model"
    SeriesVAE.fit(file, output=path, max_epochs=3, **SMALL)
    return path


@pytest.fixture(scope="module")
def model(folder):
    return SeriesVAE.from_pretrained(folder)


# -- Python -----------------------------------------------------------------------------------------------------------


def test_a_saved_and_loaded_model_gives_the_same_bits(model, tmp_path):
    model.save_pretrained(tmp_path / "again")
    other = SeriesVAE.from_pretrained(tmp_path / "again")
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name
    for one, two in zip(model.sample(5, seed=2), other.sample(5, seed=2), strict=True):
        assert np.array_equal(one, two)
    assert torch.equal(model.score(waves()[:3]), other.score(waves()[:3]))
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    assert "SeriesVAE.from_pretrained" in (tmp_path / "again" / "README.md").read_text()


def test_means_and_standard_deviations_are_those_of_the_training_series(model, file):
    mean, std = load_series(file).moments
    scaler = model.frames.scaler
    assert scaler.mean.tolist() == mean.tolist() and scaler.std.tolist() == std.tolist()
    assert model.config.model.noise["name"] == "word-dropout" and model.config.model.noise["rate"] == 0


def test_series_keep_their_shape_through_encode_and_decode(model):
    q = model.encode(waves()[:4])
    assert q.mean.shape == (4, 3)
    back = model.reconstruct(waves()[:4])
    assert all(one.shape[1] == 2 and np.isfinite(one).all() for one in back)
    assert len(model.interpolate(*waves()[:2], steps=5)) == 5
    means = np.concatenate(model.sample(200, seed=0))
    assert abs(means.mean() - 50) < 9  # in the units of the data


def test_the_score_is_an_upper_bound_of_the_same_units(model):
    split = model.load_corpus(waves(), whole=True).test
    scores = model.evaluate(split, samples=20, refined=5)
    nll = -float(model.score(waves(), samples=20).mean())
    assert scores.nll == pytest.approx(nll, rel=1e-6) and scores.nll <= -scores.elbo + 0.5
    assert scores.nll_per_frame == pytest.approx(scores.nll * 60 / split.frames)
    assert scores.perplexity is None and scores.bits_per_byte is None and scores.unknown is None
    assert scores.decoder_entropy_prior is None and scores.inference_gap is not None


def test_models_of_differently_scaled_data_agree_in_units():
    """The same training in other units: -log p differs by the logarithm of the unit, exactly."""
    options = SMALL | {"max_epochs": 1, "seed": 3}
    one, other = (SeriesVAE.fit([unit * s for s in waves()], **options) for unit in (1.0, 1024.0))
    frames = torch.tensor([len(s) for s in waves()[:5]])
    difference = one.score(waves()[:5], samples=3) - other.score([1024 * s for s in waves()[:5]], samples=3)
    torch.testing.assert_close(difference, 2 * frames.double() * math.log(1024), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["lm", "ae"])
def test_baselines_of_series_train_score_and_sample(kind, tmp_path):
    model = SeriesVAE.fit(waves(), kind=kind, max_epochs=1, output=tmp_path / "m", **SMALL)
    assert len(model.sample(3, seed=1)) == 3
    assert model.score(waves()[:2], samples=2).isfinite().all()
    if kind == "lm":
        with pytest.raises(ConfigError, match="kind lm"):
            model.encode(waves()[:1])


@pytest.mark.parametrize("variance", ["fixed", "per-step"])
def test_the_variance_can_be_fixed_or_given_by_the_features(variance):
    model = SeriesVAE.fit(waves(), observation={"variance": variance, "sigma": 0.2}, max_epochs=1, **SMALL)
    assert model.config.model.observation == {"name": "frames", "variance": variance, "sigma": 0.2}
    assert model.score(waves()[:2], samples=2).isfinite().all()


def test_transformers_read_and_write_series_too():
    part = {"name": "transformer", "width": 8, "heads": 2, "hidden": 8, "layers": 1}
    model = SeriesVAE.fit(waves(), max_epochs=1, **SMALL | {"encoder": part, "decoder": part})
    z = model.sample_prior(5, seed=0)
    found = model.generate(z, temperature=1.0, seed=1)
    row = max(range(5), key=lambda i: len(found[i].frames))
    frames = found[row].frames
    batch = Batch.of_frames([frames], longest=None if found[row].ended else len(frames))
    with torch.no_grad():
        expected = float(model.model.log_prob(batch, z[row : row + 1]).sum())
    assert found[row].log_prob == pytest.approx(expected, abs=1e-3)


def test_wrong_series_are_refused(model):
    with pytest.raises(ConfigError, match="frames have 1 channels: this model needs 2"):
        model.encode([np.zeros(4)])
    with pytest.raises(CorpusError, match="nan in frame 1"):
        model.score([np.array([[0, 0], [0, np.nan]])])
    with pytest.raises(ConfigError, match=r"write \[series\]"):
        model.encode(np.zeros((4, 2)))
    with pytest.raises(ConfigError, match="made of words"):
        SeriesVAE.fit(waves(), noise={"name": "denoising"}, **SMALL)


def test_a_model_of_one_kind_is_not_loaded_as_the_other(folder, tmp_path):
    with pytest.raises(CheckpointError, match="SeriesVAE"):
        TextVAE.from_pretrained(folder)
    sentences = [f"a {one} b {two}" for one in "cdefgh" for two in "ijklmn"]
    TextVAE.fit(sentences, output=tmp_path / "text", max_epochs=1, **SMALL)
    with pytest.raises(CheckpointError, match="TextVAE"):
        SeriesVAE.from_pretrained(tmp_path / "text")
    assert isinstance(load(folder), SeriesVAE) and isinstance(load(tmp_path / "text"), TextVAE)


def test_text_is_not_observed_as_frames():
    with pytest.raises(ConfigError, match="observation"):
        TextVAE.fit(["a b", "c d", "e f", "g h"], observation={"name": "frames"}, **SMALL)


# -- scores of reconstructions ----------------------------------------------------------------------------------------


def test_scores_of_reconstructions_by_hand():
    original = [np.array([[0.0], [2.0]]), np.array([[4.0]])]
    same = GeneratedSeries(original, [False, False], torch.zeros(2))
    half = GeneratedSeries([np.array([[0.0], [1.0]]), np.array([[4.0]])], [False, False], torch.zeros(2))
    free = GeneratedSeries([np.zeros((5, 1)), np.zeros((1, 1))], [True, True], torch.zeros(2))
    mean, std = np.array([2.0]), np.array([1.0])
    assert compare_reconstructions(original, same, same, mean, std).r2 == 1
    found = compare_reconstructions(original, half, free, mean, std)
    assert found.r2 == pytest.approx(1 - 1 / 8) and found.length_error == 1.5  # squares 4 + 0 + 4; 3 and 0 frames off


def test_factors_that_the_means_do_not_hold_have_no_r2():
    g = torch.Generator().manual_seed(0)
    z, y = torch.randn(400, 3, generator=g), torch.randn(400, generator=g)
    assert linear_r2(z, (z[:, 0] * 2 + 1).tolist()) > 0.999
    assert -0.1 < linear_r2(z, y.tolist()) < 0.05


def test_a_constant_is_drawn_as_a_level_line():
    assert draw_line(np.ones((3, 1))) == "▁▁▁" and draw_line(np.zeros((0, 1))) == "(no frame)"


# -- commands ---------------------------------------------------------------------------------------------------------


def words(text):
    return text.split()


def test_the_story_of_series_through_the_commands(file, tmp_path, capsys):
    small = words(
        "--model.latent 3 --model.embedding 8 --model.encoder.hidden 8 --model.decoder.hidden 8 --batch-size 16 "
        "--precision fp32 --max-epochs 2 --learning-rate 0.02 --warmup 2"
    )
    folder = str(tmp_path / "m")
    main(["train", str(file), "--output", folder, *small])
    out, err = capsys.readouterr()
    assert "nats/series" in err and "autoregression" in out and "R^2" in out and "sentence" not in out
    main(["sample", folder, "-n", "4", "--seed", "1", "--output", str(tmp_path / "s.npz"), "--json"])
    generated = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    stored = np.load(tmp_path / "s.npz")
    assert np.allclose(stored["values"], np.concatenate([np.array(one["frames"]).reshape(-1, 2) for one in generated]))
    main(["reconstruct", folder, str(file), "--output", str(tmp_path / "r.npz"), "--plot", str(tmp_path / "r.png")])
    assert (tmp_path / "r.png").stat().st_size > 1000 and len(np.load(tmp_path / "r.npz")["lengths"]) == 60
    main(["encode", folder, str(file), "--output", str(tmp_path / "z.npy")])
    assert np.load(tmp_path / "z.npy").shape == (60, 3)
    main(["decode", folder, str(tmp_path / "z.npy"), "--output", str(tmp_path / "d.npz")])
    assert np.array_equal(np.load(tmp_path / "d.npz")["values"], np.load(tmp_path / "r.npz")["values"])
    for ends in ([], [str(file)], [str(file), str(file)]):
        main(["interpolate", folder, *ends, "--steps", "4", "--output", str(tmp_path / "i.npz")])
        assert len(np.load(tmp_path / "i.npz")["lengths"]) == 4
    capsys.readouterr()
    main(
        [
            *words(f"evaluate {folder} --samples 5 --refine 3 --label-column size"),
            *words(f"--plot {tmp_path / 'o.svg'} --output {tmp_path / 'e.json'}"),
        ]
    )
    out = capsys.readouterr().out
    assert "size" in out and "sentence" not in out and (tmp_path / "o.svg").exists()
    scores = json.loads((tmp_path / "e.json").read_text())
    assert scores["nll_per_frame"] and scores["baselines"]["gaussian"] and set(scores["probes"]) == {"size"}
    main(["evaluate", folder, str(file), "--samples", "2", "--refine", "0"])  # a file that is the training's own
    main(["diagnose", folder])
    main(["describe", folder])
    assert "channel 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sample {m}", "--output FILE.npz"),
        ("sample {m} --json --beam 3", "--beam does not apply to a model of series"),
        ("sample {m} --json --from aggregate", "--from does not apply to a model of series"),
        ("sample {m} --json --temperature -1", "temperature"),
        ("sample {m} --output s.txt", "ends in .npz"),
        ("sample {m} --plot no-such-folder/s.png", "there is no folder"),
        ("sample {m} --plot s.txt", "ends in .png"),
        ("reconstruct {m} no-such.npz --json", "no corpus"),
        ("evaluate {m} --text", "--text does not apply to a model of series"),
        ("evaluate {m} --label-column no", "no column 'no'"),
        ("evaluate {m} --label-column name", "holds no numbers"),
        ("evaluate {m} curves", "frames have 1 channels"),
        ("steer {m} x --label-column a --attribute b", "model of series"),
        ("steer {m} --label-column a --attribute b", "model of series"),
        ("compare {m} {m}", "model of series"),
    ],
)
def test_what_cannot_be_done_with_series_is_refused(arguments, message, folder, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments.format(m=folder).split())


def test_a_comparison_of_recipes_refuses_series(refused, tmp_path):
    (tmp_path / "recipes.toml").write_text("[a]\nlatent = 2\n[b]\nlatent = 3\n")
    assert "series" in refused("compare", tmp_path / "recipes.toml", "curves")
    assert "series" in refused("compare", tmp_path / "recipes.toml", tmp_path / "others.toml", "curves")


def test_the_options_of_series_are_refused_for_text(refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sentences = [f"a {one} b {two}" for one in "cdefgh" for two in "ijklmn"]
    TextVAE.fit(sentences, output=tmp_path / "text", max_epochs=1, **SMALL)
    assert "--output does not apply to a model of sentences" in refused(
        "sample", tmp_path / "text", "--output", "s.npz"
    )
    assert "--plot does not apply to a model of sentences" in refused("evaluate", tmp_path / "text", "--plot", "s.png")


def test_series_given_to_a_model_of_text_are_refused(refused, tmp_path):
    TextVAE.fit([f"a {one} b" for one in "cdefghijklmn"], output=tmp_path / "text", max_epochs=1, **SMALL)
    np.savez(tmp_path / "s.npz", values=np.zeros((4, 1)), lengths=np.array([2, 2]))
    assert "archive of arrays" in refused("decode", tmp_path / "text", tmp_path / "s.npz")
    assert "arrays, not text" in refused("reconstruct", tmp_path / "text", tmp_path / "s.npz")

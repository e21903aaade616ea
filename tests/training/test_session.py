"""A training in sight: progress, history, a loop of one's own."""

import pytest

from seqvae import TextVAE
from seqvae.errors import ConfigError
from seqvae.training.loop import Validation
from seqvae.training.trainer import Step

SENTENCES = [f"a {animal} {verb} ." for animal in ("cat", "dog", "bird", "cow") for verb in ("sat", "ran", "ate")]
TINY = {"latent": 2, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("session") / "model"


@pytest.fixture(scope="module")
def model(folder):
    return TextVAE.fit(SENTENCES, output=folder, max_epochs=20, validate_every=20, **TINY)


def test_the_history_has_each_validation(model, folder):
    rows = model.history.validations
    assert [row["step"] for row in rows] == [20, 40, 60]
    assert all(row["elbo"] == -(row["reconstruction"] + row["kl"]) for row in rows)
    assert TextVAE.from_pretrained(folder).history == model.history
    frame = model.history.to_pandas()
    assert set(frame["kind"]) == {"train", "valid"} and len(frame) == len(model.history)


def test_the_curves_are_drawn_from_it(model):
    lines = {line.get_label(): line for line in model.plot_history().axes[0].get_lines()}
    assert list(lines["KL"].get_ydata()) == [row["kl"] for row in model.history.validations]
    with pytest.raises(ConfigError, match="has no history"):
        TextVAE(model.checkpoint).plot_history()


def test_a_loop_of_ones_own_makes_the_steps_of_fit():
    session = TextVAE.training(SENTENCES, max_epochs=2, **TINY)
    events = list(session)
    steps = [event.step for event in events if isinstance(event, Step)]
    assert steps == list(range(1, len(steps) + 1)) and isinstance(events[-1], Validation)
    fitted = TextVAE.fit(SENTENCES, max_epochs=2, **TINY)
    assert session.model.sample(5, seed=1) == fitted.sample(5, seed=1)
    assert session.model.history.validations[-1]["elbo"] == fitted.history.validations[-1]["elbo"]
    with pytest.raises(ConfigError, match="has been iterated before"):
        next(iter(session))


@pytest.mark.parametrize("stored", [False, True])
def test_leaving_the_loop_ends_the_training(stored, tmp_path):
    session = TextVAE.training(SENTENCES, output=tmp_path / "model" if stored else None, max_epochs=20, **TINY)
    for event in session:
        if event.step == 3:
            break
    assert len(session.model.sample(2, seed=1)) == 2


def test_a_progress_bar_is_drawn_if_it_is_asked_for(capsys):
    TextVAE.fit(SENTENCES, max_epochs=1, progress=True, **TINY)
    assert "100% |" in capsys.readouterr().err
    TextVAE.fit(SENTENCES, max_epochs=1, **TINY)
    assert capsys.readouterr().err == "", "no terminal and no notebook"

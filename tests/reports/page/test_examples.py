"""What is shown to people: chosen by the seed and the length, never by the result, and the same each time."""

import numpy as np
import pytest

from seqvae.cli import output
from seqvae.data.text.corpus import load
from seqvae.reports.page.drawing import choose_ticks, draw_panel, make_frame, project
from seqvae.reports.page.examples import (
    Examples,
    Reconstruction,
    Walk,
    choose_options,
    choose_rows,
    draw_samples,
    make_examples,
)
from seqvae.reports.page.figures import group_items
from seqvae.text_vae import TextVAE

WORDS = ["cat", "dog", "bird", "fish", "cow", "hen"]
SHORT = [f"the {one} saw a {other} ." for one in WORDS for other in WORDS]
LONG = [f"{text} and then it went home to eat all of its supper ." for text in SHORT]
SMALL = {"latent": 4, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "precision": "fp32"}


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(SHORT + LONG, max_epochs=2, **SMALL)


@pytest.fixture(scope="module")
def split(model):
    return model.load_corpus(LONG + SHORT, whole=True).test


def test_short_sentences_are_shown_and_the_seed_chooses_them(model, split):
    chosen = [choose_rows(model, split, 9, seed) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(row >= len(LONG) for rows in chosen for row in rows) and len(set(chosen[0])) == 9


def test_long_sentences_are_shown_where_there_are_no_others(model):
    split = model.load_corpus(LONG, whole=True).test
    assert len(choose_rows(model, split, 9, 0)) == 9


def test_no_sentence_is_shown_twice_and_none_with_unknown_words_if_there_are_others(model):
    split = model.load_corpus(SHORT[:4] * 5 + ["the zebra saw a cat ."] * 5, whole=True).test
    texts = [split.text(row) for row in choose_rows(model, split, 4, 0)]
    assert sorted(texts) == sorted(SHORT[:4])
    assert len(choose_rows(model, split, 9, 0)) == 5


def test_the_choice_does_not_depend_on_the_model(model, split):
    other = TextVAE.fit(SHORT + LONG, max_epochs=1, seed=5, **SMALL)
    assert choose_rows(other, split, 9, 3) == choose_rows(model, split, 9, 3)


def test_the_samples_are_those_of_the_command(model):
    options = choose_options(model)
    assert options == model.recommend_sampling()
    assert draw_samples(model, 10, options, seed=3) == [(None, text) for text in model.sample(10, seed=3, **options)]


def test_a_generation_config_goes_before_what_is_recommended(model):
    own = TextVAE(model.checkpoint)
    own.generation_config = {"temperature": 0.1}
    assert choose_options(own) == {"temperature": 0.1}


def test_examples_repeat_and_follow_the_model(model, split):
    first, again = make_examples(model, split, seed=2), make_examples(model, split, seed=2)
    assert first.samples == again.samples
    assert [pair.result for pair in first.reconstructions] == [pair.result for pair in again.reconstructions]
    assert [pair.result for pair in first.reconstructions] == model.reconstruct(
        [pair.original for pair in first.reconstructions]
    )
    for walk in first.walks:
        steps = [text for text, count in walk.steps for _ in range(count)]
        assert steps == model.interpolate(walk.start, walk.end, steps=7)
        assert all(one != other for (one, _), (other, _) in zip(walk.steps, walk.steps[1:], strict=False))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_few_held_out_sentences_make_fewer_examples(model, count):
    split = model.load_corpus(SHORT[:count], whole=True).test if count else None
    found = make_examples(model, split)
    assert len(found.reconstructions) == count and len(found.walks) == count // 2


def test_what_is_printed_marks_exact_ones_and_joins_repeats(capsys):
    pairs = [Reconstruction("a b", "a b"), Reconstruction("a b", "a c")]
    walk = Walk("a", "b", None, [("one", 2), ("", 1), ("two", 4)])
    output.print_examples(
        Examples([(None, "word " * 40), (None, "")], {"temperature": 0.5}, pairs, [walk]), str, "sentences"
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100 and " ".join(lines).split().count("word") == 40 + 1
    assert "   = a b" in lines and "     a b" in lines and "  -> a c" in lines
    assert lines[-3:] == ["  one  (2 steps)", "  (empty)", "  two  (4 steps)"]


def test_groups_of_length_hold_what_their_names_say(model, split):
    names, numbers, by, ordered = group_items(model, split)
    lengths = split.lengths - split.complete
    assert by == "length" and ordered and len(names) >= 2
    for length, number in zip(lengths.tolist(), numbers, strict=True):
        bounds = [int(word) for word in names[number].split() if word.isdigit()]
        assert bounds[0] <= length <= bounds[-1]


def test_the_map_shows_the_directions_of_largest_variance():
    points = np.random.default_rng(0).normal(size=(500, 5)) * [1, 4, 0.1, 2, 0.1]
    shown, others, variance = project(points, points[:3])
    assert np.allclose(np.abs(np.corrcoef(shown[:, 0], points[:, 1])[0, 1]), 1, atol=0.01)
    assert np.allclose(np.abs(np.corrcoef(shown[:, 1], points[:, 3])[0, 1]), 1, atol=0.01)
    assert np.allclose(others, shown[:3]) and variance[0] == pytest.approx(16 / 21, abs=0.05)


def test_axes_hold_all_points_and_ticks_lie_within():
    frame = make_frame([0, 10, 35], [-3.0, 0.5, 2.0], 300)
    for x, y in ((0, -3.0), (35, 2.0)):
        left, top = frame.place(x, y)
        assert 62 <= left <= 704 and 14 <= top <= 244
    for low, high in ((0, 1), (0, 85), (-0.003, 0.004), (0, 15288), (5, 5)):
        ticks = choose_ticks(low, high, 5)
        assert 1 <= len(ticks) <= 7 and all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_a_long_series_is_thinned_out_and_a_short_one_is_whole():
    (line,) = draw_panel(np.linspace(0, 1, 5000)[:, None], 0, 1, 5000)
    assert len(line.split()) == 160
    assert len(draw_panel(np.zeros((3, 2)), 0, 1, 10)) == 2 and draw_panel(np.zeros((1, 1)), 0, 1, 1)[0]


def test_sentences_in_memory_make_a_corpus_too(model):
    corpus = load(SHORT, tokenizer=model.tokenizer, whole=True)
    assert len(make_examples(model, corpus.test).reconstructions) == 5

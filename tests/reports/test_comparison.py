"""Rows over seeds, the paired bootstrap, and tables in four forms."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from outcomes import make_run, make_runs

from seqvae.errors import ConfigError
from seqvae.reports.comparison import outcomes as comparison
from seqvae.reports.comparison.outcomes import bootstrap_interval, compare, compare_to_language_model
from seqvae.reports.comparison.tables import (
    WIDTH,
    Column,
    Estimate,
    Table,
    to_csv,
    to_json,
    to_markdown,
    to_records,
    to_text,
)


def row(table, name):
    return next(row for row in table.rows if row["recipe"] == name)


def test_runs_of_one_name_become_a_row_of_mean_and_sample_standard_deviation():
    table = compare([make_run("a", 0, kl=1.0), make_run("b", 0, kl=7.0), make_run("a", 1, kl=3.0)])
    assert [r["recipe"] for r in table.rows] == ["a", "b"]
    assert row(table, "a")["kl"] == Estimate(2.0, standard_deviation=math.sqrt(2))
    assert row(table, "a")["runs"].mean == 2


def test_one_run_has_no_standard_deviation_but_the_error_over_its_sentences():
    table = compare([make_run(kl_standard_error=0.25, kl=2.0)])
    assert table.rows[0]["kl"] == Estimate(2.0, standard_error=0.25)
    assert "2.00 (0.25)" in to_text(table)


@pytest.mark.parametrize(
    "seeds, present, absent", [(1, "single seed", "standard deviation"), (2, "standard deviation", "single seed")]
)
def test_the_caption_names_the_uncertainty_that_is_shown(seeds, present, absent):
    caption = compare(make_runs(seeds=seeds)).caption
    assert present in caption and absent not in caption


def test_the_negative_bound_is_the_bound_with_the_other_sign_and_the_same_error():
    table = compare([make_run(elbo=-34.5, elbo_standard_error=0.5)])
    assert table.rows[0]["negative_elbo"] == Estimate(34.5, standard_error=0.5)


def test_runs_without_a_score_do_not_count_in_its_mean():
    table = compare([make_run("a", 0, kl=1.0), make_run("a", 1, kl=None), make_run("a", 2)])
    assert row(table, "a")["kl"] == Estimate(1.0)


def test_columns_without_any_value_are_left_out():
    names = [column.name for column in compare([make_run("a", kl=1.0), make_run("b")]).columns]
    assert names == ["recipe", "kind", "runs", "kl", "minutes"]


def test_different_diagnoses_of_one_recipe_are_all_listed_and_equal_ones_once():
    runs = make_runs({"default": ("vae", 17.0, 17.0, 31.5, 6.7, 15.0, 7)}, seeds=2)
    assert compare(runs).rows[0]["diagnosis"] == "healthy"


def test_baselines_are_rows_of_the_scores_that_they_have():
    table = compare([make_run(kl=1.0)], baselines={"unigram": {"nll": 52.0, "bits_per_byte": 2.3}})
    assert table.rows[-1] == {
        "recipe": "unigram",
        "kind": "baseline",
        "nll": Estimate(52.0),
        "bits_per_byte": Estimate(2.3),
    }


def test_definitions_replace_those_of_the_scores():
    columns = {c.name: c.definition for c in compare([make_run(kl=1.0)], definitions={"kl": "mine"}).columns}
    assert columns["kl"] == "mine" and columns["minutes"] == "of training"


def test_the_difference_averages_over_seeds_then_over_sentences():
    runs = [make_run("lm", kind="lm"), make_run("vae", 0, nll=(1, 1, 1)), make_run("vae", 1, nll=(1, 3, 1))]
    difference = compare_to_language_model(runs)["vae"]  # 0, 0 and -2 on the three sentences
    assert difference.mean == pytest.approx(-2 / 3)
    # The mean of three resampled sentences is -2 with probability 1/27, more than a tail of 1/40; 0 with 8/27.
    assert difference.interval == pytest.approx((-2.0, 0.0))


def test_a_recipe_that_is_better_by_the_same_on_every_sentence_is_so_without_doubt():
    hard = np.random.default_rng(0).gamma(2, 20, 300)
    difference = compare_to_language_model([make_run("lm", kind="lm", nll=hard), make_run("vae", nll=hard - 1)])["vae"]
    assert [difference.mean, *difference.interval] == pytest.approx([-1.0] * 3)


def test_without_a_language_model_there_is_no_difference_and_it_has_none_to_itself():
    assert compare_to_language_model([make_run("a"), make_run("b")]) == {}
    assert list(compare_to_language_model([make_run("big", kind="lm"), make_run("a")])) == ["a"]


def test_the_interval_of_many_sentences_is_the_gaussian_one():
    values = np.random.default_rng(0).normal(3.0, 2.0, (1, 400))
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / 20
    # The end of 10,000 resamples has a standard error of 0.027 of that of the mean: 0.15 is over 5 times as much.
    assert [low[0], high[0]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.15 * half / 1.96)


def test_the_interval_covers_the_truth_at_its_level():
    low, high = bootstrap_interval(np.random.default_rng(1).normal(0.0, 1.0, (400, 60)), resamples=1000)
    # About 0.94 for 60 sentences; off by 0.05, over 4 standard errors, fewer than one seed in 10,000 fails.
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(0.94, abs=0.05)


def test_the_interval_depends_on_the_seed_but_not_on_the_blocks(monkeypatch):
    values = np.random.default_rng(0).normal(size=(2, 30))
    whole = bootstrap_interval(values, resamples=100, seed=4)
    monkeypatch.setattr(comparison, "BLOCK", 7 * 30)
    np.testing.assert_allclose(bootstrap_interval(values, resamples=100, seed=4), whole, rtol=1e-12)
    assert not np.allclose(bootstrap_interval(values, resamples=100, seed=5), whole)


def test_runs_on_different_numbers_of_sentences_are_refused_by_name():
    with pytest.raises(ConfigError, match=r"a \(seed 0\) on 3 .* b \(seed 7\) on 2 "):
        compare([make_run("a"), make_run("b", 7, nll=(1.0, 2.0))])


def test_no_runs_are_refused():
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([])


def test_text_fits_the_terminal_and_names_the_recipe_in_every_block():
    text = to_text(compare(make_runs(), baselines={"unigram": {"nll": 52.1}}))
    assert max(map(len, text.splitlines())) <= WIDTH
    blocks = [block.splitlines() for block in text.split("\n\n")[1:-1]]
    assert len(blocks) > 1
    for block in blocks:
        first = [line[: len("language-model")].strip() for line in block]
        assert first[2:] == ["language-model", "autoencoder", "default", "weight-1", "unigram"]


def test_numbers_are_aligned():
    rows = (
        {"x": Estimate(180.0, standard_deviation=1.5)},
        {"x": Estimate(3.25)},
        {"x": Estimate(-4.0, interval=(-5.0, -3.0))},
    )
    lines = to_text(Table("A table.", (Column("x", "title", "", ",.1f"),), rows)).splitlines()[4:]
    assert lines == ["180.0 ± 1.5", "  3.2", " -4.0 [-5.0, -3.0]"]


@pytest.mark.parametrize(
    "value, shown",
    [(-0.001, "0.00"), (4, "4"), (1234, "1,234"), (math.inf, "inf"), (2.5e7, "2.50e+07"), (0.125, "0.12")],
)
def test_numbers_are_written_short(value, shown):
    assert Column("x", "x", "", "z,.2f").format_cell(Estimate(value)) == (shown, "")


def test_markdown_has_as_many_cells_in_every_line_and_escapes_marks():
    text = to_markdown(compare([make_run("a|b <unk> *x*", kl=1.0), make_run("c")]))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert r"a\|b \<unk\> \*x\*" in text


def test_csv_has_full_precision_and_a_column_for_each_part():
    table = compare(make_runs())
    read = {line["recipe"]: line for line in csv.DictReader(io.StringIO(to_csv(table)))}
    nll = row(table, "default")["nll"]
    assert (float(read["default"]["nll"]), float(read["default"]["nll_standard_deviation"])) == (
        nll.mean,
        nll.standard_deviation,
    )
    assert float(read["default"]["difference_low"]) == row(table, "default")["difference"].interval[0]
    assert read["language-model"]["difference"] == ""


def test_json_is_strict_with_null_for_numbers_that_are_not_finite():
    def refuse(name):
        raise AssertionError(name)

    read = json.loads(to_json(compare([make_run(perplexity=math.inf, kl=0.1)])), parse_constant=refuse)
    assert read["rows"][0]["perplexity"] is None and read["rows"][0]["kl"] == 0.1
    assert set(read["definitions"]) == {"kl", "perplexity", "minutes"}


def test_a_mean_that_is_not_finite_has_no_standard_deviation():
    assert to_records(compare([make_run(kl=math.inf), make_run(kl=1.0)]))[0]["kl"] == math.inf
    assert "kl_standard_deviation" not in to_records(compare([make_run(kl=math.inf), make_run(kl=1.0)]))[0]

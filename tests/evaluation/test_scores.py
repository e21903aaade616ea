"""Scores: fields with definitions, read back from files of other versions, and shown as text."""

import json
from dataclasses import dataclass, fields

import pytest

from seqvae.evaluation.scores import (
    SERIES,
    Scores,
    define_score,
    format_rows,
    format_value,
    get_definitions,
    read_scores,
)

# What a folder of the first version holds.
OLD = {"sentences": 9, "tokens": 50, "reconstruction": 20.0, "kl": 2.0, "elbo": -22.0, "nll": 21.5}
OLD |= {"nll_standard_error": 0.25, "samples": 10, "perplexity": 50.0, "perplexity_elbo": 55.0, "bits_per_byte": 1.5}
OLD |= {"mutual_information_lower": 1.0, "mutual_information_upper": 1.5, "active_units": 3}
OLD |= {"permuted_nll_increase": 4.0}


@dataclass(frozen=True, kw_only=True)
class Others:
    sentences: int = define_score("how many", section="first")
    charm: float | None = define_score("how charming", section="second", default=None)


def test_every_score_has_a_definition_of_one_line_and_a_section():
    assert all(line and "\n" not in line for line in get_definitions().values())
    assert {entry.metadata["section"] for entry in fields(Scores)} == {"likelihood", "latent space"}
    assert get_definitions(Others) == {"sentences": "how many", "charm": "how charming"}


def test_a_score_without_a_default_cannot_be_left_out():
    with pytest.raises(TypeError, match="sentences"):
        Others(charm=1.0)


def test_scores_of_the_first_version_still_load():
    assert Scores(**OLD).mixture_gain is None
    assert read_scores(OLD) == Scores(**OLD)


def test_scores_of_another_version_load_as_far_as_they_are_known():
    found = read_scores({"sentences": 3, "charm": 0.5, "nll": 1.0})
    assert (found.sentences, found.nll, found.kl) == (3, 1.0, None)


def test_scores_survive_json():
    found = Scores(**OLD, kl_dimensions=(1.5, 0.5), variances=())
    assert read_scores(json.loads(json.dumps(vars(found)))) == found


def test_a_row_is_a_score_that_is_there_with_its_standard_error():
    found = {
        row.name: row
        for row in format_rows(Scores(**OLD, kl_dimensions=(1.5, 0.5), holes_standard_error=0.5, variances=()))
    }
    assert found["nll"].value == "21.500 ± 0.250"
    assert found["kl_dimensions"].value == "1.50 0.50"
    assert found["nll"].section == "likelihood"
    assert found["active_units"].section == "latent space"
    assert found["nll"].definition == get_definitions()["nll"]
    assert "nll_standard_error" not in found  # it is shown beside nll
    assert "holes_standard_error" in found  # without its score it has a row of its own
    assert "holes" not in found  # None
    assert "variances" not in found  # no dimension


def test_numbers_are_shown_short():
    assert format_value(1_234_567) == "1,234,567"
    assert format_value(1234.56789) == "1,234.568"
    assert format_value(float("inf")) == "inf"
    assert format_value(tuple(range(8))) == "0.00 1.00 2.00 3.00 4.00 5.00 6.00 7.00"
    assert format_value(tuple(range(9))) == "0.00 1.00 2.00 3.00 4.00 5.00 6.00 7.00 ..."


def test_scores_of_which_little_is_known_are_printed_as_far_as_they_go(capsys):
    from seqvae.cli import output

    output.print_scores(read_scores({"nll": 21.5}))
    assert capsys.readouterr().out.split()[:5] == ["Held-out", "scores", "likelihood", "nll", "21.500"]


def test_scores_are_printed_under_the_headings_of_their_sections(capsys):
    from seqvae.cli import output

    output.print_scores(read_scores(OLD))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Held-out scores (9 sentences)"
    assert [line.strip() for line in lines if line.startswith("  ") and "  " not in line.strip()] == [
        "likelihood",
        "latent space",
    ]
    (nll,) = [line for line in lines if line.split()[:1] == ["nll"]]
    assert nll.split(maxsplit=4) == ["nll", "21.500", "±", "0.250", get_definitions()["nll"]]
    assert lines.index("  likelihood") < lines.index(nll) < lines.index("  latent space")


def test_definitions_and_names_are_in_the_words_of_what_was_scored():
    assert "nats per sentence" in get_definitions()["elbo"]
    assert "nats per series" in get_definitions(unit=SERIES)["elbo"]
    rows = {row.name: row for row in format_rows(read_scores({"sentences": 3, "elbo": -1.0, "nll_per_frame": 0.5}))}
    assert "series" in rows and "sentences" not in rows
    assert rows["elbo"].definition == get_definitions(unit=SERIES)["elbo"]
    assert not any("sentence" in row.definition for row in rows.values())

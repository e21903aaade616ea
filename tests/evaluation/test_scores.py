"""Scores: fields with definitions, read back from files of other versions, and shown as text."""

import json
from dataclasses import dataclass, fields

import pytest

from seqvae.evaluation.scores import Scores, definitions, restored, rows, score, shown

# What a folder of the first version holds.
OLD = {"sentences": 9, "tokens": 50, "reconstruction": 20.0, "kl": 2.0, "elbo": -22.0, "nll": 21.5}
OLD |= {"nll_standard_error": 0.25, "samples": 10, "perplexity": 50.0, "perplexity_elbo": 55.0, "bits_per_byte": 1.5}
OLD |= {"mutual_information_lower": 1.0, "mutual_information_upper": 1.5, "active_units": 3}
OLD |= {"permuted_nll_increase": 4.0}


@dataclass(frozen=True, kw_only=True)
class Others:
    sentences: int = score("how many", section="first")
    charm: float | None = score("how charming", section="second", default=None)


def test_every_score_has_a_definition_of_one_line_and_a_section():
    assert all(line and "\n" not in line for line in definitions().values())
    assert {entry.metadata["section"] for entry in fields(Scores)} == {"likelihood", "latent space"}
    assert definitions(Others) == {"sentences": "how many", "charm": "how charming"}


def test_a_score_without_a_default_cannot_be_left_out():
    with pytest.raises(TypeError, match="sentences"):
        Others(charm=1.0)


def test_scores_of_the_first_version_still_load():
    assert Scores(**OLD).mixture_gain is None
    assert restored(OLD) == Scores(**OLD)


def test_scores_of_another_version_load_as_far_as_they_are_known():
    found = restored({"sentences": 3, "charm": 0.5, "nll": 1.0})
    assert (found.sentences, found.nll, found.kl) == (3, 1.0, None)


def test_scores_survive_json():
    found = Scores(**OLD, kl_dimensions=(1.5, 0.5), variances=())
    assert restored(json.loads(json.dumps(vars(found)))) == found


def test_a_row_is_a_score_that_is_there_with_its_standard_error():
    found = {
        row.name: row for row in rows(Scores(**OLD, kl_dimensions=(1.5, 0.5), holes_standard_error=0.5, variances=()))
    }
    assert found["nll"].value == "21.500 ± 0.250"
    assert found["kl_dimensions"].value == "1.50 0.50"
    assert found["nll"].section == "likelihood"
    assert found["active_units"].section == "latent space"
    assert found["nll"].definition == definitions()["nll"]
    assert "nll_standard_error" not in found  # it stands beside nll
    assert "holes_standard_error" in found  # one that has nothing to stand beside stands alone
    assert "holes" not in found  # None
    assert "variances" not in found  # no dimension


def test_numbers_are_shown_short():
    assert shown(1_234_567) == "1,234,567"
    assert shown(1234.56789) == "1,234.568"
    assert shown(float("inf")) == "inf"
    assert shown(tuple(range(8))) == "0.00 1.00 2.00 3.00 4.00 5.00 6.00 7.00"
    assert shown(tuple(range(9))) == "0.00 1.00 2.00 3.00 4.00 5.00 6.00 7.00 ..."


def test_scores_of_which_little_is_known_are_printed_as_far_as_they_go(capsys):
    from seqvae import show

    show.scores(restored({"nll": 21.5}))
    assert capsys.readouterr().out.split()[:5] == ["Held-out", "scores", "likelihood", "nll", "21.500"]


def test_scores_are_printed_under_the_headings_of_their_sections(capsys):
    from seqvae import show

    show.scores(restored(OLD))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Held-out scores (9 sentences)"
    assert [line.strip() for line in lines if line.startswith("  ") and "  " not in line.strip()] == [
        "likelihood",
        "latent space",
    ]
    (nll,) = [line for line in lines if line.split()[:1] == ["nll"]]
    assert nll.split(maxsplit=4) == ["nll", "21.500", "±", "0.250", definitions()["nll"]]
    assert lines.index("  likelihood") < lines.index(nll) < lines.index("  latent space")

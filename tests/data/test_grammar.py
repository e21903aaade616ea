"""Laws of the grammar: its probabilities are those of its sentences."""

import math
from collections import Counter
from itertools import pairwise, product

import pytest

from seqvae.data.text import grammar
from seqvae.data.text.grammar import INTRANSITIVE, PEOPLE, THINGS, TRANSITIVE

SAMPLES = grammar.sample(20_000, seed=7)


def _reduced(keep=2):
    """The rules with the first few words of each class, their probabilities made to sum to 1."""
    rules = {}
    for symbol, bodies in grammar.RULES.items():
        few = bodies if symbol == "sentence" or symbol.startswith("object") else bodies[:keep]
        total = sum(p for p, _ in few)
        rules[symbol] = [(p / total, body) for p, body in few]
    return rules


def _expand(rules, symbol):
    if symbol not in rules:
        return [(0.0, (symbol,))]
    return [
        (math.log(p) + sum(log for log, _ in parts), sum((words for _, words in parts), ()))
        for p, body in rules[symbol]
        for parts in product(*(_expand(rules, part) for part in body))
    ]


@pytest.mark.parametrize("symbol", grammar.RULES)
def test_the_probabilities_of_the_rules_of_a_symbol_sum_to_one(symbol):
    assert math.isclose(sum(p for p, _ in grammar.RULES[symbol]), 1.0, abs_tol=1e-12)


def test_no_two_derivations_give_the_same_sentence_by_enumeration_of_a_reduced_form():
    rules = _reduced()
    rules["sentence"] = rules["sentence"][::3] + rules["sentence"][1::3]  # both halves of tense, number, question, ...
    texts = [grammar._spell(words) for _, words in _expand(rules, "sentence")]
    assert len(texts) > 10_000 and len(set(texts)) == len(texts)


def test_the_probabilities_of_all_sentences_sum_to_one_and_their_entropy_is_that_of_the_rules(monkeypatch):
    rules = _reduced()
    monkeypatch.setattr(grammar, "RULES", rules)
    grammar._compute_entropy.cache_clear()
    logs = [log for log, _ in _expand(rules, "sentence")]
    assert math.isclose(math.fsum(map(math.exp, logs)), 1.0, abs_tol=1e-9)
    assert math.isclose(-math.fsum(math.exp(log) * log for log in logs), grammar.entropy(), abs_tol=1e-9)
    grammar._compute_entropy.cache_clear()


def test_each_sample_has_one_derivation_whose_probability_it_carries():
    for sentence in SAMPLES[:500]:
        words = tuple("a" if word == "an" else word for word in sentence.text.split())
        assert grammar.find_derivations(words) == pytest.approx([sentence.log_prob], abs=1e-9)
        assert grammar.log_prob(sentence.text) == pytest.approx(sentence.log_prob, abs=1e-9)


def test_the_mean_of_minus_log_prob_is_the_entropy():
    values = [-sentence.log_prob for sentence in SAMPLES]
    mean = sum(values) / len(values)
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values) / (len(values) - 1))
    assert abs(mean - grammar.entropy()) < 5 * error  # false alarm: odds of 6e-7, and the seed is fixed


def test_the_entropy_is_the_documented_one_and_duplicates_are_rare():
    assert 15 < grammar.entropy() < 25
    assert len({sentence.text for sentence in SAMPLES}) > 0.998 * len(SAMPLES)


@pytest.mark.parametrize("one", grammar.FACTORS)
def test_the_factors_have_their_probabilities_and_are_independent_of_each_other(one):
    n = len(SAMPLES)
    for other in grammar.FACTORS:
        counts = Counter((sample.factors[one], sample.factors[other]) for sample in SAMPLES)
        for (a, p), (b, q) in product(grammar.FACTORS[one].items(), grammar.FACTORS[other].items()):
            expected = p * q if one != other else p * (a == b)
            error = math.sqrt(max(expected * (1 - expected), 1e-12) / n)
            assert abs(counts[a, b] / n - expected) <= 5 * error  # some 250 comparisons: false alarm 2e-4, seed fixed


def test_the_factors_are_seen_in_the_sentence():
    for sample in SAMPLES[:2000]:
        factors, words = sample.factors, sample.text.split()
        assert (words[-1] == "?") == (factors["question"] == "yes")
        assert ("not" in words) == (factors["negation"] == "yes")
        assert ("will" in words) == (factors["tense"] == "future")
        lemmas = {word for forms in PEOPLE if forms[0] == factors["subject"] for word in forms}
        assert lemmas & set(words)
        verbs = INTRANSITIVE if factors["object"] == "none" else TRANSITIVE
        assert {word for forms in verbs if forms[0] == factors["verb"] for word in forms} & set(words)


def test_subject_and_verb_agree():
    third = {forms[1] for forms in TRANSITIVE + INTRANSITIVE} | {"does"}
    base = {forms[0] for forms in TRANSITIVE + INTRANSITIVE}
    for sample in SAMPLES[:2000]:
        words = sample.text.split()
        number = next(column for forms in PEOPLE for column in (0, 1) if forms[column] in words)
        assert (number == 0) == (sample.factors["number"] == "singular")
        if sample.factors["tense"] == "present":
            assert bool(third & set(words)) == (number == 0)
            assert "do" in words or number == 0 or base & set(words)


def test_a_is_before_consonants_and_an_before_vowels():
    for sample in SAMPLES:
        words = sample.text.split()
        for word, following in pairwise(words):
            assert word not in ("a", "an") or (word == "an") == (following[0] in "aeiou")


@pytest.mark.parametrize("column", [0, 1, 2])
def test_no_form_of_a_verb_is_another_form_of_a_verb(column):
    for verbs in (TRANSITIVE, INTRANSITIVE):
        forms = [verb[column] for verb in verbs]
        others = {verb[other] for verb in verbs for other in range(3) if other != column}
        assert len(set(forms)) == len(forms) and not others & set(forms)


def test_no_noun_is_listed_twice():
    for nouns in (PEOPLE, THINGS):
        forms = [form for noun in nouns for form in noun]
        assert len(set(forms)) == len(forms)


@pytest.mark.parametrize(
    "text",
    ["", ".", "the doctor", "a",
     "the doctors sleeps .", "a old doctor sleeps .", "an doctor sleeps .", "the  doctor sleeps .",
     "the doctor sleeps ?", "does the doctor sleeps ?", "The doctor sleeps .", "the doctor sleeps . ."],
)  # fmt: skip
def test_a_text_outside_the_grammar_has_probability_zero(text):
    assert grammar.log_prob(text) == -math.inf


def test_the_same_seed_gives_the_same_sentences_and_another_gives_others():
    assert grammar.sample(50, seed=7) == SAMPLES[:50]
    assert grammar.sample(50, seed=8) != SAMPLES[:50]


def test_the_built_in_corpus_has_no_sentence_in_two_splits_and_drops_no_draw():
    splits = grammar.build_splits()
    texts = {name: set(columns["text"]) for name, columns in splits.items()}
    assert sum(len(columns["text"]) for columns in splits.values()) == grammar.SIZE
    assert not any(texts[a] & texts[b] for a, b in [("train", "valid"), ("train", "test"), ("valid", "test")])
    held_out = [log for name in ("valid", "test") for log in splits[name]["log_prob"]]
    mean = -sum(held_out) / len(held_out)
    assert abs(mean - grammar.entropy()) < 5 * 3.5 / math.sqrt(
        len(held_out)
    )  # -log p has a standard deviation near 3.5


def test_knowing_the_training_sentences_lowers_the_bound_by_less_than_documented():
    train = grammar.build_splits()["train"]
    mass = math.fsum(math.exp(log) for log in dict(zip(train["text"], train["log_prob"], strict=True)).values())
    assert -math.log1p(-mass) < 0.002

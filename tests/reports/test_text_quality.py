"""The scores of texts: by a stand-in for a model with known texts, and by a tiny real one."""

import json
import math
import sys
from dataclasses import asdict, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, Normal

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.data.batch import END
from seqvae.data.text.corpus import load
from seqvae.errors import ConfigError, CorpusError
from seqvae.evaluation.baselines import NGram
from seqvae.evaluation.scores import TextScores
from seqvae.reports.text_quality import evaluate_text

SENTENCES = [
    f"{subject} {verb}, {place}."
    for subject in ("a cat", "the dog", "one bird", "no horse")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there now", "at home")
]
SMALL = {"latent": 4, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "max_epochs": 2}
SMALL |= {"learning_rate": 0.02, "batch_size": 8, "precision": "fp32", "max_length": 20, "seed": 0}


class Parrot:
    """A stand-in for a model: its z is the number of a sentence, without noise, and its samples are given."""

    default_path = "linear"

    def __init__(self, tokenizer, sentences, samples=None):
        self.tokenizer, self.texts = tokenizer, [tokenizer.decode(tokenizer.encode(text)) for text in sentences]
        self.model, self.samples = SimpleNamespace(latent=1), samples or self.texts

    def read_labels(self, split):
        return None

    def encode(self, texts, labels):
        numbers = [[float(self.texts.index(self.tokenizer.decode(self.tokenizer.encode(text))))] for text in texts]
        return Independent(Normal(torch.tensor(numbers), 1e-6), 1)

    def decode(self, z, labels, beam):
        self.beam = beam
        return [self.texts[number] for number in z[:, 0].round().long().tolist()]

    def sample(self, n, *, seed, **options):
        self.options = options
        return (self.samples * n)[:n]

    def tokenize(self, texts):
        return [[*self.tokenizer.encode(text), END] for text in texts]

    sequences = tokenize


@pytest.fixture(scope="module")
def corpus():
    return load(SENTENCES, max_length=40)


@pytest.fixture(scope="module")
def model(corpus):
    return TextVAE.fit(SENTENCES, **SMALL)


@pytest.fixture(scope="module")
def scores(model, corpus):
    return evaluate_text(model, corpus.train.select(range(9)), corpus.train, number=12, steps=3, paths=4)


COUNTS = ("sentences", "short_sentences", "samples", "temperature", "language_model_order", "paths", "steps")
COUNTS += ("length", "length_real")
NO_FILTERS = ("top_k", "top_p", "min_p")


def sequences(split):
    return split.sequences(range(len(split)))


def per_token(fitted, scored):
    return math.exp(-fitted.log_probs(scored).sum() / sum(map(len, scored)))


def test_a_parrot_reconstructs_everything_and_a_mute_nothing(corpus):
    split = corpus.train.select(range(6))
    parrot = evaluate_text(Parrot(corpus.tokenizer, SENTENCES), split, number=6)
    for z in ("mean", "sampled"):
        names = ("exact_match", "token_accuracy", "bleu")
        assert [getattr(parrot, f"{name}_{z}") for name in names] == pytest.approx([1, 1, 100])
    mute = Parrot(corpus.tokenizer, SENTENCES)
    mute.decode = lambda z, labels, beam: [""] * len(z)
    scores = evaluate_text(mute, split, number=6)
    assert (scores.exact_match_mean, scores.bleu_mean) == (0, 0)
    assert (scores.token_accuracy_mean, scores.distinct_steps) == (0, 0)


def test_short_sentences_have_at_most_8_words_and_scores_of_their_own(corpus):
    texts = ["one two three four five six seven eight , !", "a cat sat .", "a dog ran .", "no"]
    texts.append("one two three four five six seven eight nine")
    tokenizer = load(texts * 3, max_length=40).tokenizer
    split = load(texts, tokenizer=tokenizer, whole=True).test
    parrot = Parrot(tokenizer, texts)
    answers = {text: text for text in parrot.texts} | {parrot.texts[1]: "a dog sat .", parrot.texts[4]: "nine"}
    parrot.decode = lambda z, labels, beam: [
        answers[parrot.texts[number]] for number in z[:, 0].round().long().tolist()
    ]
    scores = evaluate_text(parrot, split, number=5, paths=0)
    assert (scores.sentences, scores.short_sentences) == (5, 4)
    assert scores.exact_match_mean == 3 / 5
    assert scores.exact_match_mean_standard_error == pytest.approx(math.sqrt(3 / 5 * 2 / 5 / 4))
    assert scores.exact_match_short == 3 / 4
    assert scores.exact_match_short_standard_error == pytest.approx(math.sqrt(3 / 4 * 1 / 4 / 3))
    # Of 19 words 18, of 15 pairs 13, of 12 triples 10, of 9 quadruples 8.
    assert scores.bleu_short == pytest.approx(100 * (18 / 19 * 13 / 15 * 10 / 12 * 8 / 9) ** 0.25)
    assert scores.bleu_mean < scores.bleu_short and scores.bleu_short_standard_error > 0


def test_without_short_sentences_there_is_their_number_alone():
    texts = [f"{first} two three four five six seven eight nine" for first in ("one", "no", "any", "my")]
    tokenizer = load(texts * 3, max_length=40).tokenizer
    split = load(texts, tokenizer=tokenizer, whole=True).test
    scores = evaluate_text(Parrot(tokenizer, texts), split, number=2, paths=0)
    assert (scores.short_sentences, scores.exact_match_short, scores.bleu_short_standard_error) == (0, None, None)


def test_samples_that_are_the_held_out_sentences_score_as_these(corpus):
    split = corpus.train.select(range(8))
    scores = evaluate_text(Parrot(corpus.tokenizer, split.texts()), split, corpus.train, number=8, paths=0)
    assert scores.forward_perplexity == scores.forward_perplexity_real
    assert scores.forward_perplexity_ratio == 1
    assert scores.length == scores.length_real and scores.unique == 1
    assert [getattr(scores, f"distinct_{n}_real") for n in (1, 2, 4)] == [
        scores.distinct_1,
        scores.distinct_2,
        scores.distinct_4,
    ]
    assert scores.length_difference == scores.distinct_2_difference == 0
    assert scores.novelty == 0  # as they are training sentences too
    assert scores.paths is None and scores.distinct_steps is None
    elsewhere = evaluate_text(Parrot(corpus.tokenizer, SENTENCES, ["a dog sat, here."]), split, corpus.train, number=8)
    assert elsewhere.novelty == 1 and elsewhere.unique == 1 / 8 and elsewhere.self_bleu_5 == pytest.approx(100)
    assert elsewhere.length == 6 and elsewhere.length_standard_error == 0  # words and marks
    assert elsewhere.length_difference == pytest.approx(6 / elsewhere.length_real - 1)


def test_as_many_samples_as_held_out_sentences_are_searched_for_different_words(corpus):
    split, samples = corpus.train.select(range(2)), ["a cat sat, here.", "a cat ran, here.", "the dog ate, at home."]
    scores = evaluate_text(Parrot(corpus.tokenizer, SENTENCES, samples), split, number=3, paths=0)
    assert scores.distinct_1 == 7 / 12 and scores.distinct_2 == 7 / 10  # of the first two
    real = [text.replace(",", " ,").replace(".", " .").split() for text in split.texts()]
    assert scores.distinct_1_real == len({*real[0], *real[1]}) / (len(real[0]) + len(real[1]))
    assert scores.distinct_2_difference == pytest.approx(scores.distinct_2 / scores.distinct_2_real - 1)
    both = evaluate_text(Parrot(corpus.tokenizer, SENTENCES, samples), corpus.train.select(range(9)), number=2, paths=0)
    assert both.distinct_2 == scores.distinct_2 and both.sentences == 2


def test_perplexities_are_those_of_n_gram_models_of_the_training_split_and_of_the_samples(corpus):
    split, samples = corpus.train.select(range(8)), SENTENCES[4:10]
    scores = evaluate_text(Parrot(corpus.tokenizer, SENTENCES, samples), split, corpus.train, number=6, paths=0)
    size, sampled = len(corpus.tokenizer), [[*corpus.tokenizer.encode(text), END] for text in samples]
    learned = NGram.fit(sequences(corpus.train), order=5, vocabulary=size)
    assert scores.language_model_order == 5
    assert scores.forward_perplexity == pytest.approx(per_token(learned, sampled))
    assert scores.forward_perplexity_real == pytest.approx(per_token(learned, sequences(split.at_most(6))))
    ratio = scores.forward_perplexity / scores.forward_perplexity_real
    assert scores.forward_perplexity_ratio == pytest.approx(ratio)
    lengths, nll = np.array([len(ids) for ids in sampled]), -learned.log_probs(sampled)
    residuals = nll - nll.sum() / lengths.sum() * lengths
    error = scores.forward_perplexity * residuals.std(ddof=1) / math.sqrt(6) / lengths.mean()
    assert scores.forward_perplexity_standard_error == pytest.approx(error)
    other = scores.forward_perplexity_real_standard_error / scores.forward_perplexity_real
    expected = ratio * math.sqrt((error / scores.forward_perplexity) ** 2 + other**2)
    assert scores.forward_perplexity_ratio_standard_error == pytest.approx(expected)
    again = NGram.fit(sampled, order=5, vocabulary=size)
    assert scores.reverse_perplexity == pytest.approx(per_token(again, sequences(split)))
    real = NGram.fit(sequences(corpus.train.at_most(6)), order=5, vocabulary=size)
    assert scores.reverse_perplexity_real == pytest.approx(per_token(real, sequences(split)))


def test_paths_join_two_held_out_sentences_each_of_its_own_pair(corpus):
    split = corpus.train.select(range(6))
    parrot, decoded = Parrot(corpus.tokenizer, split.texts()), []
    decode = parrot.decode
    parrot.decode = lambda z, labels, beam: decoded.append(z[:, 0]) or decode(z, labels, beam)
    scores = evaluate_text(parrot, split, number=6, steps=3, paths=9)
    ends = decoded[-1].reshape(3, 3)
    assert (scores.paths, scores.steps) == (3, 3)
    assert sorted([*ends[:, 0].tolist(), *ends[:, 2].tolist()]) == [0, 1, 2, 3, 4, 5]
    assert torch.allclose(ends[:, 1], (ends[:, 0] + ends[:, 2]) / 2)


def test_paths_are_scored_step_by_step(corpus):
    straight = ["a cat sat, here.", "a cat sat, here.", "a cat ate, here.", "a dog ate, here.", "the dog ate, here."]
    turning = ["a cat sat, here.", "the dog ran, home.", "a cat sat, home.", "the dog ran, home.", "the dog ran, now."]
    texts = ["a cat sat, here.", "the dog ran, here.", "cat ran.", "dog dog dog cat."]
    split = load(texts, tokenizer=corpus.tokenizer, whole=True).test
    parrot = Parrot(corpus.tokenizer, texts)
    decode = parrot.decode
    parrot.decode = lambda z, labels, beam: straight + turning if len(z) == 10 else decode(z, labels, beam)
    scores = evaluate_text(parrot, split, corpus.train, number=4, steps=5, paths=2)
    assert (scores.paths, scores.distinct_steps, scores.distinct_texts) == (2, 7 / 8, 4)
    assert scores.varied_paths == 1  # 4 of 5 are more than 5 of 7
    assert scores.monotone_paths == scores.directed_paths == 1 / 2
    assert scores.monotone_paths_standard_error == pytest.approx(1 / 2)
    learned = NGram.fit(sequences(corpus.train), order=5, vocabulary=len(corpus.tokenizer))
    tokens = parrot.tokenize(straight + turning)
    assert scores.path_perplexity == pytest.approx(per_token(learned, tokens))
    assert scores.path_perplexity_ends == pytest.approx(per_token(learned, [tokens[i] for i in (0, 4, 5, 9)]))
    each = np.array([per_token(learned, [ids]) for ids in tokens]).reshape(2, 5)
    columns = [per_token(learned, [tokens[row], tokens[row + 5]]) for row in (1, 2, 3)]
    assert scores.path_perplexity_ratio == pytest.approx(max(columns) / scores.path_perplexity_ends)
    assert scores.path_perplexity_ratio_standard_error > 0
    limits = 1.5 * each[:, [0, -1]].max(1, keepdims=True)
    fluent = each[:, 1:-1] <= limits
    assert 0 < fluent.mean() < 1  # else the example shows nothing
    assert (scores.fluent_steps, scores.fluent_paths) == pytest.approx((fluent.mean(), fluent.all(1).mean()))
    real = (np.array([per_token(learned, [ids]) for ids in sequences(split)]) <= limits).mean(1)
    assert 0 < real.mean() < 1  # likewise
    assert scores.fluent_steps_real == pytest.approx(real.mean())
    assert scores.fluent_paths_real == pytest.approx((real**3).mean())


@pytest.mark.parametrize(("steps", "different", "varied"), [(7, 5, 1), (7, 4, 0), (14, 10, 1), (14, 9, 0), (2, 1, 0)])
def test_a_varied_path_has_5_different_texts_of_7(steps, different, varied, corpus):
    parrot, path = Parrot(corpus.tokenizer, SENTENCES), (SENTENCES[:different] * steps)[:steps]
    decode = parrot.decode
    parrot.decode = lambda z, labels, beam: path if len(z) == steps else decode(z, labels, beam)
    scores = evaluate_text(parrot, corpus.train.select(range(3)), corpus.train, number=3, steps=steps, paths=1)
    assert (scores.distinct_texts, scores.varied_paths, scores.varied_paths_standard_error) == (different, varied, None)
    assert (scores.fluent_steps is None) == (steps == 2)  # no step between the ends


def test_paths_that_are_all_alike_have_no_standard_error(corpus):
    parrot, path = (
        Parrot(corpus.tokenizer, SENTENCES),
        ["a cat sat, here.", "a dog ran, home.", "dog dog dog at cat the dog."],
    )
    decode = parrot.decode
    parrot.decode = lambda z, labels, beam: path * 3 if len(z) == 9 else decode(z, labels, beam)
    scores = evaluate_text(parrot, corpus.train.select(range(6)), corpus.train, number=6, steps=3, paths=3)
    middle, ends = ([parrot.tokenize(path)[i] for i in rows] for rows in ([1], [0, 2]))
    learned = NGram.fit(sequences(corpus.train), order=5, vocabulary=len(corpus.tokenizer))
    assert scores.path_perplexity_ratio == pytest.approx(per_token(learned, middle) / per_token(learned, ends))
    for name in ("path_perplexity_ratio", "distinct_texts", "varied_paths", "monotone_paths", "fluent_steps"):
        assert getattr(scores, f"{name}_standard_error") == pytest.approx(0, abs=1e-9)


def test_the_samples_are_drawn_with_the_options_given_and_the_scores_record_these(corpus, model):
    parrot, split = Parrot(corpus.tokenizer, SENTENCES), corpus.train.select(range(4))
    given = {"temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "prior_temperature": 0.8, "candidates": 3}
    scores = asdict(evaluate_text(parrot, split, number=4, paths=0, beam=2, **given))
    assert parrot.options == given == {name: scores[name] for name in given}
    assert parrot.beam == scores["beam"] == 2
    plain = evaluate_text(parrot, split, number=4, paths=0)
    unfiltered = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0}
    assert parrot.options == unfiltered | {"prior_temperature": 1, "candidates": 1} and plain.beam == 0
    assert (plain.temperature, plain.top_k, plain.top_p, plain.min_p) == (1, None, None, None)
    one, other = (evaluate_text(model, split, number=9, paths=0, **way) for way in ({"top_k": 1}, {"temperature": 0}))
    assert replace(one, temperature=0, top_k=None) == other  # both take the likeliest word
    assert one.self_bleu_2 != evaluate_text(model, split, number=9, paths=0).self_bleu_2


def test_the_kind_of_tokens_changes_no_score_of_words():
    found = []
    for kind in ("word", "bpe", "char"):
        corpus = load(SENTENCES, tokenizer=kind, lowercase=True, max_length=200, vocabulary_size=400)
        samples = [text.replace("cat", "horse") for text in SENTENCES[:10]]
        scores = asdict(evaluate_text(Parrot(corpus.tokenizer, SENTENCES, samples), corpus.train, number=10, steps=4))
        found.append({name: value for name, value in scores.items() if value and "perplexity" not in name})
    assert found[1] == pytest.approx(found[0]) and found[2] == pytest.approx(found[0])
    assert found[0]["distinct_1"] == len({*" ".join(samples).replace(",", " ,").replace(".", " .").split()}) / (
        sum(len(text.replace(",", " ,").replace(".", " .").split()) for text in samples)
    )


def test_the_scores_of_a_real_model_are_finite_and_in_range(scores):
    values = asdict(scores)
    assert (scores.sentences, scores.samples, scores.temperature, scores.paths, scores.steps) == (9, 12, 1.0, 4, 3)
    assert [name for name, value in values.items() if value is None] == [*NO_FILTERS]
    for name in values.keys() - {*NO_FILTERS}:
        value, top = values[name], 100 if "bleu" in name else 1
        assert isinstance(value, int | float) and math.isfinite(value), name
        if name.endswith(("_standard_error", "_ratio")):
            assert value >= 0, name
        elif name.endswith("_difference"):
            assert value >= -1, name
        elif "perplexity" in name or name == "distinct_texts":
            assert value >= 1, name
        elif name not in COUNTS:
            assert 0 <= value <= top + 1e-9, name


def test_the_same_seed_gives_the_same_scores_and_leaves_the_global_random_numbers_alone(scores, model, corpus):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.rand(3), np.random.rand(3)
    torch.manual_seed(5)
    np.random.seed(5)
    again = evaluate_text(model, corpus.train.select(range(9)), corpus.train, number=12, steps=3, paths=4)
    assert again == scores
    assert torch.equal(torch.rand(3), before[0]) and (np.random.rand(3) == before[1]).all()
    assert evaluate_text(model, corpus.train.select(range(9)), number=12, seed=1).self_bleu_2 != scores.self_bleu_2


def test_without_the_training_split_only_what_needs_it_is_missing(scores, model, corpus):
    without = evaluate_text(model, corpus.train.select(range(9)), number=12, steps=3, paths=4)
    needed = {"language_model_order", "reverse_perplexity_real", "novelty"}
    needed |= {name for name in asdict(scores) if name.startswith(("forward_perplexity", "path_perplexity", "fluent"))}
    assert len(needed) == 19 and without == replace(scores, **dict.fromkeys(needed))


def test_a_given_language_model_is_that_of_the_forward_perplexities(scores, model, corpus):
    split = corpus.train.select(range(9))
    judged = evaluate_text(model, split, number=12, steps=3, paths=4, language_model=model)
    nll = -float(model.score(split.texts()).sum())
    assert judged.forward_perplexity_real == pytest.approx(math.exp(nll / split.lengths.sum()), rel=1e-9)
    samples = model.sample(12, seed=0, temperature=1.0)
    tokens = sum(min(len(ids) + 1, 20) for ids in model.tokenizer.encode_batch(samples))
    nll = -float(model.score(samples).sum())
    assert judged.forward_perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-9)
    assert judged.language_model_order is None and judged.path_perplexity is not None
    assert judged.reverse_perplexity == scores.reverse_perplexity


def test_a_language_model_has_samples_but_no_reconstructions_and_no_paths(corpus):
    scores = evaluate_text(TextVAE.fit(SENTENCES, kind="lm", **SMALL), corpus.test, corpus.train, number=5)
    assert scores.forward_perplexity is not None and scores.bleu_mean is None and scores.paths is None


WRONG = [{"number": 1}, {"steps": 1}, {"paths": -1}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0}, {"min_p": 2}]


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_an_option_out_of_range_is_refused_before_any_work(options, corpus):
    with pytest.raises(ConfigError, match=next(iter(options))):
        evaluate_text(None, corpus.test, **options)


def test_one_held_out_sentence_is_too_few(corpus):
    with pytest.raises(CorpusError, match="at least 2"):
        evaluate_text(None, corpus.test.select([0]))


def test_a_missing_package_is_named_before_any_work(corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ConfigError, match=r'sacrebleu.*pip install "seqvae\[eval\]"'):
        evaluate_text(None, corpus.test)


def test_the_command_names_a_missing_package_before_any_score(corpus, model, tmp_path, refused, monkeypatch):
    model.save_pretrained(tmp_path / "model")
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    assert "seqvae[eval]" in refused("evaluate", tmp_path / "model", "grammar", "--text")


def test_the_command_samples_as_it_is_told_and_says_where_the_options_belong(model, tmp_path, refused, capsys):
    model.save_pretrained(folder := tmp_path / "model")
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(SENTENCES[:9]))
    options = ["--samples", "2", "--refine", "0", "--text", "--json"]
    found = []
    for words in (["--temperature", "0"], ["--top-k", "1"], ["--min-p", "1"], ["--top-p", "0.001"]):
        main(["evaluate", str(folder), str(lines), *options, *words])
        found.append(json.loads(capsys.readouterr().out)["text"])
    assert [found[0]["temperature"], found[1]["top_k"], found[2]["min_p"], found[3]["top_p"]] == [0, 1, 1, 0.001]
    assert len({scores["self_bleu_3"] for scores in found}) == 1  # all four take the likeliest word
    assert {"short_sentences", "length_difference", "fluent_steps", "monotone_paths"} <= found[0].keys()
    said = refused("evaluate", folder, lines, "--top-p", 0.9)
    assert "--top-p 0.9" in said and "add --text" in said
    assert "top_p" in refused("evaluate", folder, lines, "--text", "--top-p", 2)


def test_every_score_has_its_definition_in_one_line_and_its_section():
    for score in fields(TextScores):
        assert score.metadata["definition"] and "\n" not in score.metadata["definition"]
        assert score.metadata["section"] in ("reconstruction", "samples", "paths")

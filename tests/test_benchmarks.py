"""The reference of the measurements computes what the package does, from the same weights."""

import itertools

import numpy as np
import pytest
import torch

from benchmarks import long_sentences, prior, speed, uses
from benchmarks.reference import Reference
from benchmarks.workloads import Pair, config
from seqvae import TextVAE
from seqvae.data.batch import Batch
from seqvae.data.batching import iterate_by_length
from seqvae.evaluation.likelihood import measure
from seqvae.model.decoding import beam_search
from seqvae.training.build import build_model

VOCABULARY, EMBEDDING, HIDDEN = 12, 6, 5


@pytest.fixture(scope="module")
def pair():
    """A reference with wide weights, and the package's model with the same ones."""
    torch.manual_seed(0)
    plain = Reference(VOCABULARY, EMBEDDING, HIDDEN, latent=32, dropout=0.5).double().eval()
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours = build_model(config(EMBEDDING, HIDDEN), VOCABULARY).double().eval()
    w = plain.state_dict()
    same = {
        "encoder.embed": "encoder_embedding",
        "encoder.rnn": "encoder",
        "posterior.linear": "posterior",
        "decoder.rnn": "decoder",
        "observation.embedding": "decoder_embedding",
        "observation.output": "output",
    }
    state = {
        name: w[f"{same[part]}.{last}"]
        for name in ours.state_dict()
        for part, last in [name.rsplit(".", 1)]
        if part in same
    }
    state |= {f"decoder.initial.{last}": torch.cat([w[f"first.{last}"]] * 2) for last in ("weight", "bias")}
    assert state.keys() == ours.state_dict().keys()
    ours.load_state_dict(state)
    return plain, ours


@pytest.fixture
def x():
    return torch.tensor([[4, 5, 6, 2], [7, 4, 11, 2]])


def test_both_have_the_same_posterior_and_the_same_likelihood(pair, x):
    plain, ours = pair
    batch, (mean, log_variance) = Batch.of(x.tolist()), plain.encode(x)
    q = ours.encode(batch)
    torch.testing.assert_close(q.mean, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(q.stddev, (log_variance / 2).exp(), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.log_prob(batch, mean).sum(1), plain.log_prob(x, mean), rtol=0, atol=1e-12)


def test_both_have_the_same_loss(pair, x):
    plain, ours = pair
    noise = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    loss = plain.loss(x)
    q = ours.encode(Batch.of(x.tolist()))
    z = q.mean + q.stddev * torch.randn(2, 32, dtype=torch.float64, generator=noise)
    kl = torch.distributions.kl_divergence(q, ours.prior()).mean()
    torch.testing.assert_close(loss, kl - ours.log_prob(Batch.of(x.tolist()), z).sum(1).mean(), rtol=0, atol=1e-10)


def test_both_find_the_same_sentence_with_a_beam(pair):
    plain, ours = pair
    with torch.no_grad():
        plain.output.bias[[0, 1, 3]] = -1e4  # which the package never generates
        ours.observation.output.bias[[0, 1, 3]] = -1e4
    z = torch.randn(8, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = beam_search(ours, z, 3, max_length=6).tokens
    assert found == [plain.beam(one, 3, 6) for one in z.split(1)]


def test_the_reference_samples_until_all_have_ended(pair):
    plain, _ = pair
    sampled = plain.sample(torch.zeros(4, 32, dtype=torch.float64), longest=200)
    assert all(2 in row for row in sampled.tolist()) or sampled.shape[1] == 200
    assert not set(itertools.chain(*sampled.tolist())) & {0, 1}


def test_a_row_has_the_medians_of_both_sides_and_of_their_ratios(monkeypatch):
    found = iter([10.0, 5.0, 40.0, 10.0, 30.0, 10.0])  # ours and the reference in turn
    monkeypatch.setattr(speed, "rate", lambda work, seconds: next(found))
    pair = Pair("tokens/s", lambda: float, lambda: float, ours_flops=1e7, reference_flops=5e7)
    row = speed.measure_row("training", pair, rounds=3, seconds=1, limits=speed.Limits(fp32=1, bf16=2, copy=1))
    assert row == "| training | tokens/s | 30 | 10 | 3.00 | 2.00 to 4.00 | 15% | 50% |"


def test_a_row_without_a_reference_leaves_its_cells_empty(monkeypatch):
    monkeypatch.setattr(speed, "rate", lambda work, seconds: 1234.0)
    row = speed.measure_row("information", Pair("sentences/s", lambda: float), 2, 1, speed.Limits(1, 1, 1))
    assert row == "| information | sentences/s | 1,234 |  |  |  |  |  |"


SENTENCES = [
    f"{who} {what} {place} {end}"
    for who in ("i'm", "tom", "she", "we")
    for what in ("don't see", "see", "hear")
    for place in ("it", "him", "the cat", "a dog", "them", "us")
    for end in (".", "?")
]


@pytest.mark.parametrize("kind", ["vae", "lm"])
def test_vectors_are_of_their_sentence_alone(kind):
    sizes = {"latent": 3, "embedding": 6, "encoder": {"hidden": 6}, "decoder": {"hidden": 6}}
    embed = uses.embed_by(TextVAE.fit(SENTENCES, kind=kind, max_epochs=1, precision="fp32", **sizes))
    np.testing.assert_allclose(embed(SENTENCES[:3]), embed(SENTENCES)[:3], atol=1e-5)


def test_a_paraphrase_is_found_by_what_it_means():
    def embed(sentences):
        words = ["i am", "not", "tom", "she", "we", "see", "hear", " it", "him", "cat", "dog", "them", "us", "?"]
        return np.array([[float(word in uses.expand(sentence)) for word in words] for sentence in sentences])

    recall, reciprocal, count = uses.retrieve(embed, SENTENCES)
    assert (recall, reciprocal) == (1.0, 1.0) and count == sum("'" in sentence for sentence in SENTENCES)
    bare, questions = uses.label_questions(SENTENCES)
    assert questions.sum() == len(bare) // 2 and not any("?" in sentence for sentence in bare)
    bare, negations = uses.label_negations(SENTENCES)
    assert negations.sum() == len(bare) // 3 and not any("not" in sentence for sentence in bare)


def test_labels_are_learnt_from_few_vectors_and_chance_is_a_half():
    random = np.random.default_rng(0)
    labels, noise = np.arange(400) % 2 == 1, random.normal(size=(400, 3))
    assert uses.classify(noise + 8 * labels[:, None], labels, 10, 0) > 0.95
    assert abs(np.mean([uses.classify(noise, labels, 10, seed) for seed in range(9)]) - 0.5) < 0.1
    few = np.arange(len(labels)) < 5
    assert np.isnan(uses.classify(noise, few, 10, 0)), "none of the five is left to be told"


def test_long_sentences_are_divided_without_overlap_and_only_frequent_words_are_kept():
    splits = long_sentences.draw_splits()
    assert {split: len(texts) for split, texts in splits.items()} == {"train": 42_000, "valid": 3_400, "test": 3_800}
    words = {word for text in splits["train"] for word in text.replace("<unk>", "").split()}
    assert max(len(text.split()) for text in splits["train"]) == 45 and len(words) > 5_000
    known = set(long_sentences._TOKEN.findall(" ".join(splits["train"]).replace("<unk>", "")))
    held_out = " ".join(splits["valid"] + splits["test"])
    assert len(known) == 10_000 and set(long_sentences._TOKEN.findall(held_out.replace("<unk>", ""))) <= known
    without_gaps = {split: {text for text in texts if "<unk>" not in text} for split, texts in splits.items()}
    assert not without_gaps["train"] & without_gaps["valid"]
    assert long_sentences.draw_splits()["test"] == splits["test"]


def test_the_labels_of_the_grammar_are_its_factors_and_it_has_no_paraphrases():
    sentences, tasks = uses.read_tasks("grammar")
    assert tasks.keys() == {"number", "negation", "question", "adjective", "place"}
    for task, value in (("question", "?"), ("negation", " not ")):
        labels = tasks[task][1]
        assert len(labels) == len(sentences) == len(set(sentences))
        assert len({(value in sentence, bool(label)) for sentence, label in zip(sentences, labels, strict=True)}) == 2
    assert uses.retrieve(uses.embed_by_words, sentences[:50])[2] == 0


def test_the_labels_of_a_table_are_learnt_as_they_stand(tmp_path):
    table = tmp_path / "labelled.csv"
    table.write_text('text,label\n"well, yes",good\nno,bad\n  ,bad\nmaybe so,odd\nno,bad\n', encoding="utf-8")
    sentences, tasks = uses.read_tasks(str(table))
    assert sentences == ["well, yes", "no", "maybe so"]
    assert {name: labels.tolist() for name, (_, labels) in tasks.items()} == {
        "bad": [False, True, False],
        "good": [True, False, False],
        "odd": [False, False, True],
    }
    table.write_text("text,label\nyes,good\nno,bad\n", encoding="utf-8")
    assert {name: labels.tolist() for name, (_, labels) in uses.read_tasks(str(table))[1].items()} == {
        "good": [True, False]
    }
    table.write_text("sentence,label\nyes,good\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="needs `text` and `label`"):
        uses.read_tasks(str(table))


def draws_around(centres, spread, per_sentence=4, seed=0):
    """Sentences whose true posteriors are narrow, each around one of the centres, as draws of a wide q, weighted."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.tensor(centres)[:, None].float()  # (N, 1, D)
    z = true + 2 * spread * torch.randn(len(true), per_sentence, true.shape[-1], generator=generator)
    log_q = torch.distributions.Normal(true, 2 * spread).log_prob(z).sum(-1)
    log_likelihood = torch.distributions.Normal(true, spread).log_prob(z).sum(-1)
    return prior.Draws(z, (log_likelihood - log_q).double())


def test_a_pass_of_em_over_the_prior_never_makes_its_sentences_less_likely():
    generator = torch.Generator().manual_seed(1)
    draws = draws_around(torch.randn(300, 3, generator=generator).tolist(), 0.3)
    mixture, found = prior.start(draws, 5), []
    for _ in range(12):
        found.append(prior.estimate_nll(draws, mixture))
        mixture = prior.improve(draws, mixture, prior_points=0)
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(found))
    assert found[-1] < found[0] - 0.1


def test_the_fitted_prior_finds_where_sentences_are_and_not_where_q_is_wide():
    centres = [[-3.0, 0.0]] * 300 + [[3.0, 1.0]] * 100
    draws, held_out = draws_around(centres, 0.25, 40), draws_around(centres, 0.25, 40, seed=1)
    fitted, passes = prior.fit(draws, held_out, prior.start(draws, 2))
    order = fitted.means[:, 0].argsort()
    torch.testing.assert_close(fitted.means[order], torch.tensor([[-3.0, 0.0], [3.0, 1.0]]), rtol=0, atol=0.1)
    torch.testing.assert_close(fitted.logits[order].softmax(0), torch.tensor([0.75, 0.25]), rtol=0, atol=0.02)
    # The likelihood has one place for all sentences of a centre: the narrower the prior there, the likelier they are.
    # The variance of q is 0.25, that of the likelihood 0.06; what the points of all draws add is below a fifth.
    assert fitted.log_variances.exp()[order][0].max() < 0.2
    assert passes > 1


def test_the_own_prior_has_the_likelihood_that_the_package_measures(tmp_path):
    text = ["a b c", "b c d", "c d e f", "a a", "f e d", "b a c d"] * 4
    found = TextVAE.fit(text, prior={"name": "mixture", "components": 4, "refit": 0}, max_epochs=1)
    split = found.load_corpus(text, whole=True).test
    draws = prior.draw(found.model, split, 30)
    measured = measure(found.model, iterate_by_length(split), samples=30)
    assert prior.estimate_nll(draws, found.model.prior) == pytest.approx(float(measured.nll.mean()), abs=1e-4)

"""Writing with a model: what is given stays, rules hold, the search finds what enumeration finds."""

import json
from itertools import pairwise, product

import pytest
import torch

from seqvae import TextVAE
from seqvae.cli import main
from seqvae.data.batch import END, UNKNOWN, Batch
from seqvae.errors import ConfigError
from seqvae.latent.imputation import CHAINS, ROUNDS, WORK
from seqvae.latent.paraphrasing import find_others
from seqvae.latent.templates import read_template
from seqvae.model.decoding import decode
from seqvae.model.modes import evaluating
from seqvae.model.patterns import Pattern, Rules, Slot, allow_words, begin_with, fix
from seqvae.model.search import search

SENTENCES = [
    f"{subject} {verb} {place} ."
    for subject in ("a cat", "the dog", "one bird", "no horse")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there now", "at home")
]
SMALL = {"latent": 4, "embedding": 8, "encoder": {"hidden": 8}, "decoder": {"hidden": 8}, "batch_size": 8}
VOCABULARY = 8


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(SENTENCES, seed=0, max_epochs=6, learning_rate=0.02, warmup=2, precision="fp32", **SMALL)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def vae(small_model):
    return small_model(vocabulary=VOCABULARY)


def enumerate_sentences(vae, z, most):
    """All sentences of at most `most` ids, END included, with log p(x|z)."""
    words = range(UNKNOWN + 1, VOCABULARY)
    every = [[*ids, END] for n in range(most) for ids in product(words, repeat=n)]
    with evaluating(vae):
        log_prob = vae.log_prob(Batch.of(every), z.expand(len(every), -1)).sum(1).tolist()
    return sorted(zip(log_prob, map(tuple, every), strict=True), reverse=True)


def find(vae, z, pattern, **options):
    (found,) = search(vae, z, pattern, width=600, n_best=5, max_length=4, **options)
    return [one.tokens for one in found]


@pytest.fixture
def z():
    return torch.randn(1, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_a_wide_search_finds_the_best_sentences_of_all_with_their_log_p(vae, z):
    expected = enumerate_sentences(vae, z, 4)[:5]
    (found,) = search(vae, z, begin_with([], allow_words(VOCABULARY)), width=600, n_best=5, max_length=4)
    assert [one.tokens for one in found] == [tokens for _, tokens in expected]
    assert [one.log_prob for one in found] == pytest.approx([log_prob for log_prob, _ in expected])


@pytest.mark.parametrize(
    ("rules", "holds"),
    [
        (Rules(required=[[5]]), lambda x: 5 in x),
        (Rules(required=[[5, 6]]), lambda x: (5, 6) in pairwise(x)),
        (Rules(required=[[5], [7]]), lambda x: {5, 7} <= set(x)),
        (Rules(banned=[[4], [6]]), lambda x: not {4, 6} & set(x)),
        (Rules(banned=[[4, 5]]), lambda x: (4, 5) not in pairwise(x)),
        (Rules(no_repeat=1), lambda x: len(set(x)) == len(x)),
    ],
    ids=["word", "words", "two words", "bans", "banned words", "no repeat"],
)
def test_rules_leave_the_best_sentences_that_keep_them(rules, holds, vae, z):
    expected = [tokens for _, tokens in enumerate_sentences(vae, z, 4) if holds(tokens)][:5]
    assert find(vae, z, begin_with([], allow_words(VOCABULARY)), rules=rules) == expected


def test_length_penalty_one_ranks_by_log_p_per_token(vae, z):
    every = enumerate_sentences(vae, z, 4)
    expected = [tokens for _, tokens in sorted(every, key=lambda pair: -pair[0] / len(pair[1]))][:5]
    assert find(vae, z, begin_with([], allow_words(VOCABULARY)), length_penalty=1.0) == expected


def test_given_words_and_blanks_stay_in_their_places(vae, z):
    words = allow_words(VOCABULARY)
    one = Pattern([fix(5, VOCABULARY), Slot(words), fix(6, VOCABULARY)])
    expected = [x for _, x in enumerate_sentences(vae, z, 4) if len(x) == 4 and (x[0], x[2]) == (5, 6)][:5]
    assert find(vae, z, one) == expected
    several = Pattern([Slot(words, words), fix(6, VOCABULARY)])
    expected = [x for _, x in enumerate_sentences(vae, z, 4) if len(x) > 2 and x[-2] == 6][:5]
    assert find(vae, z, several) == expected


def test_sampling_keeps_rules_too(vae):
    z = torch.randn(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rules = Rules(banned=[[4]], no_repeat=1)
    found = decode(vae, z, rules=rules, max_length=6, generator=torch.Generator().manual_seed(0)).tokens
    assert all(4 not in ids and len(set(ids)) == len(ids) for ids in found) and len({*map(tuple, found)}) > 5


def test_n_best_of_each_point_come_best_first_and_are_no_worse_than_those_of_the_plain_beam(model):
    z = model.encode(SENTENCES[:3]).mode
    found = model.generate(z, beam=6, n_best=3)
    plain = model.generate(z, beam=6)
    assert all(found[3 * i].log_prob >= one.log_prob - 1e-4 for i, one in enumerate(plain))
    assert all(found[i].log_prob >= found[i + 1].log_prob for i in (0, 1, 3, 4, 6, 7))


def test_completions_begin_with_the_prefix_and_are_the_same_for_a_seed(model):
    found = model.complete("the dog", 3, seed=1)
    assert len(found) == 3 and all(one.text.startswith("the dog") and one.log_prob < 0 for one in found)
    assert found == model.complete("the dog", 3, seed=1)
    assert len({one.text for one in found}) == 3


def test_completions_keep_rules(model):
    found = model.complete("the", 2, seed=1, required=["home"], banned=["cat"])
    assert found and all("home" in one.text and "cat" not in one.text for one in found)


def test_blanks_are_filled_with_one_word_or_several(model):
    for one in model.fill("the _ sat __ .", 3, seed=1):
        words = one.text.removesuffix(".").split()
        assert words[0] == "the" and words[2] == "sat" and len(words) > 3 and one.text.endswith(".")


@pytest.mark.parametrize("text", ["the _ sat __ .", "__ sat __", "the __ sat __ here __ ."])
def test_the_work_of_several_blanks_is_bounded_however_long_sentences_can_be(text, monkeypatch):
    model = TextVAE.fit(SENTENCES, seed=0, max_epochs=1, max_length=400, **SMALL)
    rows, decode_step = [], model.model.decode_step
    monkeypatch.setattr(model.model, "decode_step", lambda t, z, s: rows.append(len(t)) or decode_step(t, z, s))
    found = model.fill(text, 2, seed=0)
    limit = read_template(text, model.tokenizer).max_length
    assert found and all(len(model.tokenizer.encode(one.text)) < limit for one in found)
    spread = read_template(text, model.tokenizer).pattern.spread
    assert sum(rows) <= (1 + ROUNDS) * max(WORK, CHAINS * 2 * spread * limit)


@pytest.mark.parametrize(("kind", "text"), [("bpe", "the _ sat here ."), ("char", "the _ sat here .")])
def test_tokenizers_of_parts_fill_whole_words(kind, text):
    model = TextVAE.fit(SENTENCES, tokenizer=kind, seed=0, max_epochs=1, **SMALL)
    pattern = read_template(text, model.tokenizer).pattern
    z = torch.zeros(1, 4)
    (found,) = search(model.model, z, pattern, width=3, max_length=40)
    first, rest = model.tokenizer.decode(found[0].tokens).split(" ", 1)
    word = rest.removesuffix(" sat here .")
    assert first == "the" and word and word != rest and " " not in word


def test_paraphrases_are_other_sentences_and_a_wider_spread_gives_more(model):
    found = model.paraphrase(SENTENCES[0], 5, temperature=4.0, seed=0)
    texts = [one.text for one in found]
    assert len(set(texts)) == len(texts) > 0 and "a cat sat here." not in texts
    assert find_others("I know!", ["i know.", "you know", "You know?", "i knew"]) == [1, 3]


def test_a_blend_of_all_weight_on_one_is_its_reconstruction(model):
    ends = [SENTENCES[0], SENTENCES[-1]]
    assert [model.blend(ends, w) for w in ([1, 0], [0, 2])] == model.reconstruct(ends)


def test_the_nearest_of_a_corpus_is_the_sentence_itself_and_duplicates_come_once(model):
    found = model.nearest(SENTENCES[4], SENTENCES * 2, 3)
    assert found[0].text == SENTENCES[4] and found[0].distance == pytest.approx(0, abs=1e-3)
    z = model.encode(SENTENCES).mode
    order = torch.cdist(z[4:5], z)[0].argsort().tolist()[:3]
    assert [one.text for one in found] == [SENTENCES[i] for i in order]
    many = model.nearest(SENTENCES[4], SENTENCES[4:5] * 500 + SENTENCES, 3)  # more than a part of one sentence
    assert [one.text for one in many] == [one.text for one in found]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.complete(""), "beginning is empty"),
        (lambda m: m.complete("the zebra"), "'zebra'"),
        (lambda m: m.fill("the cat ."), "no blank"),
        (lambda m: m.fill("the _ zebra ."), "'zebra'"),
        (lambda m: m.complete("the", banned="cat"), "list of words"),
        (lambda m: m.sample(1, required=["cat"]), "beam"),
        (lambda m: m.complete("the", 2, required=["cat"], banned=["cat"]), "'cat' is required and 'cat' is banned"),
        (lambda m: m.sample(1, n_best=2), "beam"),
        (lambda m: m.sample(3, beam=4, n_best=2, candidates=2), "not of sample"),
        (lambda m: m.generate(torch.zeros(1, 4), n_best=2), "beam"),
        (lambda m: m.generate(torch.zeros(1, 4), beam=2, n_best=3), "n_best"),
        (lambda m: m.paraphrase("the cat", temperature=0), "temperature"),
        (lambda m: m.paraphrase(" "), "text is empty"),
        (lambda m: m.blend(["the cat"]), "two"),
        (lambda m: m.blend(["the cat", "a dog"], [1]), "weights"),
        (lambda m: m.blend(["the cat", "a dog"], [1, -1]), "sum"),
    ],
)
def test_bad_input_is_one_line(call, message, model):
    with pytest.raises(ConfigError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_commands_write_what_the_methods_return(model, folder, capsys, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(SENTENCES))
    main(["complete", folder, "the dog", "-n", "2", "--seed", "1"])
    assert capsys.readouterr().out.splitlines() == [one.text for one in model.complete("the dog", 2, seed=1)]
    main(["fill", folder, "the _ sat here .", "-n", "1", "--seed", "1", "--json", "--ban", "dog"])
    (expected,) = model.fill("the _ sat here .", 1, seed=1, banned=["dog"])
    assert json.loads(capsys.readouterr().out) == pytest.approx(vars(expected))
    main(["paraphrase", folder, SENTENCES[0], "--temperature", "4", "--seed", "0", "-n", "1"])
    main(["blend", folder, SENTENCES[0], SENTENCES[-1], "--weight", "1", "--weight", "0"])
    main(["nearest", folder, SENTENCES[4], str(corpus), "-n", "1"])
    assert capsys.readouterr().out.splitlines()[1:] == [model.reconstruct(SENTENCES[:1])[0], SENTENCES[4]]
    table = tmp_path / "table.csv"
    table.write_text('"title","body"\n' + "".join(f'"of {line}","{line}"\n' for line in SENTENCES))
    main(["nearest", folder, SENTENCES[4], str(table), "--column", "body", "-n", "1"])
    assert capsys.readouterr().out.splitlines() == [SENTENCES[4]]
    main(["reconstruct", folder, str(corpus), "--beam", "4", "--n-best", "2", "--require", "home"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 72 and all("home" in line for line in lines)


def test_commands_refuse_bad_input(folder, refused):
    assert "empty" in refused("complete", folder, " ")
    assert "empty" in refused("paraphrase", folder, " ")
    assert "no blank" in refused("fill", folder, "the cat")
    assert "zebra" in refused("fill", folder, "the _ zebra")
    assert "beam" in refused("decode", folder, "none.npy", "--n-best", "2")

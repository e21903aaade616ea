"""The Python interface: text goes in, text comes out."""

import json
import re

import pytest
import torch
from torch.distributions import Distribution

from seqvae import SeqVAEError, TextVAE
from seqvae.errors import CheckpointError, ConfigError, CorpusError
from seqvae.training.checkpoint import Checkpoint

SENTENCES = [
    f"{subject} {verb} {place} ."
    for subject in ("a cat", "the dog", "one bird", "no horse")
    for verb in ("sat", "ran", "ate")
    for place in ("here", "there now", "at home")
]
SMALL = {
    "latent": 4,
    "embedding": 8,
    "encoder": {"hidden": 8},
    "decoder": {"hidden": 8},
    "max_epochs": 6,
    "warmup": 2,
    "learning_rate": 0.02,
    "batch_size": 8,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def model():
    return TextVAE.fit(SENTENCES, seed=0, **SMALL)


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- fit ---------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_model(model):
    again = TextVAE.fit(SENTENCES, seed=0, **SMALL)
    assert torch.equal(again.encode(SENTENCES).mean, model.encode(SENTENCES).mean)


def test_another_seed_gives_another_model(model):
    other = TextVAE.fit(SENTENCES, seed=1, **SMALL)
    assert not torch.equal(other.encode(SENTENCES[:1]).mean, model.encode(SENTENCES[:1]).mean)


def test_fit_with_an_output_leaves_a_folder_that_holds_the_model_and_its_card(tmp_path):
    fitted = TextVAE.fit(SENTENCES, output=tmp_path / "m", **SMALL)
    loaded = TextVAE.from_pretrained(tmp_path / "m")
    assert torch.equal(loaded.encode(SENTENCES).mean, fitted.encode(SENTENCES).mean)
    assert (tmp_path / "m" / "README.md").read_text().startswith("---\n")
    assert [json.loads(line)["kind"] for line in (tmp_path / "m" / "metrics.jsonl").read_text().splitlines()]


def test_fit_refuses_a_folder_that_holds_something(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(ConfigError, match="not empty") as caught:
        TextVAE.fit(SENTENCES, output=tmp_path, **SMALL)
    one_line(caught)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("option", "near"), [("latnt", "latent"), ("max_epoch", "max_epochs"), ("sede", "seed"), ("tokeniser", "tokenizer")]
)
def test_an_unknown_option_is_refused_with_the_nearest(option, near):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'") as caught:
        TextVAE.fit(SENTENCES, **{option: 1})
    one_line(caught)


@pytest.mark.parametrize(
    ("options", "near"),
    [
        ({"encoder": {"hiden": 3}}, "hidden"),
        ({"weight": {"name": "liner"}}, "linear"),
        ({"tokenizer": "wrod"}, "word"),
    ],
    ids=str,
)
def test_an_unknown_name_in_a_value_is_refused_with_the_nearest(options, near):
    with pytest.raises(ConfigError, match=f"did you mean '{near}'"):
        TextVAE.fit(SENTENCES, **options)


def test_a_wrong_option_is_refused_before_the_corpus_is_read():
    with pytest.raises(ConfigError, match="layers"):
        TextVAE.fit("/no/such/corpus.txt", encoder={"layers": "two"})


@pytest.mark.parametrize("sentences", [[], [""], ["one sentence ."], ["", "  "], ["same ."] * 50], ids=str)
def test_too_few_sentences_are_refused_in_one_line(sentences):
    with pytest.raises(CorpusError) as caught:
        TextVAE.fit(sentences, **SMALL)
    one_line(caught)


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_every_kind_of_tokens_trains(tokenizer):
    fitted = TextVAE.fit(SENTENCES, tokenizer=tokenizer, **SMALL | {"max_epochs": 1})
    assert fitted.tokenizer.kind == tokenizer and len(fitted.reconstruct(SENTENCES[:2])) == 2


# -- sample, encode, decode, reconstruct, interpolate ------------------------------------------------------------------


def test_sample_gives_n_sentences(model):
    texts = model.sample(5, temperature=0.8, seed=1)
    assert len(texts) == 5 and all(isinstance(text, str) for text in texts)


def test_the_same_seed_samples_the_same_text_and_another_one_another(model):
    assert model.sample(9, seed=1) == model.sample(9, seed=1) != model.sample(9, seed=2)


def test_without_a_seed_each_sample_is_new(model):
    assert model.sample(9) != model.sample(9)


def test_a_seed_leaves_the_global_random_numbers_alone(model):
    state = torch.get_rng_state()
    model.sample(3, seed=1)
    model.score(SENTENCES[:2], samples=3)
    assert torch.equal(torch.get_rng_state(), state)


def test_encode_is_the_distribution_of_the_posterior(model):
    q = model.encode(["a cat sat here .", "the dog ran"])
    assert isinstance(q, Distribution) and q.mean.shape == q.stddev.shape == (2, 4)
    assert not q.mean.requires_grad


def test_encoding_many_is_encoding_one_by_one_in_the_given_order(model):
    texts = [SENTENCES[3], "", "the dog", SENTENCES[0] + " " + SENTENCES[1]]
    alone = torch.cat([model.encode([text]).mean for text in texts])
    torch.testing.assert_close(model.encode(texts).mean, alone, rtol=1e-5, atol=1e-6)


def test_encoding_more_than_go_at_a_time_keeps_their_order(model):
    q = model.encode(SENTENCES * 20)  # 720
    torch.testing.assert_close(q.mean, model.encode(SENTENCES).mean.repeat(20, 1), rtol=1e-5, atol=1e-6)


def test_decode_gives_one_sentence_for_each_point(model):
    assert len(model.decode(torch.randn(3, 4))) == 3


def test_decoding_is_greedy_by_default(model):
    z = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    assert model.decode(z) == model.decode(z) == model.decode(z, temperature=0.0)
    assert model.decode(z, temperature=2.0, seed=1) != model.decode(z)


@pytest.mark.parametrize("z", [torch.zeros(4), torch.zeros(2, 3), torch.zeros(1, 2, 4)], ids=lambda z: str(z.shape))
def test_points_of_another_shape_are_refused(z, model):
    with pytest.raises(ConfigError, match="shape"):
        model.decode(z)


def test_a_reconstruction_is_the_decoded_mean(model):
    assert model.reconstruct(SENTENCES[:5]) == model.decode(model.encode(SENTENCES[:5]).mean)


@pytest.mark.parametrize("path", ["linear", "slerp"])
@pytest.mark.parametrize("steps", [2, 7])
def test_the_ends_of_an_interpolation_are_the_reconstructions(path, steps, model):
    start, end = SENTENCES[0], SENTENCES[-1]
    texts = model.interpolate(start, end, steps=steps, path=path)
    assert len(texts) == steps and [texts[0], texts[-1]] == model.reconstruct([start, end])


@pytest.mark.parametrize(("options", "word"), [({"path": "liner"}, "linear"), ({"steps": 1}, "2")])
def test_a_path_that_is_none_is_refused(options, word, model):
    with pytest.raises(ConfigError, match=word):
        model.interpolate("a", "b", **options)


def test_an_unknown_option_of_decoding_is_an_error(model):
    with pytest.raises((SeqVAEError, TypeError), match="top_kk"):
        model.sample(1, top_kk=3)


def test_the_model_stays_in_evaluation_mode(model):
    model.sample(1)
    model.encode(SENTENCES[:1])
    assert not any(module.training for module in model.model.modules())


# -- score -------------------------------------------------------------------------------------------------------------


def test_a_score_is_one_finite_negative_number_for_each_sentence(model):
    score = model.score([*SENTENCES[:4], ""], samples=10)
    assert score.shape == (5,) and score.isfinite().all() and (score < 0).all()


def test_scores_are_in_the_order_given_whatever_the_lengths(model):
    # The samples of z are a function of the seed and the sentence, so its score is too, at any place in the list.
    short, middle, long = "a", SENTENCES[0], SENTENCES[3] + " " + SENTENCES[5]
    score = model.score([middle, long, short], samples=3)
    for place, text in enumerate([middle, long, short]):
        for other in (short, long):
            again = model.score([text if i == place else other for i in range(3)], samples=3)[place]
            torch.testing.assert_close(again, score[place], rtol=0, atol=1e-3)
    assert len(set(score.tolist())) == 3


def test_a_sentence_like_the_corpus_is_likelier_than_its_words_backwards(model):
    forward = model.score(SENTENCES).mean()
    backward = model.score([" ".join(text.split()[::-1]) for text in SENTENCES]).mean()
    assert forward > backward


# -- odd input ---------------------------------------------------------------------------------------------------------

ODD = ["", "   ", "\t\n", "<s> </s> <pad> <unk>", "zyx wvu", "\x00", "\ud800", "naïve 😀 漢字", "word " * 1000]


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:12]))
def test_no_text_breaks_it(text, model):
    assert model.encode([text]).mean.isfinite().all()
    assert model.score([text], samples=2).isfinite().all()
    assert isinstance(model.reconstruct([text])[0], str)


@pytest.mark.parametrize("method", ["encode", "reconstruct", "score"])
def test_a_string_instead_of_a_list_is_refused_with_what_to_write(method, model):
    with pytest.raises(ConfigError, match=r"\[sentence\]") as caught:
        getattr(model, method)("a cat sat here .")
    one_line(caught)


@pytest.mark.parametrize("method", ["encode", "reconstruct", "score"])
def test_no_sentence_at_all_is_refused_in_one_line(method, model):
    with pytest.raises(SeqVAEError, match="no sentence"):
        getattr(model, method)([])


@pytest.mark.parametrize(
    "sentences", [(text for text in SENTENCES[:3]), tuple(SENTENCES[:3])], ids=["generator", "tuple"]
)
def test_any_iterable_of_sentences_will_do(sentences, model):
    assert model.encode(sentences).mean.shape == (3, 4)


# -- save, load, push --------------------------------------------------------------------------------------------------


def test_a_saved_and_loaded_model_samples_and_scores_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = TextVAE.from_pretrained(str(tmp_path))
    assert loaded.sample(4, seed=3) == model.sample(4, seed=3)
    assert torch.equal(loaded.score(SENTENCES[:4], samples=5), model.score(SENTENCES[:4], samples=5))


def test_the_card_has_the_corpus_the_sizes_and_samples(model, tmp_path):
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    assert "4 latent dimensions" in card and f"{parameters:,}" in card and "32 train" in card.replace("\n", " ")
    for text in model.sample(5, seed=0):
        assert text in card


def test_push_uploads_the_folder_under_the_name(model, monkeypatch):
    calls = {}

    class Hub:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, name, private=False, exist_ok=False):
            calls["created"] = (name, private, exist_ok)

        def upload_folder(self, *, repo_id, folder_path):
            calls["uploaded"] = repo_id
            calls["model"] = Checkpoint.load(__import__("pathlib").Path(folder_path)).model
            return f"address of {repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert model.push_to_hub("me/mine", private=True, token="t") == "address of me/mine"
    assert (calls["token"], calls["created"], calls["uploaded"]) == ("t", ("me/mine", True, True), "me/mine")
    one, other = calls["model"].state_dict(), model.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_a_name_with_an_owner_is_fetched_from_the_hub(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path)
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: asked.append(name) or str(tmp_path))
    loaded = TextVAE.from_pretrained("me/mine")
    assert asked == ["me/mine"] and loaded.sample(2, seed=0) == model.sample(2, seed=0)


def test_a_name_that_the_hub_does_not_know_is_one_line(monkeypatch):
    def fail(name, **options):
        raise RuntimeError("404\nRepository Not Found\nfor url")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(CheckpointError, match="me/nothing") as caught:
        TextVAE.from_pretrained("me/nothing")
    one_line(caught)


@pytest.mark.parametrize("name", ["no-such-folder", "./no/such", "/no/such"])
def test_a_folder_that_is_not_there_is_never_asked_of_the_hub(name, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("asked the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(CheckpointError, match=re.escape(name.removeprefix("./"))):
        TextVAE.from_pretrained(name)


# -- evaluate ----------------------------------------------------------------------------------------------------------


def test_evaluating_a_split_counts_its_sentences_words_and_bytes(model):
    from seqvae.data.text.corpus import load

    corpus = load(SENTENCES[:6], tokenizer=model.tokenizer, whole=True)
    scores = model.evaluate(corpus.test, samples=3)
    words = sum(len(text.split()) for text in SENTENCES[:6])
    assert (scores.sentences, scores.tokens, scores.samples) == (6, words + 6, 3)
    total = scores.nll * 6
    assert scores.perplexity == pytest.approx(torch.tensor(total / (words + 6)).exp().item(), rel=1e-5)
    size = sum(len(text.encode()) + 1 for text in SENTENCES[:6])
    assert scores.bits_per_byte == pytest.approx(total / 0.6931471805599453 / size, rel=1e-5)

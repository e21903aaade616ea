"""Laws of the corpus chitchat: what is left out and why, whole conversations in one split, a cache that cannot harm."""

import errno
import hashlib
import importlib.metadata
import json
import subprocess
import sys
from itertools import product

import pytest

from seqvae.auto import load as load_model
from seqvae.cli import main
from seqvae.data.text import chitchat, utterances
from seqvae.data.text.corpus import load
from seqvae.data.text.sources import locate, open_source
from seqvae.errors import CorpusError

COLOURS, ANIMALS = (
    ("red", "blue", "green", "grey", "black", "white", "pink"),
    ("cat", "dog", "cow", "fish", "fox", "owl"),
)
PAIRS = list(product(COLOURS, ANIMALS))


def make_conversation(colour, animal):
    """A conversation in turns: each of its sentences names the pair, but for one that all share."""
    turns = [
        [f"Have you seen the {colour} {animal}? i like that {colour} {animal}  so much!!", "Where are you from?"],
        [f"im the owner of a {colour} {animal}", f"damn that {colour} {animal} is loud", ""],
    ]
    return {"messages": [[{"text": text, "sender": str(i)} for text in turn] for i, turn in enumerate(turns)]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
    return folder


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    """A made-up file of 42 conversations in place of that of the package."""
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({str(i): make_conversation(*pair) for i, pair in enumerate(PAIRS)}))
    monkeypatch.setattr(chitchat, "find_file", lambda: path)
    return path


@pytest.fixture
def read_once(monkeypatch):
    """Count how often the file is read in full."""
    calls, read = [], chitchat.read_sentences

    def count(*given):
        calls.append(given)
        return read(*given)

    monkeypatch.setattr(chitchat, "read_sentences", count)
    return calls


def texts(name="chitchat"):
    return {split: dataset["text"][:] for split, dataset in open_source(name).datasets.items()}


def everything(name="chitchat"):
    return [text for some in texts(name).values() for text in some]


FAULTS = {
    "Where are you from?": None,
    "I don't know, ask mom (or dad)": None,
    "i was born in 1995": None,
    "Oh no": "short",
    "... !": "short",
    "": "short",
    "one two three four five six seven eight nine ten eleven twelve this is too long": None,
    "one two three four five six seven eight nine ten eleven twelve now this is too long": "long",
    "see https://example.com now": "address",
    "it is on example.org now": "address",
    "go to www.example today": "address",
    "write to me at bob@example": "signs",
    "we all like #winning": "signs",
    "i love caf\u00e9 food": "signs",
    "we smile \U0001f600 a lot": "signs",
    "my number is 8015551234": "number",
    "call me at 801-555-1234": "number",
    "call me at 801.555": "number",
    "born 2 or 3 years ago": "form",
    "WHERE ARE YOU FROM": "form",
    'he said "no to me': "form",
    "that is so (very": "form",
    "what a supercalifragilisticexpialidocious day": "form",
    "that is sooo good": "stretched",
    "no no no way": "stretched",
    "como estas my friend": "language",
    "is anyone still there": "about the chat",
    "we get many points": "about the chat",
    "are you a bot?": "about the chat",
    "Hello there you": None,
    "hey, you there?": "about the chat",
    "what the hell is that": "rude",
    "that is bull-shit, man": "rude",
    "i will kill you now": "rude",
    "hello shelly, how are you": None,
}


@pytest.mark.parametrize(("sentence", "fault"), FAULTS.items())
def test_each_filter_leaves_out_what_it_is_for(sentence, fault):
    assert utterances.find_fault(sentence, utterances.tokenize(sentence)) == fault


@pytest.mark.parametrize(
    ("message", "tidied"),
    [
        ("im  from   Utah!!", "i'm from Utah!"),
        ("DONT you know? youre right", "Don't you know? you're right"),
        ("wont, cant and theyve", "won't, can't and theyve"),
        ("hahahaha yeah hehehe", "haha yeah haha"),
        ("so . . . what ????", "so... what?"),
        ("nice :) <3 yes,really ;-D", "nice yes, really"),
        ("he said \u201cit\u2019s\u201d late\u2026", 'he said "it\'s" late...'),
        ('- "well" then -', 'well" then'),
        ("i teh cat recieve", "i teh cat recieve"),
    ],
)
def test_marks_apostrophes_and_laughter_are_tidied_and_other_spellings_left_alone(message, tidied):
    assert utterances.strip_marks(utterances.tidy(message)) == tidied


def test_a_conversation_of_a_program_or_of_keys_is_left_out_whole(dataset):
    found = json.loads(dataset.read_text())
    made = [{"text": f"The {colour} {animal} sang loudly."} for colour, animal in PAIRS]
    keys = [{"text": "a s d f g h j k l i like the red cat"}]
    dataset.write_text(json.dumps(found | {"made": {"messages": [made]}, "keys": {"messages": [keys]}}))
    assert not any("sang" in text or text == "i like the red cat" for text in everything())


def test_a_conversation_is_in_one_split_and_no_sentence_comes_twice(dataset):
    found = texts()
    pairs = {
        split: {pair for pair in PAIRS for text in some if " ".join(pair) in text} for split, some in found.items()
    }
    assert [len(pairs[split]) for split in ("train", "valid", "test")] == [38, 2, 2]
    assert len(set.union(*pairs.values())) == 42
    folded = [chitchat.fold(text) for some in found.values() for text in some]
    assert len(folded) == len(set(folded)) == 3 * 42 + 1 and "where are you from" in folded
    assert "i'm the owner of a red cat" in folded


def test_a_word_of_few_conversations_takes_its_sentence_out(dataset):
    found = json.loads(dataset.read_text())
    for number in "0123":
        found[number]["messages"].append([{"text": "that is so weird"}])
    dataset.write_text(json.dumps(found))
    assert "that is so weird" not in everything()
    found["4"]["messages"].append([{"text": "That is so weird!"}])
    dataset.write_text(json.dumps(found))
    assert sum("is so weird" in text for text in everything()) == 1


def test_options_take_whole_messages_and_rude_ones(dataset):
    plain, whole, rude = map(everything, ("chitchat", "chitchat:messages", "chitchat:uncensored"))
    assert "Have you seen the red cat?" in plain and "damn that red cat is loud" not in plain
    assert (
        "Have you seen the red cat? i like that red cat so much!" in whole and "Have you seen the red cat?" not in whole
    )
    assert set(plain) < set(rude) and "damn that red cat is loud" in rude
    both = everything("chitchat:uncensored:messages")
    assert set(whole) < set(both) and "damn that red cat is loud" in both


def test_the_options_have_one_order_and_no_file_is_taken_for_one(file, tmp_path, monkeypatch):
    assert locate("chitchat:uncensored:messages:messages") == "chitchat:messages:uncensored"
    file("chitchat:old", "\n".join(f"this is line {i}" for i in range(40)))
    monkeypatch.chdir(tmp_path)
    assert len(load("./chitchat:old").train) == 36 and locate("./chitchat:old") == str(tmp_path / "chitchat:old")


def test_the_labels_are_kind_and_length(dataset):
    split = open_source("chitchat").datasets["train"]
    labels = dict(zip(split["text"], zip(split["kind"], split["length"], strict=True), strict=True))
    assert labels["Where are you from?"] == ("question", "short")
    assert {labels[text] for text in labels if text.startswith("i like")} == {("exclamation", "medium")}
    assert {labels[text] for text in labels if text.startswith("i'm the")} == {("statement", "medium")}


def test_what_was_read_is_kept_until_the_file_or_the_way_to_read_it_changes(dataset, read_once, monkeypatch):
    first = texts()
    assert texts() == first and len(read_once) == 1
    monkeypatch.setattr(chitchat, "VERSION", chitchat.VERSION + 1)
    assert texts() == first and len(read_once) == 2
    found = json.loads(dataset.read_text())
    del found["0"]
    dataset.write_text(json.dumps(found))
    assert texts() != first and len(read_once) == 3


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "hashes"])
def test_a_damaged_cache_is_made_anew(dataset, read_once, own_cache, damage):
    first = texts()
    (table,), (hashes,) = own_cache.rglob("train.arrow"), own_cache.rglob("hashes.json")
    content = bytearray(table.read_bytes())
    if damage == "truncate":
        table.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[content.index(b"owner")] ^= 1
        table.write_bytes(content)
    elif damage == "remove":
        table.unlink()
    else:
        hashes.write_text('{"train"')
    assert texts() == first and len(read_once) == 2
    assert texts() == first and len(read_once) == 2


def test_where_the_cache_cannot_be_written_the_corpus_is_in_memory(dataset, own_cache, monkeypatch):
    first = load("chitchat:uncensored")

    def fail(*given, **options):
        raise OSError(errno.EROFS, "read-only")

    monkeypatch.setattr(chitchat, "VERSION", chitchat.VERSION + 1)
    for name in ("write_atomically", "get_cache_folder"):
        monkeypatch.setattr(chitchat, name, fail)
        assert load("chitchat:uncensored").fingerprint == first.fingerprint


@pytest.mark.parametrize("content", ["{", "[]", '{"1": {}}'])
def test_a_damaged_package_is_named_in_one_line(dataset, content):
    dataset.write_text(content)
    with pytest.raises(CorpusError, match=r"is damaged.*pip install --force-reinstall chitchat-dataset") as caught:
        load("chitchat")
    assert "\n" not in str(caught.value)


def test_a_package_without_its_file_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "files", lambda name: None)
    with pytest.raises(CorpusError, match=r'install it anew: pip install "seqvae\[demo\]"'):
        load("chitchat")


def test_a_model_of_a_variant_with_labels_finds_its_corpus_again(dataset, tmp_path, capsys):
    folder = tmp_path / "model"
    size = ["--model.latent", "2", "--model.embedding", "4", "--max-epochs", "1", "--max-length", "40"]
    main(["train", "chitchat:uncensored:messages", "--label-column", "kind", *size, "--output", str(folder)])
    model = load_model(folder)
    assert model.config.corpus == "chitchat:messages:uncensored" and set(model.labels) == {
        "exclamation",
        "question",
        "statement",
    }
    assert model.is_training_corpus("chitchat:uncensored:messages") and not model.is_training_corpus("chitchat")
    assert "chitchat:messages:uncensored" in (folder / "README.md").read_text()
    capsys.readouterr()
    main(["evaluate", str(folder), "--samples", "2", "--json"])
    assert json.loads(capsys.readouterr().out)["nll"] > 0


# Of the sentences in their order, each with the end of its line: models were trained on them, so they must not change.
DIGESTS = {
    "train": (138_364, "db819d48833c3881"),
    "valid": (8_582, "a85953a76780e8d6"),
    "test": (5_750, "4058e67521d93748"),
}


@pytest.mark.slow
def test_the_sentences_of_the_package_are_those_that_models_were_trained_on():
    found = chitchat.read_sentences(chitchat.find_file())
    text = {split: "".join(f"{one}\n" for one in some) for split, some in found.items()}
    digests = {split: hashlib.sha256(lines.encode()).hexdigest()[:16] for split, lines in text.items()}
    assert {split: (len(some), digests[split]) for split, some in found.items()} == DIGESTS


def test_the_corpus_is_read_without_importing_its_package():
    code = "import sys; from seqvae.data.text import chitchat; chitchat.find_file(); "
    code += "assert not {'chitchat_dataset', 'datasets', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

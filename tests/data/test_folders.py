"""Folders of a corpus: which file is which split, shards, what `datasets` saved, and the notes on others."""

import re

import pytest

from seqvae.data.text.splits import read_splits
from seqvae.errors import CorpusError

TEXTS = {split: [f"{split} {word} ." for word in ("one", "two", "three")] for split in ("train", "valid", "test")}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def lines(split):
    return "\n".join(TEXTS[split])


def table(split, part=slice(None)):
    return "".join(f"{text},{number}\n" for number, text in enumerate(["text", *TEXTS[split]][part]))


def found(folder, **options):
    texts = read_splits(folder, **options)
    return {split: list(rows) for split, rows in texts.splits.items()}, texts.notes


def refusal(folder, **options):
    with pytest.raises(CorpusError) as caught:
        read_splits(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "val.txt", "test.txt"),
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("train_en.txt", "dev_en.txt", "test_en.txt"),
        ("en-train.txt", "en-validation.txt", "en-test.txt"),
        ("Train.TXT", "VALID.txt", "Test.txt"),
    ],
)
def test_the_name_of_a_split_is_the_name_of_a_file_or_a_part_of_it(file, tmp_path, names):
    for split, name in zip(TEXTS, names, strict=True):
        file(f"c/{name}", lines(split))
    splits, notes = found(tmp_path / "c")
    assert splits == TEXTS and not any("not read" in note for note in notes)


def test_a_whole_name_goes_before_a_part_and_what_is_not_read_is_noted(file, tmp_path):
    for name in ("train.txt", "train.lemmas.txt", "vali.txt", "train_test.txt", "notes.jsonl", "README.md"):
        file(f"c/{name}", lines("train"))
    splits, notes = found(tmp_path / "c")
    assert sum(map(len, splits.values())) == 3
    message = "not read, as their names are not of splits: notes.jsonl, train.lemmas.txt, train_test.txt, vali.txt"
    assert message in notes


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train.txt", "valid.txt", "dev.txt"], "has two valid files, dev.txt and valid.txt"),
        (["train_en.txt", "train_de.txt"], "has two train files, train_de.txt and train_en.txt: .* or one named train"),
        (["test.txt", "corpus.csv"], r"has no train file; name one train.txt .*; it has: corpus.csv$"),
        (["train-00000-of-00003.txt", "train-00002-of-00003.txt"], "lacks shard 1 of the 3 that train-00000-of-00003"),
    ],
)
def test_a_folder_that_leaves_a_choice_is_refused_in_one_line(file, tmp_path, names, message):
    for name in names:
        file(f"c/{name}", lines("train"))
    assert re.search(message, refusal(tmp_path / "c"))


@pytest.mark.parametrize("place", ["c", "c/data"])
def test_shards_of_the_hub_are_joined_in_their_order(tmp_path, place):
    import datasets

    (tmp_path / place).mkdir(parents=True)
    for number in range(3):
        part = datasets.Dataset.from_dict({"text": TEXTS["train"][number : number + 1], "n": [number]})
        part.to_parquet(tmp_path / place / f"train-{number:05}-of-00003-0123456789abcdef.parquet")
    datasets.Dataset.from_dict({"text": TEXTS["test"], "n": [1, 2, 3]}).to_parquet(
        tmp_path / place / "test-00000-of-00001.parquet"
    )
    datasets.Dataset.from_dict({"text": TEXTS["valid"], "n": [1, 2, 3]}).to_parquet(
        tmp_path / place / "validation-00000-of-00001.parquet"
    )
    splits, notes = found(tmp_path / "c")
    assert splits == TEXTS
    assert "column 'text' of train-00000-of-00003-0123456789abcdef.parquet: \"train one .\"" in notes


def test_shards_of_tables_are_joined_and_need_the_same_columns(file, tmp_path):
    rows = [f"{text},{number}\n" for number, text in enumerate(TEXTS["train"])]
    for number, row in enumerate(rows):
        file(f"c/train-{number:05}-of-00003.csv", f"text,n\n{row}")
    assert found(tmp_path / "c", whole=True)[0] == {"test": TEXTS["train"]}
    file("c/train-00002-of-00003.csv", f"text,m\n{rows[2]}")
    assert "has the columns text, m, but train-00000-of-00003.csv has text, n" in refusal(tmp_path / "c")


@pytest.mark.parametrize("several", [False, True], ids=["Dataset", "DatasetDict"])
def test_what_save_to_disk_wrote_is_read_and_read_anew_when_it_changes(tmp_path, several):
    import datasets

    def save(texts):
        parts = {split: datasets.Dataset.from_dict({"text": some}) for split, some in texts.items()}
        parts = {"validation" if split == "valid" else split: part for split, part in parts.items()}
        saved = datasets.DatasetDict(parts) if several else parts["train"]
        saved.save_to_disk(tmp_path / "c")

    save(TEXTS)
    splits, notes = found(tmp_path / "c", whole=True)
    assert splits == (TEXTS if several else {"test": TEXTS["train"]})
    assert "column 'text' of c: \"train one .\"" in notes
    save({split: ["another"] * 3 for split in TEXTS})
    assert found(tmp_path / "c", whole=True)[0]["test"] == ["another"] * 3


def test_a_saved_folder_without_a_train_split_or_damaged_is_refused(tmp_path):
    import datasets

    part = datasets.Dataset.from_dict({"text": TEXTS["test"]})
    datasets.DatasetDict({"test": part, "unlabelled": part}).save_to_disk(tmp_path / "c")
    assert "has no train split; it has: test, unlabelled" in refusal(tmp_path / "c")
    (tmp_path / "c" / "dataset_dict.json").write_text("{")
    assert "cannot be read as a folder saved by datasets" in refusal(tmp_path / "c")


def test_the_column_of_each_split_is_noted_where_it_is_another(file, tmp_path):
    file("c/train.csv", "n,text\n1,a b\n2,c d\n")
    file("c/dev.csv", "n,sentence\n1,e f\n2,g h\n")
    file("c/test.csv", "n,text\n1,i j\n2,k l\n")
    notes = [note for note in found(tmp_path / "c")[1] if note.startswith("column")]
    assert notes == ["column 'text' of train.csv: \"a b\"", "column 'sentence' of dev.csv: \"e f\""]

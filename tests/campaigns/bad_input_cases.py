"""Bad inputs, drawn from a seed: a case writes its files into a folder and returns the arguments of a command.

`build_originals` writes the sound files of each format; the functions of `KINDS` damage copies of them.
"""

import bz2
import gzip
import json
import lzma
import os
import pickle
import random
import shutil
import string
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
SMALL = ("latent 3", "embedding 4", "decoder.hidden 4", "encoder.hidden 4", "prior.name normal")
SIZE = [word for option in SMALL for word in f"--model.{option}".split()] + ["--max-epochs", "1", "--precision", "fp32"]
CANARY = "canary"  # a file that is there if a payload was run
HUGE = [10**12, 2**31, 2**63, 2**64, 10**30, -1, 0, -(2**63), 1.5, 1e308, 1e-300, float("nan"), float("inf")]
STRANGE = [
    "",
    " ",
    "\0",
    "None",
    "true",
    "{{ 7 * 7 }}",
    "%s%n",
    "{0.__class__}",
    "../../etc/passwd",
    "é" * 300,
    "a" * 9_000,
]
STRANGE += [
    "[]",
    "{}",
    "1e999",
    "-",
    "--",
    "word",
    "/",
    ".",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
]
# Options whose large values ask for long or large work, and those that name code to import.
WORK = {
    "number",
    "max_epochs",
    "max-epochs",
    "max-minutes",
    "samples",
    "seeds",
    "refine",
    "steps",
    "sentences",
    "limit",
}
COMMANDS = "train sample reconstruct interpolate encode decode score evaluate diagnose compare steer describe recipes"
COMMANDS += " complete fill paraphrase blend nearest export"


def build_originals(folder: Path, run: Callable[[list[str]], None]) -> None:
    """Write a sound file of each format and two small models, of text and of series, which `run` trains."""
    import pyarrow
    import pyarrow.parquet

    folder.mkdir(parents=True)
    lines = [f"the {n} sat {place} ." for n in "abcdefgh" for place in ("here", "there", "home", "near")]
    text = ("\n".join(lines) + "\n").encode()
    table = "label,text\n" + "".join(f"{'xy'[i % 2]},{line}\n" for i, line in enumerate(lines))
    records = [{"text": line, "label": "xy"[i % 2], "n": i} for i, line in enumerate(lines)]
    series = [np.sin(np.arange(6 + i % 4)[:, None] / (1 + i)).astype("f4") for i in range(32)]
    words = ["the", "sat", "here", "home", "near", "a"]
    numbers = np.arange(24, dtype="<f4").reshape(6, 4) / 24
    glove = "".join(
        f"{w} {' '.join(f'{x:.3f}' for x in row)}\n" for w, row in zip(words, numbers, strict=True)
    ).encode()
    binary = b"".join(w.encode() + b" " + row.tobytes() + b"\n" for w, row in zip(words, numbers, strict=True))
    contents = {"corpus.txt": text, "text.txt.gz": gzip.compress(text), "text.txt.bz2": bz2.compress(text)}
    contents |= {
        "text.txt.xz": lzma.compress(text),
        "table.csv": table.encode(),
        "list.json": json.dumps(records).encode(),
    }
    contents |= {"table.tsv": table.replace(",", "\t").encode(), "table.csv.gz": gzip.compress(table.encode())}
    contents |= {"records.jsonl": "".join(json.dumps(record) + "\n" for record in records).encode()}
    contents |= {"glove.txt": glove, "words.vec": b"6 4\n" + glove, "words.bin": b"6 4\n" + binary}
    contents |= {"glove.txt.gz": gzip.compress(glove)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), folder / "table.parquet")
    lists = pyarrow.table({"series": [one[:, 0].tolist() for one in series]})
    pyarrow.parquet.write_table(lists, folder / "series.parquet")
    np.save(folder / "series.npy", np.stack([one[:6] for one in series]))
    np.savez(folder / "series.npz", values=np.concatenate(series), lengths=[len(one) for one in series])
    np.save(folder / "z.npy", np.zeros((2, 3)))
    run(["train", str(folder / "corpus.txt"), *SIZE, "--output", str(folder / "model")])
    run(["train", str(folder / "series.npy"), *SIZE, "--output", str(folder / "curves")])
    shutil.copy(folder / "model" / "tokenizer.json", folder / "tokenizer.json")


# -- damage -----------------------------------------------------------------------------------------------------------


def damage(rng: random.Random, content: bytes, most: int = 4) -> bytes:
    """Return the bytes with one to `most` random changes."""
    changes = [_flip, _flip, _truncate, _insert, _delete, _repeat, _zero, _replace_number, _replace_text]
    for _ in range(rng.randint(1, most)):
        content = rng.choice(changes)(rng, content)
    return content


def _flip(rng: random.Random, content: bytes) -> bytes:
    found = bytearray(content or b"\0")
    for _ in range(rng.choice([1, 1, 3, 20])):
        head = rng.random() < 0.3
        found[rng.randrange(min(len(found), 64) if head else len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at, some = (
        rng.randrange(len(content) + 1),
        [rng.randbytes(rng.choice([1, 4, 100])), b"\0" * 8, b'"', b"\n", b"[" * 9],
    )
    return content[:at] + rng.choice(some) + content[at:]


def _delete(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice([1, 4, 50]) :]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at : at + rng.choice([3, 40, 400])] * rng.choice([2, 30]) + content[at:]


def _zero(rng: random.Random, content: bytes) -> bytes:
    at, length = rng.randrange(len(content) + 1), rng.choice([4, 40])
    return content[:at] + rng.choice([b"\0", b"\xff"]) * length + content[at + length :]


def _replace_number(rng: random.Random, content: bytes) -> bytes:
    places = [i for i, byte in enumerate(content) if chr(byte) in string.digits]
    if not places:
        return content
    at = rng.choice(places)
    end = at
    while content[end : end + 1].isdigit():
        end += 1
    return content[:at] + str(rng.choice(HUGE)).encode() + content[end:]


def _replace_text(rng: random.Random, content: bytes) -> bytes:
    parts = content.split(b'"')
    if len(parts) < 3:
        return content
    parts[rng.randrange(len(parts))] = rng.choice(STRANGE).encode("utf-8", "replace")
    return b'"'.join(parts)


def change_json(rng: random.Random, value: object) -> object:
    """Return a JSON value with one random change somewhere inside it."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        if rng.random() < 0.08:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.05:
            return value | {rng.choice(STRANGE): value[key]}
        return value | {key: change_json(rng, value[key])}
    if isinstance(value, list) and value and rng.random() < 0.8:
        at = rng.randrange(len(value))
        return [change_json(rng, item) if i == at else item for i, item in enumerate(value)]
    deep: object = 1
    for _ in range(rng.choice([3, 300])):
        deep = rng.choice([[deep], {"name": deep}])
    return rng.choice([None, True, [], {}, [None], deep, rng.choice(HUGE), rng.choice(HUGE), rng.choice(STRANGE)])


class Payload:
    """What makes the canary when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


def hostile(rng: random.Random, place: Path) -> bytes:
    """Return a file that would run code, fill the memory or recurse where it is read trustingly."""
    canary = str(place / CANARY)
    deep = rng.choice([b"[", b'{"a":']) * rng.choice([1_000, 100_000])
    header = b'{"w":{"dtype":"F32","shape":[100000,25000],"data_offsets":[0,10000000000]}}'
    array = {"descr": "<f8", "fortran_order": False, "shape": (10**9, rng.choice([3, 10**9]))}
    head = f"{array}".encode().ljust(117) + b"\n"
    pickled = pickle.dumps(Payload(place / CANARY), protocol=rng.choice([0, 2, 4]))
    objects = rng.choice(
        [pickled, b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"]
    )
    return rng.choice(
        [
            pickled,
            objects.ljust(128) + pickled,
            deep,
            struct.pack("<Q", rng.choice([2**63, 10**10, len(header)])) + header,
            b"\x93NUMPY\x01\x00v\x00" + head,
            b"10000000000 65536\nthe " + rng.randbytes(64),
            b"1 99999999999\nthe 1 2 3\n",
            f"{{{{ cycler.__init__.__globals__.os.mkdir('{canary}') }}}}\n".encode() * 9,
            f"!!python/object/apply:os.mkdir ['{canary}']\n".encode(),
            gzip.compress(b"\0" * rng.choice([10**6, 10**8]), 1),
            rng.randbytes(rng.choice([1, 8, 100, 5_000])),
            b"",
        ]
    )


DTYPES = ["f8", "f4", "f2", ">f8", "c16", "i8", "u1", "?", "U5", "S5", "O", "M8[s]", "m8[s]", "V8", "record"]

# -- the kinds --------------------------------------------------------------------------------------------------------

TEXTS = "corpus.txt text.txt.gz text.txt.bz2 text.txt.xz table.csv table.tsv table.csv.gz list.json records.jsonl"
TEXTS += " table.parquet"
SERIES = "series.npy series.npz series.parquet"
READ_BY = {"glove.txt": "--embeddings", "words.vec": "--embeddings", "words.bin": "--embeddings"}
READ_BY |= {"glove.txt.gz": "--embeddings", "tokenizer.json": "--tokenizer"}


def make_corpus(rng: random.Random, place: Path, originals: Path) -> list[str]:
    """Damage a corpus, a file of word vectors or a tokenizer."""
    name = rng.choice([*TEXTS.split(), *TEXTS.split(), *SERIES.split(), *READ_BY])
    content = (originals / name).read_bytes()
    if name.endswith(".json") and rng.random() < 0.6:
        content = json.dumps(change_json(rng, json.loads(content))).encode()
    elif name.endswith(".gz") and rng.random() < 0.5:
        content = gzip.compress(damage(rng, gzip.decompress(content)))
    else:
        content = damage(rng, content) if rng.random() < 0.85 else hostile(rng, place)
    bad = place / (name if rng.random() < 0.9 else rng.choice([*TEXTS.split(), *SERIES.split()]))
    bad.write_bytes(content)
    if name in READ_BY:
        return ["train", str(originals / "corpus.txt"), *SIZE, READ_BY[name], str(bad), "--output", "out"]
    model = str(originals / ("curves" if name in SERIES.split() else "model"))
    column = rng.choice([[], [], ["--column", rng.choice(["text", "label", "n", "series", "nothing", ""])]])
    use = rng.choice(
        [
            ["train", str(bad), *SIZE, "--output", "out"],
            ["encode", model, str(bad), "--output", rng.choice(["z.npy", "z.csv", "z.parquet"])],
            ["reconstruct", model, str(bad)],
            ["score", model, str(bad), "--samples", "2"],
            ["evaluate", model, str(bad), "--samples", "2", "--refine", "0"],
        ]
    )
    return use + column


def make_config(rng: random.Random, place: Path, originals: Path) -> list[str]:
    """Damage a recipe."""
    recipe = rng.choice(sorted((ROOT / "configs").glob("*.toml"))).read_text()
    lines = recipe.splitlines()
    places = [i for i, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    for at in rng.sample(places, min(len(places), rng.randint(1, 3))):
        name = lines[at].partition("=")[0]
        value = rng.choice([*HUGE, *HUGE, *STRANGE, [1, 2], [], ["x"], [[["x"]]], True])
        toml = (
            "{ a = 1 }" if rng.random() < 0.05 else json.dumps(value).replace("NaN", "nan").replace("Infinity", "inf")
        )
        unknown = [f"{name.strip()}x = 1", lines[at] + "\n" + lines[at], "[model.priors]\n" + lines[at]]
        lines[at] = rng.choice(unknown) if rng.random() < 0.15 else f"{name}= {toml}"
    content = "\n".join(lines).encode("utf-8", "replace")
    (place / "recipe.toml").write_bytes(damage(rng, content) if rng.random() < 0.15 else content)
    corpus = str(originals / rng.choice(["corpus.txt", "corpus.txt", "corpus.txt", "series.npy"]))
    few = ["--max-epochs", "1", "--precision", "fp32"]
    return ["train", corpus, "--config", "recipe.toml", *rng.choice([few, [*SIZE[:8], *few]]), "--output", "out"]


def make_folder(rng: random.Random, place: Path, originals: Path) -> list[str]:
    """Damage a model folder."""
    kind = rng.choice(["model", "model", "model", "curves"])
    folder = place / "bad"
    shutil.copytree(originals / kind, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    needed = [path for path in files if path.name in ("config.json", "model.safetensors", "tokenizer.json")]
    for _ in range(rng.choice([1, 1, 2])):
        _harm(rng, place, rng.choice(needed if rng.random() < 0.8 else files), files)
    if rng.random() < 0.2:
        name = rng.choice(["__init__", "seqvae", "json", "config", "tokenizers", "modeling", "sitecustomize"])
        (folder / f"{name}.py").write_text(f"import os\nos.mkdir({str(place / CANARY)!r})\n")
    corpus = str(originals / ("series.npy" if kind == "curves" else "corpus.txt"))
    return rng.choice(
        [
            ["describe", "bad"],
            ["describe", "bad"],
            ["sample", "bad", "-n", "2"],
            ["encode", "bad", corpus, "--output", "z.npy"],
            ["decode", "bad", str(originals / "z.npy")],
            ["reconstruct", "bad", corpus],
            ["score", "bad", corpus, "--samples", "2"],
            ["evaluate", "bad", corpus, "--samples", "2", "--refine", "0"],
            ["train", corpus, "--init", "bad", "--max-epochs", "1", "--precision", "fp32", "--output", "out"],
            ["train", "--resume", "--output", "bad", "--max-epochs", "1"],
        ]
    )


def _harm(rng: random.Random, place: Path, path: Path, files: list[Path]) -> None:
    if not path.is_file() or path.is_symlink():
        return
    content = path.read_bytes()
    how = rng.choice(
        ["damage", "damage", "empty", "swap", "hostile", "json", "json", "header", "link", "gone", "folder"]
    )
    if how == "json" and path.suffix == ".json":
        with suppress(ValueError, RecursionError):  # damaged before
            path.write_text(json.dumps(change_json(rng, json.loads(content))))
    elif how == "header" and path.suffix == ".safetensors":
        path.write_bytes(_change_header(rng, content))
    elif how == "swap" and (other := rng.choice(files)).is_file():
        path.write_bytes(other.read_bytes())
    elif how in ("link", "gone", "folder"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "link":
            path.symlink_to(
                rng.choice([path.name, "/dev/zero", "/proc/self/mem", "/nowhere", "..", str(place), "/dev/null"])
            )
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(hostile(rng, place) if how == "hostile" else damage(rng, content))


def _change_header(rng: random.Random, content: bytes) -> bytes:
    """Change the header of a .safetensors file: its length, or the type, shape or place of a tensor."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
    except (struct.error, ValueError, RecursionError):
        return damage(rng, content)
    if rng.random() < 0.3:
        return struct.pack("<Q", rng.choice([0, 1, length - 1, length + 1, 10**8, 10**10, 2**63])) + content[8:]
    names = [name for name, value in dict(header).items() if isinstance(value, dict) and name != "__metadata__"]
    if not names:
        return damage(rng, content)
    one = header[rng.choice(names)]
    if rng.random() < 0.4:
        one["dtype"] = rng.choice(["F64", "F16", "BF16", "I8", "I64", "BOOL", "F8_E4M3", "PICKLE", ""])
    else:
        header[rng.choice(names)] = change_json(rng, one)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def make_array(rng: random.Random, place: Path, originals: Path) -> list[str]:
    """Make an array that is no point of the latent space, or no series."""
    shape = rng.choice(
        [(), (0,), (3,), (0, 3), (2, 3), (2, 3), (2, 3), (2, 5), (2, 0), (4, 6, 1), (4, 6, 2), (1, 2, 3, 4)]
    )
    values = np.random.default_rng(rng.randrange(2**32)).normal(size=shape) * rng.choice([1, 1e10, 1e38, 1e300])
    kind = rng.choice(DTYPES)
    with np.errstate(all="ignore"):
        if kind == "record":
            array = np.zeros(shape, dtype=[("z", "f4"), ("w", "U3")])
        elif kind in ("M8[s]", "m8[s]", "V8"):
            array = np.zeros(shape, dtype=kind)
        else:
            array = np.asarray(values).astype(kind)
    if array.dtype.kind == "f" and array.size and rng.random() < 0.5:
        array.flat[rng.randrange(array.size)] = rng.choice([np.nan, np.inf, -np.inf, -0.0, 1e-40])
    name = rng.choice(["bad.npy", "bad.npy", "bad.npz"])
    if name.endswith("npz"):
        names = rng.choice([["values", "lengths"], ["values"], ["a", "b"], ["arr_0"], ["lengths"]])
        np.savez(place / name, **{one: rng.choice([array, np.array([6, 6]), np.array(10**15)]) for one in names})
    else:
        np.save(place / name, array, allow_pickle=True)
    if rng.random() < 0.2:
        (place / name).write_bytes(damage(rng, (place / name).read_bytes()))
    model, curves = str(originals / "model"), str(originals / "curves")
    decode = ["decode", rng.choice([model, curves]), name]
    options = rng.choice([[], ["--beam", "3"], ["--temperature", "1"], ["--json"]])
    train = ["train", name, *SIZE, "--output", "out"]
    encode = ["encode", curves, name, "--output", "z.npy"]
    return rng.choice([decode + options, decode, encode, ["score", curves, name, "--samples", "2"], train])


def make_options(rng: random.Random, place: Path, originals: Path) -> list[str]:
    """Draw a command with wrong values of one to three of its options."""
    from seqvae.cli.shared import app

    command = rng.choice(COMMANDS.split())
    model, corpus = str(originals / "model"), str(originals / "corpus.txt")
    given = {"train": [corpus, *SIZE, "--output", "out"], "encode": [model, corpus], "compare": [model], "recipes": []}
    given |= {"decode": [model, str(originals / "z.npy")], "reconstruct": [model, corpus], "score": [model, corpus]}
    given |= {"complete": [model, "the a"], "fill": [model, "the ___ sat"], "paraphrase": [model, "the a sat here ."]}
    given |= {"blend": [model, "the a sat", "the b sat"], "nearest": [model, "the a sat"]}
    given |= {"steer": [model, "the a sat", "--label-column", "label", "--attribute", "x", "--corpus", corpus]}
    arguments = [command, *given.get(command, [model])]
    options = [a for a in app[command].assemble_argument_collection() if a.names and a.names[0].startswith("--")]
    for argument in rng.sample(options, min(len(options), rng.randint(1, 3))):
        name = argument.names[0]
        if name in ("--part", "--help", "--version") or "PICKLE" in name:
            continue
        if name.startswith(("--model.", "--objective.")):
            name += rng.choice(["", ".name", ".hidden", ".rate", ".steps", ".end", ".nothing"])
        numbers = HUGE[4:] if name.removeprefix("--") in WORK else HUGE
        value = str(rng.choice([*numbers, *numbers, *STRANGE, corpus, model]))
        arguments += [f"{name}={value}"] if rng.random() < 0.8 else [name, value]
    if rng.random() < 0.1:
        arguments.insert(rng.randrange(1, len(arguments) + 1), rng.choice(STRANGE))
    return arguments


KINDS: dict[str, Callable[[random.Random, Path, Path], list[str]]] = {
    "corpora": make_corpus,
    "configs": make_config,
    "folders": make_folder,
    "arrays": make_array,
    "options": make_options,
}

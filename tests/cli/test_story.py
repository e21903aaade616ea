"""The main job from end to end, through the commands: train, be killed, resume, evaluate, generate."""

import html
import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from seqvae.cli import main
from seqvae.errors import CheckpointError
from seqvae.text_vae import TextVAE

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, str(ROOT / "train.py")]
SEQVAE = [sys.executable, "-c", "from seqvae.cli import main; main()"]


def words(text):
    return text.split()


SIZE = words(
    "--model.latent 6 --model.embedding 16 --model.encoder.hidden 16 --model.decoder.hidden 16 --model.noise.rate 0.6 "
    "--objective.weight.end 0.1 --batch-size 16 --precision fp32"
)
SMALL = [
    *SIZE,
    *words("--objective.weight.steps 1500 --learning-rate 0.02 --warmup 5 --max-epochs 24 --validate-every 40"),
]
KEYS = words(
    "sentences tokens samples reconstruction reconstruction_standard_error kl elbo nll nll_standard_error perplexity "
    "perplexity_elbo perplexity_token bits_per_byte bits_per_character effective_sample_size mixture_gain "
    "mutual_information_lower mutual_information_upper marginal_kl_upper holes decoder_entropy_prior active_units "
    "permuted_nll_increase inference_gap inference_gap_standard_error"
)


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def start(command, *arguments, **options):
    """A process that heeds Ctrl-C even where whoever runs the tests does not."""
    options |= {"text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment()}
    heed = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    return subprocess.Popen([*command, *map(str, arguments)], preexec_fn=heed, **options)


def wait_for(process, holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end, "the run came to nothing"
        time.sleep(0.005)


def lines(folder):
    """The lines of metrics.jsonl without times."""
    path = folder / "metrics.jsonl"
    found = map(json.loads, path.read_text().split("\n")[:-1] if path.exists() else [])  # not one that is being written
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in found]


def weights(folder):
    """The bits of each tensor. The file as a whole may differ: safetensors writes its notes in any order."""
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(folder / "model.safetensors").items()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    subjects = ["the cat", "the dog", "a bird", "one child", "my aunt", "the old man"]
    verbs, places = ["sat", "ran", "ate", "slept", "sang"], ["here", "there", "at home", "in a garden", "by the sea"]
    path = tmp_path_factory.mktemp("story") / "small.txt"
    path.write_text("\n".join(" ".join(words) + " ." for words in itertools.product(subjects, verbs, places)) + "\n")
    return path


@pytest.fixture(scope="module")
def model(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "run"
    main(["train", str(corpus), *SMALL, "--output", str(folder)])
    return folder


@pytest.fixture
def seqvae(capsys):
    """Run a command in this process; what it printed, as lines. Nothing but progress may go to standard error."""

    def run(*arguments):
        capsys.readouterr()
        main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert not err
        return out.splitlines()

    return run


def test_a_killed_run_that_is_resumed_equals_the_uninterrupted_one_bit_for_bit(corpus, model, tmp_path):
    folder = tmp_path / "killed"
    killed = start(TRAIN, corpus, *SMALL, "--output", folder)
    wait_for(killed, (folder / "resume" / "state.pt").exists)
    before = len(lines(folder))
    wait_for(killed, lambda: len(lines(folder)) > before + 1)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert len(lines(folder)) < len(lines(model))

    resumed = start(SEQVAE, "train", "--resume", "--output", folder)
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert weights(folder) == weights(model)
    assert lines(folder) == lines(model)
    assert "step" in err and "validation" in err
    assert "validation" not in out and f"model folder: {folder}" in out


def test_ctrl_c_ends_cleanly_and_the_best_model_can_be_used(corpus, tmp_path, seqvae):
    folder = tmp_path / "stopped"
    stopped = start(TRAIN, corpus, *SMALL, "--max-minutes", 5, "--patience", 0, "--output", folder)
    wait_for(stopped, (folder / "resume" / "state.pt").exists)
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate()
    assert stopped.returncode == 0, err
    assert "Traceback" not in err
    assert "Scores of 8 held-out sentences" in out
    last = lines(folder)[-1]
    assert last["kind"] == "valid" and last["step"] < 216
    assert len(seqvae("sample", folder, "-n", 2)) == 2


def test_sigterm_saves_the_state_and_the_training_goes_on_from_it(corpus, model, tmp_path):
    folder = tmp_path / "terminated"
    stopped = start(TRAIN, corpus, *SMALL, "--output", folder)
    wait_for(stopped, (folder / "resume" / "state.pt").exists)
    stopped.send_signal(signal.SIGTERM)
    out, err = stopped.communicate()
    assert stopped.returncode == 143, err
    assert "Scores" not in out and err.splitlines()[-1].startswith("seqvae: terminated") and "Traceback" not in err
    resumed = start(SEQVAE, "train", "--resume", "--output", folder)
    _, err = resumed.communicate()
    assert resumed.returncode == 0, err
    assert weights(folder) == weights(model) and lines(folder) == lines(model)


def test_a_training_ends_with_what_the_model_can_do_and_a_second_one_does_not_overwrite_it(
    corpus, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    for _ in range(2):
        main(["train", str(corpus), *SIZE, "--max-epochs", "1"])
    out, err = capsys.readouterr()
    titles = [line for line in out.splitlines() if line and not line.startswith(" ")]
    assert [title.split("(")[0].split(":")[0].strip() for title in titles] == 2 * [
        "Samples from the prior",
        "Reconstructions of held-out sentences",
        *2 * ["Interpolation between two held-out sentences in 7 steps"],
        "Scores of 8 held-out sentences",
        "diagnosis",
        "model folder",
        "try next",
    ]
    assert [line.split()[:2] for line in out.splitlines()[-3:]] == [
        ["seqvae", command] for command in ("sample", "interpolate", "explore")
    ]
    assert err.count("134 train, 8 valid, 8 test sentences") == 2
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["small-1", "small-2"]


def test_a_training_writes_a_page_beside_the_model_and_ends_without_one_where_it_cannot(
    corpus, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    main(["train", str(corpus), *SIZE, "--max-epochs", "1", "--output", str(folder)])
    out, err = capsys.readouterr()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "report.html" in out.partition("model folder: ")[2].splitlines()[0] and "no page" not in err
    model = TextVAE.from_pretrained(folder)
    for text in model.sample(10, seed=0):  # with the options that train has stored
        assert html.escape(text) in page and (len(text) > 90 or f"  {text or '(empty)'}" in out.splitlines())

    def refuse(*args, **options):
        raise CheckpointError("cannot write report.html (No space left on device)")

    monkeypatch.setattr("seqvae.reports.page.report.write", refuse)
    main(["train", str(corpus), *SIZE, "--max-epochs", "1", "--output", str(tmp_path / "full")])
    out, err = capsys.readouterr()
    assert err.count("no page was written: cannot write report.html") == 1 and "report.html" not in out
    assert TextVAE.from_pretrained(tmp_path / "full").sample(1)


def test_what_a_training_prints_fits_in_its_columns_and_is_the_same_each_time(corpus, tmp_path, capsys):
    shown = []
    for name in ("one", "two"):
        main(["train", str(corpus), *SIZE, "--max-epochs", "1", "--output", str(tmp_path / name)])
        shown.append(capsys.readouterr().out.partition("\nmodel folder: ")[0].splitlines())
    assert shown[0] == shown[1]
    body = [line for line in shown[0] if line.startswith("  ")]
    scores = body[-4:]
    assert [line.split()[0] for line in scores] == ["-log", "-ELBO", "information", "reconstructed"]
    assert "unigram" in scores[0] and "5-gram" in scores[0] and "another sentence's z costs" in scores[2]
    assert max(map(len, body[:-4])) <= 100 and max(map(len, scores)) <= 110


def test_the_recipe_of_a_run_reproduces_it_bit_for_bit(corpus, tmp_path):
    first, again = tmp_path / "first", tmp_path / "again"
    unusual = ["--max-epochs", "2", "--seed", "3", "--lowercase", "--objective.weight.name", "cyclical"]
    main(["train", str(corpus), *SIZE, *unusual, "--output", str(first)])
    main(["train", str(corpus), "--config", str(first / "recipe.toml"), "--output", str(again)])
    assert weights(again) == weights(first)
    assert lines(again) == lines(first)
    for name in ("tokenizer.json", "recipe.toml"):
        assert (again / name).read_bytes() == (first / name).read_bytes(), name


def test_a_run_does_not_write_into_a_folder_that_holds_something(corpus, model, capsys):
    before = {path: path.stat().st_mtime_ns for path in model.rglob("*")}
    with pytest.raises(SystemExit) as stop:
        main(["train", str(corpus), *SMALL, "--output", str(model)])
    assert stop.value.code == 2 and "not empty" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in model.rglob("*")} == before


def test_evaluate_writes_exactly_the_documented_scores(model, tmp_path, seqvae):
    shown = seqvae("evaluate", model, "--samples", 10, "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(KEYS) <= scores.keys() and all(math.isfinite(scores[name]) for name in KEYS)
    assert set(scores["baselines"]) == {"unigram", "5-gram"} and scores["diagnosis"]["state"]
    assert shown[-1].startswith(f"diagnosis: {scores['diagnosis']['state']}: ")
    assert scores["sentences"] == 8 and scores["samples"] == 10
    assert scores["elbo"] == pytest.approx(-scores["reconstruction"] - scores["kl"])
    names = [line.split()[0] for line in shown if line.startswith("  ") and len(line.split()) > 3]
    assert [name for name in names if name in KEYS] == [name for name in KEYS if not name.endswith("_standard_error")]


def test_evaluate_prints_the_same_scores_as_one_json_object(model, tmp_path, seqvae):
    (line,) = seqvae("evaluate", model, "--samples", 2, "--refine", 0, "--json", "--output", tmp_path / "scores.json")
    assert json.loads(line) == json.loads((tmp_path / "scores.json").read_text())


def test_evaluate_scores_a_file_of_the_user_whole(model, tmp_path, seqvae):
    (tmp_path / "mine.txt").write_text("here sat the cat .\nhere sat the cat .\nby the sea sang my aunt .\n")
    seqvae("evaluate", model, tmp_path / "mine.txt", "--samples", 3, "--output", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["sentences"] == 3


def test_the_training_corpus_is_divided_as_for_training_by_any_name(corpus, model, tmp_path, seqvae, monkeypatch):
    monkeypatch.chdir(corpus.parent)
    for name in (corpus, corpus.name):
        seqvae("evaluate", model, name, "--samples", 2, "--output", tmp_path / "scores.json")
        assert json.loads((tmp_path / "scores.json").read_text())["sentences"] == 8


def test_evaluate_of_other_splits_and_of_a_part_counts_what_it_scored(model, tmp_path, seqvae):
    for options, sentences in ((["--split", "valid"], 8), (["--split", "train", "--limit", 20], 20)):
        seqvae("evaluate", model, *options, "--samples", 2, "--output", tmp_path / "scores.json")
        assert json.loads((tmp_path / "scores.json").read_text())["sentences"] == sentences


def test_samples_repeat_with_their_seed_and_differ_without(model, seqvae):
    first = seqvae("sample", model, "-n", 3, "--seed", 1)
    assert len(first) == 3 and all(first)
    assert seqvae("sample", model, "-n", 3, "--seed", 1) == first
    assert seqvae("sample", model, "-n", 3, "--seed", 2) != first
    assert seqvae("sample", model, "-n", 20) != seqvae("sample", model, "-n", 20)


def test_json_has_text_log_prob_and_tokens_on_each_line(model, seqvae):
    plain = seqvae("sample", model, "-n", 3, "--seed", 1, "--temperature", 0.5)
    generated = [
        json.loads(line) for line in seqvae("sample", model, "-n", 3, "--seed", 1, "--temperature", 0.5, "--json")
    ]
    assert [list(sentence) for sentence in generated] == 3 * [["text", "log_prob", "tokens"]]
    assert [sentence["text"] for sentence in generated] == plain
    assert all(sentence["log_prob"] < 0 and sentence["tokens"] > 1 for sentence in generated)


@pytest.mark.parametrize("option", ["--temperature=0", "--top-k=1", "--top-p=1e-6", "--min-p=1", "--beam=1"])
def test_options_that_leave_one_word_are_greedy(model, seqvae, option):
    vae = TextVAE.from_pretrained(model)
    greedy = vae.decode(vae.sample_prior(4, seed=3))
    assert seqvae("sample", model, "-n", 4, "--seed", 3, option) == greedy


def test_reconstructions_come_from_a_file_and_from_standard_input(corpus, model, seqvae, monkeypatch):
    from_file = seqvae("reconstruct", model, corpus)
    assert len(from_file) == 150 and len(set(from_file)) > 5
    with open(corpus) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert seqvae("reconstruct", model) == from_file
    with open(corpus) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        generated = [json.loads(line) for line in seqvae("reconstruct", model, "-", "--json")]
    assert [sentence["text"] for sentence in generated] == from_file
    assert [sentence["original"] for sentence in generated] == corpus.read_text().splitlines()


def test_an_interpolation_begins_and_ends_with_the_reconstructions(model, seqvae):
    ends = ["the cat sat here .", "my aunt sang by the sea ."]
    path = seqvae("interpolate", model, *ends)
    assert len(path) == 7
    again = TextVAE.from_pretrained(model).reconstruct(ends)
    assert again[0] != again[1]
    assert [path[0], path[-1]] == again
    assert len(seqvae("interpolate", model, *ends, "--steps", 3, "--path", "slerp")) == 3


def test_an_interpolation_without_sentences_is_between_samples_of_the_prior(model, seqvae):
    path = seqvae("interpolate", model, "--seed", 5)
    vae = TextVAE.from_pretrained(model)
    assert [path[0], path[-1]] == vae.decode(vae.sample_prior(2, seed=5))
    assert len(path) == 7 and seqvae("interpolate", model, "--seed", 5) == path
    assert [json.loads(line)["text"] for line in seqvae("interpolate", model, "--seed", 5, "--json")] == path


def test_decoding_what_was_encoded_is_reconstructing(corpus, model, seqvae, tmp_path):
    assert seqvae("encode", model, corpus, "--output", tmp_path / "z.npy") == []
    z = np.load(tmp_path / "z.npy")
    assert z.shape == (150, 6) and z.dtype == np.float32
    assert seqvae("decode", model, tmp_path / "z.npy") == seqvae("reconstruct", model, corpus)


def test_scales_are_positive_and_smaller_than_those_of_the_prior(corpus, model, seqvae, tmp_path):
    seqvae("encode", model, corpus, "--output", tmp_path / "scale.npy", "--scale")
    scale = np.load(tmp_path / "scale.npy")
    assert scale.shape == (150, 6) and (scale > 0).all() and scale.mean() < 1


def test_describe_prints_size_corpus_parts_and_scores(model, seqvae):
    text = "\n".join(seqvae("describe", model))
    parameters = sum(p.numel() for p in TextVAE.from_pretrained(model).model.parameters())
    for fact in (
        "small.txt",
        f"{parameters:,}",
        "6 dimensions",
        "word-dropout: rate 0.6",
        "hidden 16",
        "nll",
        "active_units",
    ):
        assert fact in text, fact


def test_the_card_shows_corpus_scores_and_samples(model):
    card = (model / "README.md").read_text()
    for fact in ("# A sentence VAE of small.txt", "## Samples from the prior", "| nll |", "library_name: seqvae"):
        assert fact in card, fact


def test_a_model_folder_can_be_moved_and_nothing_in_it_but_the_resume_state_is_needed(model, tmp_path, seqvae):
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(model / name, tmp_path / name)
    assert seqvae("sample", tmp_path, "--seed", 0) == seqvae("sample", model, "--seed", 0)


def test_output_that_nobody_reads_any_more_is_no_error(model):
    sample = start(SEQVAE, "sample", model)
    sample.stdout.close()
    assert sample.stderr.read() == ""
    assert sample.wait() == 0


@pytest.mark.slow
def test_two_processes_train_one_model(corpus, tmp_path):
    folder = tmp_path / "two"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    two = start([*torchrun, str(ROOT / "train.py")], corpus, *SMALL, "--output", folder)
    out, err = two.communicate()
    assert two.returncode == 0, err
    assert out.count("Scores of 8 held-out sentences") == 1
    steps = [line["step"] for line in lines(folder) if line["kind"] == "valid"]
    assert steps == sorted(set(steps))
    bounds = [line["elbo"] for line in lines(folder) if line["kind"] == "valid"]
    assert max(bounds) > bounds[0] + 1


# -- diagnosis, labels and texts ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(corpus, tmp_path_factory):
    """Sentences that are not in the corpus, with a label that the verb decides, and one that has no second value."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.csv"
    rows = [f"{line} .,{'loud' if 'sang' in line else 'still'},all" for line in corpus.read_text().splitlines()]
    path.write_text("\n".join(["text,noise,same", *rows]) + "\n")
    return path


def test_evaluate_probes_the_labels_of_a_column(model, labelled, tmp_path, seqvae):
    shown = seqvae(
        "evaluate", model, labelled, "--samples", 2, "--label-column", "noise", "--output", tmp_path / "s.json"
    )
    assert any(line.split()[:1] == ["noise"] for line in shown)
    (probe,) = json.loads((tmp_path / "s.json").read_text())["probes"]
    assert probe["label"] == "noise" and probe["classes"] == 2 and probe["majority"] == pytest.approx(0.8, abs=0.01)
    assert probe["bag_of_words"] == 1


def test_labels_that_cannot_be_predicted_are_refused_before_any_work(model, labelled, refused):
    assert "noise" in refused("evaluate", model, labelled, "--label-column", "topic")  # names what there is
    assert "1 different values" in refused("evaluate", model, labelled, "--label-column", "same")


def test_evaluate_scores_texts_on_request(model, tmp_path, seqvae):
    shown = seqvae("evaluate", model, "--samples", 2, "--text", "--output", tmp_path / "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())["text"]
    assert 0 <= scores["exact_match_mean"] <= 1 and scores["forward_perplexity"] > 1 and scores["samples"] == 1000
    assert any(line.split()[:1] == ["self_bleu_4"] for line in shown)


def test_diagnose_names_the_state_with_its_evidence(model, seqvae):
    text = seqvae("diagnose", model)
    found = json.loads("\n".join(seqvae("diagnose", model, "--json")))
    assert text[0] == found["state"] and [line for line in text if line.startswith("  - ")] == [
        f"  - {line}" for line in found["evidence"]
    ]
    if found["command"]:
        assert found["command"] in "\n".join(text) and str(model / "recipe.toml") in found["command"]


def test_a_training_that_collapses_is_warned_of(corpus, tmp_path, capsys):
    heavy = [word.replace("0.1", "50") for word in SIZE]
    drive = ["--objective.weight.name", "constant", "--max-epochs", "4", "--learning-rate", "0.02"]
    main(["train", str(corpus), *heavy, *drive, "--output", str(tmp_path / "x")])
    err = capsys.readouterr().err
    assert "warning: collapsed" in err and "seqvae diagnose" in err

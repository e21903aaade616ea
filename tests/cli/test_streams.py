"""Commands write to standard output and error of any encoding, closed or broken, without a traceback."""

import io
import json
import os
import sys

import pytest

from seqvae.cli import main
from seqvae.data.text.tokenizer import Tokenizer
from seqvae.training.checkpoint import Checkpoint

WORDS = ["日本", "élan", "\N{GRINNING FACE}", "москва"]


@pytest.fixture(scope="module")
def folder(small_model, small_config, tmp_path_factory):
    tokenizer = Tokenizer.train([" ".join(WORDS)])
    path = tmp_path_factory.mktemp("streams")
    Checkpoint(small_config(), small_model(vocabulary=len(tokenizer)), tokenizer).save(path)
    return str(path)


@pytest.fixture
def written(monkeypatch):
    """What a command writes to output and error in an encoding."""

    def run(encoding, *arguments):
        streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            main(list(arguments))
        for stream in streams:
            stream.flush()
        return [stream.buffer.getvalue().decode(encoding) for stream in streams]

    return run


SAMPLE = ("sample", "--number", "99", "--seed", "1")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "koi8-r"])
def test_what_an_encoding_cannot_hold_is_escaped_and_one_line_says_how_to_get_it(encoding, folder, written):
    whole, _ = written("utf-8", *SAMPLE, folder)
    assert all(word in whole for word in WORDS)
    out, err = written(encoding, *SAMPLE, folder)
    assert out == whole.encode(encoding, errors="backslashreplace").decode(encoding)
    assert err.count("\n") == 1 and encoding in err and "PYTHONIOENCODING=utf-8" in err


def test_an_encoding_that_holds_all_characters_is_no_matter_for_a_line(folder, written):
    for encoding in ("utf-8", "utf-16"):
        out, err = written(encoding, *SAMPLE, folder)
        assert "日本" in out and "\\" not in out and not err


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_json_says_the_same_in_every_encoding(encoding, folder, written):
    (whole, _), (out, err) = (written(name, *SAMPLE, "--json", folder) for name in ("utf-8", encoding))
    assert [json.loads(line) for line in out.splitlines()] == [json.loads(line) for line in whole.splitlines()]
    assert "日本" in whole and not err


def test_an_error_with_characters_that_cannot_be_written_is_still_an_error_in_one_line(monkeypatch):
    err = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", err)
    with pytest.raises(SystemExit) as stop:
        main(["sample", "日本"])
    err.flush()
    first, second = err.buffer.getvalue().decode().splitlines()
    assert stop.value.code == 2 and "\\u65e5\\u672c" in first and "PYTHONIOENCODING" in second


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdin"], ["stdin", "stdout", "stderr"]], ids="+".join)
def test_closed_streams_leave_no_traceback(closed, folder, monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None if name in closed else getattr(sys, name))
    main([*SAMPLE, folder])
    for name in closed:
        getattr(sys, name).close()


@pytest.mark.parametrize("broken", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids="+".join)
def test_a_pipe_that_nobody_reads_ends_a_command_without_a_traceback(broken, folder, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    pipe = io.TextIOWrapper(open(writer, "wb", buffering=0), encoding="ascii", write_through=True)  # noqa: SIM115
    kept = io.StringIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, pipe if name in broken else kept)
    main([*SAMPLE, folder])
    assert "Traceback" not in kept.getvalue()
    pipe.close()

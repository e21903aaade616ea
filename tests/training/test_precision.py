"""bf16 is chosen where it is faster, and computes what fp32 does."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from seqvae.cli.train import resume_config
from seqvae.config import Config
from seqvae.errors import CorpusError
from seqvae.model.observations.adaptive_softmax import count_padding
from seqvae.model.observations.tokens import Tokens
from seqvae.training import precision, runtime
from seqvae.training.build import resolve_all
from seqvae.training.runs import RESOLVED

BF16 = ("avx512_bw", "avx512_dq", "avx512_vl", "avx512_bf16")
CPU = torch.device("cpu")


@pytest.fixture
def with_bf16(monkeypatch):
    """A processor that reports bf16."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64", **dict.fromkeys(BF16, True)})
    monkeypatch.setattr(precision, "supports_bf16", lambda device: True)


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, "bf16"), (0.74, "bf16"), (0.8, "fp32"), (1.3, "fp32")])
def test_auto_chooses_bf16_only_if_it_is_faster_by_a_quarter_and_says_why(with_bf16, ratio, expected):
    chosen, reason = precision.choose_precision("auto", CPU, lambda: ratio)
    assert chosen == expected
    assert f"{ratio:.2g} times as long" in reason


def test_auto_does_not_measure_where_there_is_no_bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "x86_64"})
    assert precision.choose_precision("auto", CPU, lambda: pytest.fail("it measured"))[0] == "fp32"


@pytest.mark.parametrize("ratio", [0.5, 1.5])
def test_the_choice_is_written_into_the_options(with_bf16, monkeypatch, ratio):
    monkeypatch.setattr(runtime, "measure_bf16", lambda *_: ratio)
    config, line = runtime.decide_precision(Config())
    assert config.training.precision == ("bf16" if ratio < 1 else "fp32")
    assert line.startswith(f"precision {config.training.precision}: ")
    assert runtime.decide_precision(config)[0] == config  # which needs no other measurement


def test_there_is_no_bf16_if_onednn_may_not_use_its_instructions(tmp_path):
    code = "import torch; from seqvae.training.precision import choose_precision"
    code += "; print(choose_precision('auto', torch.device('cpu'))[0])"
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert run.stdout.split() == ["fp32"]


def test_a_run_may_be_resumed_in_another_precision(tmp_path):
    usual = resolve_all(Config())
    half = replace(usual, training=replace(usual.training, precision="bf16", max_epochs=1))
    (tmp_path / RESOLVED).parent.mkdir()
    (tmp_path / RESOLVED).write_text(json.dumps(half.to_dict()), encoding="utf-8")
    asked = replace(usual, training=replace(usual.training, precision="fp32"))
    assert resume_config(tmp_path, usual, None).training.precision == "bf16"
    assert resume_config(tmp_path, asked, None).training.precision == "fp32"


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The sizes of each measurement, with an empty cache."""
    calls = []
    monkeypatch.setattr(precision, "measure_ratio", lambda **sizes: calls.append(sizes) or 0.7)
    monkeypatch.setattr(precision, "get_cache_folder", lambda: tmp_path)
    return calls


def test_a_measurement_is_cached_by_its_sizes(measured):
    assert precision.measure_bf16(Config()) == precision.measure_bf16(Config()) == 0.7
    assert len(measured) == 1
    precision.measure_bf16(replace(Config(), model=replace(Config().model, embedding=64)))
    assert len(measured) == 2


@pytest.mark.parametrize("content", [b"", b"nan", b"-1", b"seven", b"\xff\xfe"])
def test_a_damaged_cache_is_measured_again(measured, tmp_path, content):
    precision.measure_bf16(Config())
    [file] = tmp_path.iterdir()
    file.write_bytes(content)
    assert precision.measure_bf16(Config()) == 0.7
    assert len(measured) == 2


@pytest.mark.parametrize("error", [OSError("read-only"), CorpusError("no cache")])
def test_without_a_cache_it_is_measured_each_time(measured, monkeypatch, error):
    def refuse():
        raise error

    monkeypatch.setattr(precision, "get_cache_folder", refuse)
    assert precision.measure_bf16(Config()) == 0.7
    assert len(measured) == 1


def test_measuring_leaves_the_random_state_unchanged(half):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    assert precision.measure_ratio(sentences=2, embedding=8, hidden=8, vocabulary=30, head_size=10) > 0
    assert torch.equal(torch.rand(2), expected)


def test_rows_in_bf16_are_padded_to_few_sizes_and_by_half_at_most():
    with torch.autocast("cpu", torch.bfloat16):
        sizes = [rows + count_padding(rows, CPU) for rows in range(5000)]
    assert len(set(sizes)) < 20
    assert all(rows <= size <= max(rows + 32, 1.5 * rows) for rows, size in enumerate(sizes))
    assert count_padding(77, CPU) == 0


@pytest.mark.parametrize("head_size", [0, 7])
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 0.03)])
def test_scores_and_their_gradients_are_those_of_the_logits(head_size, bf16, tolerance, request):
    if bf16:
        request.getfixturevalue("half")
    torch.manual_seed(0)
    tokens = Tokens(vocabulary=40, embedding=16, features=12, head_size=head_size)
    features, targets = torch.randn(3, 7, 12), torch.randint(0, 40, (3, 7))
    weights = torch.randn(3, 7)
    expected = tokens.logits(features).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    (expected * weights).sum().backward()
    wanted = {name: p.grad.clone() for name, p in tokens.named_parameters()}
    tokens.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = tokens.log_prob(features, targets)
    (found * weights).sum().backward()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    for name, parameter in tokens.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=tolerance, atol=tolerance)

"""The folder of an export: graphs, tokenizer, labels and an example.

`encoder.onnx` and `greedy.onnx` take a sentence to z and back; `greedy.py` are the few lines of NumPy that do it.
`decoder_start.onnx` and `decoder_step.onnx` are for loops of one's own: sampling, beams, rules.
"""

import io
import json
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seqvae.errors import ConfigError, expand, write_atomically
from seqvae.export.graphs import EncoderGraph, Graph, StartGraph, StepGraph
from seqvae.model.modes import evaluating
from seqvae.text_vae import TextVAE

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # of ONNX, which onnxruntime has read since 1.14
EXAMPLE = """import json
import sys

import numpy as np
import onnxruntime
import tokenizers

if len(sys.argv) < 3:
    sys.exit("expected: python greedy.py FOLDER SENTENCE ...")
max_length = {max_length}
folder, *texts = sys.argv[1:]  # a model conditioned on labels: folder, label, texts
encoder, greedy = (onnxruntime.InferenceSession(f"{{folder}}/{{name}}.onnx") for name in ("encoder", "greedy"))
tokenizer = tokenizers.Tokenizer.from_file(f"{{folder}}/tokenizer.json")
labels = json.load(open(f"{{folder}}/labels.json", encoding="utf-8"))
label = {{"label": np.array([labels.index(texts.pop(0))])}} if labels else {{}}
for text in texts:
    ids = [*tokenizer.encode(text, add_special_tokens=False).ids, 2][:max_length]  # 2 is EOS
    z = encoder.run(["mean"], {{"ids": np.array([ids])}} | label)[0]
    found = greedy.run(["ids"], {{"z": z, "max_length": np.array(max_length)}} | label)[0][0].tolist()
    print({joined})
"""
DECODED = "tokenizer.decode([id for id in found if id != 2], skip_special_tokens=False)"
JOINED = '"".join(tokenizer.id_to_token(id) for id in found if id != 2)'  # of tokens that have their spaces in them


def export_onnx(model: TextVAE, folder: str | Path) -> list[Path]:
    """Write a model of text as ONNX graphs, its tokenizer and labels, and an example into a folder; return the files.

    Raises:
        ConfigError: without the extra `onnx`, and for a language model, a Transformer, or other parts that ONNX cannot
            express.
    """
    check_exportable(model)
    folder = expand(folder)
    longest = model.config.data.max_length
    graphs = trace(model)
    from seqvae.export.loop import build_greedy

    graphs["greedy"] = build_greedy(graphs["decoder_start"], graphs["decoder_step"])
    files = {f"{name}.onnx": graph.SerializeToString() for name, graph in graphs.items()}
    joined = JOINED if model.tokenizer.kind in ("char", "regex") else DECODED
    texts = {
        "tokenizer.json": model.tokenizer.to_json(),
        "labels.json": json.dumps(list(model.labels or []), ensure_ascii=False) + "\n",
        "greedy.py": EXAMPLE.format(max_length=longest, joined=joined),
    }
    for name, content in (files | {name: text.encode() for name, text in texts.items()}).items():
        try:
            write_atomically(folder / name, _make_writer(content))
        except OSError as error:
            raise ConfigError(f"{folder / name} cannot be written: {error.strerror}") from None
    return [folder / name for name in (*files, *texts)]


def check_exportable(model: Any) -> None:
    """Raise a `ConfigError` for a model that cannot be exported, or without the packages that do it."""
    if not isinstance(model, TextVAE):
        raise ConfigError("a model of series cannot be exported to ONNX: expected one of text")
    if not model.model.has_latent:
        raise ConfigError("a model of kind lm cannot be exported to ONNX: expected a VAE")
    if (name := model.config.model.decoder["name"]) != "recurrent":
        raise ConfigError(f"a decoder of kind {name} cannot be exported to ONNX: expected a recurrent one")
    try:
        import_module("onnx")
    except ImportError:
        raise ConfigError("an export to ONNX needs the package onnx: pip install 'seqvae[onnx]'") from None


def trace(model: TextVAE) -> dict[str, "ModelProto"]:
    """Trace the encoder, the decoder's first step and any other step, with batches and sentences of any size."""
    vae = model.model
    device = next(vae.parameters()).device
    ids = torch.tensor([[len(model.tokenizer) - 1, 3, 2]] * 2, device=device)
    z = torch.zeros(2, vae.latent, device=device)
    label, label_name = ([torch.zeros_like(ids[:, 0])], ["label"]) if model.labels else ([], [])
    with evaluating(vae):
        state = StartGraph(vae)(z, *label)[1:]
        moments = ["mean", "stddev"][: len(EncoderGraph(vae)(ids, *label))]
        states, new = [f"state_{i}" for i in range(len(state))], [f"new_state_{i}" for i in range(len(state))]
        arguments: dict[str, tuple[Graph, tuple[Tensor, ...], list[str], list[str]]] = {
            "encoder": (EncoderGraph(vae), (ids, *label), ["ids", *label_name], moments),
            "decoder_start": (StartGraph(vae), (z, *label), ["z", *label_name], ["log_prob", *states]),
            "decoder_step": (
                StepGraph(vae),
                (ids[:, 0], z, *label, *state),
                ["token", "z", *label_name, *states],
                ["log_prob", *new],
            ),
        }
        return {name: _trace_graph(name, *given) for name, given in arguments.items()}


def _trace_graph(
    name: str, graph: Graph, inputs: tuple[Tensor, ...], names: list[str], results: list[str]
) -> "ModelProto":
    """Trace one graph."""
    import onnx

    axes = {one: {0: "batch"} for one in (*names, *results)}
    if "ids" in axes:
        axes["ids"][1] = "length"
    written = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(),
                inputs,
                written,  # type: ignore[arg-type]  # a file is as good as a path
                input_names=names,
                output_names=results,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{name} of this model cannot be exported to ONNX: {reason}") from None
    return onnx.load_from_string(written.getvalue())


def _make_writer(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)

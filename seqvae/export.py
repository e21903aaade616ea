"""Export to ONNX: a model of text as three graphs and a tokenizer, which run without torch and without this package.

The folder has `encoder.onnx`, `decoder_start.onnx`, `decoder_step.onnx`, `tokenizer.json` and `greedy.py`, the few
lines of NumPy that reconstruct a sentence with them. The loop over tokens is Python's: graphs stay small and readable.
"""

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqvae.data.batch import START
from seqvae.errors import ConfigError, expand, write_atomically
from seqvae.model.distributions import get_gaussian_parameters
from seqvae.model.modes import evaluating
from seqvae.model.vae import SequenceVAE
from seqvae.text_vae import TextVAE

OPSET = 18  # of ONNX, which onnxruntime has read since 1.14
EXAMPLE = """import sys

import numpy as np
import onnxruntime
import tokenizers

folder, text, max_length = sys.argv[1], sys.argv[2], {max_length}
encoder, start, step = (
    onnxruntime.InferenceSession(f"{{folder}}/{{name}}.onnx") for name in ("encoder", "decoder_start", "decoder_step")
)
tokenizer = tokenizers.Tokenizer.from_file(f"{{folder}}/tokenizer.json")
ids = [*tokenizer.encode(text, add_special_tokens=False).ids, 2][:max_length]  # 2 is EOS
z = encoder.run(["mean"], {{"ids": np.array([ids])}})[0]
log_prob, *state = start.run(None, {{"z": z}})
found = []
while len(found) < max_length:
    log_prob[:, [0, 1, 3]] = -np.inf  # padding, BOS and the unknown word are never generated
    found.append(int(log_prob.argmax()))
    if found[-1] == 2:
        break
    names = [one.name for one in step.get_inputs()]
    log_prob, *state = step.run(None, dict(zip(names, [np.array(found[-1:]), z, *state], strict=True)))
print(*(tokenizer.id_to_token(id) for id in found if id != 2))
"""


class EncoderGraph(nn.Module):
    """Ids (B, T) of sentences of one length -> mean and standard deviation (B, D) of q(z|x), or its mode alone."""

    def __init__(self, model: SequenceVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> tuple[Tensor, ...]:
        """Encode sentences without padding."""
        encoder = self.model.encoder
        h = encoder.encode_embeddings(encoder.embed(ids), torch.full_like(ids[:, 0], ids.shape[1]))
        q = self.model.posterior(h)
        return get_gaussian_parameters(q) or (q.mode,)


class StartGraph(nn.Module):
    """z (B, D) -> log p of the first token (B, V), and the state of the decoder."""

    def __init__(self, model: SequenceVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        """Feed BOS to the decoder."""
        features, state = self.model.decode_step(torch.full_like(z[:, 0], START, dtype=torch.long), z)
        return (self.model.observation.logits(features).log_softmax(-1), *state)  # type: ignore[operator]


class StepGraph(nn.Module):
    """The last token (B,), z (B, D) and the state -> log p of the next token (B, V), and the new state."""

    def __init__(self, model: SequenceVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, token: Tensor, z: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Feed one token to the decoder."""
        features, new = self.model.decode_step(token, z, state)
        return (self.model.observation.logits(features).log_softmax(-1), *new)  # type: ignore[operator]


def export_onnx(model: TextVAE, folder: str | Path) -> list[Path]:
    """Write a model of text as ONNX graphs, its tokenizer and an example into a folder; return the files.

    Raises:
        ConfigError: without the extra `onnx`, and for a language model, a model conditioned on labels, a Transformer,
            or other parts that ONNX cannot express.
    """
    check_exportable(model)
    folder = expand(folder)
    vae = model.model
    device = next(vae.parameters()).device
    ids = torch.tensor([[5, 4, 2]] * 2, device=device) if len(model.tokenizer) > 5 else torch.tensor([[4, 2]] * 2)
    z = torch.zeros(2, vae.latent, device=device)
    with evaluating(vae):
        state = StartGraph(vae)(z)[1:]
        moments = ["mean", "stddev"][: len(EncoderGraph(vae)(ids))]
        states, new = [f"state_{i}" for i in range(len(state))], [f"new_state_{i}" for i in range(len(state))]
        graphs: list[tuple[str, nn.Module, tuple[Tensor, ...], list[str], list[str]]] = [
            ("encoder", EncoderGraph(vae), (ids,), ["ids"], moments),
            ("decoder_start", StartGraph(vae), (z,), ["z"], ["log_prob", *states]),
            ("decoder_step", StepGraph(vae), (ids[:, 0], z, *state), ["token", "z", *states], ["log_prob", *new]),
        ]
        files = [_write_graph(folder / f"{name}.onnx", *graph) for name, *graph in graphs]  # type: ignore[arg-type]
    example = EXAMPLE.format(max_length=model.config.data.max_length)
    for name, text in (("tokenizer.json", model.tokenizer.to_json()), ("greedy.py", example)):
        try:
            write_atomically(folder / name, _make_writer(text))
        except OSError as error:
            raise ConfigError(f"{folder / name} cannot be written: {error.strerror}") from None
        files.append(folder / name)
    return files


def check_exportable(model: Any) -> None:
    """Raise a `ConfigError` for a model that cannot be exported, or without the packages that do it."""
    if not isinstance(model, TextVAE):
        raise ConfigError("a model of series cannot be exported to ONNX: expected one of text")
    if not model.model.has_latent or model.labels:
        what = "of kind lm" if not model.model.has_latent else "conditioned on labels"
        raise ConfigError(f"a model {what} cannot be exported to ONNX: expected a VAE without labels")
    for place in ("encoder", "decoder"):
        if (name := getattr(model.config.model, place)["name"]) != "recurrent":
            raise ConfigError(f"a {place} of kind {name} cannot be exported to ONNX: expected a recurrent one")
    try:
        import_module("onnx")
    except ImportError:
        raise ConfigError("an export to ONNX needs the package onnx: pip install 'seqvae[onnx]'") from None


def _write_graph(
    path: Path, graph: nn.Module, inputs: tuple[Tensor, ...], names: list[str], results: list[str]
) -> Path:
    """Trace a graph with a batch and a length of any size, and write it."""
    axes = {name: {0: "batch"} for name in (*names, *results)}
    if "ids" in axes:
        axes["ids"][1] = "length"

    def write(beside: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                graph.eval(),
                inputs,
                str(beside),
                input_names=names,
                output_names=results,
                dynamic_axes=axes,
                opset_version=OPSET,
                dynamo=False,
            )

    try:
        write_atomically(path, write)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{path.stem} of this model cannot be exported to ONNX: {reason}") from None
    return path


def _make_writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8")

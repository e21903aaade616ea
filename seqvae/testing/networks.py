"""The laws of encoders and decoders."""

from typing import Any

import torch
from torch import Tensor, nn

from seqvae.model.decoders import Decoder, State
from seqvae.model.encoders import Encoder
from seqvae.testing.laws import (
    EMBEDDING,
    LATENT,
    LENGTHS,
    VOCABULARY,
    Laws,
    check_state,
    crop,
    fix_seed,
    lengthen,
    make_batch,
    make_part,
)


def check_encoder(encoder: Any, *, embedding: int = EMBEDDING) -> None:
    """Check the laws of an encoder: a batch of sentences -> (B, H), one vector each.

    H is its attribute `features`; padding changes nothing, nor do the other sentences of the batch; gradients reach
    every parameter and exactly the embeddings of tokens that occur.

    Args:
        encoder: a class, an instance, or a function of `embed` and `embedding`. An instance gets an embedding here, as
            it gets the model's in a training.
        embedding: E; for an instance, what it was made for.

    Raises:
        AssertionError: with the law that is broken.
    """
    with fix_seed():
        for moved in (False, True):
            embed = nn.Embedding(VOCABULARY, embedding)
            made = make_part(encoder, Encoder, moved, embed=embed, embedding=embedding)
            if isinstance(encoder, nn.Module):
                made.embed = embed.double()
            laws, batch = Laws(made, Encoder), make_batch()
            h = made(batch)
            laws.require(h.shape == (len(LENGTHS), made.features), "returns (B, features)", f"{tuple(h.shape)}")
            laws.finite(h, "its vectors")
            laws.same(made(batch), h, "gives the same vectors each time in evaluation")
            laws.same(made(lengthen(batch)), h, "padding changes nothing, whatever stands in it (`lengths` count)")
            order = torch.tensor([3, 0, 4, 1, 2])
            laws.same(made(batch.select(order)), h[order], "the vectors move with their sentences")
            alone = torch.cat([made(crop(batch.select(torch.tensor([i])))) for i in range(len(LENGTHS))])
            laws.same(alone, h, "each vector depends on its own sentence alone")
            equal = make_batch((4, 4, 4))
            alone = torch.cat([made(equal.select(torch.tensor([i]))) for i in range(3)])
            laws.same(alone, made(equal), "each vector depends on its own sentence alone, at equal lengths too")
            many = make_batch(LENGTHS * 6)
            (made(many) ** 2).sum().backward()
            laws.gradients(made, "its parameters")
            found = made.embed.weight.grad.abs().sum(1).nonzero()[:, 0].tolist()
            laws.require(
                set(found) <= set(many.source[many.mask].tolist()), "padding has no gradient", f"tokens {found}"
            )
            check_state(laws, made, lambda part, batch=batch: part(batch))


def check_decoder(decoder: Any, *, latent: int = LATENT, embedding: int = EMBEDDING) -> None:
    """Check the laws of a decoder: embedded inputs (B, T, E), z (B, D) and a state -> (B, T, features) and a new state.

    Features at a step depend on inputs up to that step alone; step by step from the last state gives what the whole
    sentence gives at once; every tensor of the state has B as its first axis, so that rows can be reordered, repeated
    and dropped; each row depends on its own inputs and z; and z matters at every step.

    Args:
        decoder: a class, an instance, or a function of `embedding` and `latent`.
        latent: D; for an instance, what it was made for.
        embedding: E; likewise.

    Raises:
        AssertionError: with the law that is broken.
    """
    with fix_seed():
        for moved in (False, True):
            made = make_part(decoder, Decoder, moved, embedding=embedding, latent=latent)
            laws = Laws(made, Decoder)
            x, z = torch.randn(4, 6, embedding).double(), torch.randn(4, latent).double()
            whole, state = made(x, z)
            laws.require(whole.shape == (4, 6, made.features), "returns (B, T, features)", f"{tuple(whole.shape)}")
            laws.finite(whole, "its features")
            laws.same(made(x, z)[0], whole, "gives the same features each time in evaluation")
            check_causal(laws, made, x, z, whole)
            check_steps(laws, made, x, z, whole, state)
            alone = torch.cat([made(x[i : i + 1], z[i : i + 1])[0] for i in range(4)])
            laws.same(alone, whole, "each row depends on its own inputs and z alone")
            if moved:
                check_decoder_gradients(laws, made, x, z)
            check_state(laws, made, lambda part, x=x, z=z: part(x, z)[0])


def check_causal(laws: Laws, decoder: Decoder, x: Tensor, z: Tensor, whole: Tensor) -> None:
    """Change the input of each step."""
    for t in range(x.shape[1]):
        changed = x.clone()
        changed[:, t] += 1
        after, _ = decoder(changed, z)
        laws.same(after[:, :t], whole[:, :t], "features depend on inputs up to their step alone")


def check_steps(laws: Laws, decoder: Decoder, x: Tensor, z: Tensor, whole: Tensor, state: State) -> None:
    """Decode step by step, and reorder the rows between two steps."""
    laws.require(
        isinstance(state, tuple) and all(len(part) == len(x) for part in state),
        "the state is a tuple of tensors that have B as their first axis",
    )
    last, steps = None, []
    for t in range(x.shape[1]):
        features, last = decoder(x[:, t : t + 1], z, last)
        steps.append(features)
    laws.same(torch.cat(steps, 1), whole, "step by step from the last state gives the features of the whole sentence")
    order = torch.tensor([2, 2, 0])
    _, middle = decoder(x[:, :3], z)
    after, _ = decoder(x[order, 3:], z[order], tuple(part.index_select(0, order) for part in middle))
    laws.same(after, whole[order, 3:], "rows of the state can be reordered, repeated and dropped")


def check_decoder_gradients(laws: Laws, decoder: Decoder, x: Tensor, z: Tensor) -> None:
    """Gradients reach the parameters, and z at every step."""
    z = z.clone().requires_grad_()
    features, _ = decoder(x, z)
    for t in range(x.shape[1]):
        step = features[:, t].square().sum()
        slope = torch.autograd.grad(step, z, retain_graph=True, allow_unused=True)[0] if step.requires_grad else None
        laws.require(slope is not None and bool(slope.any(1).all()), "z matters at every step", f"not at step {t}")
    features.square().sum().backward()
    laws.gradients(decoder, "every parameter")

"""Decoders: the tokens generated so far, and z -> features of the next token."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seqvae.errors import ConfigError, check_size
from seqvae.model.layers import MAX_LAYERS, Block, CausalBlock, SequenceDropout, check_dropout

State = tuple[Tensor, ...]
MAX_REACH = 4096  # words that convolutions see, which each step keeps


def append_z(x: Tensor, z: Tensor) -> Tensor:
    """Concatenate z (B, D) to the features of each step, (B, T, F) -> (B, T, F + D)."""
    return torch.cat([x, z[:, None].expand(-1, x.shape[1], -1).to(x.dtype)], dim=-1)


class Decoder(nn.Module, ABC):
    """A module of one method, for training (all steps at once) and generation (one step, from the last state).

    Attributes:
        features: the size of the vector that it returns for each step.
    """

    features: int

    @abstractmethod
    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map embedded inputs (B, T, E), z (B, D) and the last state to features (B, T, features) and the new state.

        Features at step t depend on inputs up to t alone. Every tensor of the state has B as its first axis, so that
        rows can be reordered, repeated and dropped.
        """


class RecurrentDecoder(Decoder):
    """An LSTM or GRU that is conditioned on z in up to four ways.

    Args:
        embedding: E.
        latent: D.
        cell: `lstm` or `gru`.
        hidden: units of each layer.
        layers: number of stacked layers.
        initial_state: z gives the initial state, h0 = tanh(W z) (and c0 = W' z).
        every_step: z is concatenated to the embedding at each step.
        every_layer: z is concatenated to the input of each layer at each step, that of the first one too.
        skip: z is concatenated to the output features (Dieng et al., Avoiding Latent Variable Collapse with Generative
            Skip Models, 2019, https://arxiv.org/abs/1807.04863).
        scale: z scales each feature of embeddings and outputs, x * (1 + W z), W = 0 at first (the multiplicative half
            of Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, 2018,
            https://arxiv.org/abs/1709.07871; the other half is what `every_step` and `skip` add).
        dropout: probability of dropping features of embeddings and outputs, and of what passes between layers; never
            of z.
        output_dropout: probability of dropping features of the outputs; none = `dropout`.
        weight_dropout: probability of zeroing hidden-to-hidden weights throughout a pass in training, the others scaled
            up (DropConnect; Merity et al., Regularizing and Optimizing LSTM Language Models, 2018,
            https://arxiv.org/abs/1708.02182).
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embedding: int,
        latent: int,
        cell: Literal["lstm", "gru"] = "lstm",
        hidden: int = 256,
        layers: int = 1,
        initial_state: bool = True,
        every_step: bool = True,
        every_layer: bool = False,
        skip: bool = True,
        scale: bool = False,
        dropout: float = 0.3,
        output_dropout: float | None = None,
        weight_dropout: float = 0.0,
        locked: bool = True,
    ) -> None:
        super().__init__()
        if not (initial_state or every_step or every_layer or skip or scale):
            options = "initial_state, every_step and skip, or every_layer or scale"
            raise ConfigError(f"decoder without z: set at least one of {options} to true")
        check_size(hidden=hidden)
        check_size(MAX_LAYERS, layers=layers)
        output_dropout = dropout if output_dropout is None else output_dropout
        check_dropout(dropout=dropout, output_dropout=output_dropout, weight_dropout=weight_dropout)
        rnn = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.every_step, self.skip = every_step or every_layer, skip
        width = embedding + latent * self.every_step
        self.rnn: nn.Module
        if every_layer:
            sizes = [width] + [hidden + latent] * (layers - 1)
            self.rnn = Stack([rnn(size, hidden, batch_first=True) for size in sizes], latent=latent, dropout=dropout)
        else:
            between = dropout if layers > 1 else 0.0
            self.rnn = rnn(width, hidden, num_layers=layers, batch_first=True, dropout=between)
        self.cells, self.layers, self.hidden = 2 if cell == "lstm" else 1, layers, hidden
        self.initial = nn.Linear(latent, self.cells * layers * hidden) if initial_state else None
        self.scale = nn.Linear(latent, embedding + hidden) if scale else None
        if self.scale is not None:
            nn.init.zeros_(self.scale.weight)
            nn.init.zeros_(self.scale.bias)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.output_dropout = SequenceDropout(output_dropout, locked=locked)
        self.weight_dropout = weight_dropout
        self.features = hidden + latent * skip

    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map inputs (B, T, E), z (B, D) and state to features (B, T, features) and new state."""
        x = self.dropout(inputs)
        scales = None if self.scale is None else (1 + self.scale(z)[:, None]).split([x.shape[2], self.hidden], dim=-1)
        if scales is not None:
            x = x * scales[0].to(x.dtype)
        if self.every_step:
            x = append_z(x, z)
        # torch wants layers first: (L, B, H)
        initial = tuple(s.transpose(0, 1).contiguous().to(x.dtype) for s in state or self._initial_state(z))
        arguments = (x, initial if self.cells == 2 else initial[0])
        weights = self._drop_weights()
        outputs, last = torch.func.functional_call(self.rnn, weights, arguments) if weights else self.rnn(*arguments)
        features = self.output_dropout(outputs)
        if scales is not None:
            features = features * scales[1].to(features.dtype)
        if self.skip:
            features = append_z(features, z)
        return features, tuple(s.transpose(0, 1) for s in (last if self.cells == 2 else (last,)))

    def _initial_state(self, z: Tensor) -> State:
        """Map z (B, D) to one (B, L, H) for a GRU, two of them for an LSTM."""
        if self.initial is None:
            return tuple(z.new_zeros(self.cells, z.shape[0], self.layers, self.hidden))
        h, *c = self.initial(z).view(z.shape[0], self.cells, self.layers, self.hidden).unbind(1)
        return (torch.tanh(h), *c)

    def _drop_weights(self) -> dict[str, Tensor]:
        """Return the weights that this pass uses in place of the decoder's own."""
        if not self.training or self.weight_dropout == 0:
            return {}
        weights = self.rnn.named_parameters()
        return {name: F.dropout(w, self.weight_dropout) for name, w in weights if "weight_hh" in name}


class Stack(nn.ModuleList):
    """Single recurrent layers, each with z concatenated to its input; called like torch's stacked ones.

    Args:
        layers: batch-first, the first for inputs of E + D features, the others for H + D.
        latent: D.
        dropout: probability of dropping features of what passes between layers, others at each step.
    """

    def __init__(self, layers: list[nn.Module], *, latent: int, dropout: float) -> None:
        super().__init__(layers)
        self.latent, self.dropout = latent, dropout

    def forward(self, x: Tensor, state: Tensor | State) -> tuple[Tensor, Tensor | State]:
        """Map inputs (B, T, E + D), z last, and states (L, B, H) to outputs (B, T, H) and new states."""
        z, single = x[..., x.shape[-1] - self.latent :], isinstance(state, Tensor)
        states = []
        for i, layer in enumerate(self):
            if i:
                x = torch.cat([F.dropout(x, self.dropout, self.training), z.to(x.dtype)], dim=-1)
            x, new = layer(x, state[i : i + 1] if isinstance(state, Tensor) else tuple(s[i : i + 1] for s in state))
            states.append((new,) if single else new)
        joined = tuple(torch.cat(parts) for parts in zip(*states, strict=True))
        return x, joined[0] if single else joined


class TransformerDecoder(Decoder):
    """A causal Transformer that is conditioned on z in up to three ways; sources in `seqvae.model.layers`.

    Args:
        embedding: E.
        latent: D.
        width: size of the vector of each step, divisible by twice the heads.
        heads: attention heads of each layer.
        hidden: units of each layer's feed-forward block.
        layers: number of stacked layers.
        prefix: z, projected, is put before the first step for all steps to attend to (as the memory of Li et al.,
            Optimus: Organizing Sentences via Pre-trained Modeling of a Latent Space, 2020,
            https://arxiv.org/abs/2004.04092).
        every_step: z is concatenated to the embedding at each step.
        skip: z is concatenated to the output features (Dieng et al. 2019, https://arxiv.org/abs/1807.04863).
        dropout: probability of dropping features of the embeddings and of both residual branches of each layer; never
            of z.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embedding: int,
        latent: int,
        width: int = 256,
        heads: int = 4,
        hidden: int = 512,
        layers: int = 2,
        prefix: bool = True,
        every_step: bool = True,
        skip: bool = True,
        dropout: float = 0.1,
        locked: bool = False,
    ) -> None:
        super().__init__()
        if not (prefix or every_step or skip):
            raise ConfigError("decoder without z: set at least one of prefix, every_step and skip to true")
        check_size(MAX_LAYERS, layers=layers)
        self.enter = nn.Linear(embedding + latent * every_step, width)
        self.prefix = nn.Linear(latent, width) if prefix else None
        self.blocks = nn.ModuleList(
            Block(width, heads=heads, hidden=hidden, dropout=dropout, locked=locked) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.every_step, self.skip = every_step, skip
        self.features = width + latent * skip

    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map inputs (B, T, E), z (B, D) and state to features (B, T, features) and new state.

        The state is the keys and values of each layer, (B, heads, S, W / heads).
        """
        x = self.dropout(inputs)
        steps = x.shape[1]
        x = self.enter(append_z(x, z) if self.every_step else x)
        if self.prefix is not None and state is None:
            x = torch.cat([self.prefix(z)[:, None].to(x.dtype), x], dim=1)
        past = state[0].shape[2] if state else 0
        positions = torch.arange(past + x.shape[1], device=x.device)
        mask = positions <= positions[past:, None]  # (T, S + T)
        new_state: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, mask, (state[2 * i], state[2 * i + 1]) if state else None)
            new_state += cache
        features = self.norm(x[:, -steps:])
        if self.skip:
            features = append_z(features, z)
        return features, tuple(new_state)


class ConvolutionalDecoder(Decoder):
    """Causal convolutions of growing dilation, which see a limited number of words; what lies further back z must tell.

    The `reach` is 1 + (kernel - 1) * (2^layers - 1) words, 15 by default: the smaller, the more is left to z. Source:
    Yang et al., Improved Variational Autoencoders for Text Modeling using Dilated Convolutions, 2017,
    https://arxiv.org/abs/1702.08139, whose smallest decoder has dilations of 1, 2 and 4 too; its blocks are others.

    Attributes:
        reach: the number of words, the last one included, that features depend on.

    Args:
        embedding: E.
        latent: D.
        width: size of the vector of each step.
        hidden: channels of the convolution of each layer.
        kernel: words that each convolution reads.
        layers: number of blocks; the dilation of the first is 1, and each doubles that of the one below.
        every_step: z is concatenated to the embedding at each step.
        skip: z is concatenated to the output features (Dieng et al. 2019, https://arxiv.org/abs/1807.04863).
        dropout: probability of dropping features of embeddings, outputs and the residual branch of each layer; never
            of z.
        locked: drop the same features at every step of a sentence instead of others at each step.
    """

    def __init__(
        self,
        *,
        embedding: int,
        latent: int,
        width: int = 256,
        hidden: int = 512,
        kernel: int = 3,
        layers: int = 3,
        every_step: bool = True,
        skip: bool = True,
        dropout: float = 0.3,
        locked: bool = True,
    ) -> None:
        super().__init__()
        if not (every_step or skip):
            raise ConfigError("decoder without z: set at least one of every_step and skip to true")
        check_size(width=width, hidden=hidden, kernel=kernel)
        check_size(MAX_LAYERS, layers=layers)
        self.reach = 1 + (kernel - 1) * (2**layers - 1)
        if self.reach > MAX_REACH:
            raise ConfigError(
                f"kernel = {kernel} with layers = {layers}: expected them to reach {MAX_REACH:,} words at most, "
                f"1 + (kernel - 1) * (2^layers - 1); write fewer layers or a smaller kernel"
            )
        self.enter = nn.Linear(embedding + latent * every_step, width)
        self.blocks = nn.ModuleList(
            CausalBlock(width, hidden=hidden, kernel=kernel, dilation=2**i, dropout=dropout, locked=locked)
            for i in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.dropout = SequenceDropout(dropout, locked=locked)
        self.every_step, self.skip = every_step, skip
        self.features = width + latent * skip

    def forward(self, inputs: Tensor, z: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Map inputs (B, T, E), z (B, D) and state to features (B, T, features) and new state.

        The state is what the convolution of each layer reads of earlier steps, (B, R, W), R its reach.
        """
        x = self.dropout(inputs)
        x = self.enter(append_z(x, z) if self.every_step else x)
        new_state = []
        for i, block in enumerate(self.blocks):
            x, past = block(x, state[i] if state else None)
            new_state.append(past)
        features = self.dropout(self.norm(x))
        if self.skip:
            features = append_z(features, z)
        return features, tuple(new_state)


DECODERS: dict[str, type[Decoder]] = {
    "recurrent": RecurrentDecoder,
    "transformer": TransformerDecoder,
    "convolutional": ConvolutionalDecoder,
}

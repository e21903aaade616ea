"""Decoding: from points of the latent space to sequences of ids, by sampling or by beam search.

Knows ids only. A sequence ends in `END` if the model said so; one that reached `max_length` first has no `END`. The
padding and the start can never be said, the unknown word only on request.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.errors import ConfigError, TrainingError, check_number, check_whole
from seqvae.model.modes import evaluating
from seqvae.model.observations import Tokens
from seqvae.model.sampling import UNCHANGED, inverse, weights, without
from seqvae.model.vae import SequenceVAE

CELLS, ROWS = 10_000_000, 1024  # logits, and hypotheses, that one call of the model carries at most


@dataclass(frozen=True)
class Decoded:
    """What was said for each of R points.

    Attributes:
        tokens: R lists of ids, each ending in `END` unless it was cut at the maximum length.
        log_prob: (R,) float64, nats: the model's own log p(tokens | z), whatever temperature or filter chose them.
    """

    tokens: list[list[int]]
    log_prob: Tensor


def check_options(
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    beam: int = 0,
    max_length: int = 128,
) -> None:
    """Raise a `ConfigError` if `decode` could not use these options, so that a command can refuse before any work."""
    check_number(temperature=temperature, top_p=top_p, min_p=min_p)
    check_whole(top_k=top_k, beam=beam, max_length=max_length)
    rules = [
        (0 <= temperature < float("inf"), f"temperature must be 0 (greedy) or more and finite, got {temperature}"),
        (top_k >= 0, f"top_k must be 0 (no limit) or a number of tokens, got {top_k}"),
        (0 < top_p <= 1, f"top_p must lie above 0 and at most at 1 (no limit), got {top_p}"),
        (0 <= min_p <= 1, f"min_p must lie between 0 (no limit) and 1, got {min_p}"),
        (beam >= 0, f"beam must be 0 (no beam search) or a number of hypotheses, got {beam}"),
        (max_length >= 1, f"max_length must be at least 1, got {max_length}"),
    ]
    for holds, words in rules:
        if not holds:
            raise ConfigError(words)
    if beam and (temperature, top_k, top_p, min_p) != (1.0, 0, 1.0, 0.0):
        raise ConfigError(
            "beam search draws nothing at random: it cannot be combined with temperature, top_k, top_p or min_p; "
            "leave those out, or leave out beam"
        )


def decode(
    model: SequenceVAE,
    z: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    beam: int = 0,
    max_length: int = 128,
    allow_unknown: bool = False,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Say one sequence for each row of z, by sampling token after token, or by beam search if `beam` is 1 or more.

    All random numbers are drawn before the first token, row by row, so what a row says does not depend on how long the
    others talk nor on how many follow.

    Args:
        model: put in evaluation mode while it speaks, then back.
        z: (R, D), moved to the device and the precision of the model; with a condition (R, D + C), as
            `SequenceVAE.conditioned` makes it.
        temperature: 0 is greedy; see `seqvae.model.sampling` for this and the filters.
        top_k: how many tokens stay at each step; 0 keeps all.
        top_p: the probability that the tokens that stay reach; 1 keeps all.
        min_p: the share of the likeliest token's probability that the others need; 0 keeps all.
        beam: width of the beam search (see `beam_search`); 0 samples.
        max_length: the longest sequence, its `END` included.
        allow_unknown: whether `UNKNOWN` can be said.
        generator: a CPU generator; None draws from the global one.

    Raises:
        ConfigError: for options out of range, or of sampling and beam search together.
    """
    check_options(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, beam=beam, max_length=max_length)
    if beam:
        return beam_search(model, z, beam, max_length=max_length, allow_unknown=allow_unknown)
    z, greedy, size = _points(model, z), temperature == 0, _rows(model)
    u = None if greedy else torch.rand(len(z), max_length, dtype=torch.float64, generator=generator)
    tokens: list[list[int]] = [[] for _ in range(len(z))]
    log_prob = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    with evaluating(model):
        for first in range(0, len(z), size):
            rows = slice(first, first + size)
            noise = None if u is None else u[rows].to(z.device)
            tokens[rows], log_prob[rows] = _say(model, z[rows], noise, max_length, allow_unknown, options)
    return Decoded(tokens, _finite(log_prob))


def _say(
    model: SequenceVAE, z: Tensor, u: Tensor | None, max_length: int, allow_unknown: bool, options: dict
) -> tuple[list[list[int]], Tensor]:
    """Token after token by inverse transform sampling; a row that has ended leaves the batch."""
    said = torch.full((len(z), max_length), PADDING, device=z.device)
    log_prob = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    alive = torch.arange(len(z), device=z.device)
    token, state = torch.full_like(alive, START), None
    for step in range(max_length):
        features, state = model.follow(token, z[alive], state)
        draw = None if u is None else u[alive, step]
        token, gain = _choose(_observed(model), features, draw, _banned(allow_unknown), options)
        said[alive, step] = token
        log_prob[alive] += gain.double()
        going = (token != END).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(alive):
            alive, token, state = alive[going], token[going], tuple(part.index_select(0, going) for part in state)
    return [_trim(row) for row in said.tolist()], log_prob


def _choose(
    observation: Tokens, features: Tensor, u: Tensor | None, banned: list[int], options: dict
) -> tuple[Tensor, Tensor]:
    """(R, features), (R,) or None for the likeliest -> (R,) ids and their log p(x_t | features)."""
    if u is None:
        ids, log_prob = observation.likeliest(features, 1, banned)
        return ids[:, 0], log_prob[:, 0]
    if options == UNCHANGED:
        return observation.draw(features, u, banned)
    logits = observation.logits(features)
    token, _ = inverse(weights(without(logits, banned), **options), u)
    return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)


def _observed(model: SequenceVAE) -> Tokens:
    """What the model says: tokens."""
    assert isinstance(model.observation, Tokens)
    return model.observation


def _rows(model: SequenceVAE) -> int:
    """Hypotheses of a call, so few that logits over a large vocabulary fit in memory."""
    return max(1, min(ROWS, CELLS // model.observation.size))


def _points(model: SequenceVAE, z: Tensor) -> Tensor:
    """z in the precision and on the device of the model."""
    if z.dim() != 2 or z.shape[1] != model.heard:
        behind = " with the vectors of labels behind z" if model.condition is not None else ""
        raise ConfigError(f"z has shape {tuple(z.shape)}; this model needs (rows, {model.heard}){behind}")
    return z.to(next(model.parameters()))


def _banned(allow_unknown: bool) -> list[int]:
    return [PADDING, START] if allow_unknown else [PADDING, START, UNKNOWN]


def _trim(ids: list[int]) -> list[int]:
    return ids[: ids.index(END) + 1] if END in ids else ids


def _finite(log_prob: Tensor) -> Tensor:
    if not log_prob.isfinite().all():
        raise TrainingError("the model's probabilities are not finite: its weights are damaged, or z is not finite")
    return log_prob


def beam_search(
    model: SequenceVAE, z: Tensor, width: int, *, max_length: int = 128, allow_unknown: bool = False
) -> Decoded:
    """The likeliest sequence for each row of z that a beam of `width` hypotheses finds; a beam of 1 is greedy.

    A finished hypothesis keeps its place until `width` likelier ones push it out, and a row stops when its likeliest
    hypothesis is finished, since longer ones can only lose. There is no reward for length: the score is log p(x|z). A
    row in which nothing has finished at `max_length` says its likeliest cut hypothesis.
    """
    check_options(beam=width, max_length=max_length)
    if width < 1:
        raise ConfigError(f"the width of a beam must be at least 1, got {width}")
    z = _points(model, z)
    tokens: list[list[int]] = []
    scores = [torch.zeros(0, dtype=torch.float64, device=z.device)]
    with evaluating(model):
        for part in z.split(max(1, _rows(model) // width)) if len(z) else ():
            said, log_prob = _beam(model, part, width, max_length, allow_unknown)
            tokens += said
            scores.append(log_prob)
    return Decoded(tokens, _finite(torch.cat(scores)))


def _beam(
    model: SequenceVAE, z: Tensor, width: int, max_length: int, allow_unknown: bool
) -> tuple[list[list[int]], Tensor]:
    rows = len(z)
    z = z.repeat_interleave(width, dim=0)  # (R * W, D)
    said = torch.empty(rows, width, 0, dtype=torch.long, device=z.device)
    score = torch.full((rows, width), -torch.inf, dtype=torch.float64, device=z.device)
    score[:, 0] = 0.0
    ended = torch.zeros_like(score, dtype=torch.bool)
    token, state = torch.full((rows * width,), START, device=z.device), None
    for _ in range(max_length):
        features, state = model.follow(token, z, state)
        # Of a hypothesis no more than its `width` likeliest continuations can be among the `width` likeliest of all.
        words, gain = _observed(model).likeliest(features, width, _banned(allow_unknown))
        gain = gain.double().view(rows, width, -1)
        gain = gain.masked_fill(ended[..., None], -torch.inf)
        gain[..., 0].masked_fill_(ended, 0.0)  # a finished hypothesis says nothing more, at no cost
        words = words.view(gain.shape).masked_fill(ended[..., None], PADDING)
        score, best = (score[..., None] + gain).flatten(1).topk(width, dim=1)  # (R, W), likeliest first
        parent, word = best // gain.shape[-1], words.flatten(1).gather(1, best)
        said = torch.cat([said.gather(1, parent[..., None].expand_as(said)), word[..., None]], dim=2)
        ended = ended.gather(1, parent) | (word == END)
        if ended[:, 0].all():
            break
        rank = (parent + torch.arange(rows, device=z.device)[:, None] * width).flatten()
        token, state = word.flatten(), tuple(part.index_select(0, rank) for part in state)
    finished = score.masked_fill(~ended, -torch.inf)
    winner = torch.where(finished.amax(1) > -torch.inf, finished.argmax(1), 0)
    row = torch.arange(rows, device=z.device)
    return [_trim(ids) for ids in said[row, winner].tolist()], score[row, winner]

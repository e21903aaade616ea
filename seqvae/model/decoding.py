"""Decoding: from points of the latent space to sequences of ids, by sampling or by beam search.

It knows ids only. A sequence ends in EOS where the model generated one; one that was truncated at `max_length` has no
EOS. Padding and BOS are never generated, the unknown word only on request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqvae.data.batch import END, PADDING, START, UNKNOWN
from seqvae.errors import ConfigError, TrainingError, check_number, check_whole
from seqvae.model.modes import evaluating
from seqvae.model.observations import Tokens
from seqvae.model.patterns import Rules, allow_words, begin_with
from seqvae.model.sampling import NO_FILTER, ban_tokens, filter_probabilities, invert_cdf
from seqvae.model.search import Hypothesis, search
from seqvae.model.vae import SequenceVAE

WIDEST, LONGEST = 100_000, 1_000_000  # the largest beam, and the longest sequence, that are asked for in earnest
MAX_LOGITS, MAX_ROWS = 10_000_000, 1024  # of one call of the model on a CPU
ALL = slice(None)
GPU_FACTOR = 8  # times as many elsewhere, where a call of few rows leaves most of the device idle


@dataclass(frozen=True)
class GeneratedTokens:
    """Sequences of ids, one for each of N points.

    Attributes:
        tokens: N lists of ids, each ending in EOS unless it was truncated at the maximum length.
        log_prob: (N,) float64, nats: the model's own log p(tokens | z), whatever the temperature and filters.
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
    n_best: int = 1,
    length_penalty: float = 0.0,
    no_repeat: int = 0,
    required: Sequence[Any] = (),
    banned: Sequence[Any] = (),
    max_length: int = 128,
) -> None:
    """Raise a `ConfigError` if `decode` could not use these options, so that a command can refuse before any work."""
    check_number(temperature=temperature, top_p=top_p, min_p=min_p, length_penalty=length_penalty)
    check_whole(top_k=top_k, beam=beam, n_best=n_best, no_repeat=no_repeat, max_length=max_length)
    rules = [
        (0 <= temperature < float("inf"), f"temperature must be 0 (greedy) or more and finite, got {temperature}"),
        (top_k >= 0, f"top_k must be 0 (no limit) or a number of tokens, got {top_k}"),
        (0 < top_p <= 1, f"top_p must be above 0 and at most 1 (no limit), got {top_p}"),
        (0 <= min_p <= 1, f"min_p must be between 0 (no limit) and 1, got {min_p}"),
        (beam >= 0, f"beam must be 0 (no beam search) or a number of hypotheses, got {beam}"),
        (n_best >= 1, f"n_best must be at least 1, got {n_best}"),
        (0 <= length_penalty <= 10, f"length_penalty must be from 0 (none) to 10, such as 1, got {length_penalty}"),
        (no_repeat >= 0, f"no_repeat must be 0 (no limit) or the length of an n-gram, got {no_repeat}"),
        (beam <= WIDEST, f"beam must be at most {WIDEST:,} hypotheses, got {beam}"),
        (max_length >= 1, f"max_length must be at least 1, got {max_length}"),
        (max_length <= LONGEST, f"max_length must be at most {LONGEST:,} tokens, got {max_length}"),
    ]
    for holds, message in rules:
        if not holds:
            raise ConfigError(message)
    if beam and (temperature, top_k, top_p, min_p) != (1.0, 0, 1.0, 0.0):
        raise ConfigError(
            "beam search does not sample: it cannot be combined with temperature, top_k, top_p or min_p; "
            "leave those out, or leave out beam"
        )
    searching = {"n_best": n_best > 1, "length_penalty": length_penalty > 0, "required": bool(required)}
    if not beam and (given := [name for name, used in searching.items() if used]):
        raise ConfigError(f"{given[0]} belongs to a beam search: write a beam too, such as {max(4, n_best)}")
    if beam and n_best > beam:
        raise ConfigError(f"n_best = {n_best} needs a beam of at least as many hypotheses, got {beam}")


def decode(
    model: SequenceVAE,
    z: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    beam: int = 0,
    n_best: int = 1,
    length_penalty: float = 0.0,
    rules: Rules | None = None,
    max_length: int = 128,
    allow_unknown: bool = False,
    generator: torch.Generator | None = None,
    rows: slice = ALL,
) -> GeneratedTokens:
    """Generate a sequence for each row of z, by sampling or, with `beam`, by beam search.

    All random numbers are drawn before the first step, row by row, so that what a row generates depends neither on
    how long the others are nor on how many follow.

    Args:
        model: of tokens; put in evaluation mode during the call.
        z: (N, D), moved to the device and the precision of the model; with a condition (N, D + C), as
            `SequenceVAE.append_condition` returns it.
        temperature: 0 is greedy; see `seqvae.model.sampling` for this and the filters.
        top_k: number of tokens to keep at each step; 0 keeps all.
        top_p: total probability of the tokens to keep; 1 keeps all.
        min_p: the least probability to keep, as a fraction of the largest; 0 keeps all.
        beam: width of the beam search (see `beam_search`); 0 samples.
        n_best: number of sequences that a beam search returns for each row, one after the other, the best first.
        length_penalty: a beam search ranks by log p / length ** this: 0 by log p, 1 by log p per token.
        rules: words that are banned, or required (by beam search only), and n-grams that must not come twice.
        max_length: the longest sequence, its EOS included.
        allow_unknown: whether the unknown word can be generated.
        generator: a CPU generator; None draws from the global one.
        rows: decode only these rows of z, each into what it would be among all.

    Raises:
        ConfigError: for options out of range, or of sampling and beam search together.
    """
    rules = rules or Rules()
    filters: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    wanted: dict[str, Any] = {"n_best": n_best, "length_penalty": length_penalty}
    check_options(**filters, **wanted, beam=beam, required=rules.required, max_length=max_length)
    if beam:
        z = z[rows]
    if beam and (rules != Rules() or n_best > 1 or length_penalty):
        form = begin_with([], allow_words(_get_tokens(model).size, allow_unknown))
        z = _move_points(model, z)
        return _join(search(model, z, form, width=beam, **wanted, rules=rules, max_length=max_length), n_best)
    if beam:
        return beam_search(model, z, beam, max_length=max_length, allow_unknown=allow_unknown)
    z, greedy, size = _move_points(model, z), temperature == 0, _count_rows(model)
    u = None if greedy else torch.rand(len(z), max_length, dtype=torch.float64, generator=generator)[rows]
    z = z[rows]
    tokens: list[list[int]] = [[] for _ in range(len(z))]
    log_prob = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    with evaluating(model):
        for first in range(0, len(z), size):
            rows = slice(first, first + size)
            noise = None if u is None else u[rows].to(z.device)
            tokens[rows], log_prob[rows] = _sample(model, z[rows], noise, max_length, allow_unknown, filters, rules)
    return GeneratedTokens(tokens, _check_finite(log_prob))


def _sample(
    model: SequenceVAE, z: Tensor, u: Tensor | None, max_length: int, allow_unknown: bool, filters: dict, rules: Rules
) -> tuple[list[list[int]], Tensor]:
    """Sample token after token by inverse transform; a row that has ended leaves the batch."""
    generated = torch.full((len(z), max_length), PADDING, device=z.device)
    log_prob = torch.zeros(len(z), dtype=torch.float64, device=z.device)
    alive = torch.arange(len(z), device=z.device)
    token, state = torch.full_like(alive, START), None
    for step in range(max_length):
        features, state = model.decode_step(token, z[alive], state)
        noise = None if u is None else u[alive, step]
        banned = _list_banned(allow_unknown)
        if rules.restricts:
            before = generated[alive, :step].tolist()
            token, gain = _sample_allowed(_get_tokens(model), features, noise, banned, filters, rules, before)
        else:
            token, gain = _sample_token(_get_tokens(model), features, noise, banned, filters)
        generated[alive, step] = token
        log_prob[alive] += gain.double()
        going = (token != END).nonzero()[:, 0]
        if not len(going):
            break
        if len(going) < len(alive):
            alive, token, state = alive[going], token[going], tuple(part.index_select(0, going) for part in state)
    return [_truncate(row) for row in generated.tolist()], log_prob


def _sample_token(
    observation: Tokens, features: Tensor, u: Tensor | None, banned: list[int], filters: dict
) -> tuple[Tensor, Tensor]:
    """Choose an id for each row of features by u (N,), or greedily without u: (N,) ids, and log p of each."""
    if u is None:
        ids, log_prob = observation.topk(features, 1, banned)
        return ids[:, 0], log_prob[:, 0]
    if filters == NO_FILTER:
        return observation.sample(features, u, banned)
    logits = observation.logits(features)
    token, _ = invert_cdf(filter_probabilities(ban_tokens(logits, banned), **filters), u)
    return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)


def _sample_allowed(
    observation: Tokens,
    features: Tensor,
    u: Tensor | None,
    banned: list[int],
    filters: dict,
    rules: Rules,
    before: list[list[int]],
) -> tuple[Tensor, Tensor]:
    """Choose as `_sample_token` does, among the ids that the rules allow each row after those that it has `before`."""
    logits = observation.logits(features)
    allowed = ban_tokens(logits, banned)
    for row, ids in enumerate(before):
        allowed[row, rules.forbid(ids)] = -torch.inf
    if (allowed == -torch.inf).all(1).any():
        raise ConfigError("the banned words leave no word to go on with: ban fewer")
    token = allowed.argmax(-1) if u is None else invert_cdf(filter_probabilities(allowed, **filters), u)[0]
    return token, logits.gather(-1, token[:, None])[:, 0] - logits.logsumexp(-1)


def _join(found: list[list[Hypothesis]], n_best: int) -> GeneratedTokens:
    """Join the hypotheses of all rows, of which each must have `n_best`."""
    fewest = min(map(len, found), default=n_best)
    if fewest < n_best:
        what = "no sentence" if fewest == 0 else f"only {fewest} sentences"
        raise ConfigError(f"{what} can be generated with these words and this beam: require fewer, or widen the beam")
    kept = [one for hypotheses in found for one in hypotheses]
    log_prob = torch.tensor([one.log_prob for one in kept], dtype=torch.float64)
    return GeneratedTokens([list(one.tokens) for one in kept], _check_finite(log_prob))


def beam_search(
    model: SequenceVAE, z: Tensor, width: int, *, max_length: int = 128, allow_unknown: bool = False
) -> GeneratedTokens:
    """Find the most probable sequence of each row of z with a beam of `width` hypotheses; a width of 1 is greedy.

    A finished hypothesis stays in the beam until `width` more probable ones replace it, and a row stops when its most
    probable hypothesis is finished, since longer ones can only lose. There is no length penalty: the score is
    log p(x|z). Where none has finished at `max_length`, the most probable truncated hypothesis is returned.
    """
    check_options(beam=width, max_length=max_length)
    if width < 1:
        raise ConfigError(f"the width of a beam must be at least 1, got {width}")
    z = _move_points(model, z)
    tokens: list[list[int]] = []
    scores = [torch.zeros(0, dtype=torch.float64, device=z.device)]
    with evaluating(model):
        for part in z.split(max(1, _count_rows(model) // width)) if len(z) else ():
            generated, log_prob = _search(model, part, width, max_length, allow_unknown)
            tokens += generated
            scores.append(log_prob)
    return GeneratedTokens(tokens, _check_finite(torch.cat(scores)))


def _search(
    model: SequenceVAE, z: Tensor, width: int, max_length: int, allow_unknown: bool
) -> tuple[list[list[int]], Tensor]:
    """Search all rows of z (N, D) at once, which leave as they stop; returns N lists of ids and (N,) scores."""
    rows = torch.arange(len(z), device=z.device)  # those that go on
    found: list[list[int]] = [[] for _ in rows]
    found_score = torch.empty(len(z), dtype=torch.float64, device=z.device)
    generated = torch.empty(len(z), width, 0, dtype=torch.long, device=z.device)
    score = torch.full((len(z), width), -torch.inf, dtype=torch.float64, device=z.device)
    score[:, 0] = 0.0
    ended = torch.zeros_like(score, dtype=torch.bool)
    z = z.repeat_interleave(width, dim=0)  # (N * W, D)
    token, state = torch.full((len(z),), START, device=z.device), None
    for step in range(max_length):
        features, state = model.decode_step(token, z, state)
        # The `width` best continuations of all are among the `width` best of each hypothesis.
        words, gain = _get_tokens(model).topk(features, width, _list_banned(allow_unknown))
        gain = gain.double().view(len(rows), width, -1)
        gain = gain.masked_fill(ended[..., None], -torch.inf)
        gain[..., 0].masked_fill_(ended, 0.0)  # a finished hypothesis goes on with padding, at no cost
        words = words.view(gain.shape).masked_fill(ended[..., None], PADDING)
        score, best = (score[..., None] + gain).flatten(1).topk(width, dim=1)  # (N, W), in descending order
        parent, word = best // gain.shape[-1], words.flatten(1).gather(1, best)
        generated = torch.cat([generated.gather(1, parent[..., None].expand_as(generated)), word[..., None]], dim=2)
        ended = ended.gather(1, parent) | (word == END)
        last = step == max_length - 1
        stopped = torch.ones_like(rows, dtype=torch.bool) if last else ended[:, 0]
        leaving = stopped.nonzero()[:, 0]
        if len(leaving):
            finished = score[leaving].masked_fill(~ended[leaving], -torch.inf)
            winner = torch.where(finished.amax(1) > -torch.inf, finished.argmax(1), 0)
            found_score[rows[leaving]] = score[leaving, winner]
            for row, ids in zip(rows[leaving].tolist(), generated[leaving, winner].tolist(), strict=True):
                found[row] = _truncate(ids)
            if len(leaving) == len(rows):
                break
        staying = (~stopped).nonzero()[:, 0]
        rank = (parent[staying] + staying[:, None] * width).flatten()  # of the hypotheses, in the batch of before
        token, z, state = word[staying].flatten(), z[rank], tuple(part.index_select(0, rank) for part in state)
        rows, generated, score, ended = rows[staying], generated[staying], score[staying], ended[staying]
    return found, found_score


def _get_tokens(model: SequenceVAE) -> Tokens:
    """Return the observation of a model of tokens."""
    assert isinstance(model.observation, Tokens)
    return model.observation


def _count_rows(model: SequenceVAE) -> int:
    """Return the largest batch whose logits over the vocabulary fit in memory."""
    factor = 1 if next(model.parameters()).device.type == "cpu" else GPU_FACTOR
    return max(1, factor * min(MAX_ROWS, MAX_LOGITS // model.observation.size))


def _move_points(model: SequenceVAE, z: Tensor) -> Tensor:
    """Check the shape of z, and move it to the precision and the device of the model."""
    size = model.conditioning_size
    if z.dim() != 2 or z.shape[1] != size:
        labels = "" if model.condition is None else ", since it is conditioned on labels: call append_condition first"
        raise ConfigError(f"z has shape {tuple(z.shape)}; this model needs (rows, {size}){labels}")
    return z.to(next(model.parameters()))


def _list_banned(allow_unknown: bool) -> list[int]:
    return [PADDING, START] if allow_unknown else [PADDING, START, UNKNOWN]


def _truncate(ids: list[int]) -> list[int]:
    return ids[: ids.index(END) + 1] if END in ids else ids


def _check_finite(log_prob: Tensor) -> Tensor:
    if not log_prob.isfinite().all():
        raise TrainingError("the model's probabilities are not finite: its weights are damaged, or z is not finite")
    return log_prob

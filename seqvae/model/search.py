"""Beam search along a pattern: the n best sequences of each z that have its form and keep its rules."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from seqvae.data.batch import END, START
from seqvae.model.modes import evaluating
from seqvae.model.observations import Tokens
from seqvae.model.patterns import Pattern, Rules
from seqvae.model.vae import SequenceVAE

ROWS = 512  # hypotheses of one call of the model


@dataclass(frozen=True)
class Hypothesis:
    """A sequence of ids that follows a pattern, whole or so far.

    Attributes:
        tokens: ids; the last is EOS once it is whole.
        log_prob: log p(tokens | z), nats, under the model itself.
        place: the slot of the last id.
        row: of the model's state.
        done: number of required ids that it has.
    """

    tokens: tuple[int, ...] = ()
    log_prob: float = 0.0
    place: int = -1
    row: int = 0
    done: int = 0

    def score(self, length_penalty: float) -> float:
        """Return log p / length ** length_penalty, by which sequences are ranked."""
        return self.log_prob / max(1, len(self.tokens)) ** length_penalty


@dataclass
class Beam:
    """The hypotheses of one z: those that go on, and the best whole ones by their ids."""

    live: list[Hypothesis]
    whole: dict[tuple[int, ...], Hypothesis] = field(default_factory=dict)


def search(
    model: SequenceVAE,
    z: Tensor,
    pattern: Pattern,
    *,
    width: int = 8,
    n_best: int = 1,
    length_penalty: float = 0.0,
    rules: Rules | None = None,
    max_length: int = 128,
) -> list[list[Hypothesis]]:
    """Find the sequences of the highest log p(x|z) / length ** length_penalty for each z.

    A beam holds `width` hypotheses for each number of required ids that they have and for each slot that they are at
    (those that have fewer, or still are in a slot of several ids, would crowd out the others). A hypothesis is dropped
    when it can no longer become better than the `n_best` whole ones.

    Args:
        model: of tokens; put in evaluation mode during the call.
        z: (N, D), or with a condition (N, D + C), on the model's device.
        pattern: the form of the sequences.
        width: of the beam.
        n_best: number of sequences for each z.
        length_penalty: 0 ranks by log p, which favours short sequences, 1 by log p per token.
        rules: what must and must not be in them.
        max_length: most ids, EOS included; all results end in EOS.

    Returns:
        for each z up to `n_best` whole hypotheses, the best first; fewer where there are no more, none where nothing
        fits the pattern and the rules.

    Source: Post & Vilar, Fast Lexically Constrained Decoding with Dynamic Beam Allocation for Neural Machine
    Translation, 2018, https://arxiv.org/abs/1804.06609 (beams by the number of constraints met); the length penalty of
    Wu et al., Google's Neural Machine Translation System, 2016, https://arxiv.org/abs/1609.08144, without its offset.
    """
    rules = rules or Rules()
    size = max(1, ROWS // (width * (rules.needed + 1) * pattern.spread))
    found: list[list[Hypothesis]] = []
    with evaluating(model):
        for part in z.split(size) if len(z) else ():
            beams = [Beam([Hypothesis(row=row)]) for row in range(len(part))]
            _extend(model, part, beams, pattern, rules, (width, n_best, length_penalty, max_length))
            found += [rank(beam.whole.values(), length_penalty)[:n_best] for beam in beams]
    return found


def rank(hypotheses: Iterable[Hypothesis], length_penalty: float) -> list[Hypothesis]:
    """Sort hypotheses, the best first."""
    return sorted(hypotheses, key=lambda one: -one.score(length_penalty))


def _extend(
    model: SequenceVAE,
    z: Tensor,
    beams: list[Beam],
    pattern: Pattern,
    rules: Rules,
    options: tuple[int, int, float, int],
) -> None:
    """Extend all hypotheses id by id, until every beam is finished."""
    width, n_best, length_penalty, max_length = options
    rows = torch.arange(len(z), device=z.device)
    token, state = torch.full_like(rows, START), None
    for step in range(max_length):
        features, state = model.decode_step(token, z[rows], state)
        assert isinstance(model.observation, Tokens)
        log_prob = model.observation.logits(features).double().log_softmax(-1).cpu()
        owners, kept = [], []
        for number, grown in enumerate(_grow(beams, log_prob, pattern, rules, width, max_length - step)):
            beam = beams[number]
            beam.whole |= {one.tokens: one for one in grown if one.tokens[-1] == END}
            going = [one for one in grown if one.tokens[-1] != END]
            beam.live = _prune(_drop_hopeless(beam, going, n_best, length_penalty, max_length), width)
            owners += [number] * len(beam.live)
            kept += beam.live
        if not kept:
            return
        parents = torch.tensor([one.row for one in kept], device=z.device)
        rows = torch.tensor(owners, device=z.device)
        token = torch.tensor([one.tokens[-1] for one in kept], device=z.device)
        state = tuple(part.index_select(0, parents) for part in state)
        numbers = iter(range(len(kept)))
        for beam in beams:
            beam.live = [replace(one, row=next(numbers)) for one in beam.live]


def _grow(
    beams: list[Beam], log_prob: Tensor, pattern: Pattern, rules: Rules, width: int, room: int
) -> list[list[Hypothesis]]:
    """Return the best continuations of the hypotheses of each beam along each move of the pattern."""
    found: list[dict[tuple, Hypothesis]] = [{} for _ in beams]
    live = [(one, new) for beam, new in zip(beams, found, strict=True) for one in beam.live]
    moves = [(one, new, *move) for one, new in live for move in pattern.list_moves(one.place, room)]
    if not moves:
        return [[] for _ in beams]
    progress = {one.row: rules.measure_progress(one.tokens) if rules.required else (0, []) for one, _ in live}
    scores = _score_moves([(one, mask) for one, _, mask, _ in moves], log_prob, rules, progress)
    values, ids = (part.tolist() for part in scores.topk(min(width, scores.shape[1]), dim=1))
    for number, (one, new, _, place) in enumerate(moves):
        following = progress[one.row][1]
        extra = zip(scores[number, following].tolist(), following, strict=True) if following else ()
        for gain, id in (*zip(values[number], ids[number], strict=True), *extra):
            if gain > -torch.inf:
                tokens = (*one.tokens, id)
                done = rules.measure_progress(tokens)[0] if rules.required else 0
                new[tokens, place] = Hypothesis(tokens, one.log_prob + gain, place, one.row, done)
    return [list(new.values()) for new in found]


def _score_moves(
    moves: list[tuple[Hypothesis, Tensor]], log_prob: Tensor, rules: Rules, progress: dict[int, tuple[int, list[int]]]
) -> Tensor:
    """Return log p (M, V) of each id after each hypothesis, -inf where its mask or the rules forbid it."""
    masks = {id(mask): mask for _, mask in moves}
    places = {key: place for place, key in enumerate(masks)}
    allowed = torch.stack(list(masks.values()))[[places[id(mask)] for _, mask in moves]]
    scores = log_prob[[one.row for one, _ in moves]].masked_fill_(~allowed, -torch.inf)
    for number, (one, _) in enumerate(moves):
        if rules.restricts:
            scores[number, rules.forbid(one.tokens)] = -torch.inf
        if progress[one.row][0] < rules.needed:
            scores[number, END] = -torch.inf
    return scores


def _prune(hypotheses: list[Hypothesis], width: int) -> list[Hypothesis]:
    """Keep the `width` likeliest of each number of required ids and each slot."""
    banks: dict[tuple[int, int], list[Hypothesis]] = {}
    for one in rank(hypotheses, 0.0):
        bank = banks.setdefault((one.done, one.place), [])
        if len(bank) < width:
            bank.append(one)
    return [one for bank in banks.values() for one in bank]


def _drop_hopeless(
    beam: Beam, going: list[Hypothesis], n_best: int, length_penalty: float, max_length: int
) -> list[Hypothesis]:
    """Return those that can still become better than the `n_best` whole ones: log p only falls."""
    if len(beam.whole) < n_best or not going:
        return going
    worst = rank(beam.whole.values(), length_penalty)[n_best - 1].score(length_penalty)
    return [one for one in going if one.log_prob / max_length**length_penalty > worst]

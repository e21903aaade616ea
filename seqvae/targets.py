"""The ways to hold the KL at a target that `--target-kl T --target-by ...` stands for."""

from typing import Literal

from seqvae.options import Part

TOLERANCE = 0.05  # relative distance from the target up to which a KL of held-out sentences has met it
TargetBy = Literal["controller", "minimum-rate", "capacity", "free-bits"]

# A divergence, its option for the target, others, and the constant weight. One setting serves all targets, since what
# moves does so by relative distances. Where a method only keeps the KL from falling below its target the weight has to
# be above 1, or a KL that is larger at weight 1 would stay there. docs/log.md has what was seen of them.
HOLDERS: dict[str, tuple[str, str, Part, float]] = {
    "controller": ("controlled", "target", {}, 1.0),
    "minimum-rate": ("minimum-rate", "rate", {"damping": 1.0}, 2.0),
    "capacity": ("capacity", "target", {"rise": 500}, 3.0),
    "free-bits": ("kl", "free_bits", {"floor": "batch"}, 2.0),
}


def held(divergence: Part, target: float, by: TargetBy) -> dict[str, Part]:
    """The `divergence` and the `weight` that hold the KL at `target` nats per sentence in the way that `by` names.

    Args:
        divergence: as it was given; its options stay, but for the target itself, if it is the one that `by` stands for.
        target: nats per sentence.
        by: one of `HOLDERS`.

    >>> held({"name": "kl"}, 8.0, "capacity")["divergence"]
    {'rise': 500, 'name': 'capacity', 'target': 8.0}
    """
    name, option, others, weight = HOLDERS[by]
    given = divergence if divergence["name"] == name else {}
    return {
        "divergence": {**others, **given, "name": name, option: target},
        "weight": {"name": "constant", "end": weight},
    }


def target_of(divergence: Part) -> float | None:
    """The KL that a divergence draws the model to, nats per sentence; None if it has none, or 0."""
    return float(divergence.get("target", 0.0)) or None


def met(kl: float, target: float | None) -> bool:
    """Whether the KL of held-out sentences is the target, up to 5 %, or none was asked for.

    >>> met(5.1, 5.3), met(4.61, 5.3), met(0.0, None)
    (True, False, True)
    """
    return target is None or abs(kl / target - 1) <= TOLERANCE


def miss(kl: float, target: float) -> str:
    """What to say of a KL that has not met its target.

    >>> miss(4.61, 5.3)
    'target missed: KL 4.61 where 5.3 was asked'
    """
    return f"target missed: KL {kl:.2f} where {target:g} was asked"

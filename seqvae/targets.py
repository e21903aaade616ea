"""The ways to hold the KL at a target that `--target-kl T --target-by ...` stands for."""

from typing import Literal

from seqvae.options import Part

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

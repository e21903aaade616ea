"""Updates: how the trainer makes a step, one module a tenant."""

from seqvae.trainer import Update
from seqvae.updates.importance import Importance
from seqvae.updates.joint import Joint
from seqvae.updates.lagging import Lagging
from seqvae.updates.pretraining import Pretrain
from seqvae.updates.semi_amortized import SemiAmortized

__all__ = ["UPDATES", "Importance", "Joint", "Lagging", "Pretrain", "SemiAmortized"]

UPDATES: dict[str, type[Update]] = {
    "joint": Joint,
    "lagging": Lagging,
    "pretrain": Pretrain,
    "importance": Importance,
    "semi-amortized": SemiAmortized,
}

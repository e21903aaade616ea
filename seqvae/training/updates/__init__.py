"""Update rules: how a step is made, one implementation per module."""

from seqvae.training.trainer import Update
from seqvae.training.updates.importance import Importance
from seqvae.training.updates.joint import Joint
from seqvae.training.updates.lagging import Lagging
from seqvae.training.updates.pretrain import Pretrain
from seqvae.training.updates.semi_amortized import SemiAmortized

UPDATES: dict[str, type[Update]] = {
    "joint": Joint,
    "lagging": Lagging,
    "pretrain": Pretrain,
    "importance": Importance,
    "semi-amortized": SemiAmortized,
}

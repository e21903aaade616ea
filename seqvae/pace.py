"""How long a training lasts, and how fast it learns."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from seqvae.config import Training

# Where the user names neither epochs nor minutes. Few sentences need many passes before z is used at all.
EPOCHS, UPDATES, MINUTES = 20, 3000, 5.0
HALVINGS = 5  # of the learning rate, at most


def length(training: Training, steps: int) -> tuple[int, float | None]:
    """Epochs and minutes, whichever ends first, for `steps` updates an epoch: what was asked, or else the defaults."""
    epochs = training.max_epochs or max(EPOCHS, math.ceil(UPDATES / steps))
    minutes = MINUTES if training.max_epochs is None and training.max_minutes is None else training.max_minutes
    return epochs, minutes


def learning_rate(training: Training, update: int, progress: float, halvings: int = 0) -> float:
    """Rises over `warm_up` updates, stays but for the halvings, and falls to 0 over the last `cool_down`."""
    rise = min(1.0, (update + 1) / (training.warm_up + 1))
    fall = min(1.0, (1 - progress) / training.cool_down) if training.cool_down else 1.0
    return training.learning_rate * rise * fall * 0.5**halvings


def optimizer_of(module: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer of all parameters; its learning rate is set at each update."""
    groups = parameter_groups(module, training.weight_decay)
    if training.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate, fused=True)
    return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, and whatever else has one axis, do not."""
    matrices: list[Tensor] = [p for p in model.parameters() if p.dim() >= 2]
    others: list[Tensor] = [p for p in model.parameters() if p.dim() < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]

"""How long a training lasts, and how fast it learns."""

import math

from seqvae.config import Training

# Where the user names neither epochs nor minutes. Few sentences need many passes before z is used at all.
EPOCHS, UPDATES, MINUTES = 20, 3000, 5.0


def length(training: Training, steps: int) -> tuple[int, float | None]:
    """Epochs and minutes, whichever ends first, for `steps` updates an epoch: what was asked, or else the defaults."""
    epochs = training.max_epochs or max(EPOCHS, math.ceil(UPDATES / steps))
    minutes = MINUTES if training.max_epochs is None and training.max_minutes is None else training.max_minutes
    return epochs, minutes


def learning_rate(training: Training, update: int, progress: float) -> float:
    """Rises over `warm_up` updates, stays, and falls to 0 over the last `cool_down` of the training."""
    rise = min(1.0, (update + 1) / (training.warm_up + 1))
    fall = min(1.0, (1 - progress) / training.cool_down) if training.cool_down else 1.0
    return training.learning_rate * rise * fall

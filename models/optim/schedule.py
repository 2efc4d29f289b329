"""Learning-rate schedules."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt"]


def learning_rate_factor(schedule: Schedule, warmup_steps: int, step: int, progress: float) -> float:
    """What the peak learning rate is multiplied by.

    Linear warm-up over `warmup_steps` comes first. Then `linear` and `cosine` decay from 1 to 0 over what is
    left of the training, and `inverse_sqrt` is `sqrt(warmup_steps / step)` (Vaswani et al., 2017, eq. 3).

    Args:
        schedule: what follows the warm-up.
        warmup_steps: 0 for none.
        step: steps already taken.
        progress: share of the training that is done when this step is, 0 to 1.

    Returns:
        0 to 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    if schedule == "inverse_sqrt":
        return math.sqrt(max(warmup_steps, 1) / (step + 1))
    # How many steps there will be is not known, only what share of the data these were.
    warmed = progress * warmup_steps / (step + 1)
    rest = min(max(progress - warmed, 0.0) / (1.0 - warmed), 1.0) if warmed < 1.0 else 1.0
    return 1.0 - rest if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * rest))

"""Learning-rate schedules."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "linear", "cosine", "inverse_sqrt"]


def learning_rate_factor(schedule: Schedule, warmup_steps: int, step: int, progress: float) -> float:
    """What the peak learning rate is multiplied by.

    Linear warm-up over `warmup_steps` comes first. Then `linear` and `cosine` decay from 1, at the first step
    after it, towards 0, which a step after the last one would have, and `inverse_sqrt` is
    `sqrt(warmup_steps / step)` (Vaswani et al., 2017, eq. 3). So no step has the factor 0, and one at least
    has 1, unless the warm-up is longer than the training.

    Args:
        schedule: what follows the warm-up.
        warmup_steps: 0 for none.
        step: steps already taken.
        progress: share of the training that is done before this step, 0 to less than 1.

    Returns:
        Above 0, up to 1.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    if schedule == "inverse_sqrt":
        return math.sqrt(max(warmup_steps, 1) / (step + 1))
    # How many steps there will be is not known, only what share of the data these were.
    warmed = progress * warmup_steps / max(step, 1)
    rest = (progress - warmed) / (1.0 - warmed)
    return 1.0 - rest if schedule == "linear" else math.cos(math.pi / 2 * rest) ** 2

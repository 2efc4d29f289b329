"""Time of training so far, and the estimate of what is left."""

from __future__ import annotations

from time import monotonic


class Clock:
    """Counts from when it is made.

    Args:
        minutes: of training before an interruption.
        step: steps taken before it.
    """

    def __init__(self, minutes: float, step: int) -> None:
        self.before, self.first_step = minutes, step
        self.started = monotonic()

    def minutes(self) -> float:
        """Minutes of training so far, interruptions left out."""
        return self.before + (monotonic() - self.started) / 60.0

    def minutes_left(self, step: int, remaining: int) -> float:
        """Minutes that `remaining` steps take at the pace since this clock was made, validations included."""
        taken = step - self.first_step
        return (monotonic() - self.started) / 60.0 * remaining / taken if taken else 0.0

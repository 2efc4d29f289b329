"""Losses since the last report, left on the device until somebody asks."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import torch

from behavior.errors import UserError


class Stretch(NamedTuple):
    """Some steps of a training, taken together."""

    loss: float
    """Mean over the steps."""
    tokens_per_second: float
    seconds: float


class StepLosses:
    """Collects the losses of single steps; reading them waits for the device, so not each step does."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything and start the clock."""
        self.steps: list[int] = []
        self.losses: list[torch.Tensor] = []
        self.tokens = 0
        self.since = time.monotonic()

    def __len__(self) -> int:
        return len(self.losses)

    def add(self, step: int, loss: torch.Tensor, tokens: int) -> None:
        """Note the loss of a step, a scalar, and its input events."""
        self.steps.append(step)
        self.losses.append(loss.detach())
        self.tokens += tokens

    def take(self) -> Stretch:
        """What is to be said of the steps since the last call.

        Raises:
            UserError: a loss is not a number, or infinite; names its step.
        """
        losses = torch.stack(self.losses).tolist()
        for step, loss in zip(self.steps, losses, strict=True):
            if not math.isfinite(loss):
                raise UserError(
                    f"the loss became {loss} at step {step}",
                    fix="lower optimizer.learning_rate or set optimizer.clip_norm; older checkpoints hold",
                )
        seconds = max(time.monotonic() - self.since, 1e-9)
        stretch = Stretch(sum(losses) / len(losses), self.tokens / seconds, seconds)
        self.restart()
        return stretch

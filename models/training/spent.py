"""What a training has spent so far: tokens, operations, energy. It goes along in checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import ConfigDict, Field

from models.runs.records import Count
from models.tasks.flops import StepWork, TrainingFlops

Amount = Annotated[float, Field(strict=True, ge=0.0, allow_inf_nan=False)]


@dataclass
class Spent:
    """Sums over the steps of a run, of all processes together."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    steps: Count = 0
    """Steps that were counted: fewer than there were where a checkpoint from before went on."""
    tokens: Amount = 0.0
    """Tokens that backbones saw; of repeated epochs each time."""
    positions: Amount = 0.0
    """Of them, those with a loss."""
    flops: Amount = 0.0
    """Operations of forward and backward passes, by `models.tasks.flops.TrainingFlops.exact`."""
    joules: Amount | None = None
    """Of the devices meanwhile, whatever else ran on them; None where a driver did not tell."""

    def add(self, work: StepWork, flops: TrainingFlops) -> None:
        """Count a step."""
        self.steps += 1
        self.tokens += work.tokens
        self.positions += work.positions
        self.flops += flops.exact(work)

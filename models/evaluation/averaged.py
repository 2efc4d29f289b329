"""Scores of several models as one: the mean of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from models.evaluation.held_scores import HeldScores
from models.evaluation.scores import Scores


@dataclass(frozen=True)
class AveragedScores(Scores):
    """Logarithms of `mean over models m of softmax(s^m)`, an ensemble.

    Scores are gone through once more than those of one model, for the sums of the softmaxes.
    """

    parts: Sequence[HeldScores]
    """Of the same queries with the same items, as logits."""

    @property
    def device(self) -> torch.device:
        return self.parts[0].device

    @cached_property
    def log_sums(self) -> list[Tensor]:
        """[queries] of each model."""
        return [part.log_sums() for part in self.parts]

    def columns(self, first: int, stop: int) -> Tensor:
        total: Tensor | None = None
        for part, level in zip(self.parts, self.log_sums, strict=True):
            found = part.columns(first, stop) - level[:, None]
            total = found if total is None else torch.logaddexp(total, found)
        assert total is not None
        return total - math.log(len(self.parts))

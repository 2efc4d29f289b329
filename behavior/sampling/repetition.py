"""Repetition of short samples: how many copies a sample has.

Training only, as all of sampling: an evaluation sees each event of a history once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from behavior.sampling.config import Repeat
from behavior.sampling.stochastic_length import Float64Array, Int64Array


@dataclass(frozen=True)
class RepeatRule:
    """Repeated padding (RepPad, arXiv 2403.06372), by whole copies.

    `most` copies of a sample of n inputs are as many as fit into N positions: `(N + gap) // (n + gap)`. The
    published code cuts one copy more to what is left of N.
    """

    max_length: int
    config: Repeat

    @property
    def gap(self) -> int:
        """Free positions between two copies."""
        return int(self.config.separation == "delimiter")

    @property
    def apart(self) -> bool:
        """Whether copies do not see each other."""
        return self.config.separation == "attention"

    def most(self, inputs: Int64Array) -> Int64Array:
        """[samples] copies that N positions hold, 1 at least."""
        return np.maximum((self.max_length + self.gap) // (np.maximum(inputs, 1) + self.gap), 1)

    def copies(self, inputs: Int64Array, draws: Float64Array) -> Int64Array:
        """[samples] copies of each sample, itself among them.

        Args:
            inputs: [samples] inputs of one copy.
            draws: [samples] random numbers in [0, 1).
        """
        most = self.most(inputs)
        if self.config.copies == "most":
            return most
        if self.config.copies == "random":
            return np.where(most < 2, 1, 2 + (draws * (most - 1)).astype(np.int64))
        return np.minimum(most, self.config.copies)

    def expected_inputs(self, inputs: Int64Array) -> Float64Array:
        """[samples] mean inputs of all copies together, over the draws."""
        if self.config.copies != "random":
            return np.asarray(inputs * self.copies(inputs, np.zeros(len(inputs))), np.float64)
        most = self.most(inputs)
        return np.asarray(inputs * np.where(most < 2, 1.0, (most + 2) / 2), np.float64)

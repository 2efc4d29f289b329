"""How weights, learning rates and residuals follow width and depth, one rate for all: imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Factors(NamedTuple):
    """What the optimizer multiplies for a parameter."""

    rate: float = 1.0
    """Of the learning rate."""
    decay: float = 1.0
    """Of decoupled weight decay: rate times decay stays what it is at the base."""
    eps: float = 1.0
    """Of AdamW's epsilon."""


@dataclass(frozen=True)
class Transfer:
    """A model's size relative to that of a base whose learning rate it takes over; as it stands, none.

    With `m = width` and `l = depth`, for AdamW, of the linear maps in blocks: initial variance `1 / m`
    (maximal update parametrization, muP: Yang et al., arXiv 2203.03466, table 8), learning rate
    `l^(a - 1) / m`, AdamW's epsilon `l^-a / m`; what a block adds to the residual path is multiplied by
    `l^-a`, and its vectors and bias tables learn at `l^(a - 1)`. a is 1 in CompleteP (Dey et al.,
    arXiv 2505.01618, table 1), and 1/2 in depth-muP (arXiv 2310.02244). Products of queries and keys are
    multiplied by `1 / query` beyond what they are at the base, so that they are divided by the width of a
    head and not by its square root.
    """

    width: float = 1.0
    """Width over the base's."""
    query: float = 1.0
    """Width of queries and keys of a head over the base's."""
    depth: float = 1.0
    """Blocks over the base's; 1 where depth is not transferred."""
    exponent: float = 1.0
    """a."""

    @property
    def std(self) -> float:
        """Factor of the standard deviation of initial weights that is the same at every width."""
        return self.width**-0.5

    @property
    def residual(self) -> float:
        """Factor of what a block adds to the residual path."""
        return self.depth**-self.exponent

    def scaled(self, std: float | None) -> float | None:
        """A standard deviation of initial weights; Xavier (None) is smaller for wider maps as it is."""
        return None if std is None else std * self.std

    def factors(self, *, linear: bool) -> Factors:
        """Of a parameter of the blocks, which is the weight of a linear map, or another one."""
        rate, eps = self.depth ** (self.exponent - 1.0), self.residual
        if not linear:
            return Factors(rate, 1.0 / rate, eps)
        return Factors(rate / self.width, self.width / rate, eps / self.width)


AS_PUBLISHED = Transfer()

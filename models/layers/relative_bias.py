"""Learned relative attention biases: tables over position and time differences, or a decay with time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.attention import RelativeBias, RelativeTime, TimeDecay
from models.attention.bias import NUM_BUCKETS
from models.attention.kinds import DecayKind
from models.layers.kinds import BiasSetting, check_choice
from models.layers.roles import Role

INIT_STD = 0.02
# Half-lives that decays start with: what a user did a minute ago, to what he did a month ago.
SHORTEST_HALF_LIFE = 60.0
LONGEST_HALF_LIFE = 30 * 86_400.0


class LearnedDecay(nn.Module):
    """`amount * (1 + |d|)^-rate` or `amount * exp(-rate |d|)`, d in seconds, the rate positive.

    Amounts start as tables do, normal(0, 0.02). Half-lives start evenly spread, on a logarithmic scale, from
    a minute to a month over the rows; a single one in the middle, at three and a half hours.

    Args:
        rows: 1, shared by all heads, or their number.
        kind: `power` or `exponential` (FuXi-beta and FuXi-gamma use both instead of buckets; their own
            parametrization was not at hand).
    """

    parameter_roles = {"amount": Role.VECTOR, "log_rate": Role.VECTOR}

    def __init__(self, rows: int, kind: DecayKind) -> None:
        super().__init__()
        self.kind = kind
        self.amount = nn.Parameter(torch.empty(rows).normal_(0.0, INIT_STD))
        self.log_rate = nn.Parameter(_first_rates(rows, kind).log())

    def forward(self) -> TimeDecay:
        """The decay with its present weights."""
        return TimeDecay(self.amount, self.log_rate.exp(), self.kind)


class RelativeBiasTables(nn.Module):
    """Tables normal(0, 0.02) as in HSTU (arXiv 2402.17152), or a decay.

    Args:
        setting: what there is.
        max_tokens: most tokens of a sequence; the size of the position table.
        heads: give each of so many heads its own; None for one shared by all, as published.
        decay: form of the decay, where the setting asks for one.

    Raises:
        ValueError: there is no such setting or form.
    """

    parameter_roles = {"position": Role.EMBEDDING, "time": Role.EMBEDDING}

    def __init__(
        self, setting: BiasSetting, max_tokens: int, heads: int | None = None, decay: DecayKind = "power"
    ) -> None:
        super().__init__()
        check_choice("bias", setting, BiasSetting)
        check_choice("decay", decay, DecayKind)
        self.position = _table(heads, max_tokens) if setting in ("both", "position") else None
        self.time = _table(heads, NUM_BUCKETS) if setting in ("both", "time") else None
        self.decay = LearnedDecay(heads or 1, decay) if setting == "decay" else None

    def forward(self, relative_time: RelativeTime, beyond: int = 0) -> RelativeBias | None:
        """The bias of one batch, or None where there is none.

        Args:
            relative_time: the times of the batch.
            beyond: tokens by which a sequence may exceed the table of positions: candidates, whose places
                are not their positions.
        """
        times = relative_time if self.time is not None or self.decay is not None else None
        if self.position is None and times is None:
            return None
        decay = self.decay() if self.decay else None
        return RelativeBias(self._positions(beyond), self.time, times, decay)

    def _positions(self, beyond: int) -> Tensor | None:
        return self.position if self.position is None or not beyond else F.pad(self.position, (0, beyond))

    def separate(self, relative_time: RelativeTime, beyond: int = 0) -> list[RelativeBias]:
        """The same, position and time each by itself."""
        parts = []
        if self.position is not None:
            parts.append(RelativeBias(position=self._positions(beyond)))
        if self.time is not None:
            parts.append(RelativeBias(time=self.time, relative_time=relative_time))
        if self.decay is not None:
            parts.append(RelativeBias(decay=self.decay(), relative_time=relative_time))
        return parts


def _table(heads: int | None, size: int) -> nn.Parameter:
    shape = (size,) if heads is None else (heads, size)
    return nn.Parameter(torch.empty(shape).normal_(0.0, INIT_STD))


def _first_rates(rows: int, kind: DecayKind) -> Tensor:
    """[rows] rates at which a difference of one half-life halves the bias."""
    low, high = math.log(SHORTEST_HALF_LIFE), math.log(LONGEST_HALF_LIFE)
    exponents = torch.linspace(low, high, rows) if rows > 1 else torch.tensor([(low + high) / 2])
    half_life = exponents.exp()
    return math.log(2) / (half_life if kind == "exponential" else half_life.log1p())

"""What holds for all sequences of a data set, as its manifest tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from behavior.shards.folder import ShardFolder
from behavior.steps.splits import Evaluated, evaluated_targets


@dataclass(frozen=True)
class About:
    """What holds for all sequences of a data set."""

    has_time: bool
    target_behaviors: tuple[int, ...]
    """Behavior ids that are predicted and evaluated."""
    first_item: int
    """The smallest id of a known item."""
    num_item_ids: int
    """Padding, unknown and known items."""
    num_behaviors: int
    evaluated: Evaluated = "first"
    """Which target events of a part are evaluated."""
    in_baskets: bool = False
    """Whether the targets of a part are one basket: then a history ends where the part begins."""
    at_random: bool = False
    """Whether the split is `random`: events are in random order, and a history ends where the part begins."""
    behaviors: tuple[str, ...] = ()
    """Names of the behaviors; the first has id 1."""
    num_domains: int = 0
    """0 where the data set has one domain only."""
    leaves_one_out: bool = False
    """Whether the split is `leave_one_out`."""
    judged: int | None = None
    """The one behavior that is evaluated, whatever the targets are; None: the targets."""

    @property
    def ends_before_part(self) -> bool:
        """Whether the history of a target ends where its part begins, instead of before the target."""
        return self.in_baskets or self.at_random

    @property
    def num_items(self) -> int:
        """Known items: the candidates of every ranking."""
        return self.num_item_ids - self.first_item

    def is_judged(self) -> npt.NDArray[np.bool_]:
        """[behavior ids] whether a behavior is one that is evaluated."""
        if self.judged is None:
            return self.is_target()
        return np.arange(self.num_behaviors + 1) == self.judged

    def is_target(self) -> npt.NDArray[np.bool_]:
        """[behavior ids] whether a behavior is one that is predicted and evaluated."""
        table = np.zeros(self.num_behaviors + 1, dtype=bool)
        table[list(self.target_behaviors)] = True
        return table


def about_sequences(shards: ShardFolder) -> About:
    """What holds for all sequences of a data set."""
    manifest = shards.manifest
    return About(
        has_time=manifest.timestamp_unit != "none",
        target_behaviors=tuple(manifest.target_ids),
        first_item=shards.first_item,
        num_item_ids=shards.num_item_ids,
        num_behaviors=len(manifest.behaviors),
        evaluated=evaluated_targets(manifest.split),
        in_baskets=manifest.split["kind"] == "next_basket",
        at_random=manifest.split["kind"] == "random",
        behaviors=tuple(manifest.behaviors),
        num_domains=len(manifest.domains),
        leaves_one_out=manifest.split["kind"] == "leave_one_out",
    )

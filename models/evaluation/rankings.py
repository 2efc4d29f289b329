"""What a ranking evaluation finds: the rank of every target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from models.data.about import About
from models.data.sequences import Int8Array, Int32Array, Int64Array
from models.evaluation.metrics import Float64Array, ranking_metrics
from models.evaluation.seen import SeenItems
from models.evaluation.targets import Split


@dataclass(frozen=True)
class Rankings:
    """The rank of every evaluated target of a split."""

    user: Int64Array  # [targets] number of the target's sequence in the data set
    position: Int32Array  # [targets] the target's place in that sequence, from 0
    history: Int32Array  # [targets] events before it, at least 1
    item: Int32Array  # [targets] item id
    behavior: Int8Array  # [targets] behavior id
    rank: Float64Array  # [targets] from 1; infinite for a miss
    split: Split
    seen: SeenItems
    """Whether items that a user had before were removed from the candidates."""
    users_without_history: int
    """Users left out: none of their targets has a history."""
    targets_without_history: int
    """Targets left out."""
    about: About
    candidates: int
    """Known items that were ranked, the first ones: all, or those that the model was trained with."""
    within_domain: bool = False
    """Whether a target was ranked among the items of its domain alone."""

    def misses(self, chosen: Int64Array | slice = slice(None)) -> dict[str, int]:
        """Misses of some targets: `oov_targets`, unknown ids; `excluded_targets`, removed as seen items."""
        unknown = self.item[chosen] < self.about.first_item
        left_out = self.item[chosen] >= self.about.first_item + self.candidates
        removed = np.isinf(self.rank[chosen]) & ~unknown & ~left_out
        return {"oov_targets": int(unknown.sum()), "excluded_targets": int(removed.sum())}

    def summary(self, cutoffs: list[int]) -> dict[str, Any]:
        """Metrics and counts, as `evaluate_scorer` returns them."""
        return {
            **ranking_metrics(self.rank, cutoffs, self.user),
            "split": self.split,
            "users": len(np.unique(self.user)),
            "targets": len(self.rank),
            "users_without_history": self.users_without_history,
            "targets_without_history": self.targets_without_history,
            **self.misses(),
            "candidates": self.candidates,
            **({"candidates_of": "domain"} if self.within_domain else {}),
            "exclude_seen": self.seen.excluded,
        }

"""What a ranking evaluation finds: the rank of every target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    earlier: Int8Array  # [targets] behavior of the latest event of the history with the item; 0: it has none
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

    def only(self, others: Rankings) -> Rankings:
        """The targets that others ranked, too: a model of one domain, say, ranks some of all."""
        known = np.stack([others.user, others.position], axis=1)
        pairs = np.concatenate([np.stack([self.user, self.position], axis=1), np.unique(known, axis=0)])
        _, place, times = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
        kept = (times[place.reshape(-1)] > 1)[: len(self.user)]
        columns = ("user", "position", "history", "item", "behavior", "earlier", "rank")
        return replace(
            self,
            **{name: getattr(self, name)[kept] for name in columns},
            users_without_history=others.users_without_history,
            targets_without_history=others.targets_without_history,
        )

    def sliced_like(self, others: Rankings) -> Rankings:
        """The targets that others ranked, in slices as theirs: by the history that others were shown.

        Of one domain, say: what repeats there, and how long the history is.
        """
        same = self.only(others)
        if not (np.array_equal(same.user, others.user) and np.array_equal(same.position, others.position)):
            return same
        return replace(same, history=others.history, earlier=others.earlier)

    def misses(self, chosen: Int64Array | slice = slice(None)) -> dict[str, int]:
        """Misses of some targets: `oov_targets`, unknown ids; `excluded_targets`, removed as seen items."""
        unknown = self.item[chosen] < self.about.first_item
        left_out = self.item[chosen] >= self.about.first_item + self.candidates
        removed = np.isinf(self.rank[chosen]) & ~unknown & ~left_out
        return {"oov_targets": int(unknown.sum()), "excluded_targets": int(removed.sum())}

    def repeats(self, cutoffs: list[int], behaviors: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
        """Targets whose item stands in the user's history (`repeat`), and all others (`explore`), apart.

        Args:
            cutoffs: k of the metrics.
            behaviors: names, in order of ids; where there are several, `repeat: NAME` are the repeat targets
                whose item had that behavior in its latest event of the history.

        Returns:
            For each, `targets`, `users` (with such a target), and means over those users of the means over
            their targets in it; none of these where there is no such target.
        """
        earlier, parts = self.earlier, {"repeat": self.earlier > 0}
        if len(behaviors) > 1:
            parts |= {f"repeat: {name}": earlier == number for number, name in enumerate(behaviors, 1)}
        parts |= {"explore": earlier == 0}
        return {
            name: {
                "targets": int(chosen.sum()),
                "users": len(np.unique(self.user[chosen])),
                **ranking_metrics(self.rank[chosen], cutoffs, self.user[chosen]),
            }
            for name, chosen in parts.items()
        }

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
            "repeats": self.repeats(cutoffs),
        }

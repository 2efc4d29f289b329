"""Metrics by slices of the targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from models.data.sequences import Int64Array
from models.evaluation.bootstrap import intervals
from models.evaluation.feature_slices import slice_by_feature, sliceable_features
from models.evaluation.metrics import user_metrics
from models.evaluation.rankings import Rankings
from models.evaluation.slices import ATTRIBUTES, Slices


def break_down(
    rankings: Rankings, by: Sequence[str], shards: ShardFolder, *, cutoffs: Sequence[int], resamples: int
) -> dict[str, dict[str, Any]]:
    """Metrics of the slices of each attribute.

    Args:
        rankings: what is sliced.
        by: attributes that `check_attributes` allows.
        shards: the data set.
        cutoffs: k of the metrics.
        resamples: of the bootstrap; 0: no intervals.

    Returns:
        attribute -> slice -> `targets`, `users` (with such a target), `oov_targets` and
        `excluded_targets` (misses among them), means over those users of the means
        over their targets in the slice, and `intervals`. Slices without a target are left out.
    """

    def judge(chosen: Int64Array) -> dict[str, Any]:
        metrics = user_metrics(rankings.rank[chosen], cutoffs, rankings.user[chosen])
        counts = {"targets": len(chosen), "users": len(metrics.user)} | rankings.misses(chosen)
        record: dict[str, Any] = counts | metrics.means()
        return record | ({"intervals": intervals(metrics, resamples)} if resamples else {})

    return {
        name: {part: judge(chosen) for part, chosen in slices(name, rankings, shards).parts()} for name in by
    }


def check_attributes(by: Sequence[str], shards: ShardFolder) -> None:
    """Check that results can be broken down by these.

    Raises:
        UserError: names the first that the data set does not have.
    """
    known = [*ATTRIBUTES, *sliceable_features(shards)]
    for name in by:
        if any(name == entry.name for entry in shards.manifest.item_features if entry.kind == "numeric"):
            raise UserError(
                f"results cannot be broken down by '{name}': its values are numbers",
                where="evaluation.by",
                fix="prepare the data with transform: buckets for this feature, or choose from "
                + ", ".join(sorted(known)),
            )
        if name not in known:
            raise UserError(
                f"results cannot be broken down by '{name}'",
                where="evaluation.by",
                fix=did_you_mean(name, known),
            )
        if name == "domain" and not shards.manifest.domains:
            raise UserError(
                "the data set has one domain only", where="evaluation.by", fix="leave 'domain' out"
            )


def slices(name: str, rankings: Rankings, shards: ShardFolder) -> Slices:
    """The slices of one attribute that `check_attributes` allows; ours go before an item feature's."""
    if name in ATTRIBUTES:
        return ATTRIBUTES[name](rankings, shards)
    return slice_by_feature(sliceable_features(shards)[name], rankings, shards)

"""The report of a ranking evaluation: metrics, confidence intervals, slices, and the protocol."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.steps.splits import evaluated_targets
from models.evaluation.bootstrap import intervals, paired_difference
from models.evaluation.breakdown import break_down
from models.evaluation.config import EvaluationConfig
from models.evaluation.metrics import UserMetrics, user_metrics
from models.evaluation.rankings import Rankings
from models.evaluation.targets import Split

RESAMPLES = 1000
"""Bootstrap resamples of a comparison where the settings ask for no intervals."""


@dataclass(frozen=True)
class RankingEvaluation:
    """A ranker evaluated on one split of a data set."""

    rankings: Rankings
    config: EvaluationConfig
    """The settings, with `exclude_seen` resolved."""
    shards: ShardFolder
    about: dict[str, Any]
    """What ranked."""

    @classmethod
    def of(
        cls,
        rankings: Rankings,
        config: EvaluationConfig,
        shards: ShardFolder,
        about: dict[str, Any] | None = None,
    ) -> RankingEvaluation:
        """Rankings that were made by these settings."""
        resolved = config.model_copy(update={"exclude_seen": rankings.seen.excluded})
        return cls(rankings, resolved, shards, about or {})

    @property
    def split(self) -> Split:
        """Which targets were ranked."""
        return self.rankings.split

    def metrics(self) -> UserMetrics:
        """The metrics of every user."""
        return user_metrics(self.rankings.rank, self.config.cutoffs, self.rankings.user)

    def report(self) -> dict[str, Any]:
        """Everything there is to say; docs/evaluation.md describes each field.

        Returns:
            As `models.evaluation.ranking.evaluate_scorer`; `exclude_seen_reason`; `split_kind`,
            `split_targets`, and of a temporal split `valid_at` and `test_at`; what ranked; `intervals`, by
            metric, and `breakdown`, as `models.evaluation.breakdown.break_down`, where the settings ask.

        Raises:
            UserError: nobody is evaluated.
        """
        self._check_somebody()
        config, result = self.config, self.rankings.summary(self.config.cutoffs)
        result["exclude_seen_reason"] = self.rankings.seen.reason
        result["repeats"] = self.rankings.repeats(config.cutoffs, self.shards.manifest.behaviors)
        result |= split_facts(self.shards) | self.about
        if config.bootstrap:
            result["intervals"] = intervals(self.metrics(), config.bootstrap)
        if config.by:
            result["breakdown"] = break_down(
                self.rankings, config.by, self.shards, cutoffs=config.cutoffs, resamples=config.bootstrap
            )
        return result

    def _check_somebody(self) -> None:
        """Raise UserError where there is no target, and so no metric."""
        if len(self.rankings.rank):
            return
        left_out = self.rankings.targets_without_history
        why = "it has no targets"
        if left_out:
            several = f"none of its {left_out:,} targets has a history"
            why = "its only target has no history" if left_out == 1 else several
        asked = self.config.target_behavior
        if asked is not None and not left_out:
            raise UserError(
                f"nobody is evaluated on the {self.split} split: no event of '{asked}' is in it",
                where=f"evaluation.target_behavior = {asked}, {self.shards.where()}",
                fix="evaluate another behavior, or leave it out for the targets of the data set",
            )
        raise UserError(
            f"nobody is evaluated on the {self.split} split: {why}",
            where=self.shards.where(),
            fix="prepare the data with another split, or with users who have more events (at least 3 for "
            "leave_one_out)",
        )


def as_rankings(evaluation: object) -> RankingEvaluation:
    """An evaluation of whatever task, where it ranked items.

    Raises:
        UserError: it did not.
    """
    if not isinstance(evaluation, RankingEvaluation):
        raise UserError(
            "this run ranks no items: there are no ranks to write down or to compare",
            where="--per-user, --against",
            fix="leave them out; of a ranking run --predictions writes what it predicts of every row",
        )
    return evaluation


def split_facts(shards: ShardFolder) -> dict[str, Any]:
    """How a data set is split: `split_kind`, `split_targets`; if temporal, `valid_at` and `test_at`."""
    split = shards.manifest.split
    facts = {"split_kind": split["kind"], "split_targets": evaluated_targets(split)}
    return facts | {name: split[name] for name in ("valid_at", "test_at") if split.get(name) is not None}


def compare(ours: RankingEvaluation, theirs: RankingEvaluation) -> dict[str, Any]:
    """Two rankers on our targets, user by user; the other may have ranked more, as one of all domains has.

    Returns:
        What the report says of the other ranker, and `metrics`: for each one `ours` and `theirs` (means),
        `difference` (ours less theirs), `interval` (95 %, by a paired bootstrap over users) and
        `share_below_zero` (of the resamples).

    Raises:
        UserError: the other did not rank these targets, or there are none.
    """
    if len(theirs.rankings.user) > len(ours.rankings.user):
        theirs = replace(theirs, rankings=theirs.rankings.only(ours.rankings))
    same = all(
        np.array_equal(getattr(ours.rankings, name), getattr(theirs.rankings, name))
        for name in ("user", "position")
    )
    same = same and all(
        getattr(ours.rankings, name) == getattr(theirs.rankings, name)
        for name in ("candidates", "within_domain")
    )
    if not same or not len(ours.rankings.user):
        raise UserError(
            "two evaluations can only be compared on the same targets and candidates",
            fix="judge both on one split of one data set that has targets",
        )
    one, two = ours.metrics(), theirs.metrics()
    difference = paired_difference(one, two, ours.config.bootstrap or RESAMPLES)
    means, others = one.means(), two.means()
    metrics = {name: {"ours": means[name], "theirs": others[name], **row} for name, row in difference.items()}
    return {**theirs.about, "metrics": metrics}

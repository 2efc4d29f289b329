"""Every floor, evaluated under the protocol of the models."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from behavior.runtime.cores import thread_count
from behavior.shards.folder import ShardFolder
from behavior.wording import number_of
from models.data.columns import Columns
from models.data.declared import CORE
from models.data.item_domains import ItemDomains
from models.data.loading import SequenceSource, ShardSource
from models.data.loading.part import part_of
from models.data.sequences import SequenceData
from models.evaluation.config import EvaluationConfig
from models.evaluation.floors.choice import (
    COOCCURRENCE,
    FREQUENCY,
    METRIC,
    MOST_EVENTS,
    START,
    Point,
    climb,
    scan,
    some_validated,
)
from models.evaluation.floors.counts import Cooccurrence, popularity_of, transitions
from models.evaluation.floors.names import FLOORS, Counts, check_counts, reason_against
from models.evaluation.floors.votes import OwnVotes, Popularity, Votes, VoteScores
from models.evaluation.judged import judged_sequences
from models.evaluation.ranking import Scorer, evaluate_scorer, rank_split
from models.evaluation.rankings import Rankings
from models.evaluation.report import RankingEvaluation
from models.evaluation.seen import SeenItems
from models.evaluation.targets import Split, Targets
from models.evaluation.within import columns_of_candidates

_BATCH = 1 << 14
"""Targets at once, so that threads have something to share."""
DEFAULTS: dict[str, Point] = {
    "frequency": {"decay": 0.99},
    "cooccurrence": START,
    "open+cooccurrence": START,
}
"""What validation chooses, and what is taken where nobody is validated."""


class Floors:
    """The floors of one split of a data set, which have counted the same events.

    Args:
        shards: the data set.
        split: valid or test.
        config: metrics and protocol.
        counts: `train`: events of the training parts are counted, as by a model that validation chose;
            `train+valid`: those of the validation parts, too, as by a refitted one. What validation chooses
            (a decay) it always chooses with the counts of the training parts.
        candidates: how many known items are ranked, the first ones; None: all.

    Raises:
        UserError: there are no such counts, or not for this split.
    """

    def __init__(
        self,
        shards: ShardFolder,
        split: Split = "test",
        config: EvaluationConfig | None = None,
        *,
        counts: Counts = "train",
        candidates: int | None = None,
    ) -> None:
        check_counts(counts, split)
        self.shards, self.split, self.counts, self.candidates = shards, split, counts, candidates
        self.config = config or EvaluationConfig()
        columns = Columns.merged(CORE, columns_of_candidates(self.config, shards))
        source = ShardSource(shards, columns=columns)
        self.source: SequenceSource = judged_sequences(source, self.config.target_behavior)
        self._points: dict[str, tuple[Point, dict[str, Any]]] = {}
        self._popularities: dict[Counts, Popularity] = {}
        self._cooccurrences: dict[tuple[Counts, bool], Cooccurrence] = {}

    @cached_property
    def seen(self) -> SeenItems:
        """Whether seen items are removed."""
        return SeenItems.resolve(self.source, self.config.exclude_seen)

    def left_out(self) -> dict[str, str]:
        """The floors that make no sense for the data set, and why."""
        found = {
            name: reason_against(name, self.source.about, exclude_seen=self.seen.excluded) for name in FLOORS
        }
        return {name: reason for name, reason in found.items() if reason is not None}

    def judge(self, name: str, like: Rankings | None = None) -> RankingEvaluation:
        """The rank that a floor gives every target.

        Args:
            name: of `FLOORS`.
            like: only of the targets that these are of, in the same slices.
        """
        point, chosen = self._point(name)
        rankings = rank_split(
            self.source,
            self._scorer(name, point, self.counts),
            split=self.split,
            config=self._config,
            seen=self.seen,
            candidates=self.candidates,
            domains=self._domains,
        )
        rankings = rankings if like is None else rankings.sliced_like(like)
        about: dict[str, Any] = {"model": name, "counts": self.counts} | chosen
        if self.config.target_behavior is not None:
            about["target_behavior"] = self.config.target_behavior
        return RankingEvaluation.of(rankings, self.config, self.shards, about)

    def _point(self, name: str) -> tuple[Point, dict[str, Any]]:
        """What validation chooses for a floor, and the fields of a report that say so."""
        if name not in DEFAULTS:
            return {}, {}
        if name not in self._points:
            point, on = DEFAULTS[name], "defaults: nobody is validated"
            source, users = self._validated
            if source is not None:
                point, on = self._chosen(name, source), f"{METRIC} of {number_of(users, 'validated user')}"
            self._points[name] = point, {"chosen": point, "chosen_on": on}
        return self._points[name]

    def _chosen(self, name: str, source: SequenceSource) -> Point:
        config = self._config.model_copy(update={"cutoffs": [10]})

        def value(point: Point) -> float:
            scorer = self._scorer(name, point, "train", choosing=True)
            found = evaluate_scorer(
                source, scorer, split="valid", config=config, seen=self.seen, domains=self._domains
            )
            return float(found[METRIC])

        if name == "frequency":
            return scan(FREQUENCY, value)
        start = START if name == "cooccurrence" else self._point("cooccurrence")[0]
        return climb(COOCCURRENCE, start, value)

    def _scorer(self, name: str, point: Point, counts: Counts, *, choosing: bool = False) -> Scorer:
        votes, popularity = self._votes(name, point, counts, choosing), self._popularity(counts)
        threads = thread_count(os.environ)

        def score(data: SequenceData, targets: Targets) -> VoteScores:
            return VoteScores(data, targets, votes, popularity, threads)

        return score

    def _votes(self, name: str, point: Point, counts: Counts, choosing: bool) -> Votes:
        if name == "markov":
            return Votes(table=transitions(part_of(self.source, counts)))
        if name == "frequency":
            return Votes("decayed", own_decay=point["decay"])
        if name in ("cooccurrence", "open+cooccurrence"):
            window = int(point["window"])
            table = self._cooccurrence(counts, choosing).table(
                window=window, backward=point["backward"], popularity_power=point["popularity_power"]
            )
            own: OwnVotes = "none" if name == "cooccurrence" else "open"
            return Votes(own, table=table, window=window, decay=point["decay"])
        own_only: dict[str, OwnVotes] = {"popularity": "none", "recency": "latest", "open": "open"}
        return Votes(own_only[name])

    def _popularity(self, counts: Counts) -> Popularity:
        if counts not in self._popularities:
            self._popularities[counts] = Popularity(popularity_of(self.source, self.shards, counts))
        return self._popularities[counts]

    def _cooccurrence(self, counts: Counts, choosing: bool) -> Cooccurrence:
        """What is counted; for a choice, of some users where the log is large."""
        events = self._popularity(counts).events
        some = choosing and events.sum() > MOST_EVENTS
        if (counts, some) not in self._cooccurrences:
            most = MOST_EVENTS if some else None
            found = Cooccurrence(self.shards, counts, events, thread_count(os.environ), most)
            self._cooccurrences = {(counts, some): found}  # one at a time is in memory
        return self._cooccurrences[counts, some]

    @cached_property
    def _domains(self) -> ItemDomains | None:
        return ItemDomains.of_sequences(self.source) if self.config.candidates == "domain" else None

    @property
    def _config(self) -> EvaluationConfig:
        return self.config.model_copy(update={"batch_size": max(self.config.batch_size, _BATCH)})

    @cached_property
    def _validated(self) -> tuple[SequenceSource | None, int]:
        return some_validated(self.source)

"""Recommendations as a stream: batches of users in, batches of rows out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import torch

from models.config import RunConfig
from models.data.kept import kept_behaviors
from models.data.sequences import BoolArray, Int64Array, SequenceData
from models.data.side import FIRST_VISITOR
from models.evaluation.held_scores import HeldScores
from models.evaluation.ranking import Scorer
from models.evaluation.scores import Pairs, Scores
from models.serving.recommend.asked import ask, take_sequences
from models.serving.recommend.ids import Ids
from models.serving.recommend.indexed import indexed_top_items, recall
from models.serving.recommend.request import Request
from models.serving.recommend.rerank import Rerank
from models.serving.recommend.table import Asking
from models.serving.recommend.top import NONE, top_items

MODEL, POPULARITY = "model", "popularity"


@dataclass
class Told:
    """What became of the users so far."""

    users: int = 0
    by_popularity: int = 0
    """Users without any event that the model is shown."""
    unsorted: int = 0
    """Users whose events were not in order of time; they were sorted."""
    unknown_items: int = 0
    """Events with an item that the data set does not know."""
    asked_later: int = 0
    """Users with events after the time of asking: they were asked at the time of the last one."""
    asked_apart: int = 0
    """Users who were asked at a time of their own."""
    short: int = 0
    """Users for whom fewer items were left than were asked for."""
    empty: int = 0
    """Users for whom no item was left."""
    compared_users: int = 0
    """Users for whom what an index found was compared with the exact answer: those of the first batch."""
    recall: float | None = None
    """Of these, the mean share of the exact top items that the index found; None without an index."""
    missing_values: dict[str, int] = field(default_factory=dict)
    """Events without a value, by the feature that the model reads; of features of users, `user.<name>`,
    users."""


@dataclass(frozen=True)
class _Popular(Scores):
    """How often items occur, the same for all."""

    counts: torch.Tensor
    """[known items] float64."""
    rows: int

    @property
    def device(self) -> torch.device:
        return self.counts.device

    def columns(self, first: int, stop: int) -> torch.Tensor:
        return self.counts[first:stop].expand(self.rows, -1)


class Stream:
    """Answers one request.

    Args:
        request: what is asked for.
        score: scores all items.
        config: settings of the run.
        ids: of the data set.
        told: is kept up to date.
        rerank: puts the first items of users in another order; None: the scores' order stays.
        by_length: all users of a part become one batch of rows, and are scored with others of about as many
            events; else in their order, a batch of rows for each batch that is scored.
    """

    def __init__(
        self,
        request: Request,
        score: Scorer,
        config: RunConfig,
        ids: Ids,
        told: Told,
        *,
        rerank: Rerank | None = None,
        by_length: bool = False,
    ) -> None:
        self.rerank, self.k = rerank, request.k
        if rerank is not None:
            request = replace(request, k=min(max(request.k, rerank.depth), ids.shards.num_items))
        self.request, self.score, self.config, self.ids, self.told = request, score, config, ids, told
        self.by_length = by_length
        self.first_item, self.num_items = ids.shards.first_item, ids.shards.num_items
        counted = "count" if config.loader.part == "all" else "train_count"
        counts = ids.items[counted].to_numpy().astype(np.float64)
        self.popular = torch.from_numpy(counts)
        self.answers = pa.array([MODEL, POPULARITY])

    def answer(self, parts: Iterable[Asking]) -> Iterator[pa.RecordBatch]:
        """Rows of recommendations: `user`, `rank`, `item`, `score`, `answer`, and what was asked for."""
        size = self.config.evaluation.batch_size
        for part in parts:
            self.told.unsorted += part.unsorted
            self.told.unknown_items += part.unknown_items
            for name, count in part.missing.items():
                self.told.missing_values[name] = self.told.missing_values.get(name, 0) + count
            step = max(1, part.data.num_sequences) if self.by_length else size
            for first in range(0, part.data.num_sequences, step):
                chosen = np.arange(first, min(first + step, part.data.num_sequences))
                data = take_sequences(part.data, chosen)
                if part.people is None or part.known is None:
                    found = self._batch(part, chosen, data)
                else:
                    data = replace(data, row=FIRST_VISITOR - np.arange(len(chosen)))
                    with part.known(part.people.take(pa.array(chosen))):
                        found = self._batch(part, chosen, data)
                yield found

    def _batch(self, part: Asking, chosen: Int64Array, data: SequenceData) -> pa.RecordBatch:
        at = None if part.at is None else part.at[chosen]
        if at is not None and self.request.question.at is not None:
            self.told.asked_apart += int((at >= 0).sum())
        by_model = self._has_inputs(data)
        excluded = self._excluded(data)
        asked, targets, later = ask(data, self.request.question, at)
        items = np.full((len(chosen), self.request.k), NONE, np.int64)
        scores = np.full((len(chosen), self.request.k), -np.inf, np.float32)
        groups = [(rows, True) for rows in self._groups(data, np.flatnonzero(by_model))]
        for rows, is_model in [*groups, (np.flatnonzero(~by_model), False)]:
            if not len(rows):
                continue
            left_out = _of_rows(excluded, rows, len(chosen))
            # Where nothing is left out, what is popular is the same for all.
            alike = not is_model and (left_out is None or not len(left_out[0]))
            count = 1 if alike else len(rows)
            found = self.score(asked, targets.take(rows)) if is_model else _Popular(self.popular, count)
            item, score = self._top(found, count, left_out)
            items[rows], scores[rows] = item.cpu().numpy(), score.float().cpu().numpy()
        if self.rerank is not None:
            items, scores = self._reranked(asked, np.flatnonzero(by_model), items, scores)
        self.told.users += len(chosen)
        self.told.by_popularity += int((~by_model).sum())
        self.told.asked_later += int((later & by_model).sum())
        self.told.empty += int((items[:, 0] == NONE).sum())
        self.told.short += int((items[:, -1] == NONE).sum())
        return self._rows(part.users.take(pa.array(chosen)), items, scores, by_model)

    def _top(self, scores: Scores, rows: int, excluded: Pairs | None) -> tuple[torch.Tensor, torch.Tensor]:
        k, allowed, index = self.request.k, self.request.allowed, self.request.index
        if index is None or not isinstance(scores, HeldScores):
            return top_items(scores, rows, self.num_items, k, excluded=excluded, allowed=allowed)
        item, score = indexed_top_items(scores, index, k, excluded=excluded, allowed=allowed)
        if not self.told.compared_users:
            exact, _ = top_items(scores, rows, self.num_items, k, excluded=excluded, allowed=allowed)
            total, self.told.compared_users = recall(item, exact)
            self.told.recall = total / max(1, self.told.compared_users)
        return item, score

    def _reranked(
        self, asked: SequenceData, rows: Int64Array, items: Int64Array, scores: np.ndarray
    ) -> tuple[Int64Array, np.ndarray]:
        """[users, k] the first `depth` items of users with a history in the ranking model's order."""
        assert self.rerank is not None
        depth = min(self.rerank.depth, items.shape[1])
        if len(rows):
            some = take_sequences(asked, rows)
            item, score = self.rerank.order(some, items[rows, :depth])
            items[rows[:, None], np.arange(depth)], scores[rows[:, None], np.arange(depth)] = item, score
        if self.k > depth:  # what is behind has scores of another kind
            items[rows, depth:], scores[rows, depth:] = NONE, -np.inf
        return items[:, : self.k], scores[:, : self.k]

    def _groups(self, data: SequenceData, rows: Int64Array) -> list[Int64Array]:
        """The users that are scored together."""
        if not self.by_length:
            return [rows]
        lengths = np.minimum(data.lengths[rows], self.config.model.max_length)
        ordered, size = rows[np.argsort(lengths, kind="stable")], self.config.evaluation.batch_size
        return [ordered[first : first + size] for first in range(0, len(ordered), size)]

    def _has_inputs(self, data: SequenceData) -> BoolArray:
        """[sequences] whether the model is shown any event."""
        kept = kept_behaviors(self.config.model.input_behaviors, data.about)
        if kept is None:
            return data.lengths > 0
        before = np.concatenate(([0], np.cumsum(kept[data.behavior])))
        return np.diff(before[data.offsets]) > 0

    def _excluded(self, data: SequenceData) -> Pairs | None:
        """Users and items that they have seen."""
        if self.request.seen is None:
            return None
        counts = self.request.seen[data.behavior] & (data.item >= self.first_item)
        owner = np.repeat(np.arange(data.num_sequences), data.lengths)
        return owner[counts], data.item[counts].astype(np.int64) - self.first_item

    def _rows(
        self, users: pa.Table, items: Int64Array, scores: np.ndarray, by_model: BoolArray
    ) -> pa.RecordBatch:
        there = items != NONE
        row, place = np.nonzero(there)
        ranks, owner = pa.array(items[there]), pa.array(row)
        columns = {name: users[name].combine_chunks().take(owner) for name in users.column_names}
        columns["rank"] = pa.array(place + 1, pa.int32())
        if self.ids.separate_items:
            columns["item_domain"] = self.ids.items["domain"].combine_chunks().take(ranks)
        columns["item"] = self.ids.items["id"].combine_chunks().take(ranks)
        columns["score"] = pa.array(scores[there], pa.float32())
        columns["answer"] = self.answers.take(pa.array((~by_model[row]).astype(np.int64)))
        return pa.RecordBatch.from_pydict(columns | self.request.columns.of(ranks))


def _of_rows(excluded: Pairs | None, rows: Int64Array, count: int) -> Pairs | None:
    """The pairs of some rows, which are numbered anew."""
    if excluded is None:
        return None
    number = np.full(count, -1, np.int64)
    number[rows] = np.arange(len(rows))
    here = number[excluded[0]] >= 0
    return number[excluded[0][here]], excluded[1][here]

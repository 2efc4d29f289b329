"""Keys and values of users' histories, which grow with new events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data.batch import PackedBatch
from models.data.collate import QueryTime
from models.evaluation.held_scores import HeldScores
from models.evaluation.scores import Scores
from models.serving.cache.events import Users, question_of
from models.serving.cache.growing import GrowingCache
from models.tasks.retrieval.evaluator import newest_scores
from models.tasks.retrieval.model import RetrievalModel


class HistoryCache(GrowingCache):
    """Queries and scores of a retrieval model after histories of which new events alone are computed.

    Of a user's newest event nothing is reused: its outputs depend on when the next event happens, and of
    which behavior it is.

    Args:
        model: what computes; in evaluation mode or not, it is used without dropout and gradients.
        budget_bytes: memory of keys, values and events of all users together, taken at once.
        time: whether queries know the time of the next event (`model.time`).
        given: what else `GrowingCache` is made of: `window`, `slide`, `storage`, `page_events`, `graphs`. For
            candidates, which take a position of their own, a window has N - 1 events at most.

    Raises:
        UserError, ValueError: as of `GrowingCache`.
    """

    def __init__(self, model: RetrievalModel, budget_bytes: int, *, time: QueryTime, **given: Any) -> None:
        whole = isinstance(model, RetrievalModel) and (model.has_extra_mass or model.jumps is not None)
        super().__init__(model, budget_bytes, time=time, outputs=whole, **given)
        self.model, self._whole = model, whole
        self._items: Tensor | None = None

    def clear(self) -> None:
        """Take everybody out, and forget the vectors of items and what is recorded."""
        super().clear()
        self._items = None

    def append(self, users: Users, batch: PackedBatch, *, before: Users | None = None) -> Tensor:
        """Events that come after those of the cache; of users who are not in it, their history.

        Args:
            users: [users] of the sequences of the batch.
            batch: on any device; of each user one event at least, in order. Its last event says, as in an
                evaluation, what is asked: when the next event happens (`query_time`), of which behavior it is
                (`target_behavior`). Positions in it are not looked at. The batch in which a history begins
                says by `sequence` whose it is: of their features, and of pairs of theirs that jump logits
                leave out.
            before: [users] events of each history before those of the batch; checked against what the cache
                was told. By default that, or none.

        Returns:
            [users, dim] float32 queries after the newest events; `scores` has what else a model scores by.

        Raises:
            ValueError: a user twice, or without an event; or `before` says that events are missing or come
                twice.
            UserError: the users of the batch do not fit into the budget together.
        """
        with self._quiet():
            return self.model.queries(self._appended(users, batch, before))

    def queries(
        self,
        users: Users,
        at: Users | int | None = None,
        *,
        behavior: Users | int | None = None,
        domain: Users | int | None = None,
    ) -> Tensor:
        """[users, dim] float32 queries after the newest event of each, for other questions.

        Args:
            users: all in the cache.
            at: [users] or for all: seconds, when the next event happens. Models that do not know the time of
                the next event are not told.
            behavior: [users] or for all: the behavior that is wanted, for models that are told.
            domain: the same of its domain.
                What is not given is as the batch said in which the newest event came.

        Raises:
            UserError: a user is not in the cache.
            ValueError: a user stands there twice.
        """
        slots = self._histories.held(users)
        question = question_of(len(slots), timestamp=at, behavior=behavior, domain=domain)
        with self._quiet():
            [outputs] = self._passes.run(self._calls.asking(slots, question))
            return self.model.queries(outputs)

    def scores(
        self,
        users: Users,
        at: Users | int | None = None,
        *,
        behavior: Users | int | None = None,
        domain: Users | int | None = None,
    ) -> Scores:
        """Scores of all known items after the newest event of each, as an evaluation ranks by.

        With all that the model has besides inner products: history, jump and trend logits, which compare the
        question with outputs after all events; these are in the cache, too.

        Args:
            users: as of `queries`, and so are the others.

        Raises:
            UserError: a user is not in the cache.
            ValueError: a user stands there twice.
        """
        slots, model = self._histories.held(users), self.model
        question = question_of(len(slots), timestamp=at, behavior=behavior, domain=domain)
        with self._quiet():
            if self._items is None:
                self._items = model.held_items.filled(model.item_vectors())
            if not self._whole:
                [outputs] = self._passes.run(self._calls.asking(slots, question))
                return HeldScores(model.queries(outputs), self._items, model.held_items)
            call = self._calls.asking(slots, question, columns=True)
            outputs, batch = self._passes.windows(call, self._histories.directory.length[slots])
            return newest_scores(model, outputs, batch, batch.item.cpu(), self._items)

    def candidates(
        self,
        users: Users,
        items: Tensor | Sequence[int],
        counts: Users,
        at: Users | int | None = None,
        *,
        behavior: Users | int | None = None,
        domain: Users | int | None = None,
        new: PackedBatch | None = None,
        at_once: int = 256,
    ) -> Tensor:
        """What the backbone knows after each candidate, as if it alone were the next event (M-FALCON).

        A micro-batch of candidates stands after the history; each sees the history and itself, at the
        position after the history (arXiv 2402.17152, algorithm 1). Nothing of them is kept.

        Args:
            users: all in the cache.
            items: [candidates] ids, those of the first user first.
            counts: [users] candidates of each; may be 0.
            at: [users] or for all: seconds, when the candidates happen, and what the newest event is asked.
            behavior: the same of their behavior.
            domain: the same of their domain.
                What is not given is as the batch said in which the newest event came, or where that says
                nothing, as of the newest event. Features of events are missing.
            new: events that come before them, appended in the same pass; as of `append`, where users may be
                new, too.
            at_once: most candidates of a user in one micro-batch.

        Returns:
            [candidates, dim] outputs of the backbone, for a ranking head; `model.queries` of them are the
            queries after these events.

        Raises:
            UserError: a user is not in the cache; with `new`, what `append` raises.
            ValueError: a history has all N positions, so that none is left; or counts do not go together.
        """
        number, told = np.asarray(counts, np.int64), {"item": torch.as_tensor(items, dtype=torch.int64)}
        question = question_of(len(number), timestamp=at, behavior=behavior, domain=domain)
        with self._quiet():
            return self._after_candidates(users, told, number, question, new, at_once)

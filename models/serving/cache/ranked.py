"""Candidates of a ranking model, judged after histories that grow with new events (M-FALCON)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data.batch import PackedBatch
from models.data.collate import QueryTime
from models.data.origins import Own
from models.serving.cache.checks import check_counts, checked_users
from models.serving.cache.events import Users, question_of
from models.serving.cache.growing import GrowingCache
from models.serving.cache.ragged import Ints, on_device
from models.tasks.ranking.model import RankingModel


class RankingCache(GrowingCache):
    """Logits of a ranking model about candidates, after histories of which new events alone are computed.

    In the sequence of items and actions, the item after the newest action is the one that is asked about; it
    is stored, with its action, once it is known. Candidates of a user stand side by side in its place; each
    sees the history and itself (arXiv 2402.17152, algorithm 1). Their logits are those of the model with the
    candidate as the item after the last event.

    Args:
        model: what ranks; of an ensemble, each member has a cache of its own.
        budget_bytes: memory of keys, values and events of all users together, taken at once.
        time: whether items know when they are asked about (`model.time`).
        given: what else `GrowingCache` is made of: `window`, `slide`, `storage`, `page_events`, `graphs`.

    Raises:
        UserError, ValueError: as of `GrowingCache`.
    """

    def __init__(
        self, model: RankingModel, budget_bytes: int | None, *, time: QueryTime, **given: Any
    ) -> None:
        super().__init__(model, budget_bytes, time=time, **given)
        self.model = model

    @classmethod
    def for_batch(cls, model: RankingModel, batch: PackedBatch, *, time: QueryTime) -> RankingCache:
        """With room for the histories of one batch, to be asked about once: `logits(..., new=batch)`."""
        lengths = np.array(batch.sequences.lengths, np.int64)
        return cls(model, None, time=time, graphs=False, room_for=lengths)

    def append(self, users: Users, batch: PackedBatch, *, before: Users | None = None) -> None:
        """Events that come after those of the cache; of users who are not in it, their history.

        Args:
            users: [users] of the sequences of the batch.
            batch: on any device; of each user one event at least, in order, with all that the model reads of
                events (`task.columns`). What it says of the items after the last events is not looked at, but
                for the time of asking: `logits` asks at that one where it is told none. The batch in which a
                history begins says by `sequence` whose features of users there are.
            before: [users] events of each history before those of the batch; checked against what the cache
                was told. By default that, or none.

        Raises:
            ValueError: a user twice, or without an event; or `before` says that events are missing or come
                twice.
            UserError: the users of the batch do not fit into the budget together.
        """
        with self._quiet():
            self._appended(users, batch, before)

    def logits(
        self,
        users: Users,
        items: Tensor | Sequence[int],
        counts: Users,
        at: Users | int | None = None,
        *,
        known: Mapping[str, Tensor] | None = None,
        context: Tensor | None = None,
        new: PackedBatch | None = None,
        at_once: int = 256,
    ) -> Tensor:
        """[candidates, labels] float32 logits of actions, and predicted values of others.

        Args:
            users: all in the cache; with `new`, anybody.
            items: [candidates] ids, those of the first user first.
            counts: [users] candidates of each; may be 0.
            at: [users] or for all: seconds, when they are asked about; by default as the batch said in which
                the newest event came. Models that do not know the time are not told.
            known: [candidates] each: features that are known beforehand (`task.known_features`), by name; all
                of them where the model has any.
            context: [candidates, numbers] of the model's counters (`task.counters`), where it has any.
            new: events that come before them, appended in the same pass; as of `append`, where a sequence may
                have no event: who is not in the cache either has no history.
            at_once: most candidates of a user in one pass.

        Raises:
            UserError: a user is not in the cache; with `new`, what `append` raises.
            ValueError: counts do not go together with items; or numbers of counters, or known features, are
                missing.
        """
        number = np.asarray(counts, np.int64)
        items = torch.as_tensor(items, dtype=torch.int64)
        told = {"item": items, **self._known(known or {}, len(items))}
        context = self._context(context, len(items))
        question = question_of(len(number), timestamp=at)
        with self._quiet():
            outputs = self._outputs(users, told, number, question, new, at_once)
            device = outputs.device
            judged = self.model.judge(outputs, items.to(device), context.to(device))
        return judged[:, : len(self.model.labels)]

    def _known(self, known: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
        """[candidates] each: the features that the model is told of candidates."""
        names = self.model.embedding.known.names
        missing = [name for name in names if name not in known or len(known[name]) != count]
        if missing:
            raise ValueError(f"the model is told {', '.join(missing)} of each of {count} candidates")
        return {name: known[name] for name in names}

    def _context(self, context: Tensor | None, count: int) -> Tensor:
        """[candidates, numbers] of counters."""
        width = self.model.counters.width
        if context is None:
            context = torch.zeros(count, 0)
        if context.shape != (count, width):
            raise ValueError(f"the model has counters: {width} numbers of each of {count} candidates")
        return context

    def _outputs(
        self,
        users: Users,
        told: dict[str, Tensor],
        counts: Ints,
        question: dict[str, Ints],
        new: PackedBatch | None,
        at_once: int,
    ) -> Tensor:
        """[candidates, dim] of the backbone, of users with a history and without."""
        ids = checked_users(users, None if new is None else new.num_sequences)
        if new is None:
            return self._after_candidates(ids, told, counts, question, None, at_once)
        check_counts(counts, len(told["item"]), len(ids))
        begun = (np.array(new.sequences.lengths) > 0) | (self.seen(ids) > 0)
        if begun.all():
            return self._after_candidates(ids, told, counts, question, new, at_once, all_grow=False)
        whose = np.repeat(np.arange(len(ids)), counts)
        theirs, others = np.flatnonzero(begun[whose]), np.flatnonzero(~begun[whose])
        found = self._of_nobody(_some(told, others), new.sequence.cpu()[whose[others]])
        places = [on_device(others, found.device)]
        if begun.any():
            rows = np.flatnonzero(begun)
            known = {name: each[rows] for name, each in question.items()}
            outputs = self._after_candidates(
                ids[rows],
                _some(told, theirs),
                counts[rows],
                known,
                _without_empty(new, rows),
                at_once,
                all_grow=False,
            )
            found = torch.cat([found.to(outputs.dtype), outputs])
            places.append(on_device(theirs, found.device))
        return torch.empty_like(found).index_copy_(0, torch.cat(places), found)

    def _of_nobody(self, told: dict[str, Tensor], sequence: Tensor) -> Tensor:
        """[candidates, dim] where each is the first item of a sequence.

        Args:
            told: [candidates] each.
            sequence: [candidates] rows in the data set of who is asked.
        """
        count, columns = len(told["item"]), self.model.embedding.columns
        values = {
            column.name: told[column.reads[0]].to(column.torch_dtype)
            if isinstance(column.origin, Own) and column.reads[0] in told
            else torch.full((count,), column.fill, dtype=column.torch_dtype)
            for column in columns
        }
        batch = PackedBatch(columns, values, torch.arange(count + 1), sequence, has_time=True)
        tokens, outputs = self.model.passed(batch.to(self.model.device))
        return tokens.queries(outputs)[count:]


def _some(told: Mapping[str, Tensor], places: Ints) -> dict[str, Tensor]:
    """What is known of some candidates."""
    return {name: each[torch.from_numpy(places).to(each.device)] for name, each in told.items()}


def _without_empty(batch: PackedBatch, rows: Ints) -> PackedBatch:
    """Some sequences of a batch, of which all others are empty."""
    kept = torch.from_numpy(rows)
    begin = batch.offsets.cpu()[kept]
    offsets = torch.cat([begin, batch.offsets[-1:].cpu()]).to(batch.offsets.device)
    return replace(batch, offsets=offsets, sequence=batch.sequence[kept.to(batch.sequence.device)])

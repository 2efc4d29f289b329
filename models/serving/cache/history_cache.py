"""Keys and values of users' histories, which grow with new events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.data.batch import PackedBatch
from models.data.collate import QueryTime
from models.data.columns import Columns
from models.data.declared import CORE
from models.evaluation.held_scores import HeldScores
from models.evaluation.scores import Scores
from models.serving.cache.checks import check_model, checked_users, not_here, told_before
from models.serving.cache.counts import CacheCounts
from models.serving.cache.directory import NOBODY, Directory
from models.serving.cache.events import EventColumns, Users, question_of
from models.serving.cache.pages import Pages
from models.serving.cache.passes import Passes
from models.serving.cache.ragged import Ints, counted_up, offsets_of, on_device
from models.serving.cache.window import Growth, Window
from models.tasks.retrieval.evaluator import newest_scores
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring

Storage = Literal["float32", "bfloat16"]
"""Type of stored keys and values."""


class HistoryCache:
    """The keys and values of every layer, a user and event, in pages on the model's device.

    An event is computed once: its keys and values are those of the whole history computed anew, since no
    event sees later ones. The exception is a user's newest event, of which nothing is reused: its outputs
    depend on what is asked (when the next event happens, and of which behavior it is), and so do its keys and
    values in all layers but the first. They are computed again with every question, and stored for good when
    the next event has come and the answer is known. What is stored of an event is never changed, but when its
    window moves.

    A history of more than `window` events is cut to its newest ones. Positions then begin at a later event,
    and every remaining event has lost one that it saw, in deeper layers too; so the window is computed anew,
    as `model(batch)` computes it. With `slide` above 1 it moves so many events at once and is computed anew
    that much less often; between, the window is shorter than `window`, by `slide - 1` events at most.

    Changed weights want `clear`. Not for several threads at once.

    Args:
        model: what computes; in evaluation mode or not, it is used without dropout and gradients.
        budget_bytes: memory of keys, values and events of all users together, taken at once.
        time: whether queries know the time of the next event (`model.time`).
        window: most events of a history; by default N, `model.max_length`. For candidates, which take a
            position of their own, N - 1 at most.
        slide: events by which a full window moves, at least.
        storage: type of stored keys and values; a query sees what is stored.
        page_events: events of a page, the unit in which memory is handed out.

    Raises:
        UserError: the model is of a kind that cannot be cached (says why), or the budget does not suffice for
            one history.
        ValueError: a window or slide that makes no sense.
    """

    def __init__(
        self,
        model: RetrievalModel,
        budget_bytes: int,
        *,
        time: QueryTime,
        window: int | None = None,
        slide: int = 1,
        storage: Storage = "float32",
        page_events: int = 64,
    ) -> None:
        backbone = check_model(model)
        self.model = model
        whole = model.has_extra_mass or model.jumps is not None
        self.events = EventColumns.of(Columns.merged(model.embedding.columns, CORE if whole else ()), time)
        settings = [layer.settings for layer in backbone.attention_layers]
        longest = settings[0].max_length
        self.window = Window(longest if window is None else window, slide, longest)
        size, self._dim = min(page_events, self.window.size), settings[0].dim
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[storage]
        most = -(-self.window.size // size)
        self.pages = Pages.within(
            budget_bytes, size, settings, self.events.kept, dtype, model.device, least=most, outputs=whole
        )
        self.budget_bytes = budget_bytes
        self._passes = Passes(model.embedding, backbone, self.events, self.pages)
        self._directory = Directory(self.pages.count, most)
        self._hits = self._misses = 0
        self._items: Tensor | None = None

    @property
    def counts(self) -> CacheCounts:
        """Hits, misses, evictions, users and memory."""
        directory = self._directory
        return CacheCounts(
            hits=self._hits,
            misses=self._misses,
            evictions=directory.evictions,
            users=len(directory),
            used_bytes=directory.used_pages * self.pages.nbytes,
            budget_bytes=self.budget_bytes,
        )

    def seen(self, users: Users) -> Ints:
        """[users] how many events of each history the cache was told; 0 of those who are not in it.

        What comes after is to be appended. Nobody is asked for by this.
        """
        slots = self._directory.find(checked_users(users))
        return np.where(slots == NOBODY, 0, self._directory.told[slots] if len(self._directory) else 0)

    def forget(self, users: Users) -> None:
        """Take users out; who is not in the cache stays out."""
        self._directory.drop(self._directory.find(checked_users(users)))

    def clear(self) -> None:
        """Take everybody out, and forget the vectors of items."""
        self._directory.clear()
        self._items = None

    def append(self, users: Users, batch: PackedBatch, *, before: Users | None = None) -> Tensor:
        """Events that come after those of the cache; of users who are not in it, their history.

        Args:
            users: [users] of the sequences of the batch.
            batch: on any device; of each user one event at least, in order. Its last event says, as in an
                evaluation, what is asked: when the next event happens (`query_time`), of which behavior it is
                (`target_behavior`). Positions in it are not looked at.
            before: [users] events of each history before those of the batch; checked against what the cache
                was told. By default that, or none.

        Returns:
            [users, dim] float32 queries after the newest events; `scores` has what else a model scores by.

        Raises:
            ValueError: a user twice, or without an event; or `before` says that events are missing or come
                twice.
            UserError: the users of the batch do not fit into the budget together.
        """
        lengths = np.array(batch.sequences.lengths, np.int64)
        ids = checked_users(users, len(lengths))
        if not lengths.all():
            raise ValueError("a user without a new event is asked for by `queries`")
        directory = self._directory
        slots = directory.find(ids)
        held, told = slots != NOBODY, self.seen(ids)
        if before is not None:
            given = np.asarray(before, np.int64)
            told_before(told, given, held, ids)
            told = np.where(held, told, given)
        window = np.where(held, directory.length[slots] if len(directory) else 0, 0)
        growth = Growth.of(self.window, told, window, lengths)
        needed = -(-growth.length // self.pages.size)
        slots = directory.reserve(ids, needed)
        self._count(held)
        batch = batch.to(self.model.device)
        with self._unless_it_fails(slots), scoring(self.model):
            outputs = self._passes.grow(growth, self._table(slots), batch)
            directory.length[slots], directory.told[slots] = growth.length, told + lengths
            directory.touch(slots)
            return self.model.queries(outputs)

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
        slots = self._held(users)
        question = question_of(len(slots), self.model.device, timestamp=at, behavior=behavior, domain=domain)
        with scoring(self.model):
            outputs = self._passes.ask(self._table(slots), self._directory.length[slots], question)
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
        slots, model = self._held(users), self.model
        question = question_of(len(slots), self.model.device, timestamp=at, behavior=behavior, domain=domain)
        table, length = self._table(slots), self._directory.length[slots]
        with scoring(model):
            if self._items is None:
                self._items = model.held_items.filled(model.item_vectors())
            if self.pages.outputs is None:
                query = model.queries(self._passes.ask(table, length, question))
                return HeldScores(query, self._items, model.held_items)
            outputs, batch = self._passes.windows(table, length, question)
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
            at_once: most candidates of a user in one micro-batch.

        Returns:
            [candidates, dim] outputs of the backbone, for a ranking head; `model.queries` of them are the
            queries after these events.

        Raises:
            UserError: a user is not in the cache.
            ValueError: a history has all N positions, so that none is left; or counts do not go together.
        """
        slots = self._held(users)
        number = np.asarray(counts, np.int64)
        device = self.model.device
        items = torch.as_tensor(items, dtype=torch.int64).to(device)
        if len(number) != len(slots) or number.sum() != len(items) or (number < 0).any() or at_once < 1:
            raise ValueError(f"{len(items)} items, and counts of {len(number)} users that add up to others")
        if (self._directory.length[slots] >= self.window.positions).any():
            raise ValueError(
                f"a history has all {self.window.positions} positions, and none is left for candidates: make "
                f"the cache with window={self.window.positions - 1}"
            )
        question = question_of(len(slots), self.model.device, timestamp=at, behavior=behavior, domain=domain)
        found = torch.empty(len(items), self._dim, device=device)
        starts = offsets_of(number)[:-1]
        for first in range(0, int(number.max(initial=0)), at_once):
            some = np.clip(number - first, 0, at_once)
            rows = np.flatnonzero(some)
            place = on_device(counted_up(starts[rows] + first, some[rows]), device)
            picked = {name: told[on_device(rows, device)] for name, told in question.items()}
            whose = slots[rows]
            with scoring(self.model):
                outputs = self._passes.candidates(
                    self._table(whose), self._directory.length[whose], items[place], some[rows], picked
                )
            found = found.to(outputs.dtype).index_copy_(0, place, outputs)
        return found

    def _table(self, slots: Ints) -> Tensor:
        """[users, most] int32 pages."""
        return torch.from_numpy(self._directory.table[slots]).to(self.model.device, non_blocking=True)

    def _held(self, users: Users) -> Ints:
        """[users] slots of users who must be here, and are asked for."""
        ids = checked_users(users)
        slots = self._directory.find(ids)
        self._count(slots != NOBODY)
        if (slots == NOBODY).any():
            raise not_here(ids[slots == NOBODY])
        self._directory.touch(slots)
        return slots

    def _count(self, held: np.ndarray) -> None:
        hits = int(held.sum())
        self._hits, self._misses = self._hits + hits, self._misses + len(held) - hits

    @contextmanager
    def _unless_it_fails(self, slots: Ints) -> Iterator[None]:
        """Nothing half written is left: who was to be written is taken out where that failed."""
        try:
            yield
        except BaseException:
            self._directory.drop(slots)
            raise

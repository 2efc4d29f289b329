"""Keys and values of users' histories, which grow with new events."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
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
from models.serving.cache.calls import Calls, micro_batches
from models.serving.cache.checks import check_candidates, check_model, checked_users
from models.serving.cache.counts import CacheCounts
from models.serving.cache.events import EventColumns, Users, question_of
from models.serving.cache.histories import Histories
from models.serving.cache.pages import Pages
from models.serving.cache.passes import Passes
from models.serving.cache.ragged import Ints, on_device
from models.serving.cache.replays import Replays
from models.serving.cache.tokens import TokenCounts
from models.serving.cache.window import Window
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
        graphs: whether passes whose shapes come again are recorded as CUDA graphs and replayed; None: on a
            GPU. They are padded to few shapes.

    Raises:
        UserError: the model is of a kind that cannot be cached (says why), or the budget does not suffice for
            one history; or graphs are to be recorded without a GPU.
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
        graphs: bool | None = None,
    ) -> None:
        backbone = check_model(model)
        tokens = TokenCounts.of_layout(model.embedding.layout)
        assert tokens is not None
        self.model = model
        whole = model.has_extra_mass or model.jumps is not None
        self.events = EventColumns.of(Columns.merged(model.embedding.columns, CORE if whole else ()), time)
        settings = [layer.settings for layer in backbone.attention_layers]
        longest = settings[0].max_length
        self.window = Window(longest if window is None else window, slide, longest)
        size, self._dim = min(page_events, self.window.size), settings[0].dim
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[storage]
        most = -(-tokens.of(np.array(self.window.size)) // (size * tokens.each))
        self.pages = Pages.within(
            budget_bytes,
            size,
            tokens,
            settings,
            self.events.kept,
            dtype,
            model.device,
            least=int(most),
            outputs=whole,
        )
        self.budget_bytes = budget_bytes
        replays = Replays.on(model.device, graphs)
        self._passes = Passes(model.embedding, backbone, self.events, self.pages, replays)
        self._histories, self._most = Histories(self.pages, self.window, int(most)), int(most)
        self._calls = Calls(self._histories.directory, self.events, tokens)
        self._items: Tensor | None = None

    @property
    def full_histories(self) -> int:
        """Histories of a whole window that there is room for: users of one call always fit up to here."""
        return self.pages.count // self._most

    @property
    def counts(self) -> CacheCounts:
        """Hits, misses, evictions, users and memory."""
        histories, replays = self._histories, self._passes.replays
        directory = histories.directory
        return CacheCounts(
            hits=histories.hits,
            misses=histories.misses,
            evictions=directory.evictions,
            users=len(directory),
            used_bytes=directory.used_pages * self.pages.nbytes,
            budget_bytes=self.budget_bytes,
            shapes=0 if replays is None else replays.shapes,
            replayed=0 if replays is None else replays.passes,
            not_recorded="they are not asked for" if replays is None else replays.reason,
        )

    def seen(self, users: Users) -> Ints:
        """[users] how many events of each history the cache was told; 0 of those who are not in it.

        What comes after is to be appended. Nobody is asked for by this.
        """
        return self._histories.seen(checked_users(users))

    def forget(self, users: Users) -> None:
        """Take users out; who is not in the cache stays out."""
        directory = self._histories.directory
        directory.drop(directory.find(checked_users(users)))

    def clear(self) -> None:
        """Take everybody out, and forget the vectors of items and what is recorded."""
        self._histories.directory.clear()
        self._items = None
        if self._passes.replays is not None:
            self._passes.replays.clear()

    def _quiet(self) -> AbstractContextManager[None]:
        """Without dropout and gradients. To switch all modules takes longer than a small pass."""
        return scoring(self.model) if self.model.training else torch.no_grad()

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
        with self._quiet(), self._histories.growing(users, batch, before) as (slots, growth):
            call = self._calls.growing(slots, growth, batch, {})
            [outputs] = self._passes.run(call)
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
            if self.pages.outputs is None:
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
        check_candidates(self.pages.tokens, self.model)
        number, items = np.asarray(counts, np.int64), torch.as_tensor(items, dtype=torch.int64)
        question = question_of(len(number), timestamp=at, behavior=behavior, domain=domain)
        parts = list(micro_batches(number, len(items), len(checked_users(users)), at_once))
        outputs = []
        with self._quiet():
            if new is not None:
                some, chosen = next(((part.counts, part.of(items)) for part in parts), (number, None))
                with self._histories.growing(users, new, room_for_more=len(items) > 0) as (slots, growth):
                    call = self._calls.growing(slots, growth, new, question, chosen, some)
                    outputs += self._passes.run(call)[: len(parts)]
            else:
                slots = self._histories.held(users)
                self._histories.check_positions(self._histories.directory.length[slots])
            for part in parts[len(outputs) :]:
                picked = {name: told[part.rows] for name, told in question.items()}
                call = self._calls.asking(slots[part.rows], picked, part.of(items), part.counts[part.rows])
                outputs += self._passes.run(call)
        if len(outputs) == 1:
            return outputs[0]
        found = torch.empty(len(items), self._dim, device=self.model.device)
        for part, known in zip(parts, outputs, strict=True):
            found = found.to(known.dtype).index_copy_(0, on_device(part.places, found.device), known)
        return found

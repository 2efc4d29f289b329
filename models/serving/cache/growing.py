"""What caches of every kind of model have in common: histories that grow, and questions about them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.data.batch import PackedBatch
from models.data.collate import QueryTime
from models.data.columns import Columns
from models.data.declared import CORE
from models.serving.cache.calls import Calls, micro_batches
from models.serving.cache.checks import check_model, checked_users
from models.serving.cache.counts import CacheCounts
from models.serving.cache.events import EventColumns, Users
from models.serving.cache.histories import Histories
from models.serving.cache.pages import Kind, Pages
from models.serving.cache.passes import Passes
from models.serving.cache.ragged import Ints, on_device
from models.serving.cache.replays import Replays
from models.serving.cache.window import Window
from models.tasks.ranking.model import RankingModel
from models.tasks.retrieval.model import RetrievalModel
from models.tasks.retrieval.scoring import scoring

Storage = Literal["float32", "bfloat16"]
"""Type of stored keys and values."""
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class GrowingCache:
    """The keys and values of every layer, a user and event, in pages on the model's device.

    An event is computed once: its keys and values are those of the whole history computed anew, since no
    event sees later ones. The exception is a user's newest event, of which nothing is reused: its outputs
    depend on what is asked, and so do its keys and values in all layers but the first. They are computed
    again with every question, and stored for good when the next event has come and the answer is known. What
    is stored of an event is never changed, but when its window moves.

    A history of more than `window` events is cut to its newest ones. Positions then begin at a later event,
    and every remaining event has lost one that it saw, in deeper layers too; so the window is computed anew,
    as `model(batch)` computes it. With `slide` above 1 it moves so many events at once and is computed anew
    that much less often; between, the window is shorter than `window`, by `slide - 1` events at most.

    Changed weights want `clear`. Not for several threads at once.

    Args:
        model: what computes; in evaluation mode or not, it is used without dropout and gradients.
        budget_bytes: memory of keys, values and events of all users together, taken at once; None: as
            `room_for` says.
        time: whether queries know the time of the next event (`model.time`).
        window: most events of a history; by default N, `model.max_length`.
        slide: events by which a full window moves, at least.
        storage: type of stored keys and values; a query sees what is stored.
        page_events: events of a page, the unit in which memory is handed out.
        graphs: whether passes whose shapes come again are recorded as CUDA graphs and replayed; None: on a
            GPU. They are padded to few shapes.
        outputs: whether outputs after each event are kept, and all of its core columns.
        room_for: [users] events of histories that there is to be room for, in place of a budget.

    Raises:
        UserError: the model is of a kind that cannot be cached (says why), or the budget does not suffice for
            one history; or graphs are to be recorded without a GPU.
        ValueError: a window or slide that makes no sense.
    """

    def __init__(
        self,
        model: RetrievalModel | RankingModel,
        budget_bytes: int | None,
        *,
        time: QueryTime,
        window: int | None = None,
        slide: int = 1,
        storage: Storage = "float32",
        page_events: int = 64,
        graphs: bool | None = None,
        outputs: bool = False,
        room_for: Ints | None = None,
    ) -> None:
        backbone, tokens = check_model(model)
        self._computing = model
        columns = Columns.merged(model.embedding.columns, CORE if outputs else ())
        outputs = outputs or tokens.scattered
        self.events = EventColumns.of(columns, time)
        settings = [layer.settings for layer in backbone.attention_layers]
        longest = settings[0].max_length
        self.window = Window(longest if window is None else window, slide, longest)
        size = min(page_events, self.window.size)
        self.kind = Kind(size, tokens, settings, self.events.kept, _TYPES[storage], outputs)
        self._most = int(self.kind.pages_of(np.array(self.window.size)))
        if budget_bytes is None:
            lengths = np.array([], np.int64) if room_for is None else room_for
            needed = self.kind.pages_of(np.minimum(lengths, self.window.size)).sum()
            budget_bytes = max(self._most, int(needed)) * self.kind.nbytes
        self.budget_bytes = budget_bytes
        self.pages = Pages.within(budget_bytes, self.kind, model.device, least=self._most)
        replays = Replays.on(model.device, graphs)
        self._passes = Passes(model.embedding, backbone, self.events, self.pages, replays)
        self._histories = Histories(self.pages, self.window, self._most)
        self._calls = Calls(self._histories.directory, self.events, tokens)

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
        """Take everybody out, and forget what is recorded."""
        self._histories.directory.clear()
        if self._passes.replays is not None:
            self._passes.replays.clear()

    def _quiet(self) -> AbstractContextManager[None]:
        """Without dropout and gradients. To switch all modules takes longer than a small pass."""
        return scoring(self._computing) if self._computing.training else torch.no_grad()

    def _appended(self, users: Users, batch: PackedBatch, before: Users | None) -> Tensor:
        """[users, dim] outputs of the backbone after the newest events."""
        with self._histories.growing(users, batch, before) as (slots, growth):
            [outputs] = self._passes.run(self._calls.growing(slots, growth, batch, {}))
            return outputs

    def _after_candidates(
        self,
        users: Users,
        told: Mapping[str, Tensor],
        counts: Ints,
        question: dict[str, Ints],
        new: PackedBatch | None,
        at_once: int,
        *,
        all_grow: bool = True,
    ) -> Tensor:
        """[candidates, dim] outputs of the backbone.

        Args:
            users: [users] in the cache; with `new`, anybody.
            told: [candidates] each, what is known of candidates.
            counts: [users] candidates of each.
            question: what is known of all candidates of a user.
            new: events before them, appended in the same pass.
            at_once: most candidates of a user in one pass.
            all_grow: as of `Histories.growing`.
        """
        items, tokens = len(told["item"]), self.kind.tokens
        parts = list(micro_batches(counts, items, len(checked_users(users)), at_once))
        places, outputs = not tokens.asks_item, []
        if new is not None and new.num_events:
            some, chosen = (parts[0].counts, parts[0].of(told)) if parts else (counts, {})
            with self._histories.growing(
                users, new, room_for_more=places and items > 0, all_grow=all_grow
            ) as (slots, growth):
                call = self._calls.growing(slots, growth, new, question, chosen, some)
                outputs += self._passes.run(call)[: len(parts)]
        else:
            slots = self._histories.held(users)
            if places:
                self._histories.check_positions(self._histories.directory.length[slots])
        for part in parts[len(outputs) :]:
            picked = {name: each[part.rows] for name, each in question.items()}
            call = self._calls.asking(slots[part.rows], picked, part.of(told), part.counts[part.rows])
            outputs += self._passes.run(call)
        if len(outputs) == 1:
            return outputs[0]
        found = torch.empty(items, self.kind.layers[0].dim, device=self.pages.happened.device)
        for part, known in zip(parts, outputs, strict=True):
            found = found.to(known.dtype).index_copy_(0, on_device(part.places, found.device), known)
        return found

"""Whose histories are in a cache, as far as they were told, and what it computes when they grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from models.data.batch import PackedBatch
from models.serving.cache.checks import checked_users, not_here, told_before
from models.serving.cache.directory import NOBODY, Directory
from models.serving.cache.events import Users
from models.serving.cache.pages import Pages
from models.serving.cache.ragged import Ints
from models.serving.cache.window import Growth, Window


class Histories:
    """The users of a cache.

    Args:
        pages: their memory.
        window: of every history.
        most: pages of a history at most.
    """

    def __init__(self, pages: Pages, window: Window, most: int) -> None:
        self.tokens, self.page = pages.tokens, pages.size * pages.tokens.each
        self.window, self.directory = window, Directory(pages.count, most)
        self.hits = self.misses = 0

    def seen(self, ids: Ints) -> Ints:
        """[users] events that each has told; 0 of those who are not here."""
        slots = self.directory.find(ids)
        return np.where(slots == NOBODY, 0, self.directory.told[slots] if len(self.directory) else 0)

    def held(self, users: Users) -> Ints:
        """[users] slots of users who must be here, and are asked for.

        Raises:
            UserError: one is not.
            ValueError: one stands there twice.
        """
        ids = checked_users(users)
        slots = self.directory.find(ids)
        self._count(slots != NOBODY)
        if (slots == NOBODY).any():
            raise not_here(ids[slots == NOBODY])
        self.directory.touch(slots)
        return slots

    @contextmanager
    def growing(
        self,
        users: Users,
        batch: PackedBatch,
        before: Users | None = None,
        *,
        room_for_more: bool = False,
        all_grow: bool = True,
    ) -> Iterator[tuple[Ints, Growth]]:
        """[users] slots with pages for new events, and what is to be computed.

        Who has told them afterwards; who was to tell them is taken out where that fails, so that nothing is
        left half written.

        Args:
            users, batch, before: as of `HistoryCache.append`, which says what is raised.
            room_for_more: a position has to be left after the newest event.
            all_grow: everybody has a new event; or else who has none is here.
        """
        lengths = np.array(batch.sequences.lengths, np.int64)
        ids = checked_users(users, len(lengths))
        directory = self.directory
        slots = directory.find(ids)
        held, told = slots != NOBODY, self.seen(ids)
        if (lengths[~held] == 0).any() or (all_grow and not lengths.all()):
            raise ValueError("a user without a new event is asked for by `queries`")
        if before is not None:
            given = np.asarray(before, np.int64)
            told_before(told, given, held, ids)
            told = np.where(held, told, given)
        window = np.where(held, directory.length[slots] if len(directory) else 0, 0)
        growth = Growth.of(self.window, told, window, lengths)
        if room_for_more:
            self.check_positions(growth.length)
        slots = directory.reserve(ids, -(-self.tokens.of(growth.length) // self.page))
        self._count(held)
        if not held.all():
            directory.sequence[slots[~held]] = batch.sequence.cpu().numpy()[~held]
        try:
            yield slots, growth
        except BaseException:
            directory.drop(slots)
            raise
        directory.length[slots], directory.told[slots] = growth.length, told + lengths
        directory.touch(slots)

    def check_positions(self, length: Ints) -> None:
        """Raise ValueError where candidates have no position left after histories of a length."""
        if (length >= self.window.positions).any():
            raise ValueError(
                f"a history has all {self.window.positions} positions, and none is left for candidates: make "
                f"the cache with window={self.window.positions - 1}"
            )

    def _count(self, held: np.ndarray) -> None:
        hits = int(held.sum())
        self.hits, self.misses = self.hits + hits, self.misses + len(held) - hits

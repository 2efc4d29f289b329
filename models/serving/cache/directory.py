"""Which users are in a cache, in which pages, and who was asked for last."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from models.serving.cache.ragged import Ints, counted_up

NOBODY = -1


class Directory:
    """Users, their pages and the order of their last use; on the host, in arrays, without a loop over users.

    Users have slots, whose numbers stay while they are in the cache. Where pages are short, those of the
    users who were asked for least recently are taken away.

    Args:
        pages: that there are.
        most: pages of a user at most.
    """

    def __init__(self, pages: int, most: int) -> None:
        self.pages, self.most = pages, most
        self.evictions = 0
        self.clear()

    def clear(self) -> None:
        """Take everybody out."""
        self._users: Ints = np.empty(0, np.int64)  # ascending
        self._slots: Ints = np.empty(0, np.int64)
        self._free_pages: Ints = np.arange(self.pages - 1, -1, -1)
        self._free_slots: Ints = np.empty(0, np.int64)
        self._clock = 0
        self.table: npt.NDArray[np.int32] = np.empty((0, self.most), np.int32)
        """[slots, most] pages of each, the first `held` mean something."""
        self.held: Ints = np.empty(0, np.int64)
        """[slots] pages of each."""
        self.length: Ints = np.empty(0, np.int64)
        """[slots] events of each window."""
        self.told: Ints = np.empty(0, np.int64)
        """[slots] events of each history, of which the window has the last ones."""
        self.sequence: Ints = np.empty(0, np.int64)
        """[slots] row number of each in the data set."""
        self.used: Ints = np.empty(0, np.int64)
        """[slots] when each was asked for last."""

    def __len__(self) -> int:
        return len(self._users)

    @property
    def used_pages(self) -> int:
        """Pages that belong to somebody."""
        return self.pages - len(self._free_pages)

    def find(self, users: Ints) -> Ints:
        """[users] slots; `NOBODY` of those who are not here."""
        if not len(self._users):
            return np.full(len(users), NOBODY)
        place = np.searchsorted(self._users, users).clip(max=len(self._users) - 1)
        return np.where(self._users[place] == users, self._slots[place], NOBODY)

    def touch(self, slots: Ints) -> None:
        """They are asked for now."""
        self._clock += 1
        self.used[slots] = self._clock

    def reserve(self, users: Ints, needed: Ints) -> Ints:
        """Slots of users, new ones where they have none, with pages enough; others may have to leave.

        Args:
            users: all different.
            needed: pages of each.

        Raises:
            UserError: there are not so many pages. Nobody has left then.
        """
        slots = self.find(users)
        owned = np.where(slots == NOBODY, 0, self.held[slots] if len(self.held) else 0)
        extra = np.maximum(needed - owned, 0)
        if (owned + extra).sum() > self.pages:
            raise UserError(
                f"{len(users)} histories need {(owned + extra).sum()} pages at once, and the cache has "
                f"{self.pages}",
                fix="append fewer users at a time, or give the cache a larger budget",
            )
        self._make_room(int(extra.sum()), slots)
        slots = self._admit(users, slots)
        count = int(extra.sum())
        taken = self._free_pages[len(self._free_pages) - count :]
        self._free_pages = self._free_pages[: len(self._free_pages) - count]
        self.table[np.repeat(slots, extra), counted_up(self.held[slots], extra)] = taken
        self.held[slots] += extra
        return slots

    def drop(self, slots: Ints) -> None:
        """Take users out, and their pages back."""
        gone = np.isin(self._slots, slots)
        slots = self._slots[gone]
        held = self.held[slots]
        pages = self.table[np.repeat(slots, held), counted_up(np.zeros_like(held), held)]
        self._users, self._slots = self._users[~gone], self._slots[~gone]
        self._free_pages = np.concatenate([self._free_pages, pages.astype(np.int64)])
        self._free_slots = np.concatenate([self._free_slots, slots])
        self.held[slots] = self.length[slots] = self.told[slots] = 0

    def _make_room(self, count: int, stay: Ints) -> None:
        short = count - len(self._free_pages)
        if short <= 0:
            return
        others = self._slots[~np.isin(self._slots, stay)]
        others = others[np.argsort(self.used[others], kind="stable")]
        leave = int(np.searchsorted(np.cumsum(self.held[others]), short)) + 1
        self.evictions += leave
        self.drop(others[:leave])

    def _admit(self, users: Ints, slots: Ints) -> Ints:
        """The slots, with new ones for users without."""
        new = slots == NOBODY
        count = int(new.sum())
        if not count:
            return slots
        while len(self._free_slots) < count:
            self._grow()
        slots = slots.copy()
        slots[new] = self._free_slots[len(self._free_slots) - count :]
        self._free_slots = self._free_slots[: len(self._free_slots) - count]
        every = np.concatenate([self._users, users[new]])
        order = np.argsort(every, kind="stable")
        self._users, self._slots = every[order], np.concatenate([self._slots, slots[new]])[order]
        return slots

    def _grow(self) -> None:
        """Twice as many slots."""
        before = len(self.held)
        more = max(64, before)
        self.table = np.concatenate([self.table, np.zeros((more, self.most), np.int32)])
        for name in ("held", "length", "told", "sequence", "used"):
            setattr(self, name, np.concatenate([getattr(self, name), np.zeros(more, np.int64)]))
        self._free_slots = np.concatenate([self._free_slots, np.arange(before + more - 1, before - 1, -1)])

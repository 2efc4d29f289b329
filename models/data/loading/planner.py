"""Plans an epoch step by step, and knows after every step which samples are left."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from behavior.sampling.sampler import Units
from models.data.loading.order import EpochOrder
from models.data.loading.shuffle_blocks import ShuffleBlock, ShuffleBlockReader
from models.data.loading.steps import StepRule
from models.data.sequences import Int64Array


@dataclass(frozen=True)
class EpochPosition:
    """The position of a training in its data: the same on every process, whatever their number.

    Samples at places of the epoch's order below `taken` have been handed out, but for those that wait.
    """

    epoch: int = 0
    taken: int = 0
    waiting: tuple[int, ...] = ()

    @property
    def seen(self) -> int:
        """Samples of the epoch that have been handed out."""
        return self.taken - len(self.waiting)


@dataclass(frozen=True)
class Share:
    """Samples of one shuffle block that go into a batch."""

    block: ShuffleBlock
    numbers: Int64Array
    """Within the block."""
    lengths: Int64Array
    """Inputs of each."""


@dataclass(frozen=True)
class Step:
    """The samples of one process in a step, and the position of all of them after it."""

    shares: list[Share]
    after: EpochPosition


class EpochPlanner:
    """Chooses the steps of an epoch, from any position on.

    Every process chooses the same steps, from lengths alone, and takes its share.

    Args:
        order: of the epoch.
        following: of the next one, whose first block is read ahead, if there will be one.
        reader: of its blocks.
        rule: how steps are chosen.
        rank: of the process whose shares are returned.
        position: where to begin.
    """

    def __init__(
        self,
        order: EpochOrder,
        following: EpochOrder | None,
        *,
        reader: ShuffleBlockReader,
        rule: StepRule,
        rank: int,
        position: EpochPosition,
    ) -> None:
        self.order, self.following = order, following
        self.reader, self.rule, self.rank = reader, rule, rank
        self.taken = position.taken
        self.place = np.array(position.waiting, dtype=np.int64)  # [pool] ascending
        self.blocks: dict[int, ShuffleBlock] = {}
        self.lengths = self._lengths(self.place)  # [pool]

    def next(self) -> Step | None:
        """The next step, or None at the end of the epoch."""
        while (missing := self.rule.missing(self.lengths)) and self.taken < len(self.order):
            if self._is_far_ahead() and self.rule.enough(self.lengths):
                break  # a fuller step is not worth a third block in memory
            self._take(missing)
        if len(self.place) == 0:
            return None
        lengths = self._balanced() if self.reader.balanced else self.lengths
        ranks = self.rule.choose(lengths)
        mine, waits = ranks == self.rank, ranks < 0
        shares = self._shares(self.place[mine], lengths[mine])
        self.place, self.lengths = self.place[waits], self.lengths[waits]
        self._release()
        return Step(shares, EpochPosition(self.order.epoch, self.taken, tuple(self.place.tolist())))

    def _take(self, count: int) -> None:
        """Move samples from the order to the pool, none beyond the block that is begun."""
        block = int(self.order.block_at(np.array([self.taken]))[0])
        places = np.arange(self.taken, min(self.taken + count, int(self.order.starts[block + 1])))
        lengths = self._lengths(places)  # may fail: nothing has changed then
        self.place = np.concatenate((self.place, places))
        self.lengths = np.concatenate((self.lengths, lengths))
        self.taken += len(places)

    def _is_far_ahead(self) -> bool:
        """Whether the next sample to take and the oldest that waits are more than a block apart."""
        if len(self.place) == 0:
            return False
        oldest, following = self.order.block_at(np.array([self.place[0], self.taken])).tolist()
        return following > oldest + 1

    def _lengths(self, places: Int64Array) -> Int64Array:
        parts = [block.lengths[block.at(here)] for block, here in self._by_block(places)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def _balanced(self) -> Int64Array:
        """[pool] inputs of each sample, those of the next step cut together."""
        now = self.rule.fixed_size
        assert now is not None  # the loader checks
        units = [block.units.take(block.at(here)) for block, here in self._by_block(self.place[:now])]
        together = Units(
            *(np.concatenate([getattr(part, field.name) for part in units]) for field in fields(Units))
        )
        sampler, uncut = self.reader.sampler, self.lengths[:now]
        cut = sampler.balance(together, uncut, self.order.epoch, self.rule.cost)
        return np.concatenate((cut, self.lengths[now:]))

    def _shares(self, places: Int64Array, lengths: Int64Array) -> list[Share]:
        shares, begin = [], 0
        for block, here in self._by_block(places):
            end = begin + len(here)
            shares.append(Share(block, block.at(here), lengths[begin:end]))
            begin = end
        return shares

    def _by_block(self, places: Int64Array) -> list[tuple[ShuffleBlock, Int64Array]]:
        """Ascending places, cut where the block changes."""
        if len(places) == 0:
            return []
        first, last = self.order.block_at(places[[0, -1]]).tolist()
        cuts = np.searchsorted(places, self.order.starts[first + 1 : last + 1]).tolist()
        return [
            (self._block(number), places[begin:end])
            for number, begin, end in zip(
                range(first, last + 1), [0, *cuts], [*cuts, len(places)], strict=True
            )
            if begin < end
        ]

    def _block(self, number: int) -> ShuffleBlock:
        if number not in self.blocks:
            self.blocks[number] = self.reader.read(self.order, number)
            if number + 1 < len(self.order.blocks):
                self.reader.read_ahead(self.order, number + 1)
            elif self.following is not None:
                self.reader.read_ahead(self.following, 0)
        return self.blocks[number]

    def _release(self) -> None:
        """Let go of blocks of which nothing waits any more."""
        oldest = int(self.place[0]) if len(self.place) else min(self.taken, len(self.order) - 1)
        needed = int(self.order.block_at(np.array([oldest]))[0])
        for number in [number for number in self.blocks if number < needed]:
            del self.blocks[number]

"""Scores of whole histories of which a cache knows the beginnings: only what is new is computed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from hashlib import blake2b

import numpy as np

from models.data.collate import QueryTime
from models.data.kept import InputBehaviors, KeptEvents
from models.data.sequences import Int64Array, SequenceData
from models.data.windows import Windows, gather
from models.evaluation.scores import Scores
from models.evaluation.targets import Targets
from models.serving.cache import HistoryCache
from models.tasks.config import ModelConfig

_PASSES = 3  # who comes first may take the place of someone who is asked for as well


class CachedScorer:
    """A scorer (`models.evaluation.ranking.Scorer`) for people who come again.

    It is told who the sequences are of (`keys`), and remembers by a hash which events of each the cache has
    been told. A history that begins with these goes on from there; any other begins anew.

    Args:
        cache: of the model that scores.
        config: what the model is shown of a history.
    """

    def __init__(self, cache: HistoryCache, config: ModelConfig) -> None:
        self.cache, self.window = cache, cache.window.size
        self.time: QueryTime = config.time
        self.inputs: InputBehaviors = config.input_behaviors
        self.keys: Sequence[Hashable] = ()
        """[sequences] whose they are, of the data that is scored next; all different."""
        # Numbers and hashes of people, those who were here least recently first.
        self._people: OrderedDict[Hashable, tuple[int, bytes]] = OrderedDict()
        self._next = 0

    def __call__(self, data: SequenceData, targets: Targets) -> Scores:
        """Scores of all items after the history before each target, which asks as in an evaluation.

        Args:
            data: whole histories, of `keys`.
            targets: one a sequence at most; each has an event before it that is an input.
        """
        kept = KeptEvents(self.inputs).of(data)
        begin, end = data.offsets[:-1][targets.sequence], targets.stop
        if kept is not None:
            begin, end = np.searchsorted(kept, begin), np.searchsorted(kept, end)
        keys = [self.keys[sequence] for sequence in targets.sequence.tolist()]
        numbers = np.array([self._number(key) for key in keys], np.int64)
        for _ in range(_PASSES):
            told = self._told(keys, numbers, data, kept, begin, end)
            # Of those who are not here: what does not fit into the window is only counted.
            first = np.where(told > 0, begin + told, np.maximum(begin, end - self.window))
            new = np.flatnonzero(first < end)
            if not len(new):
                break
            windows = Windows(targets.sequence[new], first[new], end[new], targets.event[new], kept)
            batch = gather(data, windows, time=self.time)
            self.cache.append(numbers[new], batch, before=(first - begin)[new])
            for row in new.tolist():
                digest = self._digest(data, kept, int(begin[row]), int(end[row]))
                self._people[keys[row]] = int(numbers[row]), digest
        self._forget_the_departed()
        event, domains = targets.event, data.events.get("domain")
        return self.cache.scores(
            numbers,
            data.timestamp[event] if data.about.has_time else None,
            behavior=data.behavior[event].astype(np.int64),
            domain=None if domains is None else domains[event].astype(np.int64),
        )

    def _number(self, key: Hashable) -> int:
        known = self._people.get(key)
        if known is not None:
            self._people.move_to_end(key)
            return known[0]
        self._next += 1
        self._people[key] = self._next, b""
        return self._next

    def _told(
        self,
        keys: Sequence[Hashable],
        numbers: Int64Array,
        data: SequenceData,
        kept: Int64Array | None,
        begin: Int64Array,
        end: Int64Array,
    ) -> Int64Array:
        """[targets] events of each history that the cache has; those of another history are forgotten."""
        told = self.cache.seen(numbers)
        for row, key in enumerate(keys):
            if not told[row]:
                continue
            stop = int(begin[row] + told[row])
            same = stop <= end[row] and self._people[key][1] == self._digest(
                data, kept, int(begin[row]), stop
            )
            if not same:
                self.cache.forget(numbers[row : row + 1])
                told[row] = 0
        return told

    @staticmethod
    def _digest(data: SequenceData, kept: Int64Array | None, begin: int, end: int) -> bytes:
        """Of all that the model reads of some events."""
        rows = slice(begin, end) if kept is None else kept[begin:end]
        found = blake2b(digest_size=16)
        for name in sorted(data.events):
            found.update(np.ascontiguousarray(data.events[name][rows]).tobytes())
        return found.digest()

    def _forget_the_departed(self) -> None:
        """Who has left the cache need not be remembered; looked for when they outnumber the others."""
        if len(self._people) < 2 * len(self.keys) + 2 * self.cache.counts.users + 1_000:
            return
        there = self.cache.seen(np.array([number for number, _ in self._people.values()], np.int64)) > 0
        for key, stays in zip(list(self._people), there.tolist(), strict=True):
            if not stays:
                del self._people[key]

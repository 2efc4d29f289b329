"""The area under the ROC curve over all rows: exact, with ties, in bounded memory, over processes.

The AUC is the share of pairs of a positive and a negative row of which the positive one has the higher score,
ties counting half (Mann and Whitney, 1947; Hanley and McNeil, 1982). It follows from the counts of both at
each distinct score. Counts are kept as runs, sorted by score, that are merged and, when memory is full,
written to a folder; at the end they are merged a range of scores after the other, all processes together.
Sums are whole numbers: the result depends neither on the order of rows nor on how they are spread.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.distributed.processes import SINGLE, Processes

UInt32Array = npt.NDArray[np.uint32]
Int64Array = npt.NDArray[np.int64]

DISTINCT = 1 << 22
"""Distinct scores in memory, by default: 20 bytes each, up to four times as many while they are merged."""
_PREFIXES = 1 << 16


@dataclass(frozen=True)
class Run:
    """How many negatives and positives have each score."""

    key: UInt32Array  # [scores] rising, distinct: `keys_of` the score
    negatives: Int64Array  # [scores]
    positives: Int64Array  # [scores]

    @classmethod
    def of(cls, key: UInt32Array, negatives: Int64Array, positives: Int64Array) -> Run:
        """A run of counts in any order, in which a key may stand several times."""
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.diff(key, prepend=key[:1] ^ np.uint32(1)) != 0)
        if not len(key):
            return cls(key, negatives, positives)
        return cls(
            key[starts],
            np.add.reduceat(negatives[order], starts),
            np.add.reduceat(positives[order], starts),
        )

    @classmethod
    def merged(cls, runs: list[Run]) -> Run:
        """Several runs as one; at least one."""
        return cls.of(
            np.concatenate([run.key for run in runs]),
            np.concatenate([run.negatives for run in runs]),
            np.concatenate([run.positives for run in runs]),
        )

    def between(self, begin: int, stop: int) -> Run:
        """Some of its scores, in memory."""
        part = slice(begin, stop)
        return Run(np.array(self.key[part]), np.array(self.negatives[part]), np.array(self.positives[part]))


class AucCounter:
    """Counts the labels at each score of rows that come in batches.

    Args:
        distinct: scores that memory may hold; beyond them counts are written to `folder`.
        folder: default: a temporary one, which goes with the counter.
    """

    def __init__(self, distinct: int = DISTINCT, folder: Path | None = None) -> None:
        self._distinct, self._folder = distinct, folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._pending: list[Run] = []
        self._held = 0
        self._written: list[Run] = []

    def add(self, scores: npt.NDArray, labels: npt.NDArray) -> None:
        """Count rows.

        Args:
            scores: [rows] float32 (others are rounded to it); any order-preserving score: logits tie less
            than
                probabilities.
            labels: [rows] 0 or 1.

        Raises:
            ValueError: a score is NaN, or a label neither 0 nor 1.
        """
        labels = np.asarray(labels)
        if not np.isin(labels, (0, 1)).all():
            raise ValueError("a label is neither 0 nor 1")
        positive = labels.astype(np.int64)
        run = Run.of(keys_of(scores), 1 - positive, positive)
        self._pending.append(run)
        self._held += len(run.key)
        if self._held > self._distinct:
            merged = Run.merged(self._pending)
            self._pending, self._held = [merged], len(merged.key)
            if self._held > self._distinct // 2:
                self._write(merged)
                self._pending, self._held = [], 0

    def ordered(self, processes: Processes = SINGLE) -> Iterator[Run]:
        """The counts of all processes by rising score, in runs; all processes iterate together."""
        runs = [*self._written, *self._pending]
        starts = [np.searchsorted(run.key, _PREFIX_KEYS) for run in runs]
        held = np.zeros(_PREFIXES)
        for place, run in zip(starts, runs, strict=True):
            held += np.diff(place, append=len(run.key))
        held = np.array(processes.sum(held.tolist()))
        for begin, stop in _ranges(held, self._distinct):
            mine = [
                run.between(place[begin], len(run.key) if stop == _PREFIXES else place[stop])
                for place, run in zip(starts, runs, strict=True)
            ]
            merged = Run.merged(mine) if mine else _EMPTY
            yield Run.merged(processes.all_gather_object(merged))

    def auc(self, processes: Processes = SINGLE) -> float | None:
        """The AUC over the rows of all processes; None where all labels are the same."""
        twice, negatives, positives = 0, 0, 0
        for run in self.ordered(processes):
            below = np.cumsum(run.negatives) - run.negatives + negatives
            twice += _exact_dot(run.positives, 2 * below + run.negatives)
            negatives += int(run.negatives.sum())
            positives += int(run.positives.sum())
        return twice / (2 * negatives * positives) if negatives and positives else None

    def roc(self, points: int = 512, processes: Processes = SINGLE) -> npt.NDArray[np.float64]:
        """[points, 2] the ROC curve: false and true positive rate, from (0, 0) to (1, 1); empty without both.

        Where there are more distinct scores than points, evenly chosen ones stand for all.
        """
        corners = [np.zeros((1, 2), np.int64)]
        scores = processes.sum([float(sum(len(run.key) for run in (*self._written, *self._pending)))])[0]
        step = max(1, int(scores) // (4 * points))
        for run in self.ordered(processes):
            pairs = np.cumsum(np.stack([run.negatives, run.positives], axis=1), axis=0) + corners[-1][-1]
            corners.append(np.concatenate([pairs[:-1:step], pairs[-1:]]))
        below = np.concatenate(corners)
        total = below[-1]
        if not total.all():
            return np.zeros((0, 2))
        curve = (1.0 - below / total)[::-1]  # of rows that score higher
        if len(curve) > points:
            curve = curve[np.linspace(0, len(curve) - 1, points).round().astype(np.int64)]
        return curve

    def _write(self, run: Run) -> None:
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="auc-")
            self._folder = Path(self._temporary.name)
        name = f"run-{len(self._written)}"
        for column in ("key", "negatives", "positives"):
            np.save(self._folder / f"{name}-{column}.npy", getattr(run, column))
        self._written.append(
            Run(
                *(
                    np.load(self._folder / f"{name}-{column}.npy", mmap_mode="r")
                    for column in ("key", "negatives", "positives")
                )
            )
        )


def auc_of(scores: npt.NDArray, labels: npt.NDArray) -> float | None:
    """The AUC of rows in memory; None where all labels are the same. See `AucCounter`."""
    counter = AucCounter()
    counter.add(scores, labels)
    return counter.auc()


def keys_of(scores: npt.NDArray) -> UInt32Array:
    """Scores as whole numbers in the same order: float32 bits, negative ones flipped.

    Raises:
        ValueError: a score is NaN.
    """
    values = np.asarray(scores, np.float32) + np.float32(0.0)  # -0.0 becomes 0.0
    if np.isnan(values).any():
        raise ValueError("a score is NaN")
    bits = values.view(np.uint32)
    return np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))


_PREFIX_KEYS = np.arange(_PREFIXES, dtype=np.uint32) << np.uint32(16)
_EMPTY = Run(np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, np.int64))


def _ranges(held: npt.NDArray[np.float64], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of prefixes that hold at most so many scores, or are one prefix."""
    begin, total = 0, 0.0
    for prefix in np.flatnonzero(held).tolist():
        if total and total + held[prefix] > most:
            yield begin, prefix
            begin, total = prefix, 0.0
        total += held[prefix]
    if total:
        yield begin, _PREFIXES


def _exact_dot(one: Int64Array, other: Int64Array) -> int:
    """A sum of products that int64 may not hold, by halves of 32 bits: up to 2^31 positives."""
    low, high = other & 0xFFFFFFFF, other >> 32
    return int((one * low).sum()) + (int((one * high).sum()) << 32)

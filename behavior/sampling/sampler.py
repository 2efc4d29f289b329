"""Long-sequence sampling: which events of a training history a model is trained on.

A history may be far longer than a model's max_length N. A `Sampler` names the units of training, one or
several a sequence, and chooses the inputs of each in this order:

1. window: the newest N events, sliding windows, or a window at a random place;
2. quotas: most inputs of some behaviors (keep every purchase, sample the views);
3. the newest N of what is left;
4. stochastic length (HSTU, arXiv 2402.17152): most long samples are cut to a random subset;
5. repetition (RepPad, arXiv 2403.06372): short samples stand in the batch several times.

The chosen events are the sequence: each input predicts the next one chosen, the last one the unit's target.
Lengths count inputs.

Everything random follows from seed, epoch and the numbers of sequence and window, so that a sample depends
neither on its batch nor on the number of workers and ranks. Training only: an evaluation sees the whole
history up to N, and must not use anything here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.packing.cost import Cost
from behavior.sampling import kernels
from behavior.sampling.config import SamplingConfig
from behavior.sampling.repetition import RepeatRule
from behavior.sampling.stochastic_length import Float64Array, Int64Array, LengthRule, balance_lengths

__all__ = ["Sampler", "SamplingConfig", "Units"]

_SELECT = {"newest": kernels.NEWEST, "random": kernels.RANDOM, "recency": kernels.RECENCY}
_WHOLE_HISTORY = 2**62


@dataclass(frozen=True)
class Units:
    """Training samples before their inputs are chosen.

    Candidate inputs are the events `start` to `stop` (indices into flat columns of events); none is empty.
    """

    sequence: Int64Array  # [units] number of the sequence in the data set
    window: Int64Array  # [units] number of the window within its sequence, 0 the newest
    start: Int64Array  # [units]
    stop: Int64Array  # [units] exclusive
    target: Int64Array  # [units] event that the last input predicts: the one after the candidates

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def lengths(self) -> Int64Array:
        """[units] candidates of each unit."""
        return self.stop - self.start

    def take(self, rows: Any) -> Units:
        """The units that an index array, mask or slice names, in that order."""
        columns = (self.sequence, self.window, self.start, self.stop, self.target)
        return Units(*(np.ascontiguousarray(column[rows]) for column in columns))


class Sampler:
    """Chooses the inputs of training samples.

    Columns of events (`begin` points into them, `behavior` is one of them) may be any part of a data set:
    only `sequence`, the number of a sequence in the whole data set, enters the random numbers.

        units = sampler.units(begin, train_end, sequence, epoch)
        lengths = sampler.lengths(units, behavior, epoch)
        events = sampler.choose(units, lengths, behavior, epoch)
    """

    def __init__(
        self, config: SamplingConfig, *, max_length: int, behaviors: Sequence[str] = (), seed: int = 0
    ) -> None:
        """A sampler for one model and data set.

        Args:
            config: the settings.
            max_length: N, most inputs of a sample.
            behaviors: names of the data set's behaviors; the first has id 1. Read where there are quotas.
            seed: of all random numbers.

        Raises:
            UserError: a quota for an unknown behavior, or a stride that leaves events out.
        """
        if max_length < 1:
            raise UserError(f"max_length is {max_length}", fix="a sample has at least 1 input")
        self.config = config
        self.max_length = max_length
        self.stride = config.stride or max_length
        if self.stride > max_length:
            raise UserError(
                f"stride is {self.stride:,}, more than max_length {max_length:,}: no window would see the"
                " events between",
                fix=f"use a stride of at most {max_length:,}, or leave it out",
            )
        for name in config.quotas:
            if name not in behaviors:
                raise UserError(
                    f"quotas names the behavior '{name}', which the data do not have",
                    fix=did_you_mean(name, behaviors) if behaviors else "",
                )
        ids = {name: number for number, name in enumerate(behaviors, start=1)}
        self.limited = np.array([ids[name] for name in config.quotas], np.int64)
        self.quotas = np.array(list(config.quotas.values()), np.int64)
        stochastic = config.stochastic_length
        self.rule = LengthRule(max_length, stochastic.alpha) if stochastic else None
        self.repeat = RepeatRule(max_length, config.repeat) if config.repeat else None
        self._select = _SELECT[stochastic.select if stochastic else "newest"]
        self._seed = np.uint64(seed % 2**64)

    def counts(self, train_end: npt.NDArray[Any]) -> Int64Array:
        """Units of each sequence: 0 where nothing can be predicted.

        With sliding windows as many as it takes for every event but the first to be predicted. Window k ends
        `k * stride` events before window 0, and holds N inputs, the oldest one what is left. With a stride of
        N every event is predicted exactly once, with a smaller one at most ceil(N / stride) times.

        Args:
            train_end: [sequences] events of each training history.
        """
        inputs = np.asarray(train_end, np.int64) - 1
        counts = (inputs >= 1).astype(np.int64)
        if self.config.window == "sliding":
            counts += -(-np.maximum(inputs - self.max_length, 0) // self.stride)
        return counts

    def units(
        self, begin: npt.NDArray[Any], train_end: npt.NDArray[Any], sequence: npt.NDArray[Any], epoch: int
    ) -> Units:
        """All units of some sequences, sequence by sequence, the newest window first.

        A random window lies at any of its places with equal probability.

        Args:
            begin: [sequences] index of each sequence's first event.
            train_end: [sequences] events of each training history.
            sequence: [sequences] number of each sequence in the data set.
            epoch: pass over the data; read where windows are random.
        """
        whole_history = self.config.window == "newest" and len(self.limited) > 0
        train_end = np.ascontiguousarray(train_end, np.int64)
        rows, window, start, stop = kernels.fill_units(
            np.ascontiguousarray(begin, np.int64),
            train_end,
            np.ascontiguousarray(sequence, np.int64),
            self.counts(train_end),
            _WHOLE_HISTORY if whole_history else self.max_length,
            self.stride,
            self.max_length if self.config.window == "random" else 0,
            self._seed,
            epoch,
        )
        return Units(rows, window, start, stop, stop)

    def uncut(self, units: Units, behavior: npt.NDArray[Any] | None) -> Int64Array:
        """Inputs of each sample after quotas and the cut to N, before stochastic length. [units]

        Args:
            behavior: [events] behavior ids; read where there are quotas, None will do where there are none.
        """
        if not len(self.limited):
            return np.minimum(units.lengths, self.max_length)
        left = kernels.count_within_quotas(
            units.start, units.stop, _needed(behavior), self.limited, self.quotas
        )
        return np.minimum(left, self.max_length)

    def lengths(self, units: Units, behavior: npt.NDArray[Any] | None, epoch: int) -> Int64Array:
        """Inputs of each sample, without choosing them. [units]

        With stochastic_length.balanced these are the lengths of samples on their own, good for putting
        batches together; `balance` then gives those of a batch.

        Args:
            behavior: as for `uncut`.
            epoch: pass over the data.
        """
        uncut = self.uncut(units, behavior)
        return uncut if self.rule is None else self.rule.lengths(uncut, self._draws(units, epoch))

    def copies(self, units: Units, lengths: Int64Array, epoch: int) -> Int64Array | None:
        """How often each sample stands in its batch; None where all stand there once. [units]

        Args:
            units: the units.
            lengths: [units] inputs of one copy, from `lengths`.
            epoch: pass over the data.
        """
        if self.repeat is None:
            return None
        return self.repeat.copies(lengths, self._draws(units, epoch, kernels.FOR_COPIES))

    def balance(
        self, units: Units, uncut: Int64Array, epoch: int, cost: Cost, cap: float | None = None
    ) -> Int64Array:
        """Inputs of each sample of a batch whose cost is capped; see `balance_lengths`. [units]

        Args:
            units: of one batch.
            uncut: [units] from `uncut`.
            epoch: pass over the data.
            cost: of a sample with so many inputs.
            cap: most that the batch may cost; default: its expected cost with every sample on its own.

        Raises:
            UserError: stochastic length is off, or the cap is not above 0.
        """
        if self.rule is None:
            raise UserError("only stochastic length can be balanced", fix="set stochastic_length")
        ties = (units.sequence, units.window)
        return balance_lengths(uncut, self._draws(units, epoch), ties, self.rule, cost, cap)

    def choose(
        self, units: Units, lengths: Int64Array, behavior: npt.NDArray[Any] | None, epoch: int
    ) -> Int64Array:
        """The inputs: indices of events, unit by unit, oldest first.

        Args:
            units: the units.
            lengths: [units] inputs to choose for each, from `lengths` or `balance`; any up to `uncut`.
            behavior: as for `uncut`.
            epoch: the one of `lengths`.

        Returns:
            [sum of lengths] int64.

        Raises:
            ValueError: a length is negative, or more than the unit has.
        """
        columns = (units.sequence, units.window, units.start, units.stop, lengths)
        if len(self.limited):
            chosen, bad = kernels.choose_within_quotas(
                *columns,
                _needed(behavior),
                self.limited,
                self.quotas,
                _SELECT[self.config.quota_select],
                self.max_length,
                self._select,
                self._seed,
                epoch,
            )
        else:
            chosen, bad = kernels.choose_inputs(*columns, self.max_length, self._select, self._seed, epoch)
        if bad >= 0:
            raise ValueError(f"unit {bad} has no {lengths[bad]} inputs: these are lengths of other units")
        return chosen

    def expected_inputs(self, train_end: npt.NDArray[Any]) -> float:
        """Expected inputs of all units of some sequences, in one epoch, copies included.

        For progress and statistics. Quotas are not counted in, as they need the events: with them it is more
        than there will be.

        Args:
            train_end: [sequences] events of each training history.
        """
        inputs = np.maximum(np.asarray(train_end, np.int64) - 1, 0)
        full = np.maximum(self.counts(train_end) - 1, 0)  # windows but the oldest, each of N inputs
        oldest = np.minimum(inputs - full * self.stride, self.max_length)
        if self.repeat is not None:
            oldest = self.repeat.expected_inputs(oldest)
        if self.rule is None:
            return float(full.sum() * self.max_length + oldest.sum())
        of_full = self.rule.expected_inputs(np.array([self.max_length]))
        return float(full.sum() * of_full[0] + self.rule.expected_inputs(oldest).sum())

    def distinct_events(self, train_end: npt.NDArray[Any]) -> int:
        """Different events that samples of all epochs may have, as inputs or targets.

        Of a history longer than max_length only its end is ever seen by `window: newest` without quotas.

        Args:
            train_end: [sequences] events of each training history.
        """
        events = np.asarray(train_end, np.int64)
        events = np.where(self.counts(events) > 0, events, 0)
        if self.config.window == "newest" and not len(self.limited):
            events = np.minimum(events, self.max_length + 1)
        return int(events.sum())

    def _draws(self, units: Units, epoch: int, purpose: int = kernels.FOR_LENGTH) -> Float64Array:
        return kernels.unit_draws(units.sequence, units.window, self._seed, epoch, purpose)


def _needed(behavior: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if behavior is None:
        raise ValueError("quotas need the column of behaviors")
    return behavior

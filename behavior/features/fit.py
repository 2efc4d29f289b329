"""What must be known of all values before one can be encoded: combiners, which Beam can run.

    fitter = fitter_of(feature, oov=1)
    states = [fitter.add(fitter.create(), part) for part in parts]    # on any machine
    encoder = fitter.finish(fitter.merge(states))
    encoder.encode(column)

A state can be pickled, and neither the order of values nor that of merges changes the result; only the mean
and deviation of `standardize` are sums of floats, whose last bits depend on that order: merge them in a fixed
one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa

from behavior.features.columns import Domains, keyed, once_a_row
from behavior.features.encode import Encoder, VocabularyEncoder
from behavior.features.vocabulary import IdCounts, Vocabulary, extend
from behavior.spec.dataset_spec import Feature

State = TypeVar("State")


class Fitter(ABC, Generic[State]):
    """A mergeable fit of one feature: create, add, merge, finish."""

    @abstractmethod
    def create(self) -> State:
        """A fit of nothing."""

    @abstractmethod
    def add(
        self,
        state: State,
        values: pa.Array,
        weights: np.ndarray | None = None,
        *,
        domains: Domains = None,
        priorities: np.ndarray | None = None,
    ) -> State:
        """Take in some values.

        Args:
            state: the fit so far.
            values: raw or canonical values; missing ones count nowhere.
            weights: for events whether each is in the training part; for tables how many training events each
                row has. Default: 1. [values] bool or int
            domains: names of the domains, for a feature that is `per_domain`.
            priorities: for quantiles of a sample: a number for each value that tells which are in the sample,
                see `priorities_of`. [values] uint64

        Raises:
            UserError: the feature is `per_domain`, but no domains are given.
        """

    @abstractmethod
    def merge(self, states: Sequence[State]) -> State:
        """One fit of everything that went into several."""

    @abstractmethod
    def finish(self, state: State) -> Encoder:
        """The encoder."""

    def extend(self, previous: Encoder, state: State) -> Encoder:
        """The encoder of a data set to which more was added.

        Ids and numbers that are stored already keep their meaning: known values keep their ids and new ones
        follow; means, deviations and boundaries stay.

        Args:
            previous: the encoder so far (see `restore`).
            state: a fit of all values, old and new.
        """
        return previous


@dataclass(frozen=True)
class Fixed(Fitter[None]):
    """Nothing to fit: hashes, given boundaries, logarithms, numbers as they are."""

    encoder: Encoder

    def create(self) -> None:
        return None

    def add(
        self,
        state: None,
        values: pa.Array,
        weights: np.ndarray | None = None,
        *,
        domains: Domains = None,
        priorities: np.ndarray | None = None,
    ) -> None:
        return None

    def merge(self, states: Sequence[None]) -> None:
        return None

    def finish(self, state: None) -> Encoder:
        return self.encoder


@dataclass(frozen=True)
class VocabularyFitter(Fitter[pa.Table]):
    """Counts of values: id (text; with its domain where the feature is `per_domain`), count, train_count.

    Rows are counted: a value that a row repeats counts once.

    Attributes:
        feature: its settings; `min_count` and `max_size` leave values out of the vocabulary.
        oov: number of ids that values outside the vocabulary share.
        by: `count`, or `train_count`: only values with a weight make the vocabulary.
    """

    feature: Feature
    oov: int
    by: str = "count"

    @property
    def _counter(self) -> IdCounts:
        return IdCounts(pa.string())

    def create(self) -> pa.Table:
        return self._counter.create()

    def add(
        self,
        state: pa.Table,
        values: pa.Array,
        weights: np.ndarray | None = None,
        *,
        domains: Domains = None,
        priorities: np.ndarray | None = None,
    ) -> pa.Table:
        keys = keyed(self.feature, values, domains)
        in_train = np.ones(len(keys), bool) if weights is None else np.asarray(weights) > 0
        if pa.types.is_list(keys.type):
            keys, rows = once_a_row(keys)
            in_train = in_train[rows]
        there = keys.is_valid().to_numpy(zero_copy_only=False)
        return self.merge([state, self._counter.count(keys.drop_null(), in_train[there])])

    def merge(self, states: Sequence[pa.Table]) -> pa.Table:
        return self._counter.merge(states)

    def finish(self, state: pa.Table) -> VocabularyEncoder:
        least, most = self.feature.min_count, self.feature.max_size
        known = Vocabulary.from_counts(state, self.oov, by=self.by, min_count=least, max_size=most)
        return VocabularyEncoder(self.feature, known)

    def extend(self, previous: Encoder, state: pa.Table) -> VocabularyEncoder:
        assert isinstance(previous, VocabularyEncoder)
        least, most = self.feature.min_count, self.feature.max_size
        known = extend(previous.known, state, by=self.by, min_count=least, max_size=most)
        return VocabularyEncoder(self.feature, known)

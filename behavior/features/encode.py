"""Encoders: values of a feature become the ids and numbers that the shards hold.

| vocabulary | hash | buckets | stands for |
| --- | --- | --- | --- |
| 0 | 0 | 0 | padding |
| 1 | 1 | 1 | missing |
| 2 .. oov + 1 | | | OOV values, by hash |
| oov + 2 .. | | | known values, the most frequent first |
| | 2 .. | | values by hash |
| | | 2 .. | buckets, in ascending order |

A number that is missing is NaN, a list without values is empty.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.hashing import stable_hash
from behavior.features.columns import DOMAIN_MARK, Domains, canonical, keyed
from behavior.features.vocabulary import Vocabulary
from behavior.shards.manifest import FeatureEntry
from behavior.spec.dataset_spec import Feature

MISSING = 1
"""Id of a missing value; then come the OOV ids and the known values, the hashes, or the buckets."""
FIRST_ID = 2
"""The smallest id of a value that is there."""


class Encoder(ABC):
    """Turns values of one feature into what the shards hold; immutable, and can be pickled.

    The same encoder serves item tables, user tables and events.
    """

    feature: Feature

    @property
    @abstractmethod
    def entry(self) -> FeatureEntry:
        """What the manifest says of the feature."""

    @property
    def vocabulary(self) -> pa.Table | None:
        """Known values: index (int32), domain (where the feature is `per_domain`), value, count."""
        return None

    @abstractmethod
    def encode(self, values: pa.Array, domains: Domains = None) -> pa.Array:
        """Encode a column.

        Args:
            values: raw or canonical values, see `canonical`; missing ones are null, blank, or no number.
            domains: names of the domains, for a feature that is `per_domain`.

        Returns:
            As many values: int32 (list of int32 for the kinds multi_categorical and text), or float32.

        Raises:
            UserError: the feature is `per_domain`, but no domains are given.
        """


@dataclass(frozen=True)
class VocabularyEncoder(Encoder):
    """categorical and multi_categorical: the place in a vocabulary.

    Attributes:
        feature: its settings.
        known: the values with their domains (see `keyed`) as ids. The index here is the feature's id less
            one, for a `Vocabulary` has no id for what is missing.
    """

    feature: Feature
    known: Vocabulary

    @property
    def entry(self) -> FeatureEntry:
        size = FIRST_ID + self.known.oov + len(self.known)
        kind, name = self.feature.kind, self.feature.name
        return FeatureEntry(name=name, kind=kind, encoding="vocabulary", vocabulary_size=size)

    @property
    def vocabulary(self) -> pa.Table:
        table = self.known.table
        columns = {"index": pc.add(table.column("index"), pa.scalar(1, pa.int32()))}
        if self.feature.per_domain:
            parts = pc.split_pattern(self.known.ids, DOMAIN_MARK, max_splits=1).flatten()
            even = np.arange(0, len(parts), 2)
            columns |= {"domain": parts.take(pa.array(even)), "value": parts.take(pa.array(even + 1))}
        else:
            columns["value"] = table.column("id")
        return pa.table({**columns, "count": table.column("count")})

    def encode(self, values: pa.Array, domains: Domains = None) -> pa.Array:
        return _coded(self.feature, values, domains, lambda keys: self.known.indices(keys) + 1)


@dataclass(frozen=True)
class HashEncoder(Encoder):
    """hashed and text: `2 + stable_hash(value) % hash_size`."""

    feature: Feature

    @property
    def entry(self) -> FeatureEntry:
        kind = "multi_categorical" if self.feature.kind == "text" else "categorical"
        size = self._size
        return FeatureEntry(
            name=self.feature.name,
            kind=kind,
            encoding="hash",
            vocabulary_size=FIRST_ID + size,
            hash_size=size,
        )

    @property
    def _size(self) -> int:
        assert self.feature.hash_size is not None
        return self.feature.hash_size

    def encode(self, values: pa.Array, domains: Domains = None) -> pa.Array:
        size = np.uint64(self._size)
        return _coded(self.feature, values, domains, lambda keys: FIRST_ID + (stable_hash(keys) % size))


@dataclass(frozen=True)
class BucketEncoder(Encoder):
    """numeric, transform buckets: `2 + number of boundaries <= value`.

    Values and boundaries are compared as float32, so that 0.7 in a file is the boundary 0.7.
    """

    feature: Feature
    boundaries: tuple[float, ...]

    @property
    def entry(self) -> FeatureEntry:
        return FeatureEntry(
            name=self.feature.name,
            kind="categorical",
            encoding="buckets",
            vocabulary_size=FIRST_ID + len(self.boundaries) + 1,
            boundaries=list(self.boundaries),
        )

    def encode(self, values: pa.Array, domains: Domains = None) -> pa.Array:
        numbers = _numbers(self.feature, values).astype(np.float32)
        edges = np.array(self.boundaries, np.float32)
        buckets = FIRST_ID + np.searchsorted(edges, numbers, side="right")
        return pa.array(np.where(np.isnan(numbers), MISSING, buckets), pa.int32())


@dataclass(frozen=True)
class NumberEncoder(Encoder):
    """numeric, other transforms: `(x - mean) / deviation`, `sign(x) ln(1 + |x|)`, or x itself.

    Attributes:
        feature: its settings.
        mean, deviation: of the training part, for transform standardize; else None.
    """

    feature: Feature
    mean: float | None = None
    deviation: float | None = None

    @property
    def entry(self) -> FeatureEntry:
        return FeatureEntry(
            name=self.feature.name,
            kind="numeric",
            encoding=self.feature.transform,
            mean=self.mean,
            deviation=self.deviation,
        )

    def encode(self, values: pa.Array, domains: Domains = None) -> pa.Array:
        numbers = _numbers(self.feature, values)
        if self.mean is not None and self.deviation is not None:
            numbers = (numbers - self.mean) / self.deviation
        elif self.feature.transform == "log":
            numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
        return pa.array(numbers.astype(np.float32))


def restore(feature: Feature, entry: FeatureEntry, vocabulary: pa.Table | None = None) -> Encoder:
    """The encoder with which a finished data set was made.

    Args:
        feature: the settings in the data set's spec.
        entry: what its manifest says of the feature.
        vocabulary: its vocabulary file; for the encoding `vocabulary`.
    """
    if entry.encoding == "hash":
        return HashEncoder(feature)
    if entry.encoding == "buckets":
        return BucketEncoder(feature, tuple(entry.boundaries or ()))
    if entry.encoding != "vocabulary":
        return NumberEncoder(feature, entry.mean, entry.deviation)
    assert vocabulary is not None
    assert entry.vocabulary_size is not None
    values = vocabulary.column("value").combine_chunks()
    if feature.per_domain:
        domains = vocabulary.column("domain").combine_chunks()
        values = pc.binary_join_element_wise(domains, values, DOMAIN_MARK)
    known = pa.table(
        {
            "index": pc.subtract(vocabulary.column("index"), pa.scalar(1, pa.int32())),
            "id": values,
            "count": vocabulary.column("count"),
            # The file does not say how many are in the training part; nothing asks for it.
            "train_count": pa.array(np.zeros(len(values), np.int64)),
        }
    )
    return VocabularyEncoder(feature, Vocabulary(known, entry.vocabulary_size - FIRST_ID - len(values)))


def _coded(
    feature: Feature, values: pa.Array, domains: Domains, ids_of: Callable[[pa.Array], np.ndarray]
) -> pa.Array:
    """Ids of text; `ids_of` is asked for the values that are there."""
    single = feature.kind in ("categorical", "hashed")
    if pa.types.is_dictionary(values.type) and single and not feature.per_domain:
        # Each distinct value is looked up once.
        ids = _coded(feature, values.dictionary, None, ids_of)
        return pc.fill_null(ids.take(values.indices), MISSING)
    keys = keyed(feature, values, domains)
    if pa.types.is_list(keys.type):
        return pa.ListArray.from_arrays(keys.offsets, pa.array(ids_of(keys.flatten()).astype(np.int32)))
    ids = np.full(len(keys), MISSING, np.int32)
    ids[keys.is_valid().to_numpy(zero_copy_only=False)] = ids_of(keys.drop_null())
    return pa.array(ids)


def _numbers(feature: Feature, values: pa.Array) -> np.ndarray:
    """float64, NaN where missing."""
    return pc.fill_null(canonical(feature, values), float("nan")).to_numpy(zero_copy_only=False)

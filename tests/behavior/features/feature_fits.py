"""Fits run the way Beam does, and tables made from a few values."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from behavior.features import EncodedFeatures, Encoder, Fitter, encode_features
from behavior.features.vocabulary import Vocabulary
from behavior.spec.dataset_spec import Feature, FeatureTable


def fit(fitter: Fitter[Any], *columns: pa.Array) -> Encoder:
    """Fit columns one after the other, all with weight 1."""
    return fitter.finish(fitter.merge([fitter.add(fitter.create(), column) for column in columns]))


def merged_at_random(fitter: Fitter[Any], states: Sequence[Any], shuffle: random.Random) -> Any:
    """Merge states in any order and grouping, each sent to another process and back."""
    pending = [pickle.loads(pickle.dumps(state)) for state in states] + [fitter.create()]
    while len(pending) > 1:
        shuffle.shuffle(pending)
        size = shuffle.randint(2, len(pending))
        pending = [fitter.merge(pending[:size]), *pending[size:]]
    return pending[0]


def vocabulary_of(ids: list[Any], train_counts: list[int] | None = None, oov: int = 1) -> Vocabulary:
    """Ids in the order given."""
    table = pa.table(
        {
            "id": ids,
            "count": pa.array(range(100, 100 - len(ids), -1), pa.int64()),
            "train_count": pa.array(train_counts or [1] * len(ids), pa.int64()),
        }
    )
    return Vocabulary.from_counts(table, oov)


def table_of(*features: Feature, domain: str | None = None) -> FeatureTable:
    """A table whose files nobody reads."""
    return FeatureTable(files=["table.csv"], id="id", domain=domain, features=list(features))


def encode(vocabulary: Vocabulary, raw: Any, *features: Feature) -> EncodedFeatures:
    """Encode one table; `raw` is what `pa.table` takes, or a table."""
    raw = raw if isinstance(raw, pa.Table) else pa.table(raw)
    return encode_features(vocabulary, [(table_of(*features), raw)])


def numbers_in(array: pa.Array) -> list[float]:
    """A float column as plain numbers; missing ones are NaN."""
    return [float(value) for value in np.asarray(array.to_numpy(zero_copy_only=False))]

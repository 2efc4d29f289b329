"""Side features of events: read with the events, fitted like features of tables, encoded with the sequences.

What needs no fit (hashes, logarithms, given boundaries) is encoded as it is read: that is smaller, and
`--append` can add to a data set that holds only the encoded form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import mask, parse_floats, shown
from behavior.arrow.written import plain_numbers
from behavior.features import Encoder, canonical, domain_names, fitter_of, matched, priorities_of
from behavior.features.coverage import is_known
from behavior.features.fit import Fixed
from behavior.sources.raw import RawBatch
from behavior.spec.dataset_spec import DatasetSpec, EventSource, Feature
from behavior.steps.sequences import USER, first_events, flat, offsets_of

Require = Callable[[np.ndarray, Callable[[int], str], pa.Array], None]
"""Marks the rows that are not valid as bad, with a reason each."""
States = dict[str, Any]
"""Feature name -> the state of its fit."""


def fixed_encoder(feature: Feature) -> Encoder | None:
    """The encoder of a feature that needs no fit; None for the others."""
    fitter = fitter_of(feature, 1)
    return fitter.encoder if isinstance(fitter, Fixed) else None


def event_type(feature: Feature) -> pa.DataType:
    """Type of a feature among canonical events: encoded where it needs no fit, else raw."""
    encoder = fixed_encoder(feature)
    if encoder is not None:
        return pa.float32() if encoder.entry.kind == "numeric" else pa.int32()
    if feature.kind == "numeric":  # quantiles are compared as float32, but a mean is taken off first
        return pa.float64() if feature.transform == "standardize" else pa.float32()
    return pa.string()


class EventFeatureReader:
    """Reads the feature columns of one group of files."""

    def __init__(self, spec: DatasetSpec, source: EventSource) -> None:
        self.features = spec.event_features
        self.own = {feature.name: feature for feature in source.features}
        self.encoders = {feature.name: fixed_encoder(feature) for feature in self.features}
        self.domains = spec.domain_names

    def read(self, raw: RawBatch, domains: pa.Array | None, require: Require) -> dict[str, pa.Array]:
        """All features of the spec, as `event_type` says; what a row, or a group of files, lacks is missing.

        Args:
            raw: rows of one block.
            domains: number of each row's domain, where there are domains. int8
            require: told of values that are invalid.
        """
        names = None if domains is None else domain_names(domains, self.domains)
        columns = {}
        for feature in self.features:
            values = self._read_one(feature, raw, require)
            encoder = self.encoders[feature.name]
            columns[feature.name] = values if encoder is None else encoder.encode(values, names)
        return columns

    def known(self, events: pa.RecordBatch) -> dict[str, int]:
        """How many of some canonical events have a value of each feature that these files have."""
        return {name: int(is_known(events.column(name)).sum()) for name in self.own}

    def _read_one(self, feature: Feature, raw: RawBatch, require: Require) -> pa.Array:
        own = self.own.get(feature.name)
        if own is None:
            return pa.nulls(raw.num_rows, pa.float64() if feature.kind == "numeric" else pa.string())
        array = raw.columns[own.source_column]
        if feature.kind == "numeric":
            values, good = parse_floats(plain_numbers(array, own.number_format), pa.float64())
            if own.invalid == "missing":
                return values
            require(good, lambda row: f"{feature.name} {shown(array, row)} is not a number", array)
            return values
        text = canonical(feature, array)
        if pa.types.is_binary(array.type) and text.null_count:
            # Nothing there is missing; something there that is not text is an error.
            undecoded = mask(array.is_valid()) & mask(text.is_null())
            undecoded &= mask(pc.greater(pc.binary_length(array), 0))
            require(~undecoded, lambda row: f"{feature.name} {shown(array, row)} is not text", array)
        return text if own.pattern is None else canonical(feature, matched(own, text))


def fit_features(cut: pa.Table, spec: DatasetSpec) -> States:
    """What the cut sequences of one partition add to the fits of the event features: mergeable."""
    if not spec.event_features:
        return {}
    offsets = offsets_of(cut)
    in_train = first_events(offsets, cut.column("train_end").to_numpy())
    names = _domains(cut, spec)
    priorities = None
    states = {}
    for feature in spec.event_features:
        fitter = fitter_of(feature, spec.vocabulary.oov, sampled=True)
        if isinstance(fitter, Fixed):
            continue
        if feature.quantiles is not None and priorities is None:
            priorities = priorities_of(cut.column(USER).combine_chunks(), offsets)
        states[feature.name] = fitter.add(
            fitter.create(), flat(cut, feature.name), in_train, domains=names, priorities=priorities
        )
    return states


def finish_features(
    spec: DatasetSpec, states: list[States], previous: dict[str, Encoder] | None = None
) -> dict[str, Encoder]:
    """The encoder of every event feature.

    Args:
        spec: the dataset spec.
        states: of all partitions, in a fixed order.
        previous: encoders of the data set that is added to.
    """
    encoders = {}
    for feature in spec.event_features:
        fitter = fitter_of(feature, spec.vocabulary.oov, sampled=True)
        fitted = [state[feature.name] for state in states if feature.name in state]
        merged = fitter.merge(fitted) if fitted else fitter.create()
        if previous is None:
            encoders[feature.name] = fitter.finish(merged)
        else:
            encoders[feature.name] = fitter.extend(previous[feature.name], merged)
    return encoders


def encode_column(cut: pa.Table, spec: DatasetSpec, encoder: Encoder) -> pa.Array:
    """One event feature of cut sequences, encoded, as a flat column."""
    feature = encoder.feature
    values = flat(cut, feature.name)
    if fixed_encoder(feature) is not None:
        return values
    return encoder.encode(values, _domains(cut, spec))


def _domains(cut: pa.Table, spec: DatasetSpec) -> pa.Array | None:
    return domain_names(flat(cut, "domain"), spec.domain_names) if spec.domain_names else None

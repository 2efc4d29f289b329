"""Features of events and users in tables of histories, as the data set has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import parse_floats
from behavior.config import parse_config
from behavior.errors import UserError
from behavior.features.columns import domain_names, matched
from behavior.features.encode import Encoder, restore
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry
from behavior.spec.dataset_spec import DatasetSpec
from behavior.spec.tables import Feature
from models.data.catalog import MISSING, read_feature
from models.data.decode import SequenceDecoder
from models.data.sequences import Int8Array
from models.data.side import UNKNOWN_USER
from models.inputs.layouts.user_context import WithUserContext

USER_PREFIX = "user."
"""Before the name of a feature of users, where events have a feature of that name as well."""
VALUE = "value"
_CORE = ("user", "item", "behavior", "timestamp", "domain", "at")


class HistoryFeatures:
    """Values as in the log become those that the model was trained with.

    Args:
        shards: the data set.
        decoder: of its sequences, with the columns that the model reads.
        layout: that of the model, which says what it reads of users.
    """

    def __init__(self, shards: ShardFolder, decoder: SequenceDecoder, layout: object = None) -> None:
        self.shards = shards
        names = [column.name for column in decoder.stored if column.name not in _CORE]
        manifest = shards.manifest
        self.events = {e.name: e for e in manifest.event_features if e.name in names}
        self.reads_value = VALUE in names and VALUE not in self.events
        self.unread = sorted(set(names) - {*self.events, VALUE})
        """Columns of events that the model reads and that are no features: nobody can give them."""
        self.layout = layout if isinstance(layout, WithUserContext) else None
        chosen = [] if self.layout is None else self.layout.users.names
        self.users = {e.name: e for e in manifest.user_features if e.name in chosen}

    @property
    def per_domain(self) -> bool:
        """Whether values of events mean something only with their domain."""
        return any(feature.per_domain for feature in self._event_spec.values())

    def column_of_user(self, name: str, columns: list[str]) -> str | None:
        """The column of a table that has a feature of users, if any."""
        if USER_PREFIX + name in columns:
            return USER_PREFIX + name
        taken = name in self.events or name in _CORE or (name == VALUE and self.reads_value)
        return name if name in columns and not taken else None

    @property
    def columns_of_users(self) -> list[str]:
        """Columns that tables may have of features of users."""
        plain = [name for name in self.users if self.column_of_user(name, [name])]
        return [*(USER_PREFIX + name for name in self.users), *plain]

    @property
    def several(self) -> tuple[tuple[str, str | None], ...]:
        """Of these, columns that may hold lists, with what separates values in text."""
        found = []
        for name in self.columns_of_users:
            feature = self._user_spec.get(name.removeprefix(USER_PREFIX))
            if feature is not None and feature.kind == "multi_categorical":
                found.append((name, feature.list_separator))
        return tuple(found)

    def check(self, where: str) -> None:
        """Raise UserError where the model reads of events what no history has."""
        for name in self.unread:
            raise UserError(
                f"the model reads '{name}' of every event, which histories do not have",
                where=where,
                fix="recommend for users of the data set instead: --users",
            )

    @property
    def of_event_names(self) -> list[str]:
        """Columns of events that the model reads, and histories may have."""
        return [*self.events, *([VALUE] if self.reads_value else [])]

    def of_events(self, name: str, values: pa.Array, domains: Int8Array | None) -> npt.NDArray:
        """[events] int32 ids or float32 numbers of a feature, or of `value`.

        Args:
            name: of the feature.
            values: as in the log.
            domains: [events] ids, where there are several.
        """
        if name not in self.events:
            found = pc.fill_null(parse_floats(values, pa.float32())[0], float("nan"))
            return found.to_numpy(zero_copy_only=False)
        feature, encoder = self._event_spec.get(name), self._encoder(name)
        if feature is None or encoder is None:
            return self.absent(name, len(values))
        names = None
        if domains is not None and feature.per_domain:
            names = domain_names(pa.array(domains), self.shards.manifest.domains)
        return encoder.encode(matched(feature, values), names).to_numpy(zero_copy_only=False)

    def of_users(self, name: str, values: pa.Array) -> pa.Array:
        """[rows] a feature of users, encoded."""
        feature, encoder = self._user_spec.get(name), self._encoder(USER_PREFIX + name)
        if feature is None or encoder is None or feature.per_domain:
            return self.nobody(name, len(values))
        return encoder.encode(matched(feature, values))

    def absent(self, name: str, size: int) -> npt.NDArray:
        """[events] missing values of a feature of events."""
        is_id = name in self.events and self.events[name].kind == "categorical"
        return np.full(size, MISSING, np.int32) if is_id else np.full(size, np.nan, np.float32)

    def nobody(self, name: str, size: int) -> pa.Array:
        """[users] missing values of a feature of users."""
        kind = self.users[name].kind
        if kind == "multi_categorical":
            return pa.array([[]] * size, pa.list_(pa.int32()))
        missing = np.full(size, MISSING, np.int32) if kind == "categorical" else np.full(size, np.nan)
        return pa.array(missing, pa.int32() if kind == "categorical" else pa.float32())

    def missing(self, columns: Mapping[str, npt.NDArray], people: Mapping[str, pa.Array]) -> dict[str, int]:
        """How many events have no value, by feature, and how many users, by `user.<name>`.

        Args:
            columns: [events] of events, encoded.
            people: [users] features of users, encoded.
        """
        counts = {name: int(is_missing(pa.array(columns[name])).sum()) for name in self.of_event_names}
        counts |= {USER_PREFIX + name: int(is_missing(column).sum()) for name, column in people.items()}
        return {name: count for name, count in counts.items() if count}

    @contextmanager
    def visited_by(self, people: pa.Table) -> Iterator[None]:
        """The model knows these features of the sequences `FIRST_VISITOR`, `FIRST_VISITOR - 1`, ..

        Args:
            people: [sequences] by name, encoded.
        """
        assert self.layout is not None
        entries = [self.users[name] for name in self.layout.users.names]
        features = [read_feature(entry, people, UNKNOWN_USER, "histories") for entry in entries]
        with self.layout.visited(features):
            yield

    @cached_property
    def _spec(self) -> DatasetSpec | None:
        """Of the data set; None where it does not say."""
        record = self.shards.manifest.spec
        if not record or not (self.events or self.users):
            return None
        return parse_config(DatasetSpec, record, where="the spec of the data set")

    @property
    def _event_spec(self) -> dict[str, Feature]:
        if self._spec is None:
            return {}
        return {each.name: each for each in self._spec.event_features if each.name in self.events}

    @property
    def _user_spec(self) -> dict[str, Feature]:
        if self._spec is None:
            return {}
        return {each.name: each for each in self._spec.user_features if each.name in self.users}

    def _encoder(self, name: str) -> Encoder | None:
        """Of a feature of events, or with `USER_PREFIX` of users."""
        if name not in self._encoders:
            if name.startswith(USER_PREFIX):
                plain = name.removeprefix(USER_PREFIX)
                found = self._restored(name, self._user_spec.get(plain), self.users[plain])
            else:
                found = self._restored(f"event.{name}", self._event_spec.get(name), self.events[name])
            self._encoders[name] = found
        return self._encoders[name]

    @cached_property
    def _encoders(self) -> dict[str, Encoder | None]:
        return {}

    def _restored(self, file: str, feature: Feature | None, entry: FeatureEntry) -> Encoder | None:
        if feature is None:
            return None
        words = self.shards.vocabulary(file) if entry.encoding == "vocabulary" else None
        return restore(feature, entry, words)


def is_missing(values: pa.Array) -> npt.NDArray[np.bool_]:
    """[values] whether an encoded value says nothing."""
    if pa.types.is_list(values.type):
        return pc.equal(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False)
    numbers = values.to_numpy(zero_copy_only=False)
    return np.isnan(numbers) if numbers.dtype.kind == "f" else numbers == MISSING


def first_there(values: pa.Array, owner: npt.NDArray[np.int64], missing: pa.Array) -> pa.Array:
    """[owners] the first value of each owner that says something.

    Args:
        values: [rows] encoded.
        owner: [rows] from 0.
        missing: [owners] what those have that have none.
    """
    there = np.flatnonzero(~is_missing(values))
    first = np.full(len(missing), -1, np.int64)
    first[owner[there[::-1]]] = there[::-1]  # of equal places the last is written last
    both = pa.concat_arrays([values, missing])
    return both.take(pa.array(np.where(first >= 0, first, len(values) + np.arange(len(missing)))))

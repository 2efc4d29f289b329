"""Side information besides that of items: features of users, by sequence, and of events, as batch columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry
from behavior.shards.row_groups import RowGroupReader
from models.data.catalog import ItemFeature, read_feature
from models.data.columns import Column
from models.data.declared import event_column
from models.data.item_domains import TARGET_DOMAIN, check_domains
from models.data.tables_only import has_sequences

Choice = Literal["all"] | Sequence[str]
"""All features, or those of these names."""
UNKNOWN_USER = 1
"""Row of features of a sequence that is not in the data set: all are missing."""
FIRST_SEQUENCE = 2
"""Row of features of the data set's first sequence."""
FIRST_VISITOR = -2
"""Number of the first sequence that is not in the data set and whose user has features; then -3, .."""

Named = TypeVar("Named", FeatureEntry, ItemFeature)


@dataclass(frozen=True)
class EventFeature:
    """One value an event."""

    entry: FeatureEntry
    column: Column
    """The event's own value, never that of the event to predict."""


@dataclass(frozen=True)
class Domains:
    """The domains of a data set that has several."""

    count: int
    """Ids 1..count."""
    own: Column
    """That of the event."""
    target: Column
    """That of the event to predict."""

    @classmethod
    def from_shards(cls, shards: ShardFolder, setting: str) -> Domains:
        """Of a data set.

        Args:
            shards: the data set.
            setting: what asks for domains, for the error.

        Raises:
            UserError: it has one domain only.
        """
        check_domains(shards, setting)
        target = event_column(shards, "domain", of_target=True, name=TARGET_DOMAIN)
        return cls(len(shards.manifest.domains), event_column(shards, "domain"), target)


@dataclass(frozen=True, eq=False)
class SideInformation:
    """The features of users and events, and the domains, that a model is to use."""

    users: tuple[ItemFeature, ...] = ()
    """Of the user of every sequence: row 0 is padding, 1 an unknown user, `FIRST_SEQUENCE + r` sequence r."""
    events: tuple[EventFeature, ...] = ()
    domains: Domains | None = None

    @classmethod
    def from_shards(
        cls, shards: ShardFolder, *, users: Choice = (), events: Choice = (), domains: Domains | None = None
    ) -> SideInformation:
        """Read what is chosen; nothing of users is read where none is.

        Args:
            shards: the data set.
            users: names of features of users (`embedding.user_features`).
            events: the same of events (`embedding.event_features`).
            domains: where they are embedded.

        Raises:
            UserError: there is no such feature (names the nearest), or none at all; or an event may have
                several values.
        """
        manifest = shards.manifest
        chosen = choose(manifest.event_features, events, "event")
        return cls(
            _of_sequences(choose(manifest.user_features, users, "user"), shards),
            tuple(EventFeature(entry, _own_column(shards, entry.name)) for entry in chosen),
            domains,
        )


def _own_column(shards: ShardFolder, name: str) -> Column:
    """In batches under a name that no other column has: a feature may be called `target`, or `position`."""
    return event_column(shards, name, name=f"event.{name}")


def choose(features: Sequence[Named], choice: Choice, of: str, where: str = "") -> list[Named]:
    """Some features, in the order of the data set.

    Args:
        features: all there are.
        choice: which ones.
        of: item, user or event.
        where: the setting that chooses; by default that of the input embedding.

    Raises:
        UserError: there is none of a name that is chosen, or there is none at all.
    """
    setting = where or f"embedding.{of}_features"
    where = f"{setting} = {choice if isinstance(choice, str) else list(choice)}"
    names = [feature.name for feature in features]
    if choice and not names:
        fix = f"leave {setting} out, or prepare the data with features of {of}s"
        raise UserError(f"the data set has no {of} features to embed", where=where, fix=fix)
    if isinstance(choice, str):
        return list(features)
    for name in choice:
        if name not in names:
            raise UserError(
                f"the data set has no {of} feature '{name}'", where=where, fix=did_you_mean(name, names)
            )
    return [feature for feature in features if feature.name in choice]


def _of_sequences(entries: Sequence[FeatureEntry], shards: ShardFolder) -> tuple[ItemFeature, ...]:
    if not entries:
        return ()
    if not has_sequences(shards):  # then all users are unknown
        kinds = {
            "categorical": pa.int32(),
            "multi_categorical": pa.list_(pa.int32()),
            "numeric": pa.float32(),
        }
        none = pa.table({entry.name: pa.array([], kinds[entry.kind]) for entry in entries})
        return tuple(read_feature(entry, none, UNKNOWN_USER, shards.where()) for entry in entries)
    users = shards.users()
    place = pc.index_in(_sequence_users(shards), value_set=_keys(users, "id", "domain", shards))
    table = users.select([entry.name for entry in entries]).take(place)
    return tuple(read_feature(entry, table, UNKNOWN_USER, shards.where("users.parquet")) for entry in entries)


def _sequence_users(shards: ShardFolder) -> pa.ChunkedArray:
    """The user of every sequence, as `_keys` calls them."""
    reader = RowGroupReader(shards)
    names = [name for name in ("user", "user_domain") if name in reader.columns]
    parts = [_keys(reader.read(group, names), "user", "user_domain", shards) for group in reader.groups]
    return pa.chunked_array(parts)


def _keys(table: pa.Table, column: str, domain: str, shards: ShardFolder) -> pa.Array:
    """What users are called: text, with the name of the domain where ids are separate."""
    names = table[column].cast(pa.string()).combine_chunks()
    if domain not in table.column_names:
        return names
    domains = table[domain].combine_chunks()
    if pa.types.is_integer(domains.type):
        domains = pa.array(["", *shards.manifest.domains]).take(domains.cast(pa.int64()))
    return pc.binary_join_element_wise(domains.cast(pa.string()), names, "\x1f")

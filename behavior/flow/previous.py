"""A finished data set that is added to (`--append`): what it holds, in the form in which it was prepared.

Ids keep their indices, and only partitions with new events are written again. That is possible where old rows
stay as they are whatever is added; `reasons_against` says where they would not.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.features import MISSING, Encoder, restore
from behavior.features.encode import VocabularyEncoder
from behavior.features.frozen import is_fitted
from behavior.features.vocabulary import COUNT_COLUMNS, IdCounts, Vocabulary
from behavior.shards.damage import damaged
from behavior.shards.folder import ShardFolder, check_columns, open_shards
from behavior.shards.manifest import MANIFEST_NAME, FeatureEntry
from behavior.shards.names import REJECTED, SEQUENCES, logical
from behavior.shards.storage import Folder
from behavior.spec.dataset_spec import DatasetSpec, Feature
from behavior.steps.event_features import States, fixed_encoder
from behavior.steps.keys import join_keys, separate
from behavior.steps.partition import USER_DOMAIN
from behavior.steps.sequences import USER, flat, nest, offsets_of
from behavior.steps.stats import SequenceStats


def reasons_against(spec: DatasetSpec, *, frozen: bool = False) -> list[str]:
    """Why nothing can be added to data sets of a spec: settings under which old rows would change.

    Args:
        spec: the dataset spec.
        frozen: whether means, standard deviations and quantiles stay those of the first version.
    """
    filters, limits = spec.filters, spec.vocabulary
    reasons = {
        "filters.k_core and minimum counts: events left out before would come back": filters.minimum_counts
        != (1, 1),
        "filters.repeats: an event left out before would come back": filters.repeats,
        "max_events: old events would go": spec.max_events is not None,
        "split.kind: random: events are not stored in order of time": spec.split.kind == "random",
        "columns.session: session ids are not stored": spec.has_session_ids,
        "vocabulary.fit_on: train: the training part grows": limits.fit_on != "all",
        "vocabulary.min_count: unknown items would become known": limits.min_count > 1,
        "vocabulary.max_size: known items would become unknown": limits.max_size is not None,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    for role, features in (
        ("items", spec.item_features),
        ("users", spec.user_features),
        ("events", spec.event_features),
    ):
        asked = [feature for feature in features if not (frozen and is_fitted(feature))]
        found += [f"feature '{f.name}' of {role}: {why}" for f in asked if (why := _reason(f))]
    return found


def flag_for_adding(spec: DatasetSpec) -> str | None:
    """The flag that `--append` takes under a spec: `--frozen` or `--full`; None where it takes none."""
    if not reasons_against(spec):
        return None
    return "--full" if reasons_against(spec, frozen=True) else "--frozen"


def _reason(feature: Feature) -> str | None:
    if is_fitted(feature):
        return (
            f"{'quantiles depend' if feature.quantiles else 'transform: standardize depends'} on all values"
        )
    if feature.min_count > 1 or feature.max_size is not None:
        return "min_count and max_size depend on all values"
    return None


def less(counts: pa.Table, taken: pa.Table) -> pa.Table:
    """Counts (id, count, train_count) less other counts; zero and less may come out."""
    negative = {name: pc.negate(taken.column(name)) for name in COUNT_COLUMNS}
    return IdCounts(counts.schema.field("id").type).merge(
        [counts, pa.table({"id": taken.column("id"), **negative})]
    )


@dataclass(frozen=True)
class Previous:
    """A data set and its spec; small, so that it travels to workers.

    Attributes:
        folder: where it is.
        state: SHA-256 of the text of its manifest, which names every file with its checksum: what is kept in
            memory of one state is never taken for another's.
        spec: the spec it was made by.
    """

    folder: Folder
    state: str
    spec: DatasetSpec

    @classmethod
    def of(cls, folder: Folder, spec: DatasetSpec) -> Previous:
        """The data set as it is now.

        Raises:
            OSError: its manifest cannot be read.
        """
        return cls(folder, hashlib.sha256(folder.read_bytes(MANIFEST_NAME)).hexdigest(), spec)

    @property
    def shards(self) -> ShardFolder:
        """The data set, opened once a process."""
        with _loading:
            return _opened(self.folder, self.state)

    @property
    def _first_item(self) -> pa.Scalar:
        return pa.scalar(self.shards.first_item, pa.int32())

    @property
    def rejected_files(self) -> int:
        """Number of files of rejected rows that it has."""
        files = self.shards.manifest.files
        return sum(logical(entry.path).startswith(f"{REJECTED}/part-") for entry in files)

    def vocabulary(self, role: str) -> Vocabulary:
        """The item or user vocabulary, with keys in place of raw ids (see `behavior.steps.keys`)."""
        domains = tuple(self.spec.domain_names) if separate(self.spec, role) else None
        with _loading:
            return _vocabulary(self.folder, self.state, role, domains)

    def user_counts(self, counts: pa.Table) -> pa.Table:
        """Counts of all users: `counts` of those with new events, the others as they are."""
        old = self.vocabulary("user").counts
        untouched = old.filter(pc.invert(pc.is_in(old.column("id"), value_set=counts.column("id"))))
        return pa.concat_tables([untouched, counts])

    def encoders(self, role: str) -> dict[str, Encoder]:
        """Encoders by name of the event features (`event`) or of the tables (`table`).

        The names of user features are `user.<name>` there.
        """
        manifest, spec = self.shards.manifest, self.spec
        if role == "event":
            return self._restored(spec.event_features, manifest.event_features, "event.", "")
        items = self._restored(spec.item_features, manifest.item_features, "", "")
        return items | self._restored(spec.user_features, manifest.user_features, "user.", "user.")

    def _restored(
        self, features: list[Feature], entries: list[FeatureEntry], file_prefix: str, prefix: str
    ) -> dict[str, Encoder]:
        by_name = {entry.name: entry for entry in entries}
        restored = {}
        for feature in features:
            entry = by_name[feature.name]
            words = None
            if entry.encoding == "vocabulary":
                words = self.shards.vocabulary(f"{file_prefix}{feature.name}")
            restored[prefix + feature.name] = restore(feature, entry, words)
        return restored

    def feature_counts(self) -> States:
        """Counts of the values of event features, as a fit of all its events would have them."""
        return {
            name: encoder.known.counts
            for name, encoder in self.encoders("event").items()
            if isinstance(encoder, VocabularyEncoder)
        }

    def partition_stats(self) -> dict[str, SequenceStats]:
        """Statistics of each partition, by its number."""
        found = self.shards.partition_stats()
        return {number: SequenceStats.from_json(record) for number, record in found.items()}

    def cut(self, partition: int) -> pa.Table | None:
        """The sequences of a partition as `cut_sequences` gave them; None where it has none."""
        shards = self.shards
        start = f"{SEQUENCES}/part-{partition:05d}-"
        entry = next((e for e in shards.sequence_files() if logical(e.path).startswith(start)), None)
        if entry is None:
            return None
        table = shards.read_sequences(entry)
        check_columns(table.column_names, self._needed, shards.where(entry.path))
        columns = {name: self._raw(table, name) for name in _event_columns(table)}
        sequences = nest(self._users(table), columns, offsets_of(table))
        for name in ("train_end", "valid_end"):
            sequences = sequences.append_column(name, table.column(name))
        return sequences

    @property
    def _needed(self) -> list[str]:
        """Columns of the sequences without which nothing can be added."""
        spec = self.spec
        names = ["user", "item", "behavior", "train_end", "valid_end"]
        names += ["user_domain"] if separate(spec, "user") else []
        names += ["timestamp"] if spec.has_time else []
        return [*names, *(feature.name for feature in spec.event_features)]

    def events(self, partition: int, schema: pa.Schema) -> list[pa.RecordBatch]:
        """The canonical events of a partition, each user's in order of time; none where it has none."""
        cut = self.cut(partition)
        if cut is None:
            return []
        lengths = np.diff(offsets_of(cut))
        rows = np.repeat(np.arange(len(lengths)), lengths)
        columns = []
        for field in schema:
            if field.name == USER:
                values = cut.column(USER).combine_chunks().take(pa.array(rows))
            else:
                values = flat(cut, field.name)
            try:
                columns.append(values.cast(field.type))
            except pa.ArrowInvalid as error:
                what = f"column '{field.name}' is of another type than the log's, {field.type}"
                raise damaged("sequences", what, str(self.folder)) from error
        return [pa.RecordBatch.from_arrays(columns, schema=schema)]

    def _users(self, table: pa.Table) -> pa.Array:
        ids = table.column(USER).combine_chunks()
        if not separate(self.spec, "user"):
            return ids
        return join_keys(table.column(USER_DOMAIN).combine_chunks(), ids)

    def _raw(self, table: pa.Table, name: str) -> pa.Array:
        """A flat column as it was before it was indexed or encoded."""
        values = flat(table, name)
        if name == "item":
            return pa.DictionaryArray.from_arrays(
                pc.subtract(values, self._first_item),
                self.vocabulary("item").ids,
            )
        feature = next((f for f in self.spec.event_features if f.name == name), None)
        if feature is None or fixed_encoder(feature) is not None:
            return values
        known = self.shards.vocabulary(f"event.{name}")
        first = known.column("index")[0].as_py() if known.num_rows else 0
        places = values.to_numpy() - np.int32(first)
        missing = values.to_numpy() == MISSING
        words = known.column("value").combine_chunks()
        return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32(), mask=missing), words)


def _event_columns(table: pa.Table) -> list[str]:
    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    return [name for name in lists if name != "session"]


_loading = threading.RLock()
"""Threads wait for what another one loads, rather than load it too."""


@lru_cache(maxsize=2)
def _opened(folder: Folder, state: str) -> ShardFolder:
    return open_shards(folder)


@lru_cache(maxsize=4)
def _vocabulary(folder: Folder, state: str, role: str, domains: tuple[str, ...] | None) -> Vocabulary:
    shards = _opened(folder, state)
    table = shards.items() if role == "item" else shards.users()
    ids = table.column("id").combine_chunks()
    if domains is not None:
        places = pc.index_in(table.column("domain").combine_chunks(), value_set=pa.array(domains))
        ids = join_keys(pc.add(places, 1), ids)
    columns = {"index": table.column("index"), "id": ids}
    columns |= {name: table.column(name) for name in COUNT_COLUMNS}
    return Vocabulary(pa.table(columns).combine_chunks(), shards.manifest.oov)

"""The dataset spec: everything `prepare` must know about a log, as one YAML file.

Paths are relative to the spec file (or to the input folder that is named beside a ready spec).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from behavior.config import Config, did_you_mean, parse_config, read_yaml
from behavior.errors import UserError
from behavior.named import is_ready
from behavior.spec.conditions import Condition
from behavior.spec.events import (
    BehaviorFrom,
    BehaviorRule,
    EventColumns,
    EventSource,
    Explode,
    checked_format,
)
from behavior.spec.formats import FileFormat
from behavior.spec.ready import names as ready_names
from behavior.spec.ready import path_of
from behavior.spec.record import as_record, digest_of
from behavior.spec.rules import (
    TICKS_PER_SECOND,
    DomainIds,
    Filters,
    IdTypes,
    PackingSpec,
    Sessions,
    SplitSpec,
    VocabularySpec,
)
from behavior.spec.skeleton import check_filled_in
from behavior.spec.tables import Feature, FeatureTable, check_alike
from behavior.spec.timestamps import TimeFormat, time_format
from behavior.spec.timing import check_columns, check_instants, check_sessions
from behavior.spec.values import OneOrMany

__all__ = [
    "TICKS_PER_SECOND",
    "BehaviorFrom",
    "BehaviorRule",
    "Condition",
    "DatasetSpec",
    "DomainIds",
    "EventColumns",
    "EventSource",
    "Explode",
    "Feature",
    "FeatureTable",
    "FileFormat",
    "Filters",
    "IdTypes",
    "PackingSpec",
    "Sessions",
    "SplitSpec",
    "VocabularySpec",
    "load_spec",
]

MAX_NAMES = 127
"""Behaviors, and domains, at most: their ids are int8 in the shards."""


class DatasetSpec(Config):
    """Everything `prepare` must know about a log."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """A short name of letters, digits, dots, underscores and hyphens; stored in the manifest."""
    description: str = ""
    """A one-line description for people; otherwise ignored."""
    homepage: str = ""
    """URL where the data are published."""
    license: str = ""
    """License or terms of use, in a few words."""
    events: Annotated[list[EventSource], OneOrMany]
    """The event files (the log): one group, or a list of groups where files differ in format, columns,
    behavior or domain. The groups form one log; equal timestamps keep the order of the groups."""
    timestamp_unit: Literal["s", "ms", "us", "iso8601", "none"]
    """Unit of the timestamps. s, ms or us: integers since the Unix epoch (UTC). iso8601: text such as
    2024-05-01T10:00:00Z or 2024-05-01 10:00:00 UTC (UTC where it has no offset), stored in microseconds.
    none: a log without timestamps, in chronological order. For all other forms, set `timestamp_format` too;
    then this is the unit in which they are stored. Timestamps before 1970 or from 2100 on are rejected, but
    for those that `filters.start` or `filters.end` leaves out: these are filtered."""
    timestamp_format: Annotated[str | None, AfterValidator(checked_format)] = None
    """How the timestamps are written, where `timestamp_unit` does not say it. epoch_s, epoch_ms, epoch_us or
    epoch_ns: numbers since the Unix epoch, with a fraction or an exponent perhaps, such as 1593878903.438.
    iso8601: as above. ymd, dmy or mdy: year, month and day in this order, such as 2019/10/01, 27-04-2015 or
    Apr 27, 2015, perhaps with the time of day, such as 11/15/2019 9:59:00 AM; ymd reads 20151231 too. Or a
    pattern as of strptime, such as `%d.%m.%y %H:%M`, with English names of months. UTC where there is no
    offset; what is finer than `timestamp_unit` is cut off. Parquet timestamps and dates need none."""
    behaviors: list[str] | None = None
    """Names of all behaviors (event types); the first has id 1. Required where a column of the log names
    them: rows with any other name are rejected. Default: those that the groups of events produce, in their
    order."""
    targets: list[str] | None = None
    """The target behaviors, which are predicted and evaluated; the others are history only. Default: all that
    the filters keep."""
    domains: list[str] | None = None
    """Names of all domains (shops, apps, markets); the first has id 1. Required where a column of the log
    names them. Default: those that the groups of events name, in their order."""
    domain_ids: DomainIds = DomainIds()
    """Whether equal raw ids in two domains are the same user or item."""
    id_types: IdTypes = IdTypes()
    """Types of the raw user and item ids: integer or string."""
    items: Annotated[list[FeatureTable], OneOrMany] = []
    """Item side information: one table, or several with different features or one a domain. Items without a
    row have missing features; rows of items that are not in the log are ignored."""
    users: Annotated[list[FeatureTable], OneOrMany] = []
    """User side information, under the same rules as `items`; `embedding.user_features` reads it."""
    filters: Filters = Filters()
    """Which events, users and items to filter out."""
    max_events: int | None = Field(None, ge=1)
    """Truncate each user's sequence to its most recent events, after all filters; truncated events count as
    filtered."""
    split: SplitSpec = SplitSpec()
    """How each user's sequence is split into training, validation and test parts."""
    sessions: Sessions | None = None
    """Sessionization: numbers the sessions of each user in a column `session` of the sequences. Default: no
    such column."""
    vocabulary: VocabularySpec = VocabularySpec()
    """How raw item ids become indices (rows of an embedding table)."""
    packing: PackingSpec = PackingSpec()
    """Bin packing of sequences for training."""
    max_rejects: Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, le=1)] = 0.01
    """Error tolerance: how many rows may be rejected before the job fails. An integer counts rows, a number
    with a decimal point is a share of all rows (1 is one row, 1.0 is all of them). The job fails in any case
    where every row is rejected."""
    min_coverage: float | None = Field(None, ge=0, le=1)
    """How much of the log a feature table and each feature must describe, or the job fails: the least share
    of items (users) that have a row in their table, of those rows that have a value of the feature, and of
    events that have a value. Default: any at all is enough; 0 allows none."""
    shards: int | None = Field(None, ge=1, le=100_000)
    """Number of sequence files, each a hash partition of users. Default: one for about 32 MB of uncompressed
    text."""

    @model_validator(mode="after")
    def _check(self) -> DatasetSpec:
        if not self.events:
            raise ValueError("events is empty: name at least one group of files")
        self._check_names()
        self._check_targets()
        check_columns(self.events, self.timestamp_unit, self.timestamp_format)
        check_instants(self.stored_unit, self.filters, self.split, self.sessions)
        self._check_tables()
        if self.vocabulary.fit_on == "train" and self.filters.minimum_counts != (1, 1):
            raise ValueError("fit_on: train does not go with minimum counts: those look at the whole log")
        return self

    def _check_names(self) -> None:
        known = self.behavior_names
        for label, names in (("behaviors", known), ("domains", self.domain_names)):
            if len(names) > MAX_NAMES:
                raise ValueError(f"{label}: at most {MAX_NAMES}, not {len(names):,}: their ids are int8")
            if len(set(names)) != len(names):
                raise ValueError(f"{label}: a name stands there twice")
        produced = [name for source in self.events for name in source.behavior.produces() or []]
        mapped = [name for source in self.events for name in source.behavior.map.values() if name is not None]
        for name in [*produced, *mapped, *(self.targets or []), *self._filtered_by()]:
            if name not in known:
                raise ValueError(f"behavior '{name}' is not in behaviors; {did_you_mean(name, known)}")
        if self.domains is None and any(source.columns.domain for source in self.events):
            raise ValueError("columns.domain needs the list 'domains'")
        constants = [source.domain is not None or source.columns.domain is not None for source in self.events]
        if any(constants) != all(constants):
            raise ValueError("either every group of events has a domain, or none has")
        check_sessions(self.events, self.sessions)
        for source in self.events:
            if source.domain is not None and source.domain not in self.domain_names:
                raise ValueError(
                    f"domain '{source.domain}' is not in domains; "
                    + did_you_mean(source.domain, self.domain_names)
                )

    def _filtered_by(self) -> list[str]:
        """Behaviors that the filters name."""
        filters = self.filters
        if filters.core_behaviors is not None and filters.minimum_counts == (1, 1):
            raise ValueError("filters.core_behaviors goes with k_core or minimum counts")
        return [*(filters.behaviors or []), *(filters.core_behaviors or [])]

    def _check_targets(self) -> None:
        kept = self.filters.behaviors
        lost = [name for name in self.target_names if kept is not None and name not in kept]
        if lost:
            raise ValueError(f"filters.behaviors leaves out the target '{lost[0]}'")

    def _check_tables(self) -> None:
        separate = {"items": self.domain_ids.items, "users": self.domain_ids.users}
        if "separate" in separate.values() and not self.domain_names:
            raise ValueError("domain_ids: separate needs domains: set 'domain' in each group of events")
        for role, tables in (("items", self.items), ("users", self.users)):
            seen: dict[tuple[str, str | None], Feature] = {}
            for table in tables:
                if table.domain is not None and table.domain not in self.domain_names:
                    raise ValueError(
                        f"{role}: domain '{table.domain}' is not in domains; "
                        + did_you_mean(table.domain, self.domain_names)
                    )
                if (table.domain is not None) != (separate[role] == "separate"):
                    raise ValueError(
                        f"{role}: a table has a 'domain' where domain_ids.{role} is separate, and only there"
                    )
                for feature in table.features:
                    if (feature.name, table.domain) in seen:
                        raise ValueError(f"{role}: two tables give the feature '{feature.name}'")
                    seen[feature.name, table.domain] = feature
            check_alike(role, list(seen.values()))
        check_alike("events", [feature for source in self.events for feature in source.features])
        self._check_per_domain()
        if self.vocabulary.hash_size is not None and (self.items or self.domain_ids.items == "separate"):
            raise ValueError("vocabulary.hash_size goes with neither item tables nor separate item ids")

    def _check_per_domain(self) -> None:
        """A value can only be told apart by domain where its row has one."""
        with_domain = {
            "events": (self.event_features, bool(self.domain_names)),
            "items": (self.item_features, self.domain_ids.items == "separate"),
            "users": (self.user_features, self.domain_ids.users == "separate"),
        }
        for role, (features, fine) in with_domain.items():
            name = next((feature.name for feature in features if feature.per_domain and not fine), None)
            if name is not None:
                raise ValueError(
                    f"{role}: the feature '{name}' is per_domain, but its rows have no domain"
                    + ("" if role == "events" else f" (domain_ids.{role} is shared)")
                )

    @property
    def event_features(self) -> list[Feature]:
        """Features of the events of all groups, each once."""
        return list({f.name: f for source in self.events for f in source.features}.values())

    @property
    def item_features(self) -> list[Feature]:
        """Features of all item tables, each once."""
        return list({f.name: f for table in self.items for f in table.features}.values())

    @property
    def user_features(self) -> list[Feature]:
        """Features of all user tables, each once."""
        return list({f.name: f for table in self.users for f in table.features}.values())

    @property
    def behavior_names(self) -> list[str]:
        """Behaviors in id order."""
        if self.behaviors is not None:
            return self.behaviors
        names: list[str] = []
        for source in self.events:
            produced = source.behavior.produces()
            if produced is None:
                raise ValueError("a column names the behavior: list them in 'behaviors'")
            names.extend(produced)
        return list(dict.fromkeys(names))

    @property
    def target_names(self) -> list[str]:
        """Behaviors to predict and evaluate."""
        return self.targets or [
            name
            for name in self.behavior_names
            if self.filters.behaviors is None or name in self.filters.behaviors
        ]

    @property
    def target_ids(self) -> list[int]:
        """Ids of the target behaviors."""
        return [self.behavior_names.index(name) + 1 for name in self.target_names]

    @property
    def domain_names(self) -> list[str]:
        """Domains in id order; empty where the log has none."""
        if self.domains is not None:
            return self.domains
        return list(dict.fromkeys(source.domain for source in self.events if source.domain is not None))

    @property
    def stored_unit(self) -> str:
        """Unit of the timestamps in the shards: s, ms, us or none."""
        return "us" if self.timestamp_unit == "iso8601" else self.timestamp_unit

    def time_format(self, source: EventSource) -> TimeFormat | None:
        """How the timestamps of a group are written; None where `timestamp_unit` says it."""
        name = source.timestamp_format or self.timestamp_format
        return None if name is None else time_format(name)

    @property
    def has_time(self) -> bool:
        return self.timestamp_unit != "none"

    @property
    def has_session_ids(self) -> bool:
        """Whether the log says which session an event belongs to."""
        return any(source.columns.session is not None for source in self.events)

    @property
    def has_value(self) -> bool:
        """Whether any source has a value."""
        return any(source.columns.value is not None for source in self.events)

    def digest(self) -> str:
        """SHA-256 of the spec with its defaults filled in, but for what does not change the result."""
        without = {"max_rejects", "min_coverage", "description", "homepage", "license"}
        return digest_of(self.record(), without)

    def record(self) -> dict[str, Any]:
        """The spec as plain values, with its defaults filled in; see `behavior.spec.record`."""
        record: dict[str, Any] = as_record(self)
        return record


def load_spec(spec: str | Path, *, input_folder: str | Path | None = None) -> tuple[DatasetSpec, str]:
    """Load a spec file, or a ready spec by its name.

    Args:
        spec: the name of a ready spec (`behavior.datasets.names()`), or the path of a YAML file; a file or
            folder that is called like a ready spec is `./NAME`.
        input_folder: folder that paths in the spec are relative to; default: the spec file's own.

    Returns:
        The spec and the folder its paths are relative to.

    Raises:
        UserError: no such file or name, a wrong spec, or a ready spec without an input folder.
    """
    text = str(spec)
    path = Path(text)
    if is_ready(text, ready_names(), what="spec", where="SPEC"):
        if input_folder is None:
            own = f"; the file of that name is ./{text}" if path.exists() and not path.is_dir() else ""
            raise UserError(
                f"the ready spec '{text}' needs the folder that holds the files", fix=f"add --input DIR{own}"
            )
        path = path_of(text)
    record = read_yaml(path)
    check_filled_in(record, str(path))
    parsed = parse_config(DatasetSpec, record, where=str(path))
    base = str(input_folder) if input_folder is not None else str(path.parent)
    if input_folder is not None and "://" not in base and not Path(base).is_dir():
        raise UserError(f"there is no folder '{base}'", where="--input", fix="check the path")
    return parsed, base

"""The dataset spec: everything `prepare` must know about a log, as one YAML file.

Paths are relative to the spec file (or to the input folder that is named beside a ready spec).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from behavior.config import Config, did_you_mean, parse_config, read_yaml
from behavior.errors import UserError

MAX_BEHAVIORS = 127  # behavior ids are int8 in the shards
TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}

_RULE = re.compile(r"^\s*value\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?)\s*$")


def _one_or_many(value: Any) -> Any:
    return value if value is None or isinstance(value, list) else [value]


def _iso_as_text(value: Any) -> Any:
    # YAML turns 2000-12-01 into a date object before pydantic sees it.
    return value.isoformat() if isinstance(value, date | datetime) else value


OneOrMany = BeforeValidator(_one_or_many)


class FileFormat(Config):
    """How a set of files is written."""

    files: Annotated[list[str], OneOrMany]
    """One path or glob, or a list of them, relative to the spec file; the order counts where times tie."""
    format: Literal["auto", "csv", "jsonl", "parquet", "sequences", "json_map"] = "auto"
    """csv (any separator), jsonl, parquet, sequences (one user a line, then the items in order), json_map
    (for tables: one JSON object of id to list of attributes); auto goes by the file name."""
    separator: str | None = None
    """What stands between fields; may have several characters. Default: tab for .tsv, else a comma; a space
    for sequences."""
    header: bool = True
    """Whether the first line of each file names the columns (csv only)."""
    names: list[str] | None = None
    """Names of the columns where no header does (csv only)."""
    quote: str | None = '"'
    """The quote character of csv; null for none. Separators of several characters do not allow quotes."""
    encoding: str = "utf-8"
    """Text encoding; must be one in which a line feed is one byte (not UTF-16)."""
    compression: Literal["auto", "none", "gzip", "zstd"] = "auto"
    """auto goes by the file name (.gz, .zst)."""

    @model_validator(mode="after")
    def _check(self) -> FileFormat:
        if not self.files:
            raise ValueError("files is empty")
        try:
            if "\n".encode(self.encoding) != b"\n":
                raise ValueError(f"encoding '{self.encoding}' does not write a line feed as one byte")
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(f"there is no text encoding '{self.encoding}'") from None
        if not self.header and not self.names and self.kind == "csv":
            raise ValueError("without a header line the columns need 'names'")
        if self.header and self.names:
            raise ValueError("'names' is for files without a header line; set header: false")
        if self.names and len(set(self.names)) != len(self.names):
            raise ValueError("names: a column stands there twice")
        if self.separator is not None and (not self.separator or set("\r\n") & set(self.separator)):
            raise ValueError("a separator must have at least one character, and no line feed")
        if self.quote is not None and (len(self.quote) != 1 or not self.quote.isascii()):
            raise ValueError("quote must be one ASCII character, or null")
        if self.quote in ("\r", "\n", self.separator):
            raise ValueError("quote and separator must differ, and neither be a line feed")
        return self

    @property
    def kind(self) -> str:
        """The format, guessed from the first file's name where it is `auto`."""
        if self.format != "auto":
            return self.format
        name = re.sub(r"\.(gz|zst|zstd)$", "", self.files[0].lower())
        if name.endswith((".jsonl", ".ndjson", ".json")):
            return "jsonl"
        return "parquet" if name.endswith((".parquet", ".pq")) else "csv"

    @property
    def field_separator(self) -> str:
        """The separator, default filled in."""
        if self.separator is not None:
            return self.separator
        if self.kind == "sequences":
            return " "
        return "\t" if re.search(r"\.tsv(\.|$)", self.files[0].lower()) else ","


class EventColumns(Config):
    """Which column of the files holds what."""

    user: str | None = None
    """Who acted."""
    item: str | None = None
    """What they acted on."""
    timestamp: str | None = None
    """When; leave out where timestamp_unit is none."""
    value: str | None = None
    """A number such as a rating; kept with the event and used by behavior rules."""
    domain: str | None = None
    """The domain, one of the spec's `domains`."""


class BehaviorRule(Config):
    """Derives a behavior from the value: `{when: "value >= 4", name: like}`."""

    when: str
    """A comparison of `value` with a number."""
    name: str
    """The behavior where the comparison holds."""

    @model_validator(mode="after")
    def _check(self) -> BehaviorRule:
        if not _RULE.match(self.when):
            raise ValueError(f"'{self.when}' is not a rule; write for example: value >= 4")
        return self

    @property
    def comparison(self) -> tuple[str, float]:
        """Operator and number."""
        match = _RULE.match(self.when)
        assert match is not None
        return match.group(1), float(match.group(2))


class BehaviorFrom(Config):
    """Where an event's behavior comes from: exactly one of constant, column or rules."""

    constant: str | None = None
    """Every event of these files has this behavior."""
    column: str | None = None
    """The column that names the behavior."""
    map: dict[str, str | None] = {}
    """Renames values of the column; null leaves events with that value out (they count as filtered)."""
    rules: list[BehaviorRule] = []
    """Rules on the value; the first that holds gives the behavior."""
    otherwise: str | None = None
    """The behavior where no rule holds; without it such events are left out (they count as filtered)."""

    @model_validator(mode="after")
    def _check(self) -> BehaviorFrom:
        if sum((self.constant is not None, self.column is not None, bool(self.rules))) != 1:
            raise ValueError("give exactly one of constant, column or rules")
        if self.map and self.column is None:
            raise ValueError("'map' needs 'column'")
        if self.otherwise is not None and not self.rules:
            raise ValueError("'otherwise' needs 'rules'")
        return self

    def produces(self) -> list[str] | None:
        """The behaviors this can give, in order; None where only the data knows."""
        if self.constant is not None:
            return [self.constant]
        if self.column is not None:
            return None
        names = [rule.name for rule in self.rules]
        if self.otherwise is not None:
            names.append(self.otherwise)
        return list(dict.fromkeys(names))


def _behavior(value: Any) -> Any:
    return {"constant": value} if isinstance(value, str) else value


class EventSource(FileFormat):
    """Files of events that are written alike."""

    columns: EventColumns = EventColumns()
    """Which column holds what (not for `sequences`, whose lines have no columns)."""
    behavior: Annotated[BehaviorFrom, BeforeValidator(_behavior)] = BehaviorFrom(constant="interact")
    """A behavior for all events (a plain name), or where it comes from."""
    domain: str | None = None
    """The domain of all events of these files."""

    @model_validator(mode="after")
    def _check_columns(self) -> EventSource:
        if self.kind == "json_map":
            raise ValueError("json_map is a format of tables, not of events")
        if self.kind == "sequences":
            if self.columns != EventColumns():
                raise ValueError("lines of items have no columns: leave 'columns' out")
            if self.behavior.constant is None:
                raise ValueError("lines of items need a constant behavior")
        elif self.columns.user is None or self.columns.item is None:
            raise ValueError("columns.user and columns.item are needed")
        if self.behavior.rules and self.columns.value is None:
            raise ValueError("behavior rules need columns.value")
        if self.domain is not None and self.columns.domain is not None:
            raise ValueError("give either domain or columns.domain")
        return self

    def needed_columns(self) -> list[str]:
        """The columns to read, each once."""
        wanted = [*self.columns.model_dump().values(), self.behavior.column]
        return list(dict.fromkeys(name for name in wanted if name is not None))


class Feature(Config):
    """One feature column of an item or user table."""

    name: str
    """Name in the shards; letters, digits and underscores."""
    column: str | None = None
    """Column in the table; default: the name."""
    kind: Literal["categorical", "multi_categorical", "numeric"] = "categorical"
    """categorical: one value; multi_categorical: several; numeric: standardized on the training part."""
    separator: str = "|"
    """Between the values of a multi_categorical feature, where the column is not a list already."""

    @model_validator(mode="after")
    def _check(self) -> Feature:
        reserved = ("index", "id", "count", "train_count")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name) or self.name in reserved:
            raise ValueError(
                f"'{self.name}' cannot name a feature (letters, digits, _; not {', '.join(reserved)})"
            )
        return self

    @property
    def source_column(self) -> str:
        return self.column or self.name


class FeatureTable(FileFormat):
    """A table of items or users with their features."""

    id: str | None = None
    """The column with the id, as it stands in the log (not for json_map)."""
    features: list[Feature]
    """The features to keep."""

    @model_validator(mode="after")
    def _check_table(self) -> FeatureTable:
        if self.kind == "sequences":
            raise ValueError("sequences is a format of events, not of tables")
        if self.kind == "json_map":
            if len(self.features) != 1 or self.features[0].kind != "multi_categorical":
                raise ValueError("a json_map gives exactly one feature, of kind multi_categorical")
        elif self.id is None:
            raise ValueError("'id' is needed: the column with the id")
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("two features have the same name")
        return self


class Filters(Config):
    """What to leave out. Filters run before the split, as in the literature; so they look ahead."""

    k_core: int | None = Field(None, ge=1)
    """Shorthand: min_user_events and min_item_events of this number."""
    min_user_events: int = Field(1, ge=1)
    """Leave out users with fewer events; repeated with min_item_events until nothing changes."""
    min_item_events: int = Field(1, ge=1)
    """Leave out items with fewer events; repeated with min_user_events until nothing changes."""
    behaviors: list[str] | None = None
    """Keep only events of these behaviors."""
    duplicates: bool = False
    """Leave out exact copies: same user, item, behavior, timestamp and value (the first stays)."""
    repeats: bool = False
    """Leave out an event on the same item as the user's event just before it."""

    @property
    def minimum_counts(self) -> tuple[int, int]:
        """Minimum events of a user and of an item."""
        core = self.k_core or 1
        return max(core, self.min_user_events), max(core, self.min_item_events)


class Split(Config):
    """Where sequences are cut into training, validation and test parts."""

    kind: Literal["leave_one_out", "temporal"] = "leave_one_out"
    """leave_one_out: the last target event of a user is test, the one before it validation. temporal: two
    instants cut every user."""
    valid_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: the first instant of the validation part; a number in the log's unit, or ISO 8601 (UTC)."""
    test_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: the first instant of the test part."""

    @model_validator(mode="after")
    def _check(self) -> Split:
        given = (self.valid_at is not None, self.test_at is not None)
        if self.kind == "temporal" and not all(given):
            raise ValueError("a temporal split needs valid_at and test_at")
        if self.kind == "leave_one_out" and any(given):
            raise ValueError("valid_at and test_at are for kind: temporal")
        return self

    def instants(self, unit: str) -> tuple[int, int]:
        """The two cuts of a temporal split as whole numbers of `unit`."""
        return _instant(self.valid_at, unit), _instant(self.test_at, unit)


def _instant(value: int | str | None, unit: str) -> int:
    if isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"'{value}' is neither a number nor an ISO 8601 time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Not moment.timestamp(): a float loses microseconds.
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    # Rounded up: an event belongs to the part after the cut from the first whole tick that is not before it.
    fraction = -(-since.microseconds * TICKS_PER_SECOND[unit] // 1_000_000)
    return (since.days * 86_400 + since.seconds) * TICKS_PER_SECOND[unit] + fraction


class Vocabulary(Config):
    """How raw ids become indices."""

    oov: int = Field(1, ge=1, le=1_000_000)
    """Number of ids that unknown items share, by hash."""
    fit_on: Literal["all", "train"] = "all"
    """Count all events (the literature's way), or those of the training part alone."""


class IdTypes(Config):
    """Types of the raw ids."""

    user: Literal["auto", "string", "integer"] = "auto"
    """auto: integer where every source is Parquet with an integer column, else string."""
    item: Literal["auto", "string", "integer"] = "auto"
    """integer is faster; a value that is not a whole number is then rejected."""


class PackingSpec(Config):
    """How sequences are packed for training."""

    tokens: int = Field(4096, ge=1)
    """Tokens in a pack."""
    max_length: int = Field(200, ge=1)
    """Events of a sequence that count: what is packed is min(train_end, max_length)."""

    @model_validator(mode="after")
    def _check(self) -> PackingSpec:
        if self.tokens < self.max_length:
            raise ValueError("tokens is smaller than max_length: the longest sequence would fit no pack")
        return self


class DatasetSpec(Config):
    """Everything `prepare` must know about a log."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """A short name, kept in the manifest."""
    description: str = ""
    """One line about the data."""
    homepage: str = ""
    """Where the data are published."""
    license: str = ""
    """Terms of use, in a few words."""
    events: Annotated[list[EventSource], OneOrMany]
    """The event files; several groups where they are written differently."""
    timestamp_unit: Literal["s", "ms", "us", "iso8601", "none"]
    """Unit of the timestamps; none keeps the order of the log."""
    behaviors: list[str] | None = None
    """Behaviors in id order; needed where a column names them. Others in the log are rejected."""
    targets: list[str] | None = None
    """Behaviors to predict and evaluate; default: all."""
    domains: list[str] | None = None
    """Domains in id order; needed where a column names them."""
    id_types: IdTypes = IdTypes()
    """Types of user and item ids."""
    items: FeatureTable | None = None
    """A table of items."""
    users: FeatureTable | None = None
    """A table of users."""
    filters: Filters = Filters()
    """What to leave out."""
    max_events: int | None = Field(None, ge=1)
    """Keep only the newest events of a user, after all filters (the others count as filtered)."""
    split: Split = Split()
    """How to cut sequences into training, validation and test parts."""
    vocabulary: Vocabulary = Vocabulary()
    """How raw ids become indices."""
    packing: PackingSpec = PackingSpec()
    """How sequences are packed."""
    max_rejects: float = Field(0.01, ge=0, le=1)
    """The job fails when more than this share of the rows is rejected."""
    shards: int | None = Field(None, ge=1, le=100_000)
    """Number of sequence files; default: by the size of the input."""

    @model_validator(mode="after")
    def _check(self) -> DatasetSpec:
        if not self.events:
            raise ValueError("events is empty: name at least one group of files")
        self._check_names()
        self._check_targets()
        self._check_time()
        if self.vocabulary.fit_on == "train" and self.filters.minimum_counts != (1, 1):
            raise ValueError("fit_on: train does not go with minimum counts: those look at the whole log")
        return self

    def _check_names(self) -> None:
        known = self.behavior_names
        if len(known) > MAX_BEHAVIORS:
            raise ValueError(f"at most {MAX_BEHAVIORS} behaviors")
        for label, names in (("behaviors", known), ("domains", self.domain_names)):
            if len(set(names)) != len(names):
                raise ValueError(f"{label}: a name stands there twice")
        produced = [name for source in self.events for name in source.behavior.produces() or []]
        mapped = [name for source in self.events for name in source.behavior.map.values() if name is not None]
        for name in [*produced, *mapped, *(self.targets or []), *(self.filters.behaviors or [])]:
            if name not in known:
                raise ValueError(f"behavior '{name}' is not in behaviors; {did_you_mean(name, known)}")
        if self.domains is None and any(source.columns.domain for source in self.events):
            raise ValueError("columns.domain needs the list 'domains'")
        constants = [source.domain is not None or source.columns.domain is not None for source in self.events]
        if any(constants) != all(constants):
            raise ValueError("either every group of events has a domain, or none has")
        for source in self.events:
            if source.domain is not None and source.domain not in self.domain_names:
                raise ValueError(f"domain '{source.domain}' is not in domains")

    def _check_targets(self) -> None:
        kept = self.filters.behaviors
        lost = [name for name in self.target_names if kept is not None and name not in kept]
        if lost:
            raise ValueError(f"filters.behaviors leaves out the target '{lost[0]}'")

    def _check_time(self) -> None:
        for number, source in enumerate(self.events):
            timed = source.columns.timestamp is not None
            if self.timestamp_unit == "none" and timed:
                raise ValueError(f"events.{number}: columns.timestamp is set, but timestamp_unit is none")
            if self.timestamp_unit != "none" and not timed:
                raise ValueError(
                    f"events.{number}: columns.timestamp is missing (timestamp_unit: none keeps the order)"
                )
        if self.split.kind == "temporal":
            if self.timestamp_unit == "none":
                raise ValueError("a temporal split needs timestamps")
            valid_at, test_at = self.split.instants(self.stored_unit)
            if valid_at > test_at:
                raise ValueError("split.valid_at is later than split.test_at")

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

    @property
    def has_time(self) -> bool:
        return self.timestamp_unit != "none"

    @property
    def has_value(self) -> bool:
        """Whether any source has a value."""
        return any(source.columns.value is not None for source in self.events)

    def digest(self) -> str:
        """SHA-256 of the spec with its defaults filled in."""
        text = json.dumps(self.model_dump(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_spec(spec: str | Path, *, input_folder: str | Path | None = None) -> tuple[DatasetSpec, str]:
    """Load a spec file, or a ready spec by its name.

    Args:
        spec: path of a YAML file, or the name of a ready spec (`behavior.datasets.names()`).
        input_folder: folder that paths in the spec are relative to; default: the spec file's own.

    Returns:
        The spec and the folder its paths are relative to.

    Raises:
        UserError: no such file or name, a wrong spec, or a ready spec without an input folder.
    """
    from behavior import datasets

    text = str(spec)
    path = Path(text)
    if not path.exists() and not text.endswith((".yaml", ".yml")):
        path = datasets.path_of(text)
        if input_folder is None:
            raise UserError(
                f"the ready spec '{text}' needs the folder that holds the files", fix="add --input DIR"
            )
    parsed = parse_config(DatasetSpec, read_yaml(path), where=str(path))
    base = str(input_folder) if input_folder is not None else str(path.parent)
    if input_folder is not None and "://" not in base and not Path(base).is_dir():
        raise UserError(f"there is no folder '{base}'", where="--input", fix="check the path")
    return parsed, base

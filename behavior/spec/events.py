"""Event files: their columns, and where behaviors come from."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from behavior.config import Config
from behavior.spec.formats import FileFormat
from behavior.spec.tables import Feature
from behavior.spec.timestamps import time_format
from behavior.spec.values import OneOrMany

_RULE = re.compile(r"^\s*value\s*(>=|<=|==|!=|>|<)\s*(-?\d+(?:\.\d+)?)\s*$")


class EventColumns(Config):
    """The columns of an event."""

    user: str | None = None
    """Column of the user id. Required in all formats but sequences."""
    item: str | None = None
    """Column of the item id. Required in all formats but sequences."""
    timestamp: str | list[str] | None = None
    """Column of the timestamp; omitted where `timestamp_unit` is none. Or two columns, of the date and of the
    time of day, which are read as one text with a space between: `[date, time]`."""
    value: str | None = None
    """A numeric column, such as a rating: stored with the event as float32, and tested by behavior rules. May
    be null."""
    domain: str | None = None
    """Column of the event's domain, one of the spec's `domains`."""
    session: str | None = None
    """Column of the log's own session id, in all groups or in none, instead of `sessions`: numbers the
    sessions of each user, in the order of their first events, in the column `session` of the sequences."""

    @model_validator(mode="after")
    def _check(self) -> EventColumns:
        parts = self.timestamp_columns
        if isinstance(self.timestamp, list) and (len(parts) != 2 or parts[0] == parts[1]):
            raise ValueError("timestamp: name one column, or two: of the date and of the time of day")
        return self

    @property
    def timestamp_columns(self) -> list[str]:
        """The columns that make the timestamp: none, one or two."""
        if self.timestamp is None:
            return []
        return [self.timestamp] if isinstance(self.timestamp, str) else self.timestamp

    def names(self) -> list[str]:
        """All columns that are named."""
        single = (self.user, self.item, *self.timestamp_columns, self.value, self.domain, self.session)
        return [name for name in single if name is not None]


class BehaviorRule(Config):
    """Derives a behavior from the value: `{when: "value >= 4", name: like}`."""

    when: str
    """A comparison of `value` with a number by >=, <=, ==, !=, > or <. False where the value is missing."""
    name: str
    """The behavior of events for which the comparison is true."""

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
    """One behavior for all events of these files; `behavior: buy` is short for it."""
    column: str | None = None
    """The column that names each event's behavior; the spec's `behaviors` lists the names."""
    map: dict[str, str | None] = {}
    """Maps values of the column, such as codes, to names of behaviors; null filters out events with that
    value. Values that are names already need no entry."""
    rules: list[BehaviorRule] = []
    """Rules on `columns.value`; the first that is true gives the behavior."""
    otherwise: str | None = None
    """The behavior where no rule is true; without it such events are filtered out."""

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


class Explode(Config):
    """A column that holds a list of events, such as the impressions of a page; each becomes a row."""

    column: str
    """The list column: text, or a list of JSON lines or Parquet. The other columns are repeated."""
    fields: Annotated[list[str] | None, OneOrMany] = None
    """Names of the columns that the parts of a value give, for use in `columns`, `behavior`, `features` and
    `where`. Default: one part, under the name of the list column."""
    separator: str = " "
    """What separates the values, where the column is text."""
    literal: bool = False
    """Whether the values are written as a list of Python or JSON, such as `[6285, 194]`, instead."""
    field_separator: str | None = None
    """What separates the parts of a value, from the right: `-` in N55689-1."""

    @model_validator(mode="after")
    def _check(self) -> Explode:
        if not self.separator or self.field_separator == "":
            raise ValueError("a separator must have at least one character")
        if (len(self.fields or [""]) > 1) != (self.field_separator is not None):
            raise ValueError("several fields need field_separator, and the other way round")
        return self

    @property
    def list_separator(self) -> str | None:
        """What separates the values; None where they are written as a list."""
        return None if self.literal else self.separator


def checked_format(value: str | None) -> str | None:
    """A `timestamp_format` that is one; for pydantic's `AfterValidator`."""
    if value is not None:
        time_format(value)
    return value


def _behavior(value: Any) -> Any:
    return {"constant": value} if isinstance(value, str) else value


class EventSource(FileFormat):
    """A group of event files of the same format."""

    columns: EventColumns = EventColumns()
    """The columns of an event (not for `sequences`, whose lines have no columns)."""
    behavior: Annotated[BehaviorFrom, BeforeValidator(_behavior)] = BehaviorFrom(constant="interact")
    """A constant name, which all events of these files get, or where an event's behavior comes from."""
    timestamp_format: Annotated[str | None, AfterValidator(checked_format)] = None
    """How the timestamps of these files are written, where not as the spec's `timestamp_format` says."""
    domain: str | None = None
    """The domain of all events of these files; in all groups or in none."""
    explode: Explode | None = None
    """Where a row holds a list of events, such as impressions: the list column."""
    features: list[Feature] = []
    """Side features of events (context), such as place, price or device. Kinds: categorical, numeric or
    hashed. Groups may have different ones; what a group lacks is missing in its events."""

    @model_validator(mode="after")
    def _check_columns(self) -> EventSource:
        if self.kind == "json_map":
            raise ValueError("json_map is a format of tables, not of events")
        if self.kind == "sequences":
            if self.columns != EventColumns():
                raise ValueError("lines of items have no columns: leave 'columns' out")
            if self.behavior.constant is None:
                raise ValueError("lines of items need a constant behavior")
            if self.features:
                raise ValueError("lines of items have no columns: leave 'features' out")
        elif self.columns.user is None or self.columns.item is None:
            raise ValueError("columns.user and columns.item are needed")
        if self.behavior.rules and self.columns.value is None:
            raise ValueError("behavior rules need columns.value")
        if self.domain is not None and self.columns.domain is not None:
            raise ValueError("give either domain or columns.domain")
        self._check_features()
        self._check_explode()
        return self

    def _check_explode(self) -> None:
        if self.explode is None:
            return
        if self.kind == "sequences":
            raise ValueError("lines of items have no columns: leave 'explode' out")
        made = self.explode.fields or [self.explode.column]
        used = self.all_columns()
        if self.explode.column in used and self.explode.column not in made:
            raise ValueError(f"explode: '{self.explode.column}' is a list: use its fields, {', '.join(made)}")
        if not set(made) & set(used):
            raise ValueError(f"explode: nothing reads its fields, {', '.join(made)}")

    def _check_features(self) -> None:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError("two features have the same name")
        for feature in self.features:
            if feature.kind in ("multi_categorical", "text"):
                raise ValueError(
                    f"feature '{feature.name}': an event has one value: categorical, numeric or hashed"
                )

    def needed_columns(self) -> list[str]:
        """The columns to read, each once."""
        used = self.all_columns()
        if self.explode is None:
            return used
        made = self.explode.fields or [self.explode.column]
        return [self.explode.column, *(name for name in used if name not in made)]

    @property
    def list_columns(self) -> dict[str, str | None]:
        """The columns of the files that hold lists, with what separates their values."""
        return {} if self.explode is None else {self.explode.column: self.explode.list_separator}

    def all_columns(self) -> list[str]:
        """The columns that the settings name, each once; those that `explode` makes among them."""
        wanted = [*self.columns.names(), self.behavior.column]
        wanted += [feature.source_column for feature in self.features]
        wanted += [condition.column for condition in self.where]
        return list(dict.fromkeys(name for name in wanted if name is not None))

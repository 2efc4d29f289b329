"""Item and user tables."""

from __future__ import annotations

import itertools
import re
from typing import Literal

from pydantic import Field, model_validator

from behavior.config import Config
from behavior.spec.formats import FileFormat

_RESERVED = (
    "index", "id", "count", "train_count", "user", "item", "behavior", "timestamp", "value", "domain",
    "user_domain", "session", "train_end", "valid_end", "pack",
)  # fmt: skip


class Feature(Config):
    """A feature column of an item or user table, or of the events. Which settings go with which kind is
    checked; ids are documented in docs/shards.md."""

    name: str
    """Name of the column in the shards: letters, digits and underscores."""
    column: str | None = None
    """Name of the column in the files; default: `name`."""
    kind: Literal["categorical", "multi_categorical", "numeric", "hashed", "text"] = "categorical"
    """categorical: one value of a vocabulary. multi_categorical: a list of such values. numeric: a number.
    hashed: one value of unbounded cardinality, by the hashing trick. text: a list of words, hashed. An event
    has one value, so categorical, numeric or hashed."""
    separator: str = "|"
    """multi_categorical: what separates the values, where the column is not a list already."""
    literal: bool = False
    """multi_categorical: whether the values are written as a list of Python or JSON, such as `[6285, 194]` or
    `['a', 'b']`, instead of with a separator between them."""
    pattern: str | None = None
    """categorical and hashed: regular expression (RE2 syntax) with one group. The value is what the group
    matches in the text, such as the year in `Heat (1995)`; text that it does not match has no value."""
    number_format: Literal["plain", "us", "eu"] = "plain"
    """numeric: how numbers are written. plain: 1341.5. us: 1,341.5. eu: 1.341,5. Under the latter two a sign
    or code of a currency, or %, may stand before or after: $12.99."""
    invalid: Literal["reject", "missing"] = "reject"
    """numeric: what becomes of an event whose value is there but no number: it is rejected, or kept with the
    number missing. (Rows of tables are always kept; the values are counted.)"""
    transform: Literal["standardize", "log", "buckets", "none"] = "standardize"
    """numeric: what is stored. standardize: the z-score, (x - mean) / standard deviation of the training
    part. log: sign(x) ln(1 + |x|). buckets: the id of the bucket that x falls into (bucketizing), as for a
    category. none: x."""
    boundaries: list[float] | None = None
    """buckets: increasing bucket boundaries; a value equal to a boundary belongs to the bucket above it."""
    quantiles: int | None = Field(None, ge=2, le=10_000)
    """buckets, instead of `boundaries`: number of quantile buckets, with equally many events of the training
    part in each."""
    min_count: int = Field(1, ge=1)
    """categorical and multi_categorical: values that occur less often share the OOV ids."""
    max_size: int | None = Field(None, ge=1)
    """categorical and multi_categorical: maximum vocabulary size; all but the most frequent values share the
    OOV ids."""
    hash_size: int | None = Field(None, ge=1, le=2**31 - 8)
    """hashed and text, where it is required: number of hash buckets, that is ids that the values share."""
    per_domain: bool = False
    """Whether equal values in two domains are two values; for tables with a domain, and events with
    domains."""

    @model_validator(mode="after")
    def _check(self) -> Feature:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.name) or self.name in _RESERVED:
            raise ValueError(
                f"'{self.name}' cannot name a feature (letters, digits, _; not {', '.join(_RESERVED)})"
            )
        self._check_numeric()
        if self.literal and self.kind != "multi_categorical":
            raise ValueError(f"feature '{self.name}': literal goes with the kind multi_categorical")
        self._check_pattern()
        if (self.hash_size is not None) != (self.kind in ("hashed", "text")):
            raise ValueError(f"feature '{self.name}': hash_size goes with the kinds hashed and text")
        has_vocabulary = self.kind in ("categorical", "multi_categorical")
        if not has_vocabulary and (self.min_count > 1 or self.max_size is not None):
            raise ValueError(
                f"feature '{self.name}': min_count and max_size go with categorical and multi_categorical"
            )
        if self.per_domain and self.kind == "numeric":
            raise ValueError(f"feature '{self.name}': a number is the same in every domain")
        return self

    def _check_pattern(self) -> None:
        if self.pattern is None:
            return
        if self.kind not in ("categorical", "hashed"):
            raise ValueError(f"feature '{self.name}': pattern goes with the kinds categorical and hashed")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise ValueError(f"feature '{self.name}': pattern is no regular expression: {error}") from None
        if groups != 1:
            raise ValueError(f"feature '{self.name}': pattern has {groups} groups, and needs one: (...)")

    def _check_numeric(self) -> None:
        if self.kind != "numeric" and (self.number_format, self.invalid) != ("plain", "reject"):
            raise ValueError(f"feature '{self.name}': number_format and invalid go with the kind numeric")
        if self.kind != "numeric" and self.transform != "standardize":
            raise ValueError(f"feature '{self.name}': transform goes with the kind numeric")
        given = (self.boundaries is not None) + (self.quantiles is not None)
        if given and self.transform != "buckets":
            raise ValueError(
                f"feature '{self.name}': boundaries and quantiles cut numbers into buckets: "
                "add transform: buckets"
            )
        if self.transform == "buckets" and given != 1:
            raise ValueError(
                f"feature '{self.name}': transform: buckets needs one of boundaries and quantiles, and has "
                f"{'both' if given else 'neither'}"
            )
        if self.boundaries is not None and (
            not self.boundaries or any(b <= a for a, b in itertools.pairwise(self.boundaries))
        ):
            raise ValueError(f"feature '{self.name}': boundaries must be rising numbers")

    @property
    def source_column(self) -> str:
        return self.column or self.name

    @property
    def list_separator(self) -> str | None:
        """multi_categorical: what separates the values; None where they are written as a list."""
        return None if self.literal else self.separator


class FeatureTable(FileFormat):
    """A table of items or users with their features."""

    id: str | None = None
    """Column of the item or user id, as the log writes it. Where an id has several rows, see
    `rows_per_id`. Required in all formats but json_map."""
    rows_per_id: Literal["first", "all"] = "first"
    """Which rows of an id are used, where it has several. all, for tables in long form (a row an item and
    tag): the values of all its rows together for the kinds multi_categorical and text, and the first that is
    there for the others."""
    domain: str | None = None
    """The domain whose ids these are: given where `domain_ids` is separate, and only there. Several tables
    may have the same features for different domains."""
    features: list[Feature]
    """The feature columns, and how each is encoded."""

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

    def needed_columns(self) -> list[str]:
        """The columns to read, each once; none of json_map."""
        if self.id is None or self.kind == "json_map":
            return []
        wanted = [self.id, *(feature.source_column for feature in self.features)]
        return list(dict.fromkeys([*wanted, *(condition.column for condition in self.where)]))


_WRITTEN = {"column", "separator", "literal", "number_format", "invalid"}


def check_alike(role: str, features: list[Feature]) -> None:
    """A feature of several tables or groups must be the same in all but its column and how it is written.

    Raises:
        ValueError: naming the feature.
    """
    first: dict[str, dict] = {}
    for feature in features:
        settings = feature.model_dump(exclude=_WRITTEN)
        if first.setdefault(feature.name, settings) != settings:
            raise ValueError(f"{role}: the feature '{feature.name}' is set in two ways")

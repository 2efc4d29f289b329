"""Item and user tables."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import model_validator

from behavior.config import Config
from behavior.spec_parts.formats import FileFormat


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

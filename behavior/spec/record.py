"""A spec as plain values: what its digest is taken of, and what the manifest keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Any

from behavior.config import Config

LATER_FIELDS: dict[str, tuple[str, ...]] = {
    "DatasetSpec": ("min_coverage", "timestamp_format"),
    "EventColumns": ("session",),
    "EventSource": ("timestamp_format", "explode"),
    "Feature": ("literal", "number_format", "invalid", "pattern"),
    "FeatureTable": ("rows_per_id",),
    "FileFormat": ("trim", "where"),
    "Filters": ("core_behaviors",),
    "SplitSpec": ("valid_share", "test_share", "seed"),
}
"""Class -> its fields that specs did not have from the first. At their defaults nothing changes."""


def digest_of(record: dict[str, Any], without: Collection[str]) -> str:
    """SHA-256 of the record of a spec, without some of its keys."""
    kept = {key: value for key, value in record.items() if key not in without}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def same_but_files(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records of specs, checked or as a manifest has them, differ in `files` of events alone."""
    return _without_files(one) == _without_files(other)


def _without_files(record: Mapping[str, Any]) -> Any:
    plain = json.loads(json.dumps(record))
    sources = plain.get("events")
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict):
            source.pop("files", None)
    return plain


def as_record(value: Any) -> Any:
    """Models as dictionaries, with their defaults filled in.

    `LATER_FIELDS` are left out where they are at their defaults, so that a spec keeps its record and digest,
    and data sets made by it can be extended, when the program learns more.
    """
    if isinstance(value, Config):
        return {name: as_record(entry) for name, entry in value if not _is_new_default(value, name, entry)}
    if isinstance(value, list | tuple):
        return [as_record(entry) for entry in value]
    return value


def _is_new_default(model: Config, name: str, value: Any) -> bool:
    cls = type(model)
    later = any(name in LATER_FIELDS.get(each.__name__, ()) for each in cls.__mro__)
    return later and value == cls.model_fields[name].get_default(call_default_factory=True)

"""Tables of items and users among raw files."""

from __future__ import annotations

import re
from typing import Any

from behavior.config import parse_config
from behavior.errors import UserError
from behavior.guess.names import fit
from behavior.guess.propose import form_of
from behavior.guess.roles import Roles
from behavior.guess.sample import Sample
from behavior.spec.tables import Feature, FeatureTable

_MOST_VALUES = 0.5
"""A text that has more distinct values than this share of the rows is no category."""
_BUCKETS = 10_000


def id_of_table(sample: Sample, logs: list[tuple[Sample, Roles]]) -> tuple[str, str] | None:
    """Role (item or user) and id column of a table that goes with some logs; None where it goes with none.

    The id is a column of distinct values that is named like an id or like the log's; in a file that names no
    columns, the first of distinct values, where the file is named like items or users.
    """
    best: tuple[float, str, str] | None = None
    for role in ("item", "user"):
        theirs = [(log, roles.columns[role]) for log, roles in logs if role in roles.columns]
        wanted = {text for log, column in theirs for text in log.texts(column) if text}
        for name in sample.columns:
            values = [text for text in sample.texts(name) if text]
            if name in sample.lists or not values or len(set(values)) < 0.9 * len(values):
                continue
            alike = fit(sample.path.name.split(".")[0], role) / 3
            if sample.header is not False:
                named = any(name == column for _, column in theirs) + fit(name, role) / 3
                alike = alike + named if named else 0.0
            shared = len(wanted & set(values)) / max(min(len(wanted), len(set(values))), 1)
            if alike and (best is None or alike + shared > best[0]):
                best = (alike + shared, role, name)
    return None if best is None else (best[1], best[2])


def table_of(sample: Sample, role: str, column: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The entry of a table in a spec, and notes; None where no column makes a feature."""
    notes: list[str] = []
    record = form_of(sample)
    if sample.format == "json_map":
        record |= {"features": [{"name": "attributes", "kind": "multi_categorical"}]}
        return record, notes
    features, left = [], []
    for name in sample.columns:
        if name == column:
            continue
        feature = _feature(sample, name)
        if feature is None:
            left.append(name)
        else:
            features.append(feature)
    if left:
        names = ", ".join(repr(name) for name in left)
        notes.append(f"{sample.path.name}: left out as features: {names} (texts and times; see kind: text)")
    if not features:
        return None, notes
    entry = record | {"id": column, "features": features}
    try:
        parse_config(FeatureTable, entry, where=sample.path.name)
    except UserError as error:
        return None, [f"{sample.path.name} looks like a table of {role}s, but {error.what}"]
    return entry, notes


def _feature(sample: Sample, name: str) -> dict[str, Any] | None:
    kind = sample.kind(name)
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    plain = plain if re.match(r"[A-Za-z_]", plain) else f"f_{plain}"
    feature: dict[str, Any] = {}
    for candidate in (plain, f"{plain}_value"):
        try:
            feature = Feature(name=candidate).model_dump(include={"name"})
            break
        except ValueError:
            continue
    if not feature:
        return None
    if feature["name"] != name:
        feature["column"] = name
    texts = [text for text in sample.texts(name) if text]
    if not texts or kind == "time":
        return None
    many = len(set(texts)) > max(20, _MOST_VALUES * len(texts))
    if kind == "list":
        return feature | {"kind": "multi_categorical"}
    if kind == "number" or (kind == "integer" and many):
        return feature | {"kind": "numeric"}
    parts = [text.split("|") for text in texts]
    if sum(len(part) > 1 for part in parts) > 0.1 * len(parts):
        return feature | {"kind": "multi_categorical"}
    return None if many else feature

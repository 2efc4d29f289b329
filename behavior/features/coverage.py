"""How much of the log its features describe: counted for every table and feature, and judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import mask, shown
from behavior.errors import UserError
from behavior.features.encode import MISSING
from behavior.shards.manifest import Coverage, FeatureCoverage
from behavior.wording import number_of

_MAX_EXAMPLE = 60


def is_known(values: pa.Array) -> np.ndarray:
    """Which values of a canonical or encoded column are there. [rows] bool"""
    kind = values.type
    if pa.types.is_list(kind):
        return mask(pc.greater(pc.list_value_length(values), 0))
    there = mask(values.is_valid())
    if pa.types.is_floating(kind):
        return there & ~mask(pc.is_nan(values))
    return there & mask(pc.not_equal(values, MISSING)) if pa.types.is_int32(kind) else there


def feature_coverage(name: str, raw: pa.Array, canonical: pa.Array) -> FeatureCoverage:
    """Counts of one feature column.

    Args:
        name: of the feature.
        raw: values as they stand in the file.
        canonical: the same values, see `behavior.features.columns.canonical`.
    """
    known = is_known(canonical)
    unread = np.flatnonzero(_is_there(raw) & ~known)
    example = shown(raw, int(unread[0]))[:_MAX_EXAMPLE] if len(unread) else ""
    return FeatureCoverage(name=name, known=int(known.sum()), unread=len(unread), example=example)


def _is_there(raw: pa.Array) -> np.ndarray:
    """Which raw values are neither null nor blank. [rows] bool"""
    if pa.types.is_dictionary(raw.type):
        raw = raw.dictionary_decode()
    if pa.types.is_list(raw.type) or pa.types.is_large_list(raw.type):
        return mask(pc.greater(pc.list_value_length(raw), 0))
    there = mask(raw.is_valid())
    if pa.types.is_floating(raw.type):
        return there & ~mask(pc.is_nan(raw))
    if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
        return there & mask(pc.greater(pc.binary_length(pc.utf8_trim_whitespace(raw)), 0))
    return there


def merged_coverage(old: Sequence[Coverage], new: Sequence[Coverage]) -> list[Coverage]:
    """Coverage after events were added: those of a group add up, and tables were joined anew."""
    before = {(entry.table, entry.number): entry for entry in old if entry.table == "events"}
    merged = {
        key: _sum(before.pop(key, None), entry) for entry in new for key in [(entry.table, entry.number)]
    }
    return sorted([*before.values(), *merged.values()], key=lambda entry: (entry.table, entry.number))


def _sum(old: Coverage | None, new: Coverage) -> Coverage:
    if old is None:
        return new
    known = {feature.name: feature.known for feature in old.features}
    features = [f.model_copy(update={"known": f.known + known.get(f.name, 0)}) for f in new.features]
    return new.model_copy(
        update={"of": old.of + new.of, "found": old.found + new.found, "features": features}
    )


def check_coverage(
    coverage: Coverage, least: float | None, files: str, hint: Callable[[str | None], str | None]
) -> None:
    """Fail where a table matches too few ids, or a feature has too few values.

    Args:
        coverage: of one table or group of events.
        least: `min_coverage` of the spec; None for anything above nothing.
        files: how messages name the files.
        hint: more about a feature, or, for None, about the ids; None where there is nothing to say.

    Raises:
        UserError: naming the table or feature, and how many of its values were found.
    """
    where = f"{coverage.table} of the spec: {files}"
    many = _too_few(coverage.found, coverage.of, least)
    if many is not None:
        what = f"{many} {number_of(coverage.of, *_OF_LOG[coverage.table])} a row in the table"
        raise UserError(
            what + _told(hint(None)), where=where, fix="correct 'id' in the spec, or the files" + _ALLOW
        )
    for feature in coverage.features:
        many = _too_few(feature.known, coverage.found, least)
        if many is not None:
            what = f"{many} {number_of(coverage.found, *_ROWS[coverage.table])} a value of '{feature.name}'"
            if feature.unread:
                what += f"; {feature.unread:,} could not be read, such as {feature.example}"
            fix = f"correct the column or kind of '{feature.name}' in the spec" + _ALLOW
            raise UserError(what + _told(hint(feature.name)), where=where, fix=fix)


_OF_LOG = {
    name: (f"{name[:-1]} of the log has", f"{name} of the log have") for name in ("events", "items", "users")
}
_ROWS = {
    "events": ("event has", "events have"),
    "items": ("item that has a row has", "items that have a row have"),
    "users": ("user that has a row has", "users that have a row have"),
}
_ALLOW = "; min_coverage: 0 in the spec allows it"


def _too_few(found: int, of: int, least: float | None) -> str | None:
    """None where enough are found; else how many of them, in words."""
    if not of or (found if least is None else found >= least * of):
        return None
    return f"only {found:,} of" if found else "none of the"


def _told(hint: str | None) -> str:
    return f" ({hint})" if hint else ""

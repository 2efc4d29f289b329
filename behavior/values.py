"""Parsing columns: whole arrays at once, and a mask of the values that are no good."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.spec import TICKS_PER_SECOND

_INTEGER = r"^[+-]?[0-9]{1,19}(\.0*)?$"
_INT64 = (-(2**63), 2**63 - 1)
_FLOAT = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def parse_text(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Any column as strings.

    Returns:
        Strings, and a mask of the rows that hold a good one; missing, empty and non-UTF-8 values do not.
    """
    if pa.types.is_floating(array.type):
        whole, good = parse_integers(array)
        return whole.cast(pa.string()), good
    try:
        text = array.cast(pa.string())
    except pa.ArrowInvalid:
        text = pa.array([_decoded(value) for value in array.to_pylist()], pa.string())
    if text.null_count == 0 and len(text) and pc.min(pc.binary_length(text)).as_py() > 0:
        return text, np.ones(len(text), bool)
    return text, _mask(pc.greater(pc.binary_length(text), 0))


def parse_integers(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Any column as int64.

    Returns:
        int64, null where the value is no whole number; and the mask of the good ones.
    """
    kind = array.type
    if pa.types.is_floating(kind):
        values = array.to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            # 2**63 itself is a float but no int64.
            good = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2.0**63)
        return pa.array(np.where(good, values, 0).astype(np.int64), mask=~good), good
    try:
        values = (array.cast(pa.string()) if pa.types.is_binary(kind) else array).cast(pa.int64())
        return values, _mask(values.is_valid())
    except pa.ArrowInvalid:
        return _parse_integers_one_by_one(array)


def _parse_integers_one_by_one(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    text, good = parse_text(array)
    text = pc.utf8_trim_whitespace(text)
    likely = _mask(pc.match_substring_regex(text, _INTEGER)) & good
    short = pc.replace_substring_regex(text, r"^\+|\.0*$", "")
    numbers: list[int | None] = [
        int(value) if fine else None for value, fine in zip(short.to_pylist(), likely, strict=True)
    ]
    inside = [n if n is not None and _INT64[0] <= n <= _INT64[1] else None for n in numbers]
    result = pa.array(inside, pa.int64())
    return result, _mask(result.is_valid())


def parse_floats(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Any column as float32; a missing or empty value is null and good, text that is no number is not."""
    if not (pa.types.is_binary(array.type) or pa.types.is_string(array.type)):
        return array.cast(pa.float32(), safe=False), np.ones(len(array), bool)
    try:
        return array.cast(pa.string()).cast(pa.float32()), np.ones(len(array), bool)
    except pa.ArrowInvalid:
        text = pc.utf8_trim_whitespace(parse_text(array)[0])
        number = _mask(pc.match_substring_regex(text, _FLOAT))
        empty = _mask(pc.fill_null(pc.equal(pc.utf8_length(text), 0), True))
        values = pc.if_else(pa.array(number), text, pa.scalar(None, pa.string())).cast(pa.float32())
        return values, number | empty


def parse_times(array: pa.Array, unit: str) -> tuple[pa.Array, np.ndarray]:
    """Any column as whole ticks since 1970 (UTC).

    Args:
        array: numbers, text, or Arrow timestamps and dates.
        unit: what numbers mean: s, ms, us, or iso8601, for which text like 2024-05-01T10:00:00Z becomes
            microseconds. Arrow timestamps and dates become the unit, whichever it is.

    Returns:
        int64, and the mask of the good ones.
    """
    stored = "us" if unit == "iso8601" else unit
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        ticks = array.cast(pa.timestamp(stored), safe=False).cast(pa.int64())
        return ticks, _mask(ticks.is_valid())
    if unit != "iso8601":
        return parse_integers(array)
    text, good = parse_text(array)
    try:
        ticks = pc.strptime(text, format="%Y-%m-%dT%H:%M:%SZ", unit="us").cast(pa.int64())
        return ticks, good & _mask(ticks.is_valid())
    except pa.ArrowInvalid:
        pass
    try:
        ticks = text.cast(pa.timestamp("us")).cast(pa.int64())
        return ticks, good & _mask(ticks.is_valid())
    except pa.ArrowInvalid:
        ticks = pa.array([_iso_ticks(value) for value in text.to_pylist()], pa.int64())
        return ticks, good & _mask(ticks.is_valid())


def _iso_ticks(value: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat((value or "").strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * TICKS_PER_SECOND["us"] + since.microseconds


def _decoded(value: bytes | None) -> str | None:
    try:
        return value.decode("utf-8") if value is not None else None
    except UnicodeDecodeError:
        return None


def _mask(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)

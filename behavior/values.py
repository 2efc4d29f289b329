"""Parsing columns: whole arrays at once, and a mask of the values that are no good."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.spec import TICKS_PER_SECOND

_INTEGER = r"^[+-]?[0-9]{1,40}(\.0*)?$"
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
        plain = array.cast(pa.string()) if pa.types.is_binary(kind) else array
        if pa.types.is_string(plain.type) and _may_be_hexadecimal(plain):
            return _parse_integers_one_by_one(array)
        values = plain.cast(pa.int64())
        return values, _mask(values.is_valid())
    except pa.ArrowInvalid:
        return _parse_integers_one_by_one(array)


def _may_be_hexadecimal(text: pa.Array) -> bool:
    """Whether there is an x anywhere: Arrow's cast would take 0x10 for 16."""
    content = text.buffers()[2]
    return content is not None and bool(((np.frombuffer(content, np.uint8) | 32) == ord("x")).any())


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
    """Any column as float32.

    Returns:
        float32, null where there is no finite number; and the mask of the good ones: finite numbers, and
        missing values (null, empty, NaN). Text that is no number, and infinity, are not.
    """
    kind = array.type
    good = np.ones(len(array), bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        values = array.cast(pa.float32(), safe=False)
    else:
        values, good = _floats_of_text(array)
    numbers = values.to_numpy(zero_copy_only=False)
    return pa.array(numbers, mask=~np.isfinite(numbers)), good & ~np.isinf(numbers)


def _floats_of_text(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    try:
        values = array.cast(pa.string()).cast(pa.float32())
    except pa.ArrowInvalid:
        values = None  # one bad value spoils the cast: which one it is, the pattern tells below
    if values is not None and np.isfinite(values.drop_null().to_numpy()).all():
        return values, np.ones(len(array), bool)
    text = pc.utf8_trim_whitespace(parse_text(array)[0])
    number = _mask(pc.match_substring_regex(text, _FLOAT))
    missing = _mask(array.is_null()) | _mask(pc.is_in(pc.utf8_lower(text), value_set=pa.array(["", "nan"])))
    values = pc.if_else(pa.array(number), text, pa.scalar(None, pa.string())).cast(pa.float32())
    return values, number | missing


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
    ticks = _ticks_of_text(text)
    return ticks, good & _mask(ticks.is_valid())


def _ticks_of_text(text: pa.Array) -> pa.Array:
    # Arrow takes a column either with zones or without; what it refuses is read one by one.
    for kind in (pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        try:
            return text.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    return pa.array([_iso_ticks(value) for value in text.to_pylist()], pa.int64())


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

"""Parsing columns: whole arrays at once, and a mask of the values that are invalid."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_INTEGER = r"^[+-]?[0-9]{1,40}(\.0*)?$"
NO_INTEGER = "is not a whole number"
_INT64 = (-(2**63), 2**63 - 1)
_SURE_DIGITS = 18
_REFUSED = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
_FLOAT32 = pa.float32()
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
    except _REFUSED:
        text = pa.array([_decoded(value) for value in array.to_pylist()], pa.string())
    if text.null_count == 0 and len(text) and pc.min(pc.binary_length(text)).as_py() > 0:
        return text, np.ones(len(text), bool)
    return text, mask(pc.greater(pc.binary_length(text), 0))


def parse_integers(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Any column as int64.

    Returns:
        int64, null where the value is not an integer; and the mask of the valid ones.
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
        return values, mask(values.is_valid())
    except _REFUSED:
        return _parse_integers_one_by_one(array)


def _may_be_hexadecimal(text: pa.Array) -> bool:
    """Whether there is an x anywhere: Arrow's cast would take 0x10 for 16."""
    content = text.buffers()[2]
    return content is not None and bool(((np.frombuffer(content, np.uint8) | 32) == ord("x")).any())


def _parse_integers_one_by_one(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Of text in which anything may be: what is digits alone, as nearly all is, and then the rest."""
    text, good = parse_text(array)
    sure = mask(pc.ascii_is_decimal(text)) & mask(pc.less_equal(pc.binary_length(text), _SURE_DIGITS))
    rest = np.flatnonzero(~sure)
    odd, right = _parse_odd_integers(text.take(pa.array(rest)), good[rest])
    digits = pc.if_else(pa.array(sure), text, pa.scalar("0", pa.string()))
    numbers = digits.cast(pa.int64()).to_numpy(zero_copy_only=False).copy()
    numbers[rest] = pc.fill_null(odd, 0).to_numpy(zero_copy_only=False)
    sure[rest] = right
    return pa.array(numbers, mask=~sure), sure


def _parse_odd_integers(text: pa.Array, good: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    text = pc.utf8_trim_whitespace(text)
    likely = mask(pc.match_substring_regex(text, _INTEGER)) & good
    digits = pc.replace_substring_regex(text, r"^\+|\.0*$", "")
    # So many digits always fit; the few longer ones are left to Python.
    short = likely & mask(pc.less_equal(pc.binary_length(digits), _SURE_DIGITS))
    numbers = pc.if_else(pa.array(short), digits, pa.scalar(None, pa.string())).cast(pa.int64())
    long = np.flatnonzero(likely & ~short)
    if len(long):
        values = numbers.to_pylist()
        for row, value in zip(long, digits.take(pa.array(long)).to_pylist(), strict=True):
            values[row] = int(value) if _INT64[0] <= int(value) <= _INT64[1] else None
        numbers = pa.array(values, pa.int64())
    return numbers, mask(numbers.is_valid())


def parse_floats(array: pa.Array, to: pa.DataType = _FLOAT32) -> tuple[pa.Array, np.ndarray]:
    """Any column as numbers.

    Args:
        array: numbers or text.
        to: float32, or float64 for what is still to be computed with. Both take the same values for numbers:
            those that float32 can hold.

    Returns:
        Numbers, null where there is no finite one; and the mask of the valid ones: finite numbers, and
        missing values (null, empty, NaN). Text that is no number, and infinity, are not.
    """
    kind = array.type
    good = np.ones(len(array), bool)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        values = array.cast(to, safe=False)
    else:
        values, good = _floats_of_text(array, to)
    numbers = values.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        stored = numbers.astype(np.float32)
    return pa.array(numbers, mask=~np.isfinite(stored)), good & ~np.isinf(stored)


def _floats_of_text(array: pa.Array, to: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    try:
        values = array.cast(pa.string()).cast(to)
    except _REFUSED:
        values = None  # one bad value spoils the cast: which one it is, the pattern tells below
    if values is not None and np.isfinite(values.drop_null().to_numpy()).all():
        return values, np.ones(len(array), bool)
    text = pc.utf8_trim_whitespace(parse_text(array)[0])
    number = mask(pc.match_substring_regex(text, _FLOAT))
    missing = mask(array.is_null()) | mask(pc.is_in(pc.utf8_lower(text), value_set=pa.array(["", "nan"])))
    values = pc.if_else(pa.array(number), text, pa.scalar(None, pa.string())).cast(to)
    return values, number | missing


def _decoded(value: object) -> str | None:
    if value is None or not isinstance(value, bytes):
        return None if value is None else str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def mask(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """A column of booleans for numpy; null is false. [rows] bool"""
    return pc.fill_null(array, False).to_numpy(zero_copy_only=False)


def why_no_integer(text: str) -> str:
    """What is wrong with a value that `parse_integers` refuses, to follow it.

    >>> why_no_integer("abc"), why_no_integer("9" * 30)
    ('is not a whole number', 'is a whole number of more than 64 bits')

    Args:
        text: the value, as `shown` shows it or as it is.
    """
    large = re.fullmatch(_INTEGER, text.strip("'").strip())
    return "is a whole number of more than 64 bits" if large else NO_INTEGER


def shown(array: pa.Array, row: int) -> str:
    """A value as messages show it: quoted and not too long; (empty) for none."""
    try:
        value = array[row].as_py()
    except (ValueError, OverflowError):
        return str(array.slice(row, 1).cast(pa.string(), safe=False)[0])[:200]  # the year 12,000, say
    if value is None or value in ("", b""):
        return "(empty)"
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="backslashreplace")
    return repr(value)[:200]

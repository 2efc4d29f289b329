"""Parsing columns of timestamps: whole arrays at once, and a mask of the values that are valid."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.strptime import ticks_of_patterns
from behavior.arrow.values import mask, parse_integers, parse_text, why_no_integer
from behavior.spec.rules import TICKS_PER_SECOND
from behavior.spec.timestamps import ISO, TimeFormat

_END_SECONDS = 4_102_444_800
"""The year 2100 begins."""
_CLIP_SECONDS = 2**42
"""Arrow times farther from 1970 than 139,000 years are taken for that far: no int64 overflows, and the year
shown says enough."""
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_INT64_MAX = 2**63 - 1
_MICROSECONDS = 1_000_000
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


def parse_times(array: pa.Array, unit: str, form: TimeFormat | None = None) -> tuple[pa.Array, np.ndarray]:
    """Any column as integer ticks since 1970 (UTC).

    Args:
        array: numbers, text, or Arrow timestamps and dates.
        unit: of the ticks, and without a form of the integers in the array: s, ms, us, or iso8601, for which
            text like 2024-05-01T10:00:00Z becomes microseconds. Arrow timestamps and dates become the unit,
            whichever it is.
        form: how numbers or text are written; what is finer than the unit is cut off.

    Returns:
        int64, and the mask of the valid ones: those from 1970 up to, not including, 2100. A time outside is
        there but not valid, what is not a time at all is null; `time_problem` says in words which it is.
    """
    per_second = TICKS_PER_SECOND[_stored(unit)]
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        ticks = _ticks_of_arrow(array, per_second)
    elif form is not None:
        ticks = _coarser(_microseconds(array, form), _MICROSECONDS // per_second)
    elif unit == "iso8601":
        ticks = _ticks_of_text(parse_text(array)[0])
    else:
        ticks = parse_integers(array)[0]
    values = pc.fill_null(ticks, -1).to_numpy(zero_copy_only=False)
    return ticks, (values >= 0) & (values < _END_SECONDS * per_second)


def join_date_and_time(parts: list[pa.Array]) -> pa.Array:
    """Columns of a date and of a time of day as one column of text, separated by a space.

    Returns:
        strings; null where a part is missing.
    """
    texts = []
    for part in parts:
        plain = part.cast(pa.date32()) if pa.types.is_timestamp(part.type) else part
        text, good = parse_text(plain)
        texts.append(pc.if_else(pa.array(good), text, pa.scalar(None, pa.string())))
    return pc.binary_join_element_wise(*texts, " ")


def time_problem(value: int | None, unit: str, form: TimeFormat | None = None, text: str = "") -> str:
    """Why a value of `parse_times` is not valid, to follow the name and the value of the column.

    >>> time_problem(1_700_000_000_000, "s")
    'is out of range: the year 55,840 in s; is timestamp_unit right?'

    Args:
        value: as `parse_times` gives it; None where the text is no time.
        unit: s, ms, us or iso8601.
        form: as `parse_times` had it.
        text: as it is written, where the value is None.
    """
    if value is None:
        if unit != "iso8601" and form is None:
            return why_no_integer(text)
        return f"is not {'an ISO 8601 time' if form is None else form.words}"
    days = value // (86_400 * TICKS_PER_SECOND[_stored(unit)])
    year = _year_of(days)
    shown_year = f"{year:,}" if abs(year) >= 10_000 else str(year)
    if form is not None and form.per_second is not None:
        return f"is out of range: the year {shown_year} as {form.name}; is timestamp_format right?"
    if form is not None or unit == "iso8601":
        return f"is out of range: the year {shown_year}, not 1970 to 2099"
    return f"is out of range: the year {shown_year} in {unit}; is timestamp_unit right?"


def _year_of(days: int) -> int:
    """The year in which a day since 1970 lies, in the calendar extended both ways."""
    # 400 years always have as many days; Python's calendar does the rest.
    cycle, day = divmod(days, 146_097)
    return (date(1970, 1, 1) + timedelta(days=day)).year + 400 * cycle


def _stored(unit: str) -> str:
    return "us" if unit == "iso8601" else unit


def _microseconds(array: pa.Array, form: TimeFormat) -> pa.Array:
    if form.per_second is not None:
        return _of_epoch(array, form.per_second)
    text = parse_text(array)[0]
    return _ticks_of_text(text) if form.name == ISO else ticks_of_patterns(text, form.patterns)


def _of_epoch(array: pa.Array, per_second: int) -> pa.Array:
    """Numbers since 1970, with fractions or exponents perhaps, in microseconds.

    Integers are exact. Others go through float64, which has microseconds in the range that is valid.
    """
    whole, good = parse_integers(array)
    ticks = _scaled(pc.fill_null(whole, 0).to_numpy(), per_second, _MICROSECONDS)
    rest = np.flatnonzero(~good)
    if len(rest):
        floats, found = _floats(array.take(pa.array(rest)))
        limit = float(_CLIP_SECONDS * _MICROSECONDS)
        with np.errstate(over="ignore"):
            near = np.clip(floats * (_MICROSECONDS / per_second), -limit, limit)
        ticks[rest] = np.round(near).astype(np.int64)
        good[rest] = found
    return pa.array(ticks, mask=~good)


def _floats(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Finite numbers as float64, and which values are some."""
    if pa.types.is_floating(array.type):
        values = pc.fill_null(array.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    else:
        text = pc.utf8_trim_whitespace(parse_text(array)[0])
        number = pa.array(mask(pc.match_substring_regex(text, _NUMBER)))
        values = pc.if_else(number, text, "nan").cast(pa.float64()).to_numpy(zero_copy_only=False)
    good = np.isfinite(values)
    return np.where(good, values, 0.0), good


def _scaled(numbers: np.ndarray, source: int, wanted: int) -> np.ndarray:
    """Integers of which a second has `source`, as those of which it has `wanted`; the rest is cut off."""
    limit = min(_CLIP_SECONDS * source, _INT64_MAX)
    inside = np.clip(numbers, -limit, limit)
    return inside * (wanted // source) if wanted >= source else inside // (source // wanted)


def _coarser(ticks: pa.Array, factor: int) -> pa.Array:
    if factor == 1:
        return ticks
    numbers = pc.fill_null(ticks, 0).to_numpy()
    return pa.array(numbers // factor, mask=mask(ticks.is_null()))


def _ticks_of_arrow(array: pa.Array, per_second: int) -> pa.Array:
    """Timestamps and dates as ticks; by hand, since Arrow's cast to a finer unit overflows in silence."""
    kind = array.type
    if pa.types.is_date(kind):
        source, array = (1_000, array) if kind == pa.date64() else (1, array.cast(pa.int32()))
        factor = 86_400 if kind == pa.date32() else 1
    else:
        source, factor = _PER_SECOND[kind.unit], 1
    numbers = pc.fill_null(array.cast(pa.int64()), 0).to_numpy(zero_copy_only=False)
    limit = min(_CLIP_SECONDS * source // factor, _INT64_MAX)
    inside = np.clip(numbers, -limit, limit) * factor
    scaled = inside * (per_second // source) if per_second >= source else inside // (source // per_second)
    return pa.array(scaled, mask=mask(array.is_null()))


def _ticks_of_text(text: pa.Array) -> pa.Array:
    # Arrow takes a column either with zones or without; what it refuses is read one by one.
    ticks = _cast_ticks(text)
    if ticks is not None:
        return ticks
    named = _zones_as_z(text)
    ticks = None if named is text else _cast_ticks(named)
    if ticks is not None:
        return ticks
    return pa.array([_iso_ticks(value) for value in named.to_pylist()], pa.int64())


def _cast_ticks(text: pa.Array) -> pa.Array | None:
    for kind in (pa.timestamp("us", tz="UTC"), pa.timestamp("us")):
        try:
            text.slice(0, 64).cast(kind)  # a cast that fails goes through all values, slowly
            return text.cast(kind).cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    return None


def _zones_as_z(text: pa.Array) -> pa.Array:
    """Texts that end with UTC or GMT, after a space, with Z in its place."""
    trimmed = pc.utf8_trim_whitespace(text)
    named = pc.or_(pc.ends_with(trimmed, " UTC"), pc.ends_with(trimmed, " GMT"))
    if not mask(named).any():
        return text
    moment = pc.utf8_rtrim_whitespace(pc.utf8_slice_codeunits(trimmed, 0, -4))
    return pc.if_else(named, pc.binary_join_element_wise(moment, "Z", ""), text)


def _iso_ticks(value: str | None) -> int | None:
    try:
        moment = datetime.fromisoformat((value or "").strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * TICKS_PER_SECOND["us"] + since.microseconds

"""Text becomes times by regular expressions of `behavior.spec.timestamps`: whole arrays at once."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august", "september"),
    *("october", "november", "december"),
)
_DAY = 86_400_000_000


def _month_table() -> dict[str, int]:
    table = {"sept": 9}
    for number, name in enumerate(_MONTHS, start=1):
        table |= dict.fromkeys((name, name[:3], str(number), f"{number:02d}"), number)
    return table


_MONTH_NUMBERS = _month_table()


def ticks_of_patterns(text: pa.Array, patterns: tuple[str, ...]) -> pa.Array:
    """Times in microseconds since 1970 (UTC, where the text has no offset).

    A year of two digits is of 1969 to 2068, as in POSIX. Digits after the sixth of a fraction are cut off.

    Args:
        text: strings.
        patterns: see `behavior.spec.timestamps.TimeFormat`; the first that matches a text counts.

    Returns:
        int64; null where no pattern matches, or the fields are no time: 30 February, 25 o'clock.
    """
    ticks, good = np.zeros(len(text), np.int64), np.zeros(len(text), bool)
    left = np.arange(len(text))
    for pattern in patterns:
        fields = pc.extract_regex(text.take(pa.array(left)), pattern)
        matched = fields.is_valid().to_numpy(zero_copy_only=False)
        rows, left = left[matched], left[~matched]
        ticks[rows], good[rows] = _ticks(fields.filter(pa.array(matched)))
    return pa.array(ticks, mask=~good)


def _ticks(fields: pa.StructArray) -> tuple[np.ndarray, np.ndarray]:
    names = {field.name for field in fields.type}

    def number(name: str) -> np.ndarray:
        if name not in names:
            return np.zeros(len(fields), np.int64)
        text = fields.field(name)
        filled = pc.if_else(pc.equal(text, ""), "0", text)
        return filled.cast(pa.int64()).to_numpy()

    days, good = _days(_years(number, names), _months(fields.field("m")), number("d"))
    hours, good_hours = _hours(number("H"), fields.field("p") if "p" in names else None)
    minutes, seconds = number("M"), number("S")
    good &= good_hours & (minutes < 60) & (seconds < 60)
    ticks = days * _DAY + ((hours * 60 + minutes) * 60 + seconds) * 1_000_000
    if "f" in names:
        digits = pc.utf8_rpad(pc.utf8_slice_codeunits(fields.field("f"), 0, 6), 6, "0")
        ticks += digits.cast(pa.int64()).to_numpy()
    if "z" in names:
        ticks -= _offsets(fields.field("z"))
    return ticks, good


def _years(number: object, names: set[str]) -> np.ndarray:
    assert callable(number)
    if "Y" in names:
        return number("Y")
    years = number("y")
    return years + np.where(years < 69, 2000, 1900)


def _months(text: pa.Array) -> np.ndarray:
    """1 to 12, or 0 for a text that is no month."""
    plain = pc.utf8_lower(pc.utf8_rtrim(text, characters="."))
    found = pc.index_in(plain, value_set=pa.array(list(_MONTH_NUMBERS)))
    table = np.array([*_MONTH_NUMBERS.values(), 0], np.int64)
    return table[pc.fill_null(found, -1).to_numpy()]


def _days(years: np.ndarray, months: np.ndarray, days: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Days since 1970, and which of them there are."""
    since = ((years - 1970) * 12 + months - 1).astype("datetime64[M]")
    first = since.astype("datetime64[D]").astype(np.int64)
    length = (since + 1).astype("datetime64[D]").astype(np.int64) - first
    return first + days - 1, (months > 0) & (days >= 1) & (days <= length)


def _hours(hours: np.ndarray, half: pa.Array | None) -> tuple[np.ndarray, np.ndarray]:
    if half is None:
        return hours, hours < 24
    letter = pc.utf8_lower(pc.utf8_slice_codeunits(half, 0, 1))
    afternoon = pc.equal(letter, "p").to_numpy(zero_copy_only=False)
    halved = afternoon | pc.equal(letter, "a").to_numpy(zero_copy_only=False)
    good = np.where(halved, (hours >= 1) & (hours <= 12), hours < 24)
    return np.where(halved, hours % 12 + 12 * afternoon, hours), good


def _offsets(zones: pa.Array) -> np.ndarray:
    """Microseconds to the east of UTC. A log has few zones: they are read one by one."""
    coded = zones.dictionary_encode()
    known = np.array([_offset(zone) for zone in coded.dictionary.to_pylist()], np.int64)
    return known[coded.indices.to_numpy()]


def _offset(zone: str) -> int:
    match = re.match(r"([+-])(\d\d):?(\d\d)?", zone)
    if match is None:
        return 0
    seconds = int(match[2]) * 3600 + int(match[3] or 0) * 60
    return (-seconds if match[1] == "-" else seconds) * 1_000_000

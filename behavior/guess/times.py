"""How a column writes times: every form is tried by the parser that `prepare` uses."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from behavior.arrow.times import parse_times
from behavior.arrow.values import parse_text
from behavior.spec.rules import TICKS_PER_SECOND
from behavior.spec.timestamps import EPOCHS, TimeFormat, time_format

ENOUGH = 0.99
"""Share of the values that a form must read."""
_YEARS = (1995, 2036)
"""Numbers are taken for times within these years only: ten digits may be a telephone number as well."""
_UNITS = {"epoch_s": "s", "epoch_ms": "ms", "epoch_us": "us", "epoch_ns": "us"}
_OTHERS = (
    "%a %b %d %H:%M:%S %z %Y",
    "%a %b %d %H:%M:%S %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%a, %d %b %Y %H:%M:%S %z",
)
_ORDERS = (("d", "m", "y"), ("m", "d", "y"), ("y", "m", "d"))
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
_CLOCK = re.compile(r"\s*\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s*([AaPp]\.?[Mm]\.?)?\s*")


@dataclass(frozen=True)
class Written:
    """How a column writes times.

    Attributes:
        unit: for `timestamp_unit`.
        formats: for `timestamp_format`: None where the unit says it; several where the values fit several, so
            that only people can tell.
    """

    unit: str
    formats: tuple[str | None, ...]

    @property
    def sure(self) -> bool:
        return len(self.formats) == 1


def written_as(array: pa.Array) -> Written | None:
    """How a column writes times; None where no form reads it.

    Args:
        array: text, numbers, or Arrow timestamps and dates.
    """
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return Written("iso8601", (None,)) if _reads(array, "iso8601", None) else None
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or _is_text(array)):
        return None
    text = parse_text(array)[0] if not pa.types.is_floating(array.type) else None
    if text is None or _matches(text, r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*"):
        return _numbers(array, text)
    if _reads(array, "iso8601", None):
        return Written("iso8601", (None,))
    names = _best(array, ["ymd", "dmy", "mdy"])
    if not names:
        names = _fewest_years(array, _best(array, _patterns()))
    return Written(_unit(array, names), tuple(names)) if names else None


def is_time_of_day(array: pa.Array) -> bool:
    """Whether nearly all values are times of day: 9:59, 09:59:00, 9:59 AM; or the type says so."""
    if pa.types.is_time(array.type):
        return True
    return _is_text(array) and _matches(parse_text(array)[0], _CLOCK.pattern)


def _best(array: pa.Array, names: list[str]) -> list[str]:
    """The forms that read most values, and enough."""
    few = [value for value in parse_text(array)[0].slice(0, 20).to_pylist() if value]
    forms = {name: time_format(name) for name in names}
    likely = [
        name
        for name, form in forms.items()
        if any(re.match(pattern, text, re.ASCII) for pattern in form.patterns for text in few)
    ]
    shares = {name: _share(array, "us", forms[name]) for name in likely}
    most = max(shares.values(), default=0.0)
    return [name for name, share in shares.items() if share == most >= ENOUGH]


def _fewest_years(array: pa.Array, names: list[str]) -> list[str]:
    """Those forms by which the times are of fewest years: a day that is taken for a year gives many."""
    counts = {}
    for name in names:
        ticks, good = parse_times(array, "us", time_format(name))
        times = ticks.to_numpy(zero_copy_only=False)[good].astype("datetime64[us]")
        counts[name] = len(np.unique(times.astype("datetime64[Y]")))
    return [name for name, count in counts.items() if count == min(counts.values())]


def _numbers(array: pa.Array, text: pa.Array | None) -> Written | None:
    if text is not None and _matches(text, r"\s*(19|20)\d{6}\s*") and _within(array, "s", time_format("ymd")):
        return Written("s", ("ymd",))
    for name in EPOCHS:
        if not _within(array, "us", time_format(name)):
            continue
        unit = _UNITS[name]
        if name != "epoch_ns" and _reads(array, unit, None):
            return Written(unit, (None,))
        return Written(_finer(array, unit, time_format(name)), (name,))
    return None


def _finer(array: pa.Array, unit: str, form: TimeFormat) -> str:
    """The coarsest unit that loses nothing, not coarser than `unit`."""
    units = list(TICKS_PER_SECOND)
    exact = parse_times(array, "us", form)[0].drop_null().to_numpy()
    for name in units[units.index(unit) :]:
        if not (exact % (TICKS_PER_SECOND["us"] // TICKS_PER_SECOND[name])).any():
            return name
    return "us"


def _unit(array: pa.Array, names: list[str]) -> str:
    return _finer(array, "s", time_format(names[0]))


def _reads(array: pa.Array, unit: str, form: TimeFormat | None) -> bool:
    """Whether a form reads nearly all values."""
    return _share(array, unit, form) >= ENOUGH


def _share(array: pa.Array, unit: str, form: TimeFormat | None) -> float:
    good = parse_times(array, unit, form)[1]
    return float(good.mean()) if len(good) else 0.0


def _within(array: pa.Array, unit: str, form: TimeFormat) -> bool:
    ticks, good = parse_times(array, unit, form)
    if not len(good) or good.mean() < ENOUGH:
        return False
    years = (np.asarray(_YEARS) - 1970) * 365.2425 * 86_400 * TICKS_PER_SECOND[unit]
    values = ticks.to_numpy(zero_copy_only=False)[good]
    return bool(years[0] <= values.min() and values.max() < years[1])


def _is_text(array: pa.Array) -> bool:
    return (
        pa.types.is_string(array.type) or pa.types.is_binary(array.type) or pa.types.is_dictionary(array.type)
    )


def _matches(text: pa.Array, pattern: str) -> bool:
    """Whether nearly all values that are there have a form: a damaged row says nothing of the others."""
    present = [value for value in text.to_pylist() if value]
    found = sum(re.fullmatch(pattern, value) is not None for value in present)
    return bool(present) and found >= ENOUGH * len(present)


def _patterns() -> list[str]:
    """Patterns beside the ready forms: dates whose year has two digits, and those of servers."""
    dates = [mark.join(f"%{part}" for part in order) for mark in "-/." for order in _ORDERS]
    return [date + clock for date, clock in itertools.product(dates, _CLOCKS)] + list(_OTHERS)

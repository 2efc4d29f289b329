"""How timestamps are written: names of the usual forms, and patterns as of `strptime`.

A form becomes regular expressions that both Python and RE2 (Arrow) run alike, with a named group a field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

EPOCHS = {"epoch_s": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000, "epoch_ns": 1_000_000_000}
"""Numbers since 1970, by how many of them a second has."""
ISO = "iso8601"

_NAME = r"[A-Za-z]{3,9}\.?"
_HALF = r"[AaPp]\.?[Mm]\.?"
_ZONE = r"Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?"
_FIELDS = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "f": r"\d{1,9}",
    "p": _HALF,
    "z": _ZONE,
    "Z": "Z|UTC|GMT",
    **dict.fromkeys("bBaA", _NAME),
    **dict.fromkeys("mdHIMS", r"\d{1,2}"),
}
_SHORT = {"F": "%Y-%m-%d", "T": "%H:%M:%S", "R": "%H:%M", "D": "%m/%d/%y"}
_GROUP = {"b": "m", "B": "m", "I": "H", "Z": "z"}
_NUMBERS = "YymdHIMSf"
_DIRECTIVES = ", ".join(f"%{mark}" for mark in [*_FIELDS, *_SHORT])

_BETWEEN = r"(?:[-/.]|,? )"
_CLOCK = (
    rf"(?:(?:[T ]|, )(?P<H>\d{{1,2}}):(?P<M>\d{{2}})(?::(?P<S>\d{{2}})(?:[.,](?P<f>\d{{1,9}}))?)?"
    rf" ?(?P<p>{_HALF})? ?(?P<z>{_ZONE})?)?"
)
_PARTS = {"y": r"(?P<Y>\d{4})", "m": rf"(?P<m>\d{{1,2}}|{_NAME})", "d": r"(?P<d>\d{1,2})"}
_COMPACT = (
    r"(?P<Y>\d{4})(?P<m>\d{2})(?P<d>\d{2})"
    rf"(?:[T ]?(?P<H>\d{{2}}):?(?P<M>\d{{2}})(?::?(?P<S>\d{{2}})(?:\.(?P<f>\d{{1,9}}))?)?(?P<z>{_ZONE})?)?"
)


@dataclass(frozen=True)
class TimeFormat:
    """A form in which timestamps are written.

    Attributes:
        name: as the spec has it.
        per_second: of numbers since 1970, how many a second has; None for text.
        patterns: of text, regular expressions of the whole of it, to be tried one after the other; none for
            ISO 8601. Groups: Y or y, m (a number or a name), d, and perhaps H, M, S, f, p, z.
    """

    name: str
    per_second: int | None = None
    patterns: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What a text of this form is called in messages."""
        if self.per_second is not None:
            return "a number"
        return "an ISO 8601 time" if self.name == ISO else f"a time of the form {self.name}"


def time_format(name: str) -> TimeFormat:
    """The form of a name or pattern.

    Args:
        name: one of `ready_formats`, or a pattern with directives of `strptime` such as %d.%m.%Y %H:%M.

    Raises:
        ValueError: the name is unknown; a directive is unknown or stands there twice; year, month or day is
            missing; %p and %I do not stand together.
    """
    if name in EPOCHS:
        return TimeFormat(name, EPOCHS[name])
    if name == ISO:
        return TimeFormat(name)
    if name in ("ymd", "dmy", "mdy"):
        spread = _BETWEEN.join(_PARTS[mark] for mark in name) + _CLOCK
        texts = (spread, _COMPACT) if name == "ymd" else (spread,)
        return TimeFormat(name, patterns=tuple(_whole(text) for text in texts))
    if "%" not in name:
        raise ValueError(f"is none of {', '.join(ready_formats())}, and no pattern such as %d.%m.%Y %H:%M")
    return TimeFormat(name, patterns=(_whole(_of_pattern(name)),))


def ready_formats() -> list[str]:
    """Names of the forms that need no pattern."""
    return [*EPOCHS, ISO, "ymd", "dmy", "mdy"]


def _whole(text: str) -> str:
    return rf"^\s*{text}\s*$"


def _of_pattern(pattern: str) -> str:
    for mark, long in _SHORT.items():
        pattern = re.sub(rf"(?<!%)((?:%%)*)%{mark}", rf"\g<1>{long}", pattern)
    result, given = "", set()
    adjacent = False  # to a number, so that this one must have all its digits
    for piece in re.findall(r"%.?|\s+|.", pattern, re.DOTALL):
        if piece.isspace() or not piece.startswith("%") or piece == "%%":
            result += r"\s+" if piece.isspace() else re.escape(piece[-1])
            adjacent = piece.isdigit()
            continue
        mark = piece[1:]
        if mark not in _FIELDS:
            raise ValueError(f"has the unknown directive '{piece}'; known: {_DIRECTIVES}")
        if mark in given:
            raise ValueError(f"has the directive '{piece}' twice")
        given.add(mark)
        text = _FIELDS[mark]
        if adjacent and text == r"\d{1,2}":
            text = r"\d{2}"
        adjacent = mark in _NUMBERS
        result += rf"(?:{text})" if mark in "aA" else rf"(?P<{_GROUP.get(mark, mark)}>{text})"
    _check(given)
    return result


def _check(given: set[str]) -> None:
    for label, marks in (("year", "Yy"), ("month", "mbB"), ("day", "d"), ("hour", "HI"), ("zone", "zZ")):
        found = [mark for mark in marks if mark in given]
        if not found and label in ("year", "month", "day"):
            raise ValueError(f"has no {label} (%{' or %'.join(marks)})")
        if len(found) > 1:
            raise ValueError(f"has the {label} twice: %{' and %'.join(found)}")
    if ("I" in given) != ("p" in given):
        raise ValueError("has %p or %I alone: hours with AM and PM are %I, others %H")

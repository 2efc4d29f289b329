"""Lists and numbers as people and other programs write them: `[6285, 'x']`, `a|b`, `1,341`, `$12.99`."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.values import parse_text

LITERAL = None
"""In place of a separator: lists are written as in Python or JSON."""
_ENTRY = re.compile(
    r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\[\](){}]*))\s*(?:,|$)""", re.DOTALL
)
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_MISSING = ("", "None", "null", "nan", "NaN")
_UNIT = r"(?:[A-Z]{0,3}\p{Sc}|[A-Z]{3})?"
_MARKS = {"us": (",", "."), "eu": (".", ",")}


def split_lists(text: pa.Array, separator: str | None) -> pa.Array:
    """Lists that are written as text; null where the text is null, or is no list of the kind.

    Args:
        text: a column of strings.
        separator: between the values; `LITERAL` for lists as Python or JSON writes them.
    """
    if separator is not None:
        return pc.split_pattern(text, separator)
    return pa.array([None if t is None else literal_list(t) for t in text.to_pylist()], pa.list_(pa.string()))


def literal_list(text: str) -> list[str] | None:
    """The values of a list such as `[6285, 194]`, `['a', "b"]` or `{a, b}`; None where the text is none.

    Values without quotes end at a comma; None, null and nan stand for no value. Lists within it are refused.
    """
    text = text.strip()
    if len(text) < 2 or _BRACKETS.get(text[0]) != text[-1]:
        return None
    inner, place = text[1:-1].strip(), 0
    found: list[str] = []
    while place < len(inner):
        entry = _ENTRY.match(inner, place)
        if entry is None:
            return None
        single, double, bare = entry.groups()
        if bare is None:
            found.append(re.sub(r"\\(.)", r"\1", single if single is not None else double, flags=re.DOTALL))
        elif bare.strip() not in _MISSING:
            found.append(bare.strip())
        place = entry.end()
    return found


def plain_numbers(column: pa.Array, form: str) -> pa.Array:
    """Text with numbers as programs read them; what is no number, and what is no text, stays as it is.

    Args:
        column: raw values.
        form: plain; us (1,341.50) or eu (1.341,50), perhaps with a sign of a currency, its code or % around.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if form == "plain" or not (pa.types.is_string(kind) or pa.types.is_binary(kind)):
        return column
    thousands, decimal = (re.escape(mark) for mark in _MARKS[form])
    whole = rf"[0-9]{{1,3}}(?:{thousands}[0-9]{{3}})+|[0-9]+"
    pattern = (
        rf"^\s*(?P<sign>[+-]?)\s*{_UNIT}\s*(?P<minus>[+-]?)"
        rf"(?P<whole>{whole})(?:{decimal}(?P<part>[0-9]+))?\s*(?:{_UNIT}|%)\s*$"
    )
    text = parse_text(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)[0]
    parts = pc.extract_regex(text, pattern)
    sign = pc.binary_join_element_wise(_part(parts, "sign"), _part(parts, "minus"), "")
    digits = pc.replace_substring(_part(parts, "whole"), _MARKS[form][0], "")
    fraction = _part(parts, "part")
    number = pc.binary_join_element_wise(pc.binary_join_element_wise(sign, digits, ""), fraction, ".")
    number = pc.utf8_rtrim(number, ".")  # where there is no fraction
    # 1.5 is no number where the point stands between thousands: it must not be read as one.
    other = text if form == "us" else pc.replace_substring(text, ".", ",")
    return pc.if_else(pc.is_valid(parts), number, other)


def _part(parts: pa.Array, name: str) -> pa.Array:
    return pc.struct_field(parts, name)

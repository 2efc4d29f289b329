"""Raw columns become canonical ones: what a feature counts and encodes, whatever the file held."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.coded import codes_of
from behavior.arrow.values import parse_floats, parse_integers, parse_text
from behavior.arrow.written import plain_numbers, split_lists
from behavior.errors import UserError
from behavior.spec.dataset_spec import Feature

DOMAIN_MARK = "\x1f"
"""Unit separator: stands between domain and value in the keys of a feature that is `per_domain`."""
Domains: TypeAlias = "pa.Array | str | None"
"""Name of the domain of each value (string), of all values, or None where there are no domains."""

# Marks are part of a word: without them accents written as two characters, and Hindi's vowels, would end one.
_PART = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]])*\]|\((?!\?)", re.DOTALL)
"""Of a regular expression: what is escaped, a class of characters, or the start of a group without a name."""
_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"


def canonical(feature: Feature, values: pa.Array) -> pa.Array:
    """The values of a feature, in one form for each kind.

    | kind | a value |
    | --- | --- |
    | categorical, hashed | string, null where missing or blank |
    | multi_categorical | list of string without nulls and blanks; empty where missing |
    | text | list of its lower-cased words: letters, marks and digits |
    | numeric | float64, null where it is no finite number; only what is stored is rounded to float32 |

    What is canonical already stays as it is.

    Args:
        feature: its kind and separator.
        values: a raw column of any type.
    """
    if feature.kind == "numeric":
        return parse_floats(plain_numbers(values, feature.number_format), pa.float64())[0]
    if feature.kind == "multi_categorical":
        return _without_blanks(_as_lists(values, feature.list_separator))
    if feature.kind == "text":
        return _without_blanks(_as_words(values))
    return _blank_to_null(_as_text(values))


def matched(feature: Feature, values: pa.Array) -> pa.Array:
    """A raw column, or of a feature with a `pattern` what that finds in it, as text; null where it does not.

    What was found is not looked at again: other than `canonical`, this is for raw columns alone.

    Raises:
        UserError: the pattern is one that Python knows and RE2 does not.
    """
    if feature.pattern is None:
        return values
    try:
        found = pc.extract_regex(_as_text(values), _with_named_group(feature.pattern))
    except pa.ArrowInvalid as error:
        raise UserError(
            f"feature '{feature.name}': the pattern cannot be used: {error}",
            where="the spec",
            fix="use the syntax of RE2: no look-around, no references to groups",
        ) from None
    return pc.struct_field(found, [0])


def _with_named_group(pattern: str) -> str:
    """Arrow gives groups by their names."""
    places = (part.start() for part in _PART.finditer(pattern) if part.group() == "(")
    place = next(places, None)
    return pattern if place is None else f"{pattern[:place]}(?P<value>{pattern[place + 1 :]}"


def keyed(feature: Feature, values: pa.Array, domains: Domains) -> pa.Array:
    """Canonical text, behind the domain's name and `DOMAIN_MARK` where the feature is `per_domain`.

    Raises:
        UserError: the feature is `per_domain`, but no domains are given.
    """
    column = canonical(feature, values)
    if not feature.per_domain:
        return column
    if domains is None:
        raise UserError(
            f"feature '{feature.name}' is per_domain, but its rows have no domain",
            fix="leave per_domain out, or give the table a 'domain' (domain_ids: separate)",
        )
    several = pa.types.is_list(column.type)
    text = column.flatten() if several else column
    if not isinstance(domains, str):
        prefix = domains.cast(pa.string())
        domains = prefix.take(pa.array(parents(column))) if several else prefix
    joined = pc.binary_join_element_wise(domains, text, DOMAIN_MARK)
    return pa.ListArray.from_arrays(column.offsets, joined) if several else joined


def domain_names(domains: pa.Array, names: Sequence[str]) -> pa.Array:
    """Domain ids as names.

    Args:
        domains: ids of the domains, the first being 1, as the events have them. int8
        names: of the domains, in id order.
    """
    return pa.array([None, *names], pa.string()).take(domains)


def parents(lists: pa.Array) -> np.ndarray:
    """Row of each value of a list column; a null row has none. [values] int64"""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), lengths)


def once_a_row(lists: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The distinct values of each row of a list column, and the row of each. [values] int64"""
    values, rows = lists.flatten(), parents(lists)
    codes, distinct = codes_of(values)
    _, places = np.unique(rows * max(len(distinct), 1) + codes, return_index=True)
    return values.take(pa.array(places)), rows[places]


def _as_text(values: pa.Array) -> pa.Array:
    if not pa.types.is_floating(values.type):
        return parse_text(values)[0]
    # A column of integers with gaps often comes as floats: 3.0 and 3 are the same value.
    whole, is_whole = parse_integers(values)
    text = pc.if_else(pa.array(is_whole), whole.cast(pa.string()), values.cast(pa.string()))
    return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.string()), text)


def _blank_to_null(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(pc.binary_length(text), 0), pa.scalar(None, pa.string()), text)


def _as_lists(values: pa.Array, separator: str | None) -> pa.Array:
    if _is_list(values):
        return values.cast(pa.list_(pa.string()))
    return split_lists(_as_text(values), separator)


def _as_words(values: pa.Array) -> pa.Array:
    if _is_list(values):  # words already
        return values.cast(pa.list_(pa.string()))
    return pc.split_pattern_regex(pc.utf8_lower(_as_text(values)), _BETWEEN_WORDS)


def _is_list(values: pa.Array) -> bool:
    return pa.types.is_list(values.type) or pa.types.is_large_list(values.type)


def _without_blanks(lists: pa.Array) -> pa.Array:
    """Lists of trimmed text without nulls and blanks; nothing known is an empty list."""
    words = pc.utf8_trim_whitespace(pc.list_flatten(lists))
    good = pc.fill_null(pc.greater(pc.binary_length(words), 0), False)
    counts = np.bincount(parents(lists)[good.to_numpy(zero_copy_only=False)], minlength=len(lists))
    offsets = np.zeros(len(lists) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), words.filter(good))

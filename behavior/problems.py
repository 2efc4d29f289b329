"""What pydantic finds wrong, in words of the user: no names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic

_MAPPING = "Input should be a mapping of keys to values"
_UNKNOWN = "unknown key"
_WORDS = {
    "dict_type": _MAPPING,
    "mapping_type": _MAPPING,
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dataclass_type": _MAPPING,
    "extra_forbidden": _UNKNOWN,
    "unexpected_keyword_argument": _UNKNOWN,
}


def in_words(problem: Mapping[str, Any]) -> str:
    """What is wrong, without its place.

    Args:
        problem: one of those that `pydantic.ValidationError.errors` gives.
    """
    if problem["type"] == "too_short" and problem.get("ctx", {}).get("actual_length") == 0:
        return "this is empty, and one at least is needed"
    return _WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))


def first_problem(error: pydantic.ValidationError) -> str:
    """The first thing that is wrong, with its place: `progress.step: Field required`."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {in_words(first)}" if place else in_words(first)

"""Conditions on rows: which of a file are read."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from behavior.config import Config
from behavior.spec.values import one_or_many


def _texts(value: Any) -> Any:
    """Values as files write them: YAML reads 7 and true where text is meant."""
    return None if value is None else [_text(each) for each in one_or_many(value)]


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


Texts = Annotated[list[str] | None, BeforeValidator(_texts)]


class Condition(Config):
    """A condition on one column: `{column: country, one_of: [DE, FR]}`."""

    column: str
    """Name of the column in the files; it need not be read for anything else."""
    one_of: Texts = None
    """True where the value is one of these; false where it is missing."""
    none_of: Texts = None
    """True where the value is none of these, or missing."""
    missing: bool | None = None
    """false: true where there is a value. true: true where there is none: null, or blank text."""
    min: float | None = None
    """True where the value is a number not below this; false where it is missing or no number."""
    max: float | None = None
    """True where the value is a number not above this; may stand beside `min`."""

    @model_validator(mode="after")
    def _check(self) -> Condition:
        bounds = self.min is not None or self.max is not None
        if sum((self.one_of is not None, self.none_of is not None, self.missing is not None, bounds)) != 1:
            raise ValueError("give exactly one of one_of, none_of, missing, or min and max")
        low, high = (-math.inf if self.min is None else self.min, math.inf if self.max is None else self.max)
        if not low <= high:
            raise ValueError("min is larger than max")
        return self

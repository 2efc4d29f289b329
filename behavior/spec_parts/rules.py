"""What is kept of a log, how it is split, and how it is stored."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from behavior.config import Config

TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}


def _iso_as_text(value: Any) -> Any:
    # YAML turns 2000-12-01 into a date object before pydantic sees it.
    return value.isoformat() if isinstance(value, date | datetime) else value


class Filters(Config):
    """What to leave out. Filters run before the split, as in the literature; so they look ahead."""

    k_core: int | None = Field(None, ge=1)
    """Shorthand: min_user_events and min_item_events of this number."""
    min_user_events: int = Field(1, ge=1)
    """Leave out users with fewer events; repeated with min_item_events until nothing changes."""
    min_item_events: int = Field(1, ge=1)
    """Leave out items with fewer events; repeated with min_user_events until nothing changes."""
    behaviors: list[str] | None = None
    """Keep only events of these behaviors."""
    duplicates: bool = False
    """Leave out exact copies: same user, item, behavior, timestamp and value (the first stays)."""
    repeats: bool = False
    """Leave out an event on the same item as the user's event just before it."""

    @property
    def minimum_counts(self) -> tuple[int, int]:
        """Minimum events of a user and of an item."""
        core = self.k_core or 1
        return max(core, self.min_user_events), max(core, self.min_item_events)


class Split(Config):
    """Where sequences are cut into training, validation and test parts."""

    kind: Literal["leave_one_out", "temporal"] = "leave_one_out"
    """leave_one_out: the last target event of a user is test, the one before it validation. temporal: two
    instants cut every user."""
    valid_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: the first instant of the validation part; a number in the log's unit, or ISO 8601 (UTC)."""
    test_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: the first instant of the test part."""

    @model_validator(mode="after")
    def _check(self) -> Split:
        given = (self.valid_at is not None, self.test_at is not None)
        if self.kind == "temporal" and not all(given):
            raise ValueError("a temporal split needs valid_at and test_at")
        if self.kind == "leave_one_out" and any(given):
            raise ValueError("valid_at and test_at are for kind: temporal")
        return self

    def instants(self, unit: str) -> tuple[int, int]:
        """The two cuts of a temporal split as whole numbers of `unit`."""
        return _instant(self.valid_at, unit), _instant(self.test_at, unit)


def _instant(value: int | str | None, unit: str) -> int:
    if isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"'{value}' is neither a number nor an ISO 8601 time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # Not moment.timestamp(): a float loses microseconds.
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    # Rounded up: an event belongs to the part after the cut from the first whole tick that is not before it.
    fraction = -(-since.microseconds * TICKS_PER_SECOND[unit] // 1_000_000)
    return (since.days * 86_400 + since.seconds) * TICKS_PER_SECOND[unit] + fraction


class Vocabulary(Config):
    """How raw ids become indices."""

    oov: int = Field(1, ge=1, le=1_000_000)
    """Number of ids that unknown items share, by hash."""
    fit_on: Literal["all", "train"] = "all"
    """Count all events (the literature's way), or those of the training part alone."""


class IdTypes(Config):
    """Types of the raw ids."""

    user: Literal["auto", "string", "integer"] = "auto"
    """auto: integer where every source is Parquet with an integer column, else string."""
    item: Literal["auto", "string", "integer"] = "auto"
    """integer is faster; a value that is not a whole number is then rejected."""


class PackingSpec(Config):
    """How sequences are packed for training."""

    tokens: int = Field(4096, ge=1)
    """Tokens in a pack."""
    max_length: int = Field(200, ge=1)
    """Events of a sequence that count: what is packed is min(train_end, max_length)."""

    @model_validator(mode="after")
    def _check(self) -> PackingSpec:
        if self.tokens < self.max_length:
            raise ValueError("tokens is smaller than max_length: the longest sequence would fit no pack")
        return self

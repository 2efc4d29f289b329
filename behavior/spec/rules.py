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
    """Shorthand for min_user_events and min_item_events of this number; where those are larger, they
    count."""
    min_user_events: int = Field(1, ge=1)
    """Leave out users with fewer events; in turn with min_item_events, until nothing changes."""
    min_item_events: int = Field(1, ge=1)
    """Leave out items with fewer events, and those events; in turn with min_user_events, until nothing
    changes."""
    behaviors: list[str] | None = None
    """Keep only events of these behaviors. The others keep their ids, so that data sets of one log agree."""
    start: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """Keep only events from this instant on: a whole number in the unit of the timestamps, or a date or time
    in ISO 8601 (UTC where it names no zone)."""
    end: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """Keep only events before this instant, written like `start`."""
    duplicates: bool = False
    """Leave out exact copies, wherever they stand: events of a user that agree in everything that is kept
    (item, behavior, timestamp, value, domain, features). The first stays."""
    repeats: bool = False
    """Leave out an event on the same item as the user's event just before it, whatever its behavior."""

    @property
    def minimum_counts(self) -> tuple[int, int]:
        """Minimum events of a user and of an item."""
        core = self.k_core or 1
        return max(core, self.min_user_events), max(core, self.min_item_events)

    def instants(self, unit: str) -> tuple[int | None, int | None]:
        """The time range [start, end) as whole numbers of `unit`; None where it is open."""
        start = None if self.start is None else _instant(self.start, unit)
        return start, None if self.end is None else _instant(self.end, unit)


class SplitSpec(Config):
    """Where sequences are cut into training, validation and test parts."""

    kind: Literal["leave_one_out", "next_basket", "temporal"] = "leave_one_out"
    """leave_one_out: the last target event of a user is the test, the target event before it validation.
    next_basket: the same with baskets, a basket being all events of a user with one time stamp. temporal: two
    instants cut every user. Users with fewer than 3 events, or fewer than 2 targets (baskets with one), only
    train under the first two."""
    targets: Literal["first", "all"] | None = None
    """Which target events of a user's validation or test part are evaluated: the first, or all, each given
    everything before it (in a basket: everything before the basket). Default: first, for next_basket all."""
    valid_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: the first instant of the validation part; what is before it trains. A whole number in the
    unit of the timestamps, or a date or time in ISO 8601 (UTC where it names no zone)."""
    test_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: the first instant of the test part, written like `valid_at`."""

    @model_validator(mode="after")
    def _check(self) -> SplitSpec:
        given = (self.valid_at is not None, self.test_at is not None)
        if self.kind == "temporal" and not all(given):
            raise ValueError("a temporal split needs valid_at and test_at")
        if self.kind != "temporal" and any(given):
            raise ValueError("valid_at and test_at are for kind: temporal")
        if self.kind == "leave_one_out" and self.targets == "all":
            raise ValueError("leave_one_out has one target a part: leave 'targets' out")
        return self

    @property
    def evaluated(self) -> str:
        """Which target events of a part are evaluated: first or all."""
        return self.targets or ("all" if self.kind == "next_basket" else "first")

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


class VocabularySpec(Config):
    """How raw ids become indices."""

    oov: int = Field(1, ge=1, le=1_000_000)
    """OOV ids: how many indices are kept for unknown items, which share them by hash. Features have as
    many."""
    fit_on: Literal["all", "train"] = "all"
    """all: every item of the log is known, as is usual in the literature. train: only items with events in
    the training parts are, and the test may hold unknown ones, as in production."""
    min_count: int = Field(1, ge=1)
    """Items with fewer events share the OOV ids. Their events stay; to leave those out, see
    `filters.min_item_events`."""
    max_size: int | None = Field(None, ge=1)
    """Keep at most so many items, the most frequent; the others share the OOV ids."""
    hash_size: int | None = Field(None, ge=1, le=2**31 - 8)
    """Replace item ids by a hash of 0 to this number less one, for catalogs without bound; items whose hashes
    agree become one. Goes with neither item tables nor separate item ids."""


class DomainIds(Config):
    """Whether the same id means the same in every domain."""

    items: Literal["shared", "separate"] = "shared"
    """shared: item 7 is the same item in every domain. separate: it is another one in each; the indices of
    one domain's items follow each other (until more is added by `--append`), and item tables name their
    domain."""
    users: Literal["shared", "separate"] = "shared"
    """shared: one sequence a user, with the events of all domains in order of time. separate: user 7 is
    another user in every domain, with a sequence of its own in each; user tables name their domain."""


class Sessions(Config):
    """A column that numbers the sessions of a user."""

    gap: float = Field(gt=0)
    """Seconds: an event that comes more than this after the one before begins a new session."""


class IdTypes(Config):
    """Types of the raw ids."""

    user: Literal["auto", "string", "integer"] = "auto"
    """Type of user ids. integer: whole numbers, which is faster; 007 and 7 are the same user, and a row with
    anything else is rejected. string: text as it stands. auto: integer where every file is Parquet with a
    column of integers, else string."""
    item: Literal["auto", "string", "integer"] = "auto"
    """Type of item ids, in the same way."""


class PackingSpec(Config):
    """How sequences are packed for training."""

    tokens: int = Field(4096, ge=1)
    """Events that a pack holds at most, whatever number of sequences they are of."""
    max_length: int = Field(200, ge=1)
    """Events of a sequence that count: a sequence takes min(events to train on, max_length) of its pack. All
    its events are stored in any case."""

    @model_validator(mode="after")
    def _check(self) -> PackingSpec:
        if self.tokens < self.max_length:
            raise ValueError("tokens is smaller than max_length: the longest sequence would fit no pack")
        return self

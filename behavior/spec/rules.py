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
    """What to filter out. Filters run before the split, as in the literature; so they look ahead."""

    k_core: int | None = Field(None, ge=1)
    """k-core: shorthand for min_user_events and min_item_events of this number; where those are larger, they
    take precedence."""
    min_user_events: int = Field(1, ge=1)
    """Drop users with fewer events; alternately with min_item_events, to their fixed point."""
    min_item_events: int = Field(1, ge=1)
    """Drop items with fewer events, and those events; alternately with min_user_events, to their fixed
    point."""
    core_behaviors: list[str] | None = None
    """Behaviors whose events count for k_core and the minimum counts; events of others stay where their user
    and item do. Default: all."""
    behaviors: list[str] | None = None
    """Keep only events of these behaviors. The others keep their ids, so that data sets of one log agree."""
    start: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """Keep only events at or after this time; earlier ones are filtered, even those before 1970. An
    integer in the unit of the timestamps, or an ISO 8601 date or time (UTC where it has no offset)."""
    end: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """Keep only events before this time, in the same form as `start`; later ones are filtered, even those
    from 2100 on."""
    duplicates: bool = False
    """Drop exact duplicates, adjacent or not: events of a user that agree in everything that is kept (item,
    behavior, timestamp, value, domain, features). The first is kept."""
    repeats: bool = False
    """Drop consecutive repeats: an event on the same item as the user's previous event, whatever its
    behavior."""

    @property
    def minimum_counts(self) -> tuple[int, int]:
        """Minimum events of a user and of an item."""
        core = self.k_core or 1
        return max(core, self.min_user_events), max(core, self.min_item_events)

    def instants(self, unit: str) -> tuple[int | None, int | None]:
        """The time range [start, end) as integers of `unit`; None where it is open."""
        start = None if self.start is None else _instant(self.start, unit)
        return start, None if self.end is None else _instant(self.end, unit)


class SplitSpec(Config):
    """Where sequences are split into training, validation and test parts."""

    kind: Literal["leave_one_out", "next_basket", "temporal", "random"] = "leave_one_out"
    """leave_one_out: the last target event of a user is the test target, the target event before it the
    validation target. next_basket: the same with baskets, a basket being all events of a user with one
    timestamp. temporal: a global split of all users at two points in time. random: each event by itself, by a
    hash, whatever its time; a sequence is stored in the order of the hash, so that a history is a random
    part of the user's events, later ones included: for protocols that split rows at random, which see the
    future. Under the first two, users with fewer than 3 events, or fewer than 2 targets (baskets with one),
    only train."""
    targets: Literal["first", "all"] | None = None
    """Which target events of a user's validation or test part are evaluated: the first, or all, each given
    its whole history (in a basket: everything before the basket; of a random split: the parts before).
    Default: first, for next_basket and random all."""
    valid_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: start of the validation part, inclusive; earlier events are for training. An integer in the
    unit of the timestamps, or an ISO 8601 date or time (UTC where it has no offset)."""
    test_at: Annotated[int | str | None, BeforeValidator(_iso_as_text)] = None
    """temporal: start of the test part, inclusive, in the same form as `valid_at`."""
    valid_share: float | None = Field(None, ge=0, lt=1)
    """random: expected share of the events in the validation part. Default: 0.1."""
    test_share: float | None = Field(None, ge=0, lt=1)
    """random: expected share of the events in the test part. Default: 0.1."""
    seed: int = Field(0, ge=0)
    """random: which of many random splits."""

    @model_validator(mode="after")
    def _check(self) -> SplitSpec:
        given = (self.valid_at is not None, self.test_at is not None)
        if self.kind == "temporal" and not all(given):
            raise ValueError("a temporal split needs valid_at and test_at")
        if self.kind != "temporal" and any(given):
            raise ValueError("valid_at and test_at are for kind: temporal")
        shares = self.valid_share is not None or self.test_share is not None
        if self.kind != "random" and (shares or self.seed):
            raise ValueError("valid_share, test_share and seed are for kind: random")
        if self.kind == "random" and sum(self.shares) >= 1:
            raise ValueError("valid_share and test_share leave nothing to train on")
        if self.kind == "random" and self.targets == "first":
            raise ValueError("a random split evaluates all its events: leave 'targets' out")
        if self.kind == "leave_one_out" and self.targets == "all":
            raise ValueError("leave_one_out has one target a part: leave 'targets' out")
        return self

    @property
    def evaluated(self) -> str:
        """Which target events of a part are evaluated: first or all."""
        return self.targets or ("all" if self.kind in ("next_basket", "random") else "first")

    @property
    def shares(self) -> tuple[float, float]:
        """Expected shares of the validation and the test part of a random split."""
        return (
            0.1 if self.valid_share is None else self.valid_share,
            0.1 if self.test_share is None else self.test_share,
        )

    def instants(self, unit: str) -> tuple[int, int]:
        """The two cuts of a temporal split as integers of `unit`."""
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
    """How raw item ids become indices."""

    oov: int = Field(1, ge=1, le=1_000_000)
    """Number of OOV ids: indices that out-of-vocabulary items share, by hash. Features have as many."""
    fit_on: Literal["all", "train"] = "all"
    """all: the vocabulary has every item of the log, as is usual in the literature. train: it is fitted on
    the training parts alone, as in production, and the test may hold OOV items."""
    min_count: int = Field(1, ge=1)
    """Items with fewer events are OOV. Their events are kept; to drop those, see
    `filters.min_item_events`."""
    max_size: int | None = Field(None, ge=1)
    """Maximum vocabulary size: all but the most frequent items are OOV."""
    hash_size: int | None = Field(None, ge=1, le=2**31 - 8)
    """Hashing trick: replace item ids by a hash modulo this number, for unbounded catalogs; items whose
    hashes collide become one. Goes with neither item tables nor separate item ids."""


class DomainIds(Config):
    """Whether the same raw id denotes the same user or item in every domain."""

    items: Literal["shared", "separate"] = "shared"
    """shared: item 7 is the same item in every domain. separate: it is another item in each; indices of a
    domain's items are contiguous (until more is added by `--append`), and item tables name their domain."""
    users: Literal["shared", "separate"] = "shared"
    """shared: one sequence a user, with the events of all domains merged by time. separate: user 7 is another
    user in every domain, with a sequence of its own in each; user tables name their domain."""


class Sessions(Config):
    """A column that numbers the sessions of a user."""

    gap: float = Field(gt=0)
    """Inactivity timeout in seconds: an event that comes more than this after the previous one starts a new
    session."""


class IdTypes(Config):
    """Types of the raw ids."""

    user: Literal["auto", "string", "integer"] = "auto"
    """Type of user ids. integer: 64-bit integers, which are faster; 007 and 7 are the same user, and rows
    with anything else are rejected. string: text as it is written. auto: integer where every file is Parquet
    with an integer column, else string."""
    item: Literal["auto", "string", "integer"] = "auto"
    """Type of item ids, in the same way."""


class PackingSpec(Config):
    """Bin packing of sequences for training."""

    tokens: int = Field(4096, ge=1)
    """Capacity of a pack: the most tokens (events) of all its sequences together."""
    max_length: int = Field(200, ge=1)
    """Maximum length in a pack: a sequence takes min(training events, max_length) tokens of it. All its
    events are stored in any case."""

    @model_validator(mode="after")
    def _check(self) -> PackingSpec:
        if self.tokens < self.max_length:
            raise ValueError("tokens is smaller than max_length: the longest sequence would fit no pack")
        return self

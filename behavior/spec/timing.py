"""Whether the settings of a spec that have to do with time go together."""

from __future__ import annotations

from behavior.spec.events import EventSource
from behavior.spec.rules import Filters, Sessions, SplitSpec


def check_columns(events: list[EventSource], unit: str, form: str | None) -> None:
    """Check which groups of events have timestamps, and that it is said how they are written.

    Args:
        events: the groups.
        unit: `timestamp_unit`.
        form: `timestamp_format` of groups that have none.

    Raises:
        ValueError: naming the group.
    """
    for number, source in enumerate(events):
        timed = source.columns.timestamp is not None
        if unit == "none" and timed:
            raise ValueError(f"events.{number}: columns.timestamp is set, but timestamp_unit is none")
        if unit != "none" and not timed:
            raise ValueError(
                f"events.{number}: columns.timestamp is missing (timestamp_unit: none keeps the order)"
            )
        given = source.timestamp_format or form
        if unit == "none" and given is not None:
            raise ValueError("timestamp_format is set, but timestamp_unit is none")
        split = len(source.columns.timestamp_columns) > 1
        if split and unit != "iso8601" and (given is None or given.startswith("epoch")):
            raise ValueError(
                f"events.{number}: a date and a time of day in two columns are text: set timestamp_format, "
                "such as ymd or %d.%m.%Y %H:%M"
            )


def check_sessions(events: list[EventSource], sessions: Sessions | None) -> None:
    """Check that the sessions of all groups of events come from one place.

    Raises:
        ValueError: some groups have session ids, or there is a gap too.
    """
    of_log = [source.columns.session is not None for source in events]
    if any(of_log) != all(of_log):
        raise ValueError("either every group of events has columns.session, or none has")
    if any(of_log) and sessions is not None:
        raise ValueError("give either columns.session or sessions: both number the sessions")


def check_instants(unit: str, filters: Filters, split: SplitSpec, sessions: Sessions | None) -> None:
    """Check settings that compare timestamps.

    Args:
        unit: in which timestamps are stored: s, ms, us or none.
        filters: with a time range, perhaps.
        split: with two points in time, perhaps.
        sessions: with a gap, or None.

    Raises:
        ValueError: there are no timestamps, or points in time are not in order.
    """
    needing = [
        ("a temporal split needs", split.kind == "temporal"),
        ("filters.start and filters.end need", (filters.start, filters.end) != (None, None)),
        ("sessions need", sessions),
        ("a next_basket split needs", split.kind == "next_basket"),
    ]
    for what, wanted in needing:
        if wanted and unit == "none":
            raise ValueError(f"{what} timestamps")
    if split.kind == "temporal":
        valid_at, test_at = split.instants(unit)
        if valid_at > test_at:
            raise ValueError("split.valid_at is later than split.test_at")
    if split.kind == "random" and sessions:
        raise ValueError("a random split takes the order from events: there are no sessions")
    if unit != "none":
        start, end = filters.instants(unit)
        if start is not None and end is not None and start >= end:
            raise ValueError("filters.start is not before filters.end")

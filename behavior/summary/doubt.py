"""What looks wrong about a data set, although every step went well."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from behavior.shards.folder import ShardFolder
from behavior.spec.dataset_spec import TICKS_PER_SECOND
from behavior.summary.facts import time_span

_WEEKS = 8 * 7 * 86_400
"""Seconds after the beginning of 1970 in which times are more likely of another unit, or missing."""
_PLAUSIBLE = (631_152_000, 2_208_988_800)
"""Seconds from 1990 up to 2040."""


def doubts(shards: ShardFolder) -> list[str]:
    """Warnings for people; none where nothing looks wrong."""
    doubt = doubt_of_times(shards.stats()["time"])
    return [] if doubt is None else [doubt]


def doubt_of_times(time: dict[str, Any]) -> str | None:
    """What is odd about the time span of a data set, the `time` of stats.json: a unit that is too small."""
    if time["unit"] == "none" or time["first"] is None:
        return None
    per_second = TICKS_PER_SECOND[time["unit"]]
    first, last = time["first"] / per_second, time["last"] / per_second
    if first >= _WEEKS:
        return None
    if last >= _WEEKS:
        return (
            f"some timestamps are in the first weeks of 1970, far from others ({time_span(time)}): zeros may "
            "stand for missing times, or a group of files has another unit; filters.start drops such events"
        )
    # A unit that is too small makes all times as many times smaller.
    for unit, ticks in TICKS_PER_SECOND.items():
        seconds = time["last"] / ticks
        if ticks < per_second and _PLAUSIBLE[0] <= seconds < _PLAUSIBLE[1]:
            hint = f" (in {unit}, the last would be of {datetime.fromtimestamp(seconds, UTC).year})"
            break
    else:
        hint = ""
    return f"all timestamps are in the first weeks of 1970 ({time_span(time)}): check timestamp_unit{hint}"

"""The time of asking: as users give it, in seconds, and what is to be said of it."""

from __future__ import annotations

from datetime import UTC, datetime

from behavior.errors import UsageError
from behavior.shards.folder import ShardFolder
from behavior.wording import number_of
from models.serving.recommend.ids import A_SECOND, time_span

_LONG_AFTER = 30 * 86_400


def asked_seconds(given: str | int | datetime | None, shards: ShardFolder) -> int:
    """A time of asking in seconds since 1970: a date or time (UTC), or a number in the data set's unit.

    Raises:
        UserError: it is none.
    """
    if isinstance(given, datetime):
        moment = given if given.tzinfo else given.replace(tzinfo=UTC)
        return int(moment.timestamp())
    text = str(given).strip()
    if text.lstrip("+-").isdigit():
        seconds = int(text) // A_SECOND[shards.manifest.timestamp_unit]
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise UsageError(
                f"'{text}' is no time",
                where="--at",
                fix="write 2024-05-01, 2024-05-01T10:00:00Z, now, or ticks in the unit of the data set "
                f"({shards.manifest.timestamp_unit})",
            ) from None
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    if not 0 <= seconds < 1 << 33:
        raise UsageError(
            f"'{text}' is not a time from 1970 on, in {shards.manifest.timestamp_unit}",
            where="--at",
            fix="write a date, such as 2024-05-01",
        )
    return seconds


def notes_of_asking(at: int, shards: ShardFolder, *, is_now: bool = False) -> list[str]:
    """What is told of a time of asking: when it is, and that the log ends long before, or begins after.

    Args:
        at: in seconds since 1970.
        shards: the data set.
        is_now: whether nobody said when.
    """
    notes = [f"asked at {_in_words(at)}{' (now)' if is_now else ''}"]
    span = time_span(shards)
    if span is None:
        return notes
    first, last = span
    if at < first:
        notes.append(
            f"that is before the first event of the data set, {_in_words(first)}: a number is in "
            f"{shards.manifest.timestamp_unit} since 1970"
        )
    if at - last > _LONG_AFTER:
        days = number_of(round((at - last) / 86_400), "day")
        notes.append(
            f"that is {days} after the last event of the data set: the model has seen no such gap in "
            f"training; to ask right after the log: --at {_in_words(last + 1, machine=True)}"
        )
    return notes


def _in_words(seconds: int, *, machine: bool = False) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if machine else "%Y-%m-%d %H:%M:%S UTC")

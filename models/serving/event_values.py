"""What histories say of their events besides items, behaviors and times: features, and domains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Protocol

import pyarrow as pa

from behavior.config import did_you_mean
from behavior.errors import UserError
from behavior.shards.folder import ShardFolder
from behavior.shards.manifest import FeatureEntry
from behavior.wording import number_of
from models.data.catalog import MISSING
from models.data.decode import SequenceDecoder


class Described(Protocol):
    """A `models.serving.score.History`, as far as it is looked at here."""

    @property
    def items(self) -> Sequence[int]: ...

    @property
    def features(self) -> Mapping[str, Sequence[float]] | None: ...

    @property
    def next_domain(self) -> int | None: ...


def event_values(
    histories: Sequence[Described], decoder: SequenceDecoder, shards: ShardFolder
) -> dict[str, pa.Array]:
    """Other columns of events that the model reads: as they are given, else missing.

    Raises:
        UserError: a history names a feature that there is not, or has a value that no event can have.
    """
    entries = {entry.name: entry for entry in shards.manifest.event_features}
    known = [*entries, "domain"]
    for number, history in enumerate(histories):
        for name in history.features or {}:
            if name not in known:
                what = f"has '{name}' among features, and events of the data set have none of that name"
                raise wrong_history(number, what, did_you_mean(name, known))
    found = {}
    for column in decoder.stored:
        if column.name in ("item", "behavior", "timestamp"):
            continue
        entry, rows = entries.get(column.name), []
        for number, history in enumerate(histories):
            values = (history.features or {}).get(column.name)
            if values is None and entry is None:
                raise wrong_history(
                    number, f"has no '{column.name}'", "the model reads it: give it among features"
                )
            missing = MISSING if entry is not None and entry.kind == "categorical" else float("nan")
            values = [missing] * len(history.items) if values is None else list(values)
            if len(values) != len(history.items):
                what = f"has {number_of(len(history.items), 'item')} and {len(values)} of '{column.name}'"
                raise wrong_history(number, what, "one an event")
            if entry is not None:
                _check_feature(number, entry, values)
            after = values[-1]  # what the target has is never looked at, but for its domain
            if column.name == "domain":
                after = _domain(number, values, history.next_domain, shards)
            rows.append([*values, after])
        found[column.name] = pa.array(rows, pa.list_(pa.from_numpy_dtype(column.dtype)))
    return found


def _check_feature(number: int, entry: FeatureEntry, values: Sequence[object]) -> None:
    if entry.kind != "categorical" or entry.vocabulary_size is None:
        if not all(isinstance(value, Real) and not math.isinf(float(value)) for value in values):
            raise wrong_history(number, f"has a value of '{entry.name}' that is no number", "NaN is missing")
        return
    stop = entry.vocabulary_size
    if not all(_is_id(value, stop) for value in values):
        what = f"has a value of '{entry.name}' outside {MISSING} to {stop - 1}"
        raise wrong_history(number, what, f"as shards store it: ids of values, {MISSING} where it is missing")


def _domain(number: int, values: list[float], wanted: int | None, shards: ShardFolder) -> float:
    """The domain that is asked for, where all are domains of the data set."""
    after, count = values[-1] if wanted is None else wanted, len(shards.manifest.domains)
    if not all(_is_id(value, count + 1) for value in (*values, after)):
        what = f"has a value of 'domain' outside 1 to {count}"
        raise wrong_history(number, what, "the order is that of the spec")
    return after


def _is_id(value: object, stop: int) -> bool:
    """Whether a value is a whole number from 1, below `stop`."""
    return isinstance(value, Real) and 1 <= float(value) < stop and float(value).is_integer()


def wrong_history(number: int, what: str, fix: str) -> UserError:
    """The error about one of several histories, by its place among them."""
    return UserError(f"history {number} {what}", fix=fix)

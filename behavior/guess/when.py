"""Where a file has its timestamps."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from behavior.arrow.times import join_date_and_time, parse_times
from behavior.guess.names import fit, words_of
from behavior.guess.sample import Sample
from behavior.guess.times import Written, is_time_of_day, written_as
from behavior.spec.timestamps import time_format


@dataclass(frozen=True)
class TimeGuess:
    """Where timestamps are and how they are written.

    Attributes:
        columns: one, or two: of the date and of the time of day.
        written: None where no form reads them.
        named: whether the name says that it is a time.
    """

    columns: list[str]
    written: Written | None
    named: bool

    @property
    def sure(self) -> bool:
        return self.named and self.written is not None and self.written.sure


def guess_time(sample: Sample, named: bool) -> tuple[TimeGuess | None, list[str]]:
    """Find the timestamps of a sample.

    Args:
        sample: of a file.
        named: whether the file names its columns.

    Returns:
        where they are, and notes on what is not sure.
    """
    written = {name: written_as(_present(array)) for name, array in sample.columns.items()}
    by_name = {name: fit(name, "timestamp") for name in sample.columns if name not in sample.lists}
    readable = [name for name, found in by_name.items() if found and written[name] is not None]
    if readable:
        best = max(
            readable, key=lambda name: (by_name[name], not _is_date(sample.columns[name], written[name]))
        )
        return _with_clock(sample, TimeGuess([best], written[best], True), by_name)
    hopeful = [name for name, found in by_name.items() if found]
    clocks = [name for name in hopeful if is_time_of_day(sample.columns[name])]
    others = [name for name in hopeful if name not in clocks]
    if others:
        example = next((text for text in sample.texts(others[0]) if text), "")
        note = (
            f"'{others[0]}' is named like a time, but {example!r} is not understood: fill in the ??? by hand"
        )
        return TimeGuess([others[0]], None, True), [note]
    notes = [f"'{name}' holds a time of day, without a date: that orders nothing" for name in clocks]
    return _unnamed(sample, written, named, notes)


def _unnamed(
    sample: Sample, written: dict[str, Written | None], named: bool, notes: list[str]
) -> tuple[TimeGuess | None, list[str]]:
    likely = []
    for name in sample.columns:
        form = written[name]
        if form is None or name in sample.lists or _speaks_of_something_else(name):
            continue
        if named and sample.kind(name) in ("integer", "number"):
            notes.append(f"'{name}' holds numbers that could be times ({form.unit}), but is not named so")
        else:
            likely.append(name)
    if not likely:
        return None, notes
    best = next((name for name in likely if not _is_date(sample.columns[name], written[name])), likely[0])
    notes.append(f"not sure that '{best}' is the time of the events: by its values, it is a time")
    return TimeGuess([best], written[best], not named), notes


def _speaks_of_something_else(name: str) -> bool:
    return any(fit(name, role) for role in ("user", "item", "value")) or (
        fit(name, "timestamp") == 0 and bool({"birthday", "birth", "birthdate", "dob"} & set(words_of(name)))
    )


def _with_clock(sample: Sample, guess: TimeGuess, by_name: dict[str, int]) -> tuple[TimeGuess, list[str]]:
    """A date with the time of day in the column beside it, where there is one."""
    [date] = guess.columns
    notes: list[str] = []
    form = guess.written
    assert form is not None
    if _is_date(sample.columns[date], form):
        for name in sample.columns:
            if name != date and by_name.get(name) and is_time_of_day(sample.columns[name]):
                joined = written_as(
                    _present(join_date_and_time([sample.columns[date], sample.columns[name]]))
                )
                if joined is not None:
                    form = joined
                    guess = TimeGuess([date, name], joined, True)
                break
    if not form.sure:
        fits = " and ".join(str(name) for name in form.formats)
        notes.append(f"the times of '{date}' fit {fits}: say in timestamp_format which it is")
    return guess, notes


def _is_date(array: pa.Array, form: Written | None) -> bool:
    """Whether all values are midnights."""
    if form is None:
        return False
    name = form.formats[0]
    ticks, good = parse_times(array, form.unit, None if name is None else time_format(name))
    per_day = 86_400 * {"s": 1, "ms": 1_000}.get(form.unit, 1_000_000)
    return not (ticks.filter(pa.array(good)).to_numpy() % per_day).any()


def _present(array: pa.Array) -> pa.Array:
    present = array.drop_null()
    if pa.types.is_string(array.type):
        present = present.filter(pc.greater(pc.binary_length(present), 0))
    return present

"""Sequences of which another behavior than the data set's targets is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.data.about import About
from models.data.columns import Columns
from models.data.loading import SequenceSource
from models.data.sequences import Int64Array, SequenceData


class JudgedSource:
    """The sequences of a source, of which targets are the events of one behavior.

    For evaluations, and for nothing else: what is trained on stays as it is.

    Args:
        source: the sequences.
        behavior: id of the behavior.
    """

    def __init__(self, source: SequenceSource, behavior: int) -> None:
        self._source = source
        self.about: About = replace(source.about, judged=behavior)

    @property
    def columns(self) -> Columns:
        return self._source.columns

    @property
    def events(self) -> Sequence[int]:
        return self._source.events

    @property
    def digest(self) -> str:
        return self._source.digest

    def read(self, part: int) -> SequenceData:
        return replace(self._source.read(part), about=self.about)

    def train_ends(self, part: int) -> Int64Array:
        return self._source.train_ends(part)

    def __iter__(self) -> Iterator[SequenceData]:
        return (self.read(part) for part in range(len(self.events)))


def judged_sequences(source: SequenceSource, behavior: str | None) -> SequenceSource:
    """The source itself where the data set's targets are evaluated; else a `JudgedSource`.

    Raises:
        UserError: the data set has no such behavior; names the nearest.
    """
    if behavior is None:
        return source
    names = source.about.behaviors
    if behavior not in names:
        raise UserError(
            f"the data set has no behavior '{behavior}'",
            where="evaluation.target_behavior",
            fix=did_you_mean(behavior, names),
        )
    return JudgedSource(source, names.index(behavior) + 1)

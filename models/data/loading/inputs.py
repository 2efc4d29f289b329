"""Training sequences of the events that are inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from models.data.about import About
from models.data.columns import Columns
from models.data.kept import InputBehaviors, kept_behaviors, only_kept
from models.data.loading.source import SequenceSource
from models.data.sequences import BoolArray, Int64Array, SequenceData


class InputsSource:
    """The sequences of a source without events of other behaviors: each input predicts the next one.

    For what learns from them, and for nothing else: an evaluation needs to know where targets are.

    Args:
        source: the sequences.
        kept: [behavior ids] which behaviors are inputs.
    """

    def __init__(self, source: SequenceSource, kept: BoolArray) -> None:
        self._source, self._kept = source, kept

    @property
    def about(self) -> About:
        return self._source.about

    @property
    def columns(self) -> Columns:
        return self._source.columns

    @property
    def events(self) -> Sequence[int]:
        return self._source.events

    @property
    def digest(self) -> str:
        return f"{self._source.digest} inputs {np.flatnonzero(self._kept).tolist()}"

    def read(self, part: int) -> SequenceData:
        return only_kept(self._source.read(part), self._kept)

    def train_ends(self, part: int) -> Int64Array:
        return self.read(part).train_end

    def __iter__(self) -> Iterator[SequenceData]:
        return (self.read(part) for part in range(len(self.events)))


def inputs_of(source: SequenceSource, setting: InputBehaviors) -> SequenceSource:
    """The source itself where all events are inputs, so that nothing of it changes; else an `InputsSource`.

    Raises:
        UserError: see `models.data.kept.kept_behaviors`.
    """
    kept = kept_behaviors(setting, source.about)
    return source if kept is None else InputsSource(source, kept)

"""A source whose sequences are changed as they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from models.data.about import About
from models.data.columns import Columns
from models.data.loading.source import SequenceSource
from models.data.sequences import Int64Array, SequenceData


class ChangedSource:
    """The sequences of a source, each part of them changed in the same way.

    Args:
        source: the sequences.
        change: makes a part's sequences of those that the source has.
        mark: what the digest says of the change; empty where contents stay as they are.
        about: of the changed sequences; None: that of the source.
        columns: of batches that are made of them; None: those of the source.
    """

    def __init__(
        self,
        source: SequenceSource,
        change: Callable[[SequenceData], SequenceData],
        *,
        mark: str = "",
        about: About | None = None,
        columns: Columns | None = None,
    ) -> None:
        self._source, self._change = source, change
        self.about = about or source.about
        self.columns = source.columns if columns is None else columns
        self.events: Sequence[int] = source.events
        self.digest = f"{source.digest} {mark}" if mark else source.digest

    def read(self, part: int) -> SequenceData:
        return self._change(self._source.read(part))

    def train_ends(self, part: int) -> Int64Array:
        return self.read(part).train_end

    def __iter__(self) -> Iterator[SequenceData]:
        return (self.read(part) for part in range(len(self.events)))

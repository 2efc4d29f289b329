"""Schemas of stats.json and buckets.json (docs/shards.md), by which they are read."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

Number = Annotated[int, Field(ge=0, lt=2**63)]
Tick = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Record(pydantic.BaseModel):
    # Strict: the plain values are used as they stand in the file. Later versions may write more.
    model_config = pydantic.ConfigDict(extra="allow", strict=True)


class Bin(_Record):
    """One bin of a histogram."""

    begin: Number = Field(alias="from")
    """The smallest value in it."""
    below: Annotated[int, Field(ge=0, le=2**64)]
    """All its values are smaller."""
    number: Number
    """Values in it."""


class Histogram(_Record):
    """A histogram with bins that are powers of two."""

    histogram: list[Bin]


class Lengths(Histogram):
    """Lengths of sequences."""

    mean: Finite
    longest: Number


class TimeSpan(_Record):
    """The earliest and the latest timestamp."""

    unit: Literal["s", "ms", "us", "none"]
    first: Tick | None
    last: Tick | None

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> TimeSpan:
        if (self.first is None) != (self.last is None) or (self.first or 0) > (self.last or 0):
            raise ValueError("first and last are no span of time")
        return self


class Statistics(_Record):
    """stats.json."""

    users: Number
    events: Number
    items: Number
    density: Finite
    sequence_length: Lengths
    item_count: Histogram
    behaviors: dict[str, Number]
    """Events of each behavior."""
    time: TimeSpan
    users_validated: Number
    users_tested: Number


class PartitionStatistics(_Record):
    """What buckets.json says of one hash partition of users (`behavior.steps.stats.SequenceStats`)."""

    users: Number
    events: Number
    lengths: Annotated[list[Number], Field(max_length=64)]
    longest: Number
    behaviors: Annotated[list[Number], Field(max_length=128)]
    first: Tick | None
    last: Tick | None
    entropy_sum: Finite
    entropy_users: Number
    validated: Number
    tested: Number


class PartitionFile(
    pydantic.RootModel[dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], PartitionStatistics]]
):
    """buckets.json: a record for each partition, by its number."""

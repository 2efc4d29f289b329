"""Settings of item co-occurrence: which pairs of events count, and how much."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from behavior.config import Config

Part = Literal["train", "valid", "all"]
"""Which events of a sequence are counted. train: the training part. valid: what comes before the test part,
validation events with it. all: every event."""

Weight = Annotated[float, Field(ge=0.0, le=1000.0)]


class CooccurrenceConfig(Config):
    """Two events of a user at distance d, in events, with d < window: the later one's item is counted as a
    follower of the earlier one's with 1 / d^power, the earlier one's as a follower of the later one's with
    backward / d^power."""

    window: int = Field(12, ge=2, le=4096)
    """Pairs of events are counted up to this distance, itself left out."""
    power: float = Field(1.0, ge=0.0, le=8.0)
    """How fast a pair's count falls with its distance: 1 / d^power; 0 counts all pairs alike."""
    backward: float = Field(0.0, ge=0.0, le=1000.0)
    """What a pair against the order of time counts, relative to one along it."""
    repeats: bool = True
    """Whether an item that a user comes back to is a follower of itself."""
    source: dict[str, Weight] | None = None
    """Weights by the behavior of the event that is followed, by name; behaviors not named weigh nothing.
    Default: all weigh 1."""
    follower: dict[str, Weight] | None = None
    """Weights by the behavior of the event that follows; a pair counts by the product of both weights."""
    neighbors: int | None = Field(None, ge=1)
    """Followers of an item that are kept, those of the highest counts, ties by id; default: all."""
    popularity_power: float = Field(0.0, ge=0.0, le=4.0)
    """Counts are divided by this power of the number of counted events of the following item, before
    neighbors are chosen."""
    stochastic: bool = False
    """Whether the kept counts of an item are divided by their sum, so that they are probabilities."""

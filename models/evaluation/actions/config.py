"""Settings of labelled rows that stand in no log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from behavior.config import Config, Unused


class NegativesConfig(Config):
    """Items that were not acted on, drawn for events that were."""

    ratio: float = Field(
        0.0,
        ge=0.0,
        allow_inf_nan=False,
        description="ranking: negatives that are drawn for each row in training, in expectation, such as "
        "0.2, 1 or 4: rows of the same moment with another item, of which no action is true; 0: none",
    )
    judged: float = Field(
        1.0,
        gt=0.0,
        allow_inf_nan=False,
        description="ranking: the same for the rows of validation and test, where ratio is above 0; the same "
        "rows for every model and ranker. Logits are corrected for another ratio than in training",
    )
    drawn: Literal["uniform", "popularity"] = Field(
        "uniform",
        description="ranking: what negatives are drawn by; uniform: all items alike; popularity: by their "
        "events in the training part",
    )
    power: float = Field(
        1.0, ge=0.0, allow_inf_nan=False, description="ranking: power of the events, by popularity"
    )
    left_out: Literal["user", "event"] = Field(
        "user",
        description="ranking: what is never a negative; user: all items that the user has in the part "
        "and before it; event: the item of the event alone, for logs in which users come back to items",
    )

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        if not self.ratio:
            names = ["judged", "drawn", "power", "left_out"]
            yield Unused(names, "ratio is 0: no negatives are drawn", "set ratio")
        elif self.drawn == "uniform":
            yield Unused(["power"], "drawn is uniform", "set drawn to popularity")

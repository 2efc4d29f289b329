"""Settings of the data that a run is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from behavior.config import Config, Unused


class DataConfig(Config):
    """What of the data set a run is about."""

    domain: str | None = Field(
        None,
        description="events of this domain alone, of all users, in training and evaluation alike, with the "
        "targets that the whole data set has in it; empty: all domains",
    )
    fraction: float = Field(
        1.0,
        gt=0.0,
        le=1.0,
        description="share of the training part that is trained on; a smaller one is part of a larger one; "
        "targets of validation and test stay the same",
    )
    fraction_by: Literal["users", "time"] = Field(
        "users",
        description="with data.fraction, what is left: all training events of so many users, the same ones "
        "whatever the seed; or of all users the oldest training events",
    )

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        if self.fraction == 1.0:
            yield Unused(["fraction_by"], "all of the training part is trained on", "set fraction")

"""Settings of the data that a run is about."""

from __future__ import annotations

from pydantic import Field

from behavior.config import Config


class DataConfig(Config):
    """What of the data set a run is about, in training and evaluation alike."""

    domain: str | None = Field(
        None,
        description="events of this domain alone, of all users, with the targets that the whole data set has "
        "in it; empty: all domains",
    )

"""Settings of the input embedding."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config


class EmbeddingConfig(Config):
    """How events become vectors."""

    behaviors: Literal["none", "add"] = Field(
        "none", description="behavior of each event: none, or add its vector to the item's"
    )
    query_behavior: Literal["none", "add"] = Field(
        "none",
        description="behavior of the event to predict: none, or add its vector, known to who asks",
    )
    features: Literal["none", "add", "mean"] = Field(
        "none", description="item features: none, add their vectors to the item's, or take the mean of all"
    )

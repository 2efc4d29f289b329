"""Settings of the input embedding."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config


class EmbeddingConfig(Config):
    """How events become token vectors."""

    layout: str = Field(
        "event",
        description="which tokens an event becomes; event: one token; interleaved: item, behavior; "
        "behavior_first: behavior, item, so that the next behavior is a condition; channels: a sequence a "
        "behavior, merged at the query",
    )
    behaviors: Literal["none", "add"] = Field(
        "none", description="behavior embedding of each event: none, or add it to the item embedding"
    )
    query_behavior: Literal["none", "add"] = Field(
        "none",
        description="embedding of the behavior to predict: none, or add it to the query's token, in training "
        "and evaluation alike",
    )
    features: Literal["none", "add", "mean"] = Field(
        "none",
        description="item feature embeddings: none, add them to the item embedding, or take the mean of all",
    )
    max_feature_values: int | None = Field(
        None,
        ge=1,
        description="most values that are embedded of an item's multi-valued feature, such as the words of a "
        "text: the first ones; null: all",
    )

"""Settings of the input embedding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from behavior.config import Config, Unused

FeatureChoice = Literal["all"] | list[str]
"""Which features count: all that the data set has, or those of these names."""


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
    domains: Literal["none", "add"] = Field(
        "none", description="domain embedding of each event: none, or add it to the event's vector"
    )
    query_domain: Literal["none", "add"] = Field(
        "none",
        description="embedding of the domain of the event to predict: none, or add it to the query's token, "
        "in training and evaluation alike",
    )
    features: Literal["none", "add", "mean", "concat", "gated", "attention_only", "tower"] = Field(
        "none",
        description="fusion of item features: none; add their embeddings to the item's; mean of all; concat: "
        "an MLP over all side by side; gated: a sigmoid gate each; attention_only: in queries and keys, not "
        "in values (DIF-SR); tower: an MLP over the features, also for items never seen in training",
    )
    features_on: Literal["both", "input"] = Field(
        "both",
        description="whether features are part of the input and of the item vectors that are scored, or of "
        "the input alone; attention_only always scores by ids alone",
    )
    item_features: FeatureChoice = Field(
        "all", description="item features that count, by name; all: every one the data set has"
    )
    event_features: FeatureChoice = Field(
        [],
        description="features of events, by name, that are added to the event's vector (attention_only: are "
        "in its queries and keys), never those of the event to predict; all: every one",
    )
    user_features: FeatureChoice = Field(
        [],
        description="features of users, by name, each a token of context in front of the sequence; all: "
        "every one",
    )
    positions: Literal["add", "attention_only"] = Field(
        "add",
        description="learned position embeddings, where the backbone has them: added to the token's vector, "
        "or attention_only: in queries and keys, not in values (DIF-SR)",
    )
    id_dropout: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="tower: share of look-ups in training that see an item as one never seen before, without "
        "its id; 1: there are no ids at all; empty: 0.2",
    )
    attribute_dim: int | None = Field(
        None,
        ge=1,
        description="attention_only: width of the queries and keys per head of each feature, and of "
        "positions; empty: a quarter of the item's, 4 at least",
    )
    max_feature_values: int | None = Field(
        None,
        ge=1,
        description="most values that are embedded of an item's multi-valued feature, such as the words of a "
        "text: the first ones; null: all",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> EmbeddingConfig:
        if self.id_dropout is not None and self.features != "tower":
            raise ValueError("id_dropout is of an item tower: set features to tower, or leave id_dropout out")
        if self.attribute_dim is not None and "attention_only" not in (self.features, self.positions):
            raise ValueError("attribute_dim is of features attention_only: leave attribute_dim out")
        if self.features_on == "input" and self.features == "tower":
            raise ValueError(
                "an item tower is for scoring items by features, and features_on is input: set it to both"
            )
        return self

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        if self.features == "none":
            names = ["features_on", "item_features"]
            if not self.user_features:
                names.append("max_feature_values")
            yield Unused(names, "features is none", "set features to a fusion")

    @property
    def tower_dropout(self) -> float:
        """`id_dropout`, with its default."""
        return 0.2 if self.id_dropout is None else self.id_dropout

    @property
    def items_vary(self) -> bool:
        """Whether an item's vectors differ within a step of training: where a tower drops ids at random."""
        return self.features == "tower" and 0.0 < self.tower_dropout < 1.0

    @property
    def domain_setting(self) -> str:
        """The setting that asks for domains, with its value; empty where none does."""
        asked = [name for name in ("domains", "query_domain") if getattr(self, name) == "add"]
        return f"embedding.{asked[0]} = add" if asked else ""

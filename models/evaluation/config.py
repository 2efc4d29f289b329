"""Settings of an evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config


class EvaluationConfig(Config):
    """How rankings are judged."""

    cutoffs: list[int] = Field([10, 50, 200], min_length=1, description="list lengths of HR, NDCG and MRR")
    exclude_seen: bool | Literal["auto"] = Field(
        "auto",
        description="rank without what a user had under a target behavior before; auto: if nobody repeats",
    )
    batch_size: int = Field(1024, ge=1, description="targets ranked at a time")
    by: list[str] = Field(
        [],
        description="what 'lrm evaluate' breaks results down by: behavior, domain, popularity, history, or "
        "an item feature",
    )
    bootstrap: int = Field(
        1000, ge=0, description="draws of users for the intervals that 'lrm evaluate' gives; 0: none"
    )

"""Settings of an evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config


class EvaluationConfig(Config):
    """Metrics and evaluation protocol."""

    cutoffs: list[int] = Field([10, 50, 200], min_length=1, description="cutoffs k of HR@k, NDCG@k and MRR@k")
    exclude_seen: bool | Literal["auto"] = Field(
        "auto",
        description="remove items from a user's candidates that had a target behavior in the user's history; "
        "auto: where at most 1 % of the events with a target behavior repeat an item of their user",
    )
    target_behavior: str | None = Field(
        None,
        description="evaluate the events of this behavior instead of the data set's targets, of users who "
        "have one in the split's part: the last one (leave_one_out), else as the split says; null: the "
        "targets",
    )
    candidates: Literal["all", "domain"] = Field(
        "all",
        description="what a target is ranked among: all items, or those of its domain, which whoever asks is "
        "then taken to know",
    )
    new_items: Literal["rank", "leave_out"] = Field(
        "rank",
        description="items of a later version of the data set, which the model has never seen: rank them by "
        "their fresh vectors, or leave them out of the candidates, so that targets among them are misses",
    )
    known_only: bool = Field(
        False,
        description="ranking: judge only rows of users with an event in the training part and of known items",
    )
    log_loss: bool = Field(
        False,
        description="retrieval: also report log_loss, the mean of -log p(target) in nats, p the softmax "
        "of the scores of all known items at the temperature of the loss; one more pass over the targets",
    )
    batch_size: int = Field(1024, ge=1, description="targets per evaluation batch")
    by: list[str] = Field(
        [],
        description="attributes of targets by which 'lrm evaluate' breaks metrics down: behavior, domain, "
        "popularity, history, repeat, or an item feature",
    )
    bootstrap: int = Field(
        1000,
        ge=0,
        description="bootstrap resamples of users for the confidence intervals of 'lrm evaluate'; 0: none",
    )

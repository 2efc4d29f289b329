"""Settings of the loss."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from behavior.config import Config


class NegativesConfig(Config):
    """Where negatives come from, for every loss but the full softmax."""

    source: Literal["catalog", "in_batch", "mixed"] = Field(
        "catalog",
        description="catalog: drawn from all known items; in_batch: other targets of the batch; mixed: both",
    )
    count: int = Field(
        128,
        ge=1,
        description="negatives a position (or the whole batch, when shared) draws from the catalog; "
        "in_batch draws none",
    )
    sharing: Literal["position", "batch"] = Field(
        "position",
        description="who uses a draw: each position its own (as published), or all of a batch the same",
    )
    popularity_power: float = Field(
        0.0,
        ge=0.0,
        description="an item is drawn in proportion to its training count to this power; 0 is uniform",
    )
    logq: bool = Field(
        False, description="correct for the odds of being drawn, so that the loss estimates the full softmax"
    )


class LossConfig(Config):
    """What is minimised."""

    kind: Literal["sampled_softmax", "full_softmax", "bce", "gbce"] = Field(
        "sampled_softmax",
        description="softmax over the target and some negatives, or over every known item; binary "
        "cross-entropy (SASRec), or the same calibrated for the number of negatives (gSASRec)",
    )
    temperature: float = Field(0.05, gt=0.0, description="what scores of query and item are divided by")
    normalize: bool = Field(
        True,
        description="scores are cosines; false: plain dot products (SASRec as published, with temperature 1)",
    )
    label_smoothing: float = Field(
        0.0, ge=0.0, lt=1.0, description="share of the target that is spread over all candidates (softmaxes)"
    )
    calibration: float = Field(
        0.75, ge=0.0, le=1.0, description="gbce: t, from 0 (the same as bce) to 1 (fully calibrated scores)"
    )
    loss_on: Literal["all", "targets"] = Field(
        "all", description="predict every next event, or only those of a target behavior"
    )
    negatives: NegativesConfig = Field(NegativesConfig(), description="for every loss but the full softmax")

    @model_validator(mode="after")
    def _settings_agree(self) -> LossConfig:
        negatives = self.negatives
        if self.kind in ("bce", "gbce"):
            if self.label_smoothing:
                raise ValueError(f"label_smoothing belongs to the softmaxes; set it to 0 for {self.kind}")
            if negatives.logq:
                raise ValueError(f"negatives.logq corrects a softmax; set it to false for {self.kind}")
        if self.kind == "gbce" and (negatives.source != "catalog" or negatives.popularity_power != 0.0):
            raise ValueError(
                "gbce is calibrated for uniform draws: negatives.source must be catalog and "
                "negatives.popularity_power 0"
            )
        return self

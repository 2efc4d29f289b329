"""Settings of the loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from behavior.config import Config, Unused
from behavior.cooccurrence.directions import DIRECTIONS, Direction
from models.history.jumps.kinds import JUMP_TERMS, JUMP_TERMS_ONLY_ASKED, JumpTerm
from models.history.kinds import TERMS, HistoryTerm
from models.losses.kinds import LOSSES
from models.losses.unused import unused_of_loss
from models.registered import bad_name


class NegativesConfig(Config):
    """Negative sampling, for every loss but the full softmax."""

    source: Literal["catalog", "in_batch", "mixed"] = Field(
        "catalog",
        description="where negatives come from: catalog: sampled from all known items; in_batch: targets of "
        "other positions of the batch; mixed: both",
    )
    count: int = Field(
        128,
        ge=1,
        description="negatives sampled from the catalog for each position, or for the whole batch where they "
        "are shared; in_batch samples none",
    )
    sharing: Literal["position", "batch"] = Field(
        "position",
        description="position: each position samples negatives of its own (as published); batch: all "
        "positions of a batch share one sample",
    )
    popularity_power: float = Field(
        0.0,
        ge=0.0,
        description="sampling probabilities are proportional to training counts to this power; 0: uniform",
    )
    domain: Literal["across", "within"] = Field(
        "across",
        description="across: negatives of any domain; within: only items of the domain of the target, from "
        "which all competitors come, those of the full softmax too",
    )
    logq: bool = Field(
        False,
        description="logQ correction for sampling probabilities, so that the loss estimates the full softmax",
    )


class ViewsConfig(Config):
    """Self-supervised views of items, an auxiliary loss (arXiv 2007.12865)."""

    weight: float = Field(0.0, ge=0.0, description="factor of the auxiliary loss; 0: there is none")
    items: int = Field(1024, ge=2, description="items that are sampled uniformly for each batch")
    temperature: float = Field(0.1, gt=0.0, description="temperature of the views' cosine similarities")
    dropout: float = Field(
        0.2, ge=0.0, lt=1.0, description="share of the values that a view drops of a feature with several"
    )
    masking: Literal["correlated", "random"] = Field(
        "correlated",
        description="which features are in one view and which in the other: correlated: those of high mutual "
        "information together; random: any half",
    )

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        if not self.weight:
            names = ["items", "temperature", "dropout", "masking"]
            yield Unused(names, "weight is 0", "set weight")


class LossConfig(Config):
    """The training loss."""

    kind: str = Field(
        "sampled_softmax",
        description="; ".join(f"{name}: {kind.description}" for name, kind in LOSSES.items()),
    )
    temperature: float = Field(0.05, gt=0.0, description="softmax temperature: scores are divided by it")
    normalize: bool = Field(
        True,
        description="L2-normalize queries and item vectors, so that scores are cosine similarities; false: "
        "dot products (SASRec as published, with temperature 1)",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="label smoothing: share of the label spread over all candidates (softmaxes)",
    )
    calibration: float = Field(
        0.75,
        ge=0.0,
        le=1.0,
        description="gbce: calibration t, from 0 (bce) to 1 (fully calibrated scores)",
    )
    item_bias: Literal["none", "popularity"] = Field(
        "none",
        description="a learned number of each item that is added to its logit, none or started at the "
        "logarithm of its share of what is trained on (softmaxes)",
    )
    history: Literal["none", "learned"] = Field(
        "none",
        description="history logits: past events compete with all items in one softmax, none or by a learned "
        "logit (CopyNet), in training and evaluation alike",
    )
    history_terms: list[HistoryTerm] | None = Field(
        None,
        description="terms of history logits besides a constant: "
        + "; ".join(f"{name}: {description}" for name, description in TERMS.items())
        + "; null: all but item that the data set has something for",
    )
    history_keys: Literal["outputs", "items"] = Field(
        "outputs",
        description="what keys of history logits are made of: the backbone's output after the past event, or "
        "the vector of its item",
    )
    history_fading: float = Field(
        0.1,
        ge=0.0,
        description="how much lower history logits start with each bucket of events since; at 0.25 and above "
        "the newest event is far ahead",
    )
    history_dim: int = Field(64, ge=1, description="width of the queries and keys of history logits")
    jumps: Literal["none", "learned"] = Field(
        "none",
        description="jump logits: past events vote, in the softmax of all items, for what follows their "
        "items in the logs of others, none or by a learned logit, in training and evaluation alike",
    )
    jump_training: Literal["joint", "apart"] = Field(
        "joint",
        description="joint: jump logits learn in one softmax with all else, from one loss; apart: by a loss "
        "of their own, and are mixed with the softmax of the rest by a fixed share, jump_share",
    )
    jump_share: float = Field(
        0.2, gt=0.0, lt=1.0, description="apart: probability that goes by the votes; choose it by validation"
    )
    jump_terms: list[JumpTerm] | None = Field(
        None,
        description="terms of jump logits besides a constant: "
        + "; ".join(f"{name}: {description}" for name, description in JUMP_TERMS.items())
        + f"; null: all but {', '.join(JUMP_TERMS_ONLY_ASKED)} that the data set has something for",
    )
    jump_dim: int = Field(64, ge=1, description="width of the queries and keys of jump logits")
    jump_events: int = Field(12, ge=1, le=1024, description="how many of the last events vote")
    jump_dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="probability that an event does not vote for a query, in training"
    )
    jump_window: int = Field(
        12,
        ge=2,
        le=4096,
        description="what follows an item: pairs of events less than this many events apart",
    )
    jump_backward: float = Field(
        0.5, ge=0.0, description="what a pair against the order of time counts, relative to one along it"
    )
    jump_neighbors: int | None = Field(
        100,
        ge=1,
        description="most frequent followers of an item that are voted for; 8 bytes each of a run; null: "
        "all, with jump_own=subtract",
    )
    jump_own: Literal["folds", "subtract"] = Field(
        "folds",
        description="how a user's own events are kept out of what they read of tables: folds: in training, "
        "by tables without a fold of users each; subtract: exactly, by taking the user's own pairs off the "
        "one table of everybody, in training and ranking",
    )
    jump_tables: list[Direction] = Field(
        ["both"],
        min_length=1,
        description="tables of followers, each with terms of its own: "
        + "; ".join(f"{name}: {description}" for name, description in DIRECTIONS.items())
        + "; others than both need jump_own=subtract",
    )
    jump_session_seconds: int = Field(
        600, ge=0, description="how far apart in time pairs of the table session are, at most"
    )
    jump_folds: int = Field(
        4,
        ge=2,
        le=64,
        description="folds of users; in training, each reads a table of followers without their own fold",
    )
    trends: Literal["none", "learned"] = Field(
        "none",
        description="trend logits: what was popular just before the query competes with all items, too, none "
        "or by a learned logit for each time scale; needs timestamps",
    )
    trend_hours: list[Annotated[float, Field(gt=0.0)]] = Field(
        [2.0, 24.0, 168.0],
        min_length=1,
        description="time scales of trends: hours after which an event counts 1/e",
    )
    trend_of: Literal["targets", "all"] = Field(
        "targets", description="events that trends count: those of a target behavior, or all"
    )
    loss_on: Literal["all", "targets", "basket"] = Field(
        "all",
        description="predict every next event; only those of a target behavior; or (basket), given all "
        "before a time stamp, one of the events of a target behavior at it, drawn anew each epoch",
    )
    behavior_weights: dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]] = Field(
        {},
        description="weights in the loss of what is predicted, by the behavior's name; 1 where it has none, "
        "0: it has no loss; the loss is the weighted mean",
    )
    next_behavior_weight: float = Field(
        0.0,
        ge=0.0,
        description="weight of a second loss, the cross-entropy of the next event's behavior; 0: it is not "
        "predicted",
    )
    negatives: NegativesConfig = Field(
        NegativesConfig(), description="negative sampling, for every loss but the full softmax"
    )
    attributes_weight: float = Field(
        0.0,
        ge=0.0,
        description="factor of an auxiliary loss that predicts the attributes of the next item (DIF-SR); 0: "
        "there is none",
    )
    attributes: Literal["all"] | list[str] = Field(
        "all",
        description="item features that it predicts, by name, categorical or of several values; all: every "
        "such one",
    )
    views: ViewsConfig = Field(ViewsConfig(), description="self-supervised views of items, an auxiliary loss")

    @field_validator("kind")
    @classmethod
    def _exists(cls, kind: str) -> str:
        if kind not in LOSSES:
            raise bad_name("loss", kind, LOSSES, "call models.losses.register_loss")
        return kind

    @model_validator(mode="after")
    def _settings_agree(self) -> LossConfig:
        negatives = self.negatives
        if self.next_behavior_weight and self.loss_on != "all":
            raise ValueError(
                f"next_behavior_weight predicts what is done next, and with loss_on: {self.loss_on} that is "
                "always a target behavior; set loss_on to all"
            )
        if not LOSSES[self.kind].softmax:
            if self.label_smoothing:
                raise ValueError(f"label_smoothing belongs to the softmaxes; set it to 0 for {self.kind}")
            if self.item_bias != "none":
                raise ValueError(
                    f"item_bias starts at shares of a softmax; set it to none for {self.kind}, or choose one"
                )
            if negatives.logq:
                raise ValueError(f"negatives.logq corrects a softmax; set it to false for {self.kind}")
        if negatives.domain == "within" and (self.kind == "gbce" or self._smooths_over_all):
            raise ValueError(
                "negatives.domain is within, and this loss is about all items: gbce is calibrated for them, "
                "the full softmax smooths labels over them; set it to across, or choose another loss"
            )
        if self.kind == "gbce" and (negatives.source != "catalog" or negatives.popularity_power != 0.0):
            raise ValueError(
                "gbce is calibrated for uniform draws: negatives.source must be catalog and "
                "negatives.popularity_power 0"
            )
        return self

    @model_validator(mode="after")
    def _tables_agree(self) -> LossConfig:
        if len(set(self.jump_tables)) != len(self.jump_tables):
            raise ValueError(f"jump_tables names one twice: {', '.join(self.jump_tables)}")
        if self.jump_own == "subtract":
            if self.jump_training == "apart":
                raise ValueError(
                    "jump_own is subtract, and with jump_training: apart votes learn from tables of folds; "
                    "set jump_own to folds, or jump_training to joint"
                )
            return self
        if self.jump_tables != ["both"]:
            raise ValueError(
                f"jump_tables is [{', '.join(self.jump_tables)}], and tables of folds are of both "
                "directions; set jump_own to subtract"
            )
        if self.jump_neighbors is None:
            raise ValueError(
                "jump_neighbors is null, and a run keeps a fixed number of followers of tables of folds; set "
                "a number, or jump_own to subtract"
            )
        return self

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        return unused_of_loss(self)

    def unsound(self) -> str | None:
        """What is wrong with these settings, in words, though runs that have them can be evaluated."""
        if self.within_domain and self.jumps != "none" and self.jump_training == "apart":
            return (
                "negatives.domain is within, and with jump_training: apart votes are mixed by a share of "
                "what all items have together; set it to across, or jump_training to joint"
            )
        return None

    @property
    def _smooths_over_all(self) -> bool:
        return self.kind == "full_softmax" and self.label_smoothing > 0.0

    @property
    def within_domain(self) -> bool:
        """Whether a target competes with items of its domain only."""
        return self.negatives.domain == "within"

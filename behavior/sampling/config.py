"""Settings of long-sequence sampling: which events of a long history make a training sample."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from behavior.config import Config

Select = Literal["random", "recency", "newest"]
"""How some of a sample's inputs are chosen: any subset, one that favors recent events, or the newest."""


class StochasticLength(Config):
    """Stochastic length (HSTU, arXiv 2402.17152): most long samples are cut, at random.

    With N the model's max_length, a sample of n inputs, more than int(N^(alpha/2)), is cut to so many with
    probability 1 - N^alpha/n^2, so that attention costs N^alpha rather than N^2.
    """

    alpha: float = Field(1.6, gt=1.0, le=2.0)
    """The lower, the more is cut; 2 cuts nothing. At N 4096, 1.6 cuts to 776 inputs."""
    select: Select = "recency"
    """Which inputs a cut sample keeps. random: any subset. recency: a random subset where the i-th oldest of
    the inputs has weight i, drawn without replacement. newest: the newest ones."""
    balanced: bool = False
    """Whether a batch's samples are cut together, so that batches cost alike, and not each on its own."""


class SamplingConfig(Config):
    """Which events of a training history are inputs, in this order: window, quotas, the newest max_length of
    what is left, stochastic length. Evaluation takes no part in it."""

    window: Literal["newest", "sliding", "random"] = "newest"
    """Which part of a history longer than max_length is used. newest: its end. sliding: all of it, as windows
    that are samples of their own. random: another window every epoch."""
    stride: int | None = Field(None, ge=1)
    """sliding: events from one window's end to the next one's, at most max_length; where it is less, windows
    overlap and events are predicted more than once an epoch. Default: max_length."""
    quotas: dict[str, Annotated[int, Field(ge=1)]] = {}
    """The most inputs of a behavior that a sample keeps, by the behavior's name; behaviors without a quota
    are kept whole. With window: newest they are chosen from the whole history, not from its newest
    max_length events."""
    quota_select: Select = "random"
    """Which events of a behavior above its quota are kept; as in stochastic_length.select."""
    stochastic_length: StochasticLength | None = None
    """Cut most long samples at random; default: no."""

    @model_validator(mode="after")
    def _check(self) -> SamplingConfig:
        if self.stride is not None and self.window != "sliding":
            raise ValueError(f"stride is for window: sliding, not window: {self.window}")
        return self

"""Settings of long-sequence sampling: which events of a long history make a training sample."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from behavior.config import Config, Unused

Select = Literal["random", "recency", "newest"]
"""How some of a sample's inputs are chosen: any subset, one that favors recent events, or the newest."""


class StochasticLength(Config):
    """Stochastic length (HSTU, arXiv 2402.17152): most long samples are subsampled at random. With N the
    model's max_length, a sample of n inputs, more than int(N^(alpha/2)), is subsampled to that many with
    probability 1 - N^alpha/n^2, so that attention costs N^alpha rather than N^2."""

    alpha: float = Field(1.6, gt=1.0, le=2.0)
    """Sparsity: the lower, the more is subsampled; 2 keeps everything. At N 4096, 1.6 subsamples to 776
    inputs."""
    select: Select = "recency"
    """Which inputs are kept. random: a uniformly random subset. recency: a weighted random subset without
    replacement, the i-th oldest input having weight i. newest: the most recent ones."""
    balanced: bool = False
    """Whether the samples of a batch are subsampled together, so that batches have equal cost, rather than
    independently."""


class Repeat(Config):
    """Repeated padding (RepPad, arXiv 2403.06372): a sample that is at most half as long as max_length is
    repeated, as a whole, so that short histories weigh more. Each copy predicts what the sample itself
    predicts, its last input the sample's target and never the first event of the next copy."""

    copies: Literal["random", "most"] | Annotated[int, Field(ge=2)] = "random"
    """Copies of a sample, itself among them. random: from 2 to as many as max_length holds, drawn anew every
    epoch (as published). most: as many as max_length holds. A number: so many at most."""
    separation: Literal["none", "delimiter", "attention"] = "none"
    """What stands between copies. none: nothing; a copy sees the copies before it. delimiter: one free
    position, as the published padding item, which attention does not see either. attention: a copy does not
    see the others; they share their positions only."""


class SamplingConfig(Config):
    """Which events of a training history are inputs, in this order: window, quotas, truncation to the newest
    max_length, stochastic length, repetition. Not used in evaluation."""

    window: Literal["newest", "sliding", "random"] = "newest"
    """Which part of a history longer than max_length is used. newest: its end (truncation). sliding: all of
    it, as sliding windows that are samples of their own. random: a random window, another one every epoch."""
    stride: int | None = Field(None, ge=1)
    """sliding: stride in events, at most max_length; where it is less, windows overlap and events are
    predicted more than once an epoch. Default: max_length (no overlap)."""
    quotas: dict[str, Annotated[int, Field(ge=1)]] = {}
    """The maximum number of a sample's inputs of a behavior, by the behavior's name; behaviors without a
    quota are not limited. With window: newest they apply to the whole history, not to its newest max_length
    events."""
    quota_select: Select = "random"
    """Which events of a behavior above its quota are kept; as in stochastic_length.select."""
    stochastic_length: StochasticLength | None = None
    """Subsample most long samples at random; default: no."""
    repeat: Repeat | None = None
    """Repeat short samples (RepPad); default: no."""

    def unused(self) -> Iterator[Unused]:
        """See `behavior.config.Config.unused`."""
        if not self.quotas:
            yield Unused(["quota_select"], "there are no quotas", "set quotas")

    @model_validator(mode="after")
    def _check(self) -> SamplingConfig:
        if self.repeat is not None and self.stochastic_length is not None:
            raise ValueError(
                "repeat would fill up again what stochastic_length has shortened: leave one of them out"
            )
        if self.stride is not None and self.window != "sliding":
            raise ValueError(f"stride is for window: sliding, not window: {self.window}")
        return self

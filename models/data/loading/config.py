"""Settings of the training loader: sampling, shuffling, load balancing and prefetching."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from behavior.config import Config
from behavior.sampling.config import SamplingConfig


class LoaderConfig(Config):
    """How training samples are cut from sequences, shuffled and brought into batches."""

    part: Literal["train", "train+valid", "all"] = Field(
        "train",
        description="events that are trained on: train: those before the validation target; train+valid: all "
        "before the test target; all: every event; the last two are for refitting a chosen run, and are not "
        "validated",
    )
    sampling: SamplingConfig = Field(
        SamplingConfig(), description="which events of a sequence a training sample has"
    )
    balance_length: int | None = Field(
        None,
        ge=1,
        description="sequence length at which attention costs as much as the rest of the model; batches and "
        "processes are then balanced by n + n^2 / balance_length instead of by the number of events n",
    )
    shuffle_events: int = Field(
        4_000_000, ge=1, description="size of the shuffle buffer: events in memory that are shuffled together"
    )
    lookahead: int = Field(
        256,
        ge=0,
        description="with batch_tokens: sequences to choose from, besides the next ones, to fill the batch",
    )
    threads: int = Field(2, ge=0, description="threads that read ahead; 0: read synchronously")
    prefetch: int = Field(4, ge=1, description="batches prefetched in the background, with threads > 0")
    cache_mib: int = Field(
        1024, ge=0, description="memory for decoded row groups that are kept for later epochs, in MiB"
    )

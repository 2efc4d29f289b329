"""Settings of the loader: how samples are cut, shuffled and read."""

from __future__ import annotations

from pydantic import Field

from behavior.config import Config
from behavior.sampling.config import SamplingConfig


class LoaderConfig(Config):
    """How training samples are cut from the data and brought into batches."""

    sampling: SamplingConfig = Field(SamplingConfig(), description="which events of a sequence are seen")
    balance_length: int | None = Field(
        None,
        ge=1,
        description="length at which attention costs as much as all else; batches and processes are then "
        "balanced by n + n^2 / balance_length instead of by n",
    )
    shuffle_events: int = Field(
        4_000_000, ge=1, description="events that are in memory at a time and shuffled as a whole"
    )
    lookahead: int = Field(
        256, ge=0, description="sequences that wait, to close the gaps of a batch of tokens with"
    )
    threads: int = Field(2, ge=0, description="threads that read ahead; 0: read when a batch is asked for")
    prefetch: int = Field(4, ge=1, description="batches made ahead, where there are threads")
    cache_mib: int = Field(1024, ge=0, description="memory for data kept decoded for later epochs, in MiB")

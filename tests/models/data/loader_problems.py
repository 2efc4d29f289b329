"""Made-up sequences, and settings of loaders, for the tests of loading."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

from behavior.sampling.sampler import SamplingConfig
from models.data.about import About
from models.data.batch import PackedBatch
from models.data.loading import LoaderConfig, MemorySource, TrainLoader
from models.data.sequences import SequenceData
from tests.models.shards import rows

HERE = LoaderConfig(threads=0)


def part(train_end: list[int], first_row: int) -> SequenceData:
    """Sequences whose items tell where they are: event e of the whole data set is item 2 + e."""
    lengths = [max(1, end) for end in train_end]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    events = int(offsets[-1])
    return SequenceData(
        {
            "item": np.arange(2, 2 + events, dtype=np.int32),
            "behavior": (np.arange(events) % 2 + 1).astype(np.int8),
            "timestamp": np.arange(events),
        },
        offsets=offsets,
        train_end=np.array(train_end, dtype=np.int64),
        valid_end=np.array(train_end, dtype=np.int64),
        row=np.arange(first_row, first_row + len(train_end)),
        about=About(
            has_time=True, target_behaviors=(1,), first_item=2, num_item_ids=events + 2, num_behaviors=2
        ),
    )


def source_of(parts: list[list[int]]) -> MemorySource:
    starts = np.cumsum([0, *(len(ends) for ends in parts)])
    return MemorySource([part(ends, int(start)) for ends, start in zip(parts, starts, strict=False)])


Sample = tuple[int, ...]


def samples(batch: PackedBatch) -> list[Sample]:
    """Each sample of a batch: its sequence, then its items."""
    return [(n, *items) for n, items in zip(batch.sequence.tolist(), rows(batch, "item"), strict=True)]


@dataclass(frozen=True)
class Setting:
    """How a loader is set up, apart from the rank."""

    config: LoaderConfig
    batch: dict[str, int]
    max_length: int
    seed: int = 1

    def loader(self, source: MemorySource, rank: int = 0, num_replicas: int = 1, **batch: int) -> TrainLoader:
        return TrainLoader(
            source,
            self.config,
            max_length=self.max_length,
            seed=self.seed,
            rank=rank,
            num_replicas=num_replicas,
            behaviors=("view", "buy"),
            **(batch or self.batch),
        )


SAMPLINGS: list[dict[str, Any]] = [
    {},
    {"window": "sliding", "stride": 2},
    {"window": "random"},
    {"quotas": {"view": 2}},
    {"stochastic_length": {"alpha": 1.1}},
    {"repeat": {}},
    {"repeat": {"copies": "most", "separation": "delimiter"}},
    {"stochastic_length": {"alpha": 1.1, "balanced": True}},
]


@st.composite
def sources(draw: st.DrawFn) -> MemorySource:
    part = st.lists(st.integers(0, 12), min_size=1, max_size=12)
    parts = draw(st.lists(part, min_size=1, max_size=5))
    parts[0].append(2)  # never without a sample
    return source_of(parts)


@st.composite
def setups(draw: st.DrawFn, threads: int = 0) -> Setting:
    max_length = draw(st.integers(2, 8))
    by_tokens = draw(st.booleans())
    batch = (
        {"batch_tokens": 3 * max_length + draw(st.integers(0, 30))}
        if by_tokens
        else {"batch_sequences": draw(st.integers(3, 9))}
    )
    config = LoaderConfig(
        # Cutting together is for numbers of sequences.
        sampling=SamplingConfig(**draw(st.sampled_from(SAMPLINGS[:-1] if by_tokens else SAMPLINGS))),
        shuffle_events=draw(st.sampled_from([1, 20, 1000])),
        lookahead=draw(st.integers(0, 6)),
        balance_length=None if by_tokens else draw(st.sampled_from([None, 5])),
        threads=threads,
    )
    return Setting(config, batch, max_length)


def collect(batches: Iterator[PackedBatch]) -> list[list[Sample]]:
    return [samples(batch) for batch in batches]


def many(count: int = 40) -> MemorySource:
    return source_of([[2 + i % 7 for i in range(count)]])


def order(loader: TrainLoader) -> list[list[int]]:
    return [batch.sequence.tolist() for batch in loader]

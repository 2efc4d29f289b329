"""From shards to training batches: order, choice of steps, sampling, collation, prefetching."""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.data.loading.config import LoaderConfig
    from models.data.loading.loader import TrainLoader
    from models.data.loading.source import MemorySource, SequenceSource, ShardSource
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "LoaderConfig": "config",
            "MemorySource": "source",
            "SequenceSource": "source",
            "ShardSource": "source",
            "TrainLoader": "loader",
        },
    )

__all__ = ["LoaderConfig", "MemorySource", "SequenceSource", "ShardSource", "TrainLoader"]

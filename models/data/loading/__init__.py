"""From shards to training batches: order, choice of steps, sampling, collation, prefetching."""

from models.data.loading.config import LoaderConfig
from models.data.loading.loader import TrainLoader
from models.data.loading.replica import Replica
from models.data.loading.source import MemorySource, SequenceSource, ShardSource

__all__ = ["LoaderConfig", "MemorySource", "Replica", "SequenceSource", "ShardSource", "TrainLoader"]

"""From shards to training batches: order, choice of steps, sampling, collation, prefetching."""

from models.loading.config import LoaderConfig
from models.loading.loader import TrainLoader
from models.loading.replica import Replica
from models.loading.source import MemorySource, SequenceSource, ShardSource

__all__ = ["LoaderConfig", "MemorySource", "Replica", "SequenceSource", "ShardSource", "TrainLoader"]

"""An item table whose rows are divided among the processes that train together."""

from models.distributed.sharding.clip import clip_gradients
from models.distributed.sharding.items import HeldItems
from models.distributed.sharding.rows import RowShards
from models.distributed.sharding.state import StateShards
from models.distributed.sharding.table import ShardedEmbedding

__all__ = [
    "HeldItems",
    "RowShards",
    "ShardedEmbedding",
    "StateShards",
    "clip_gradients",
]

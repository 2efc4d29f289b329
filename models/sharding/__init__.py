"""An item table whose rows are divided among the processes that train together."""

from models.sharding.clip import clip_gradients
from models.sharding.exchange import Exchange
from models.sharding.items import HeldItems
from models.sharding.rows import RowShards
from models.sharding.state import StateShards
from models.sharding.table import ShardedEmbedding

__all__ = [
    "Exchange",
    "HeldItems",
    "RowShards",
    "ShardedEmbedding",
    "StateShards",
    "clip_gradients",
]

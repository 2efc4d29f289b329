"""Embedding tables of items: whole in every process, or with their rows divided among processes.

All other rooms know `ItemTable` alone: they look ids up, score the rows of this process, have gradients
finished, and save and restore whole tables. What is exchanged for that stays in here.
"""

from models.distributed.tables.clipping import clip_grad_norm
from models.distributed.tables.held import HeldItems
from models.distributed.tables.row_gradient import RowGradient
from models.distributed.tables.rows import RowShards
from models.distributed.tables.sharded import ShardedTable, tables_divided_among
from models.distributed.tables.states import WholeStates
from models.distributed.tables.table import (
    ItemTable,
    MakeItemTable,
    count_parameters,
    item_tables,
)
from models.distributed.tables.targets import TargetPlaces, places_of_targets
from models.distributed.tables.whole import WholeTable

__all__ = [
    "HeldItems",
    "ItemTable",
    "MakeItemTable",
    "RowGradient",
    "RowShards",
    "ShardedTable",
    "TargetPlaces",
    "WholeStates",
    "WholeTable",
    "clip_grad_norm",
    "count_parameters",
    "item_tables",
    "places_of_targets",
    "tables_divided_among",
]

"""Retrieval losses over item scores: softmax over all items or over some, and binary cross-entropy.

In: queries and targets of positions, a function that gives item vectors, and which items this process holds
(`models.distributed.tables.HeldItems`). Out: a scalar whose gradients are computed along with it, chunk by
chunk. `retrieval` puts a loss together of negative sampling (`negatives`, `sources`, `drawn`), `formulas` and
chunks; `full_softmax` and `sharded_softmax` have no negatives; `kernels` are for GPUs.

May import `behavior`, and of `models`: gpu, data (domains of items), distributed (tables).
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.losses.config import LossConfig
    from models.losses.formulas import binary_cross_entropy, gbce_power, register_loss, sampled_softmax
    from models.losses.retrieval import RetrievalLoss
    from models.losses.sources import ItemVectors
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "ItemVectors": "sources",
            "LossConfig": "config",
            "RetrievalLoss": "retrieval",
            "binary_cross_entropy": "formulas",
            "gbce_power": "formulas",
            "register_loss": "formulas",
            "sampled_softmax": "formulas",
        },
    )

__all__ = [
    "ItemVectors",
    "LossConfig",
    "RetrievalLoss",
    "binary_cross_entropy",
    "gbce_power",
    "register_loss",
    "sampled_softmax",
]

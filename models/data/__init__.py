"""Data: from a shard folder to packed batches and tables of items.

In: a `ShardFolder` of `behavior`, and the columns that batches are to have. Out: a `PackedBatch`, one buffer
that goes to the device in one copy, and the `ItemCatalog`.

- `columns`, `origins`, `declared`: columns of a batch, how their values are made of events, and the columns
  that are declared already (`CORE`, `event_column`). Whoever needs one more declares it, and nothing else.
- `stored`, `decode`, `sequences`: what the sequence files have, and the sequences read from them.
- `batch`, `segments`: the batch, and where its columns lie in its buffer.
- `collate`, `windows`: chosen events become a batch, in training and in evaluation.
- `catalog`: items with their counts and features. `about`, `digest`: what is known of a data set as a whole.
  `versions`: what runs remember of it, and which are later versions.
- `loading`: the order of training, samples, batches made ahead.

May import `behavior`, and of `models` attention (`Sequences`).
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from models.data.batch import PackedBatch
    from models.data.catalog import ItemCatalog
    from models.data.columns import Column, Columns
    from models.data.declared import CORE, event_column
else:  # settings are read without torch
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "CORE": "declared",
            "Column": "columns",
            "Columns": "columns",
            "ItemCatalog": "catalog",
            "PackedBatch": "batch",
            "event_column": "declared",
        },
    )

__all__ = ["CORE", "Column", "Columns", "ItemCatalog", "PackedBatch", "event_column"]

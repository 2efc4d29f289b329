"""Loading: from sequences to the batches of a training, shuffled, sampled, and made ahead in the background.

In: a `SequenceSource` (a data set, or sequences in memory) and a `LoaderConfig`. Out: `TrainLoader`, an
iterator over the batches of an epoch whose position can be saved and taken up again.

- `source`: sequences by row groups, kept decoded as memory allows.
- `order`, `blocks`: the random order of an epoch, and the part of it that is in memory at a time.
- `steps`, `planner`: which samples make a step, and which of them are this process's.
- `loader`: all of it put together, with threads that read and collate ahead.

May import `behavior` and the rest of `models.data`.
"""

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

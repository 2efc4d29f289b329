"""A data set for people: facts and tables in words, and one picture of it.

In: a shard folder. Out: plain values (`facts`, `tables`), counts of a sample of its events (`event_sample`),
and a figure (`figure`, `panels`: the only modules of `behavior` that import Matplotlib).
May import: `shards`, `spec`, `quality`, `steps`.
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.summary.doubt import doubts
    from behavior.summary.event_sample import EventSample, sample_events
    from behavior.summary.facts import shard_facts, shard_record
    from behavior.summary.figure import save_png, shard_figure
    from behavior.summary.tables import Table, shard_tables

__all__ = [
    "EventSample",
    "Table",
    "doubts",
    "sample_events",
    "save_png",
    "shard_facts",
    "shard_figure",
    "shard_record",
    "shard_tables",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EventSample": "event_sample",
        "Table": "tables",
        "doubts": "doubt",
        "sample_events": "event_sample",
        "save_png": "figure",
        "shard_facts": "facts",
        "shard_figure": "figure",
        "shard_record": "facts",
        "shard_tables": "tables",
    },
)

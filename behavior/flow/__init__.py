"""The flow of a whole data set: the steps in order, rejected rows, counts, tables, manifest.

In: a spec and a folder of raw files. Out: a shard folder (`prepare`), or tables in memory (`prepare_tables`).
May import: all rooms but `sampling`, `datasets` and `synthetic`.

Each function takes a `Preparation` and what earlier ones gave, so that any engine can run it; Beam's
transforms (`pipelines`) call the same functions:

    ChunkReader                     a chunk -> batches of events, a report, rejected rows
    AllReports                      all reports -> judged; rejected rows with their line in the file
    sort_partition                  the events of a hash partition -> its sequences
    count_sequences                 its sequences -> counts, statistics, fits of features
    fit_items                       merged counts -> item vocabulary, encoders
    make_tables, write_tables       item and user tables
    write_sequences                 its sequences -> a sequence file
    summarize, manifest_of          what was written -> the manifest; `behavior.shards.commit` ends the job
"""

from typing import TYPE_CHECKING

from behavior.lazy import lazy_exports

if TYPE_CHECKING:
    from behavior.flow.manifest import build_manifest, manifest_of
    from behavior.flow.memory import PreparedTables, prepare, prepare_tables
    from behavior.flow.partitions import (
        Counted,
        PartitionReport,
        count_sequences,
        sort_partition,
        write_sequences,
    )
    from behavior.flow.preparation import Preparation
    from behavior.flow.previous import Previous
    from behavior.flow.reading import ChunkReader, ChunkReport
    from behavior.flow.rejects import AllReports, ReadSummary, check_rejects
    from behavior.flow.totals import (
        Summary,
        features_of,
        fit_items,
        make_tables,
        merge_stats,
        stats_record,
        summarize,
        write_tables,
    )
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "AllReports": "rejects",
            "ChunkReader": "reading",
            "ChunkReport": "reading",
            "Counted": "partitions",
            "PartitionReport": "partitions",
            "Preparation": "preparation",
            "PreparedTables": "memory",
            "Previous": "previous",
            "ReadSummary": "rejects",
            "Summary": "totals",
            "build_manifest": "manifest",
            "check_rejects": "rejects",
            "count_sequences": "partitions",
            "features_of": "totals",
            "fit_items": "totals",
            "make_tables": "totals",
            "manifest_of": "manifest",
            "merge_stats": "totals",
            "prepare": "memory",
            "prepare_tables": "memory",
            "sort_partition": "partitions",
            "stats_record": "totals",
            "summarize": "totals",
            "write_sequences": "partitions",
            "write_tables": "totals",
        },
    )

__all__ = [
    "AllReports",
    "ChunkReader",
    "ChunkReport",
    "Counted",
    "PartitionReport",
    "Preparation",
    "PreparedTables",
    "Previous",
    "ReadSummary",
    "Summary",
    "build_manifest",
    "check_rejects",
    "count_sequences",
    "features_of",
    "fit_items",
    "make_tables",
    "manifest_of",
    "merge_stats",
    "prepare",
    "prepare_tables",
    "sort_partition",
    "stats_record",
    "summarize",
    "write_sequences",
    "write_tables",
]

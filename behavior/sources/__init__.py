"""Readers of raw files: a plan of chunks (byte ranges, row groups), then one reader a format.

In: the files that a spec names: delimited text, JSON lines, Parquet; gzip, zstd; any `fsspec` file system.
Out: `RawBatch`es: columns as they stand in the file, where each row came from, and what was bad.
May import: `spec`.
"""

from behavior.sources.chunks import BadFile, Chunk, Plan
from behavior.sources.damage import UnreadableFileError
from behavior.sources.plan import plan_input
from behavior.sources.raw import RawBatch, Reject
from behavior.sources.read import read_chunk, read_whole_table

__all__ = [
    "BadFile",
    "Chunk",
    "Plan",
    "RawBatch",
    "Reject",
    "UnreadableFileError",
    "plan_input",
    "read_chunk",
    "read_whole_table",
]

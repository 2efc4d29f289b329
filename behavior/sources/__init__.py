"""Readers of raw files: planning of chunks, then one reader a format, all giving `RawBatch`es."""

from behavior.sources.damage import UnreadableFileError
from behavior.sources.plan import BadFile, Chunk, Plan, plan_input
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

"""Readers of raw files: planning of chunks, then one reader a format, all giving `RawBatch`es."""

from behavior.sources.plan import Chunk, Plan, plan_input
from behavior.sources.raw import RawBatch, Reject
from behavior.sources.read import read_chunk, read_whole_table

__all__ = ["Chunk", "Plan", "RawBatch", "Reject", "plan_input", "read_chunk", "read_whole_table"]

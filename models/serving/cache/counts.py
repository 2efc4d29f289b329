"""What a cache did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheCounts:
    """What a cache did since it was made, and what is in it."""

    hits: int
    """Users of calls who were in the cache."""
    misses: int
    """Users of calls who were not."""
    evictions: int
    """Users who had to leave for others."""
    users: int
    """Users in it now."""
    used_bytes: int
    """Of pages that belong to them."""
    budget_bytes: int
    shapes: int
    """Of passes that are recorded as CUDA graphs."""
    replayed: int
    """Passes that came out of these."""
    not_recorded: str | None
    """Why none are; None: they are, or would be."""

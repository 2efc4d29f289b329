"""Runs that do not fit into memory together: they wait until fewer others go on.

How much a run needs on a GPU is known once it has run: what a step keeps, the graphs of recorded steps, what
the allocator holds back. A run that ran out of memory beside others is therefore not one that fails. It may
begin again beside half as many, noted in the folder, and fails only where it was alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.scaling.claims import Claims
from models.scaling.rates import Asked
from models.scaling.store import Store


@dataclass(frozen=True)
class Crowd:
    """The runs of a folder that go on at one time, whoever works on them.

    Args:
        store: the folder.
        claims: of its runs.
    """

    store: Store
    claims: Claims

    def may_begin(self, digest: str, todo: Sequence[str]) -> bool:
        """Whether a run may begin beside those that go on: not where it, or one of these, wants fewer.

        Args:
            digest: of the run.
            todo: digests of the runs that are not settled.
        """
        limits = {name: found.at_once for name, found in self.store.read_crowded().items()}
        if not limits:
            return True
        others = self._others(digest, todo)
        least = min((limits[name] for name in (digest, *others) if name in limits), default=None)
        return least is None or len(others) < least

    def give_way(self, asked: Asked, digest: str, todo: Sequence[str]) -> bool:
        """Note that a run ran out of memory; false where it was alone, and no wait would help.

        Args:
            asked: the run.
            digest: of it.
            todo: as of `may_begin`.
        """
        others = self._others(digest, todo)
        if not others:
            return False
        before = self.store.read_crowded().get(digest)
        at_once = len(others) + 1 if before is None else min(before.at_once, len(others) + 1)
        self.store.write_crowded(asked, digest, max(1, at_once // 2))
        return True

    def _others(self, digest: str, todo: Sequence[str]) -> list[str]:
        return [name for name in todo if name != digest and self.claims.holder(name) is not None]


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device had no memory left; CUDA has several ways to say so."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "out of memory" in str(error).lower()

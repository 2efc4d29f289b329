"""The times of a local run's stages."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from behavior.shards.storage import Folder


class StageClock:
    """When the parts of each stage ran, on all workers of a local run: for progress and for timings.

    Each process appends lines to a file of its own. A remote run has the engine's own pages for that.
    """

    _FOLDER = "clock"

    def __init__(self, notes: Folder | None) -> None:
        self.folder = None if notes is None else notes.path / self._FOLDER

    def tick(self, stage: str, begin: float) -> None:
        """One part of a stage is done."""
        if self.folder is None:
            return
        # Time is not worth failing for.
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{os.getpid()}.txt").open("a", encoding="utf-8") as file:
                file.write(f"{stage} {begin:.6f} {time.time():.6f}\n")

    def parts(self) -> dict[str, list[tuple[float, float]]]:
        """Stage -> begin and end of each part that is done."""
        found: dict[str, list[tuple[float, float]]] = {}
        for path in self.folder.glob("*.txt") if self.folder is not None else ():
            # A line that is being written lacks its end.
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                stage, begin, end = line.split(" ")
                found.setdefault(stage, []).append((float(begin), float(end)))
        return found

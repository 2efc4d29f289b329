"""How far a grid is: which of its runs are done, which are left, and which wait for a learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from behavior.shards.folder import open_shards
from models.build import dataset_of
from models.experiments.identity import earlier_digest, names_precision, run_digest
from models.experiments.runs import PlannedRun, slug
from models.scaling.grid import ScaleGrid, Size
from models.scaling.rates import Asked, Resolved, resolve
from models.scaling.records import FailureRecord, Result
from models.scaling.store import Store

Pair = tuple[Asked, PlannedRun]


@dataclass(frozen=True)
class State:
    """A grid at one moment."""

    resolved: Resolved
    runs: list[Pair]
    """All whose rate is known, in the order they are to be run in."""
    results: dict[str, Result]
    """By digest."""
    failures: dict[str, FailureRecord]

    @property
    def todo(self) -> list[Pair]:
        """Neither done nor failed."""
        return [
            pair
            for pair in self.runs
            if pair[1].digest not in self.results and pair[1].digest not in self.failures
        ]

    @property
    def waiting(self) -> list[Size]:
        """Sizes whose learning rate is not known yet."""
        return self.resolved.waiting


class Progress:
    """Looks at the folder of a grid, as often as asked.

    Args:
        grid: the grid.
        data: the shard folder, or its url.
        store: the folder.

    Raises:
        UserError: a setting of a run is wrong, or the data cannot be used.
    """

    def __init__(self, grid: ScaleGrid, data: str, store: Store) -> None:
        self.grid, self.store = grid, store
        self.dataset = dataset_of(open_shards(data))
        self._planned: dict[tuple[Size, float | None], PlannedRun] = {}
        self._read: dict[str, Result] = {}
        self.metric = grid.config(grid.sizes()[0]).selection_metric

    def planned(self, size: Size, rate: float | None) -> PlannedRun:
        """A run of the grid, named by a digest of its settings and the data."""
        if (size, rate) not in self._planned:
            self._planned[size, rate] = self._plan(size, rate)
        return self._planned[size, rate]

    def _plan(self, size: Size, rate: float | None) -> PlannedRun:
        config = self.grid.config(size, rate)
        digest = run_digest(config, self.dataset["digest"])
        earlier = earlier_digest(config, self.dataset["digest"])
        done = None if earlier is None else self._results().get(earlier)
        if earlier is not None and done is not None and not names_precision(done.record.settings):
            digest = earlier
        settings = self.grid.settings(size, rate)
        line = size.line(rate)
        return PlannedRun(
            table=self.grid.title or "scale",
            line=line,
            seed=size.seed,
            recipe=settings.pop("recipe", self.grid.recipe),
            settings=settings,
            config=config,
            data=self.dataset["name"],
            digest=digest,
            folder=self.store.runs / f"{slug(line)}-seed-{size.seed}-{digest[:8]}",
        )

    def look(self) -> State:
        """What is known now."""
        results, failures = self._results(), self.store.read_failures()

        def outcome(size: Size, rate: float) -> float | None:
            digest = self.planned(size, rate).digest
            if digest in failures:
                return -math.inf
            return self.metric.goodness(results[digest].record.valid) if digest in results else None

        resolved = resolve(self.grid, outcome)
        runs: dict[str, Pair] = {}
        for asked in resolved.runs:
            run = self.planned(asked.size, asked.rate)
            runs.setdefault(run.digest, (asked, run))
        return State(resolved, self._ordered(list(runs.values())), results, failures)

    def _results(self) -> dict[str, Result]:
        """A result never changes once it is written: only new ones are read."""
        names = {path.stem for path in self.store.results.glob("*.json")}
        new = self.store.read_results(known=self._read)
        self._read = {name: found for name, found in self._read.items() if name in names} | new
        return self._read

    @staticmethod
    def _ordered(runs: list[Pair]) -> list[Pair]:
        """Searches first, which others wait for; of both the largest first: the last ones are short."""

        def key(pair: Pair) -> tuple[bool, int, float]:
            asked, run = pair
            model = run.config.model
            return not asked.searches, -model.blocks * model.dim, -asked.size.data

        return sorted(runs, key=key)

"""`lrm scale`: a grid planned, and run by some workers of this machine, beside those of others."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from behavior.errors import UsageError, UserError
from behavior.files import check_local
from behavior.shards.storage import FolderLike, as_folder
from models.evaluation.targets import Split
from models.experiments.pool import gpus_of, see_gpu
from models.experiments.results import RunRecord
from models.runs.files import write_shared
from models.scaling.checks import check_grid
from models.scaling.claims import STALE_SECONDS, Claims
from models.scaling.grid import ScaleGrid
from models.scaling.plan import Planner, as_json, expected_seconds, plan_of
from models.scaling.progress import Progress, State
from models.scaling.store import Failure, Store, data_digest
from models.scaling.worker import Keep, Orders, work

_CONTEXT: SpawnContext | ForkServerContext = multiprocessing.get_context("spawn")
"""Of workers: a process that uses a GPU cannot be forked."""
_MOST_RESTARTS = 20
_POLL_SECONDS = 0.3


class Scale:
    """A grid on one data set, in one folder; nothing is trained before `run`.

    Args:
        grid: the grid.
        data: the shard folder; urls too.
        out: the grid's folder, which other processes may share.
        split: `valid` leaves the test split unread.
        keep: what of finished runs stays besides their numbers: `all`; `best`, the best checkpoint; `none`.
        stale_seconds: after which a claim of another machine is taken over.

    Raises:
        UserError: a setting of a run is wrong, the data cannot be used, or the folder is of other data.
    """

    def __init__(
        self,
        grid: ScaleGrid,
        data: FolderLike,
        out: Path,
        *,
        split: Split = "test",
        keep: Keep = "best",
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        check_grid(grid)
        check_local(out, "--out")
        self.grid, self.data, self.store = grid, as_folder(data).url, Store(Path(out))
        self.split, self.keep, self.stale_seconds = split, keep, stale_seconds
        self.progress = Progress(grid, self.data, self.store)
        self._planner: Planner | None = None
        self._check_data()

    def _check_data(self) -> None:
        """Raise UserError where the folder has runs of another data set, to which one law would be fitted."""
        own, digest = self.progress.dataset["name"], self.progress.dataset["digest"]
        for result in self.store.read_results().values():
            theirs = result.dataset or data_digest(self.store.path / result.run)
            what = None
            if result.record.data != own:
                what = f"the data set '{result.record.data}', and this is '{own}'"
            elif theirs not in (None, digest):
                what = f"another version of the data set '{own}': digest {theirs[:8]}, here {digest[:8]}"
            if what is not None:
                raise UserError(
                    f"the folder has runs of {what}",
                    where=f"{self.store.path}, {self.data}",
                    fix="name another folder: --out",
                )

    def look(self) -> State:
        """What is done, failed and left."""
        return self.progress.look()

    def plan(self) -> list[dict[str, Any]]:
        """Every run and what it is expected to take; written to plan.json, too."""
        self._planner = self._planner or Planner(self.progress, self.data)
        rows = plan_of(self.progress, self.look(), self._planner)
        write_shared(self.store.plan_file, as_json(rows).encode())
        return rows

    def workers(self) -> list[str]:
        """Runs that somebody works on now."""
        claims = Claims(self.store.claims, self.stale_seconds)
        return [run.line for _, run in self.look().todo if claims.holder(run.digest) is not None]

    def run(
        self,
        *,
        jobs: int = 1,
        gpus: Sequence[str] = (),
        budget_minutes: float | None = None,
        plan: Sequence[dict[str, Any]] = (),
        retry: bool = False,
    ) -> Iterator[RunRecord | Failure]:
        """Run what is left; gives each result and each failure, those of other processes included.

        Args:
            jobs: runs at a time, spread over the GPUs. One is run in this process.
            gpus: those that are used, as CUDA_VISIBLE_DEVICES names them; none: all.
            budget_minutes: GPU minutes (without GPUs: minutes) that may be used. Then runs stop with a
                checkpoint, from which the next call goes on.
            plan: as `plan` gave it: no run begins that is expected to take longer than is left.
            retry: run those again that have failed.
        """
        if retry:
            self.store.forget_failures()
        self.store.begin_call(self.grid, self.data)
        state = self.look()
        seen = {*state.results, *state.failures}
        places = _places(jobs, gpus)
        devices = len({place for place in places if place is not None}) or 1
        sharing = -(-jobs // devices)
        until = None if budget_minutes is None else time.time() + 60.0 * budget_minutes / devices
        orders = Orders(
            grid=self.grid,
            data=self.data,
            out=self.store.path,
            split=self.split,
            until=until,
            expected=expected_seconds(list(plan), sharing) if plan else None,
            keep=self.keep,
            sharing=sharing,
            stale_seconds=self.stale_seconds,
        )
        source = self._alone(orders) if jobs == 1 and places == [None] else self._together(orders, places)
        for _ in source:
            yield from self._news(seen)
        yield from self._news(seen)

    @staticmethod
    def _alone(orders: Orders) -> Iterator[None]:
        for _ in work(orders):
            yield

    @staticmethod
    def _together(orders: Orders, places: Sequence[str | None]) -> Iterator[None]:
        orders = replace(orders, is_child=True)
        restarts = 0

        def begin(place: str | None) -> BaseProcess:
            process = _CONTEXT.Process(target=_work_at, args=(orders, place))
            process.start()
            return process

        running = [(begin(place), place) for place in places]
        try:
            while running:
                time.sleep(_POLL_SECONDS)
                yield
                ended = [(process, place) for process, place in running if not process.is_alive()]
                running = [pair for pair in running if pair not in ended]
                for process, place in ended:
                    # One that was ended from outside left its run to others, which may be waiting for it.
                    if process.exitcode and restarts < _MOST_RESTARTS:
                        restarts += 1
                        running.append((begin(place), place))
        finally:
            for process, _ in running:
                process.join(60.0)
                process.kill()

    def _news(self, seen: set[str]) -> Iterator[RunRecord | Failure]:
        results, failures = self.store.read_results(known=seen), self.store.read_failures(known=seen)
        seen |= {*results, *failures}
        yield from (result.record for result in results.values())
        yield from (Failure(each.size.line(each.rate), each.error) for each in failures.values())


def _places(jobs: int, gpus: Sequence[str]) -> list[str | None]:
    """For each worker the GPU that it is to see; None: whatever there is."""
    if not gpus:
        return gpus_of(jobs)
    if not torch.cuda.is_available():
        raise UsageError("there is no GPU here", where="--gpus", fix="leave it out")
    return [gpus[number % len(gpus)] for number in range(jobs)]


def _work_at(orders: Orders, place: str | None) -> None:
    see_gpu(place)
    try:
        for _ in work(orders):
            pass
    except KeyboardInterrupt:
        os._exit(0)  # the claim is released; threads of loaders would be waited for

"""A worker: takes one run of a grid after the other, as long as there are any, and tells the folder."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import statistics
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from behavior.errors import UserError
from behavior.wording import number_of
from models.evaluation.targets import Split
from models.experiments.results import RunRecord
from models.experiments.runs import PlannedRun, run_one
from models.gpu.memory import free_memory
from models.runs.run_folder import RunFolder
from models.scaling.claims import STALE_SECONDS, Claim, Claims, this_process
from models.scaling.crowd import Crowd, is_out_of_memory
from models.scaling.grid import ScaleGrid
from models.scaling.progress import Progress, State
from models.scaling.rates import Asked
from models.scaling.store import Store

Keep = Literal["all", "best", "none"]

MOST_TRIES = 4
"""A run that has ended so many processes is recorded as failed."""
_ENOUGH = 3
_BEAT_SECONDS = 5.0
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Orders:
    """What a worker needs to know; it can be sent to another process."""

    grid: ScaleGrid
    data: str
    """The shard folder, or its url."""
    out: Path
    split: Split = "test"
    until: float | None = None
    """Unix time after which nothing goes on: a run then stops with a checkpoint."""
    expected: dict[str, float] | None = None
    """Seconds that a run of a size is expected to take, by its label: none begins that would be cut off."""
    keep: Keep = "best"
    """What of a finished run stays besides its numbers."""
    sharing: int = 1
    """Workers that share this one's device."""
    is_child: bool = False
    """Whether the worker ends when the process that started it does."""
    stale_seconds: float = STALE_SECONDS


def work(orders: Orders) -> Iterator[RunRecord]:
    """Run what is left of a grid; gives the result of each run once it is written.

    Ends when everything is done, by this worker or by others, or when the time is up. It waits where others
    work on runs that the rest depends on, and takes over what they leave.
    """
    store, claims = Store(orders.out), Claims(Store(orders.out).claims, orders.stale_seconds)
    progress, crowd = Progress(orders.grid, orders.data, store), Crowd(store, claims)
    while not _is_over(orders):
        state = progress.look()
        pace = _pace(orders, state)
        left = [each for each in state.todo if not _is_too_long(orders, each[0], pace)]
        todo = [run.digest for _, run in state.todo]
        begun = False
        for asked, run in left:
            claim = claims.claim(run.digest) if crowd.may_begin(run.digest, todo) else None
            if claim is None:
                continue
            if not crowd.may_begin(run.digest, todo):  # another one began in between
                claim.release()
                time.sleep(random.uniform(0.0, _LOOK_SECONDS))
                continue
            give_way = partial(crowd.give_way, asked, run.digest, todo)
            record = _settle(orders, store, claim, asked, run, give_way)
            begun = True
            if record is not None:
                yield record
            break
        if begun:
            continue
        if not (left or (state.waiting and state.todo)):
            return  # nothing is left, or nothing that fits into the time
        time.sleep(_LOOK_SECONDS)


def _is_over(orders: Orders) -> bool:
    parent = multiprocessing.parent_process()
    gone = orders.is_child and (parent is None or not parent.is_alive())
    return gone or (orders.until is not None and time.time() >= orders.until)


def _is_too_long(orders: Orders, asked: Asked, pace: float) -> bool:
    if orders.until is None or orders.expected is None:
        return False
    return time.time() + pace * orders.expected.get(asked.size.label, 0.0) > orders.until


def _pace(orders: Orders, state: State) -> float:
    """By how much runs took longer than expected, as soon as some are done beside as many others."""
    expected = orders.expected or {}
    ratios = [
        result.wall_seconds / expected[result.size.label]
        for result in state.results.values()
        if result.sharing == orders.sharing and expected.get(result.size.label) and result.wall_seconds
    ]
    return statistics.median(ratios) if len(ratios) >= _ENOUGH else 1.0


def _settle(
    orders: Orders, store: Store, claim: Claim, asked: Asked, run: PlannedRun, give_way: Callable[[], bool]
) -> RunRecord | None:
    """Train and evaluate a claimed run and write down what came of it; None: it failed, or was stopped.

    Where memory runs out, `give_way` says whether it waits for others instead of failing.
    """
    watch = Watch(orders, claim)
    record: RunRecord | None = None
    try:
        if store.is_settled(run.digest):  # by whoever held the claim before
            return None
        if claim.generation > MOST_TRIES:
            ended = "it ended " + number_of(claim.generation - 1, "process", "processes")
            ended += " before it was done: memory may have run out"
            store.write_failure(asked, run.digest, ended, "")
            return None
        begun = time.time()
        _begin_anew(run.folder)
        with watch:
            record = run_one(run, orders.data, orders.split)
        if claim.beat():
            about = {**this_process(), "sharing": orders.sharing, "wall_seconds": time.time() - begun}
            store.write_result(asked, record, run.folder, about)
            prune(run.folder, orders.keep)
    except KeyboardInterrupt:
        if watch.reason is None:
            raise
    except Exception as error:
        waits = _is_held_elsewhere(error) or (is_out_of_memory(error) and give_way())
        if waits:
            time.sleep(_LOOK_SECONDS)
        else:
            text = str(error) or type(error).__name__
            store.write_failure(asked, run.digest, text, traceback.format_exc(limit=-15))
    finally:
        claim.release()
        free_memory()
    return record


def _begin_anew(folder: Path) -> None:
    """Remove what is left of a run that was cut off, where its checkpoint was not carried along."""
    run = RunFolder(folder)
    if not run.has_last and (run.metrics.exists() or run.best.exists()):
        shutil.rmtree(folder)


def _is_held_elsewhere(error: Exception) -> bool:
    """Whether a process that gave no sign of life still writes to the run."""
    return isinstance(error, UserError) and "another job is writing" in error.what


def prune(run: Path, keep: Keep) -> None:
    """Remove what a finished run no longer needs: to go on (`best`), or to be evaluated again (`none`)."""
    if keep == "all":
        return
    (run / "checkpoints" / "last.safetensors").unlink(missing_ok=True)
    if keep == "none":
        for name in ("checkpoints", "tensorboard", "dataset", "curves"):
            shutil.rmtree(run / name, ignore_errors=True)


class Watch:
    """Shows signs of life while a run is trained, and stops it, as Ctrl-C would, when it has to end."""

    def __init__(self, orders: Orders, claim: Claim) -> None:
        self.orders, self.claim = orders, claim
        self.reason: Literal["lost", "over"] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lrm-claim", daemon=True)

    def _look(self) -> None:
        beat = time.monotonic()
        while not self._ended.wait(_LOOK_SECONDS):
            if time.monotonic() - beat >= min(_BEAT_SECONDS, self.orders.stale_seconds / 5):
                beat = time.monotonic()
                if not self.claim.beat():
                    self.reason = "lost"
            if _is_over(self.orders):
                self.reason = "over"
            if self.reason is not None and not self._ended.is_set():
                os.kill(os.getpid(), signal.SIGINT)
                return

    def __enter__(self) -> Watch:
        # A shell starts what it runs in the background (`lrm scale ... &` in a script) with Ctrl-C ignored.
        self._ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        if self._ignored:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

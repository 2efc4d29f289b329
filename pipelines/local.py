"""A local run: the stages of `pipelines.pipeline` one after the other, without Beam.

Importing Beam, making its pipeline, and its passage from stage to stage take longer than the work on a log of
ordinary size. Here the parts of a stage (`pipelines.work`) are given to workers, the largest first, so that
none has more than its share; and what can be done meanwhile is.
"""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from concurrent.futures import FIRST_COMPLETED, Future, as_completed, wait

from behavior.errors import UserError
from behavior.flow.ahead import compile_ahead
from behavior.runtime.forks import processes, started
from pipelines.crashed import interrupted, local_crash
from pipelines.job import PrepareJob
from pipelines.joined import core, judge, keep_rejects, sum_up
from pipelines.pool import Alone, Threads, Workers, working
from pipelines.progress import Progress, watched
from pipelines.runner import RunnerOptions
from pipelines.shuffle import FileShuffle, Piece
from pipelines.threads import ONE_AT_A_TIME, one_thread, pools_restored
from pipelines.work import (
    FORKED_WITH,
    MERGED,
    ChunkGroup,
    PartitionCounted,
    clear_events,
    count,
    fit_all,
    merge_counts,
    read_whole_group,
    ready,
    sort_and_count,
    sorted_file,
    tables,
    users,
    write_and_clear,
)


def run_here(
    job: PrepareJob,
    groups: list[ChunkGroup],
    runner: RunnerOptions,
    progress: Progress | None,
) -> dict[str, int]:
    """Run the stages of a preparation to its summary.

    Args:
        job: whose they are.
        groups: of chunks, which are read together.
        runner: how many workers there are.
        progress: told how far it is.

    Returns:
        How many rows were read, accepted, rejected, filtered.

    Raises:
        UserError: what a worker found wrong.
        JobCrashError: a failure that no worker explained.
    """
    partitions = job.preparation.partitions
    totals = {"read": len(groups), "sort": partitions, "write": partitions}
    with ONE_AT_A_TIME, pools_restored(), watched(job, totals, progress):
        one_thread()
        try:
            with working(_workers(job, runner)) as workers:
                return dict(_Stages(job, workers, runner.at_once).run(groups))
        except UserError as error:
            kept = job.kept_error()
            if kept is None:
                raise
            raise kept from error
        except Exception as error:
            if interrupted(error):
                raise KeyboardInterrupt from error
            raise (job.kept_error() or local_crash(error, job.log if job.log.exists() else None)) from error


def _workers(job: PrepareJob, runner: RunnerOptions) -> Workers:
    if runner.at_once == 1:
        return Alone(job)
    shared = job.out.is_local and "://" not in job.preparation.base  # what only this process may know of
    number = processes(runner.workers) if runner.workers or shared else 0
    if not number:
        # While the input is read.
        threading.Thread(target=compile_ahead, args=(job.preparation,), daemon=True).start()
        return Threads(runner.at_once, job)
    forks = started([FORKED_WITH])
    forks.begin(number, job, ready, job.log)
    return forks


class _Stages:
    """One after the other, from chunks to the summary."""

    def __init__(self, job: PrepareJob, workers: Workers, at_once: int) -> None:
        self.job, self.submit, self.at_once = job, workers.submit, at_once
        self.counters: Counter[str] = Counter(read=0, accepted=0, rejected=0, filtered=0)

    def run(self, groups: list[ChunkGroup]) -> Counter[str]:
        pieces, reports = self._read(groups)
        every = judge(self.job, reports)  # a log that is rejected costs no more than its reading
        one_pass = self.job.preparation.spec.filters.minimum_counts == (1, 1)
        counting = self._sort(pieces, counted=one_pass)
        keep_rejects(self.job, every)
        items = None
        if not one_pass:
            partitions = [part.result() for part in counting]
            items = self.submit(core, partitions).result()
            counting = [self.submit(count, number, None, items) for number in self._by_size(partitions)]
        partitions, counts = self._added_up(counting)
        known = self.submit(users, partitions)
        vocabulary = self.submit(fit_all, partitions, counts).result()
        sum_up(self.job, vocabulary, *self._write(partitions, vocabulary, known, items))
        return self.counters

    def _read(self, groups: list[ChunkGroup]) -> tuple[dict[int, list[Piece]], list[str]]:
        """Where the pieces of each partition lie, and the files of all reports."""
        pieces: dict[int, list[Piece]] = defaultdict(list)
        reports = []
        shuffle = FileShuffle()
        for part in as_completed([self.submit(read_whole_group, shuffle, group) for group in groups]):
            own, found = part.result()
            for partition, piece in own:
                pieces[partition].append(piece)
            reports.append(found.reports)
            for name in ("read", "rejected", "filtered"):
                self.counters[name] += getattr(found, name)
        return pieces, reports

    def _sort(self, pieces: dict[int, list[Piece]], *, counted: bool) -> list[Future]:
        def size(partition: int) -> int:
            return sum(end - start for _, _, _, start, end in pieces[partition])

        shuffle = FileShuffle()
        return [
            self.submit(sort_and_count, shuffle, partition, pieces[partition], counted)
            for partition in sorted(pieces, key=size, reverse=True)
        ]

    def _added_up(self, counting: list[Future]) -> tuple[list[int], list[str]]:
        """The partitions in order, and files with counts of items, some of them added up already."""
        partitions: list[int] = []
        names: list[str] = []
        merging: list[Future] = []
        for part in as_completed(counting):
            counted: PartitionCounted = part.result()
            self.counters["accepted"] += counted.added
            self.counters["filtered"] += counted.dropped
            partitions.append(counted.partition)
            names.append(counted.items)
            if len(names) == MERGED:
                merging.append(self.submit(merge_counts, names))
                names = []
        return sorted(partitions), [*names, *(part.result() for part in merging)]

    def _write(
        self, partitions: list[int], vocabulary: str, known: Future, items: str | None
    ) -> tuple[str, list[int]]:
        """The report of the tables, and the partitions of which anything is left.

        All are busy with sequences until the users are known; the tables, which one writes, come next.
        """
        left, writing = deque(self._by_size(partitions)), list[Future]()

        def more(parts: int) -> list[Future]:
            taken = [left.popleft() for _ in range(min(parts, len(left)))]
            found = [self.submit(write_and_clear, number, vocabulary, items) for number in taken]
            writing.extend(found)
            return found

        busy = set(more(2 * self.at_once))
        while left and not known.done():
            done, still = wait({known, *busy}, return_when=FIRST_COMPLETED)
            busy = (still - {known}) | set(more(len(done - {known})))
        table = self.submit(tables, vocabulary, known.result())
        more(len(left))
        clearing = self.submit(clear_events)
        written = [number for part in writing if (number := part.result()) is not None]
        clearing.result()
        return table.result(), written

    def _by_size(self, partitions: list[int]) -> list[int]:
        """Sorted partitions, the largest first."""
        return sorted(partitions, key=lambda number: -self.job.work.size(sorted_file(number)))

"""Rejected rows (dead letters): put together from all chunks, judged, and written.

A chunk knows how many lines it has, not how many are before it: here line numbers become those of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice

import pyarrow as pa

from behavior.errors import UserError
from behavior.features.coverage import check_coverage
from behavior.flow.preparation import Preparation
from behavior.flow.reading import ChunkReport
from behavior.shards.manifest import Coverage, FeatureCoverage, FileEntry
from behavior.shards.names import rejects_file
from behavior.sources.chunks import Plan
from behavior.sources.letters import letters_of, rejects_in, text_of
from behavior.sources.raw import Reject
from behavior.spec.dataset_spec import DatasetSpec
from behavior.wording import number_of

LettersOf = Callable[[ChunkReport], Iterable[pa.RecordBatch]]
"""The rejects of a chunk as its reader found them (`behavior.sources.letters`); a report may count fewer,
from the first on."""
_EXAMPLES = 3


@dataclass(frozen=True)
class ReadSummary:
    """What reading all chunks came to.

    Attributes:
        read, rejected, filtered: rows.
        files: of rejected rows, one an input file that has any.
        damaged: names of input files that could not be read to their end.
        coverage: of the groups of events that have features or a value.
    """

    read: int
    rejected: int
    filtered: int
    files: list[FileEntry]
    damaged: list[str]
    coverage: list[Coverage]


class AllReports:
    """The reports of all chunks, in the input's order, with the files that the plan had set aside.

    Args:
        plan: of the input.
        reports: of all its chunks, in any order.
        letters_of: gives the rejects of a chunk when they are needed: all may be more than fit memory.

    Attributes:
        read, rejected, filtered: rows of the whole input; a file that cannot be read at all is one.
        damaged: names of files that could not be read to their end.
        coverage: of the groups of events that have features or a value.
    """

    def __init__(self, plan: Plan, reports: Iterable[ChunkReport], letters_of: LettersOf) -> None:
        self._bad = plan.bad_files
        self._reports = _once_a_bad_file(sorted(reports, key=lambda report: report.chunk))
        self._letters_of = letters_of
        self.read = len(self._bad) + sum(report.read for report in self._reports)
        self.rejected = len(self._bad) + sum(report.rejected for report in self._reports)
        self.filtered = sum(report.filtered for report in self._reports)
        names = [file.name for file in self._bad] + [r.name for r in self._reports if r.damaged]
        self.damaged = list(dict.fromkeys(names))
        self.coverage = _coverage_of_events(self._reports)

    def rejects(self) -> Iterator[Iterator[Reject]]:
        """Rejects of each file that has any, lines counted from its start."""
        for letters in self._letters():
            yield self._placed(letters)

    def _letters(self) -> Iterator[Iterator[tuple[pa.RecordBatch, int]]]:
        """Of each file that has any, its dead letters, and how many lines are before those of each chunk."""
        for bad in self._bad:
            yield iter([(letters_of([bad.reject]), 0)])
        for _, chunks in groupby(self._reports, key=_file_of):
            own = list(chunks)
            if any(report.rejected for report in own):
                yield self._of_chunks(own)

    def _of_chunks(self, reports: list[ChunkReport]) -> Iterator[tuple[pa.RecordBatch, int]]:
        before = 0
        for report in reports:
            left = report.rejected
            for letters in self._letters_of(report) if left else ():
                if left:
                    yield letters.slice(0, left), before
                    left -= min(left, letters.num_rows)
            before += report.lines

    def _placed(self, letters: Iterator[tuple[pa.RecordBatch, int]]) -> Iterator[Reject]:
        for batch, before in letters:
            for reject in rejects_in(batch):
                in_lines = reject.row_group is None and reject.place  # 0 stands for the file as a whole
                yield reject._replace(place=reject.place + before) if in_lines else reject

    def check(self, spec: DatasetSpec, *, adding: bool = False) -> None:
        """Fail where too much was rejected, or nothing is left.

        Args:
            spec: the dataset spec.
            adding: to a data set that is there, to which nothing may be added.

        Raises:
            UserError: every row, or more than `max_rejects` of the spec, was rejected; or there is no event;
                or a feature has too few values (`min_coverage` of the spec).
        """
        if self.read or not adding:
            examples = islice(chain.from_iterable(self.rejects()), _EXAMPLES)
            check_rejects(spec, self.read, self.rejected, examples)
        if not adding and self.read == self.rejected + self.filtered:
            raise nothing_left(self.read, self.filtered)
        for coverage in self.coverage:
            files = ", ".join(spec.events[coverage.number - 1].files)
            check_coverage(coverage, spec.min_coverage, files, lambda feature: None)

    def write(self, preparation: Preparation) -> ReadSummary:
        """Write the rejects, a file of them for each input file, and sum up."""
        # A data set that is added to keeps the rejects it has.
        previous = preparation.previous
        first = previous.rejected_files if previous is not None else 0
        files = [
            preparation.writer.text_pieces(
                rejects_file(number), ((batch.num_rows, text_of(batch, before)) for batch, before in letters)
            )
            for number, letters in enumerate(self._letters(), start=first)
        ]
        return ReadSummary(self.read, self.rejected, self.filtered, files, self.damaged, self.coverage)


def check_rejects(spec: DatasetSpec, read: int, rejected: int, examples: Iterable[Reject]) -> None:
    """Fail where too many rows are bad.

    Raises:
        UserError: every row, or more than the share `max_rejects` of the spec, was rejected.
    """
    if read == 0:
        raise UserError("the log is empty: its files hold no events", fix="check 'files' in the spec")
    limit = spec.max_rejects if isinstance(spec.max_rejects, int) else spec.max_rejects * read
    if rejected <= limit and rejected < read:
        return
    shown = "; ".join(f"{reject.where}: {reject.reason}" for reject in examples)
    if rejected == read:
        raise UserError(
            "the only row was rejected" if read == 1 else f"every one of the {read:,} rows was rejected",
            where=shown,
            fix="correct the spec: it does not fit the files",
        )
    raise UserError(
        f"{rejected:,} of {number_of(read, 'row was', 'rows were')} rejected, more than max_rejects = "
        f"{spec.max_rejects:g} allows",
        where=shown,
        fix="correct the spec or the files, or set a larger max_rejects in the spec",
    )


def nothing_left(read: int, filtered: int) -> UserError:
    """The error for a log of which the filters leave nothing."""
    return UserError(
        f"no event is left: of {read:,} read, {filtered:,} were filtered out",
        fix="loosen 'filters' (or 'where') in the spec; where a time range filters, check timestamp_unit",
    )


def _coverage_of_events(reports: list[ChunkReport]) -> list[Coverage]:
    """Of each group of events that has any of the optional columns."""
    groups = groupby(reports, key=lambda report: report.chunk.source)  # reports are in the input's order
    found = []
    for group, chunks in groups:
        own = list(chunks)
        known: Counter[str] = Counter()
        for report in own:
            known.update(report.known)
        accepted = sum(report.read - report.rejected - report.filtered for report in own)
        features = [FeatureCoverage(name=name, known=known[name]) for name in known]
        if features:
            found.append(
                Coverage(table="events", number=group + 1, of=accepted, found=accepted, features=features)
            )
    return found


def _file_of(report: ChunkReport) -> tuple[int, int]:
    """By place in the spec rather than by path: a file may stand in two groups."""
    return report.chunk.source, report.chunk.file


def _once_a_bad_file(reports: list[ChunkReport]) -> list[ChunkReport]:
    """Reports of which only the first that finds a file unreadable counts a reject for it."""
    kept: list[ChunkReport] = []
    seen: set[tuple[int, int]] = set()
    for report in reports:
        file = _file_of(report)
        if report.unreadable and file in seen:
            # The last of its rejects, which is not read then.
            report = replace(report, read=report.read - 1, rejected=report.rejected - 1)
        if report.unreadable:
            seen.add(file)
        kept.append(report)
    return kept

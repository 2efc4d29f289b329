"""What became of rows and users: counts that add up, and dead letters with their reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from behavior.errors import UserError
from behavior.shards.manifest import FileEntry
from behavior.shards.names import rejects_file
from behavior.shards.storage import Folder
from behavior.shards.write import write_lines
from behavior.sources.chunks import Chunk
from behavior.sources.raw import Reject
from behavior.wording import number_of

_EXAMPLES = 3


@dataclass(frozen=True)
class Problem:
    """The first row of a chunk that was rejected, as the user's error."""

    what: str
    fix: str | None
    place: int
    row_group: int | None


@dataclass(frozen=True)
class ReadReport:
    """What reading a chunk came to.

    Attributes:
        chunk: which one.
        name: how messages name its file.
        read, rejected: rows.
        lines: of the chunk, which are added to the lines of the chunks after it.
        first: the first that was rejected.
    """

    chunk: Chunk
    name: str
    read: int
    rejected: int
    lines: int
    first: Problem | None = None


@dataclass(frozen=True)
class PartReport:
    """What became of the users of a part.

    Attributes:
        part: its number.
        entry: its file; None where there are no rows.
        users: `answered + empty + rejected`.
        empty: for whom there was nothing.
        rejected: of whom every row was rejected.
        counts: what else the scorer counted.
    """

    part: int
    entry: FileEntry | None
    users: int
    answered: int
    empty: int
    rejected: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Totals:
    """What reading came to.

    Attributes:
        read, rejected: rows.
        files: of rejected rows, one an input file that has any.
    """

    read: int = 0
    rejected: int = 0
    files: list[FileEntry] = field(default_factory=list)


RejectsOf = Callable[[ReadReport], Iterable[Reject]]


def rejects_name(chunk: Chunk) -> str:
    """File of the working folder with the rejects of a chunk, lines counted from its start."""
    return f"rejects/{chunk.file:06d}-{chunk.number:06d}.jsonl"


def placed(reports: Sequence[ReadReport], rejects_of: RejectsOf) -> Iterator[tuple[int, Iterator[Reject]]]:
    """File number and rejects of each file that has any, lines counted from its start.

    Args:
        reports: of all chunks, in order.
        rejects_of: gives those of a chunk when they are needed.
    """
    for file, chunks in groupby(reports, key=lambda report: report.chunk.file):
        own = list(chunks)
        if any(report.rejected for report in own):
            yield file, _of_file(own, rejects_of)


def _of_file(reports: list[ReadReport], rejects_of: RejectsOf) -> Iterator[Reject]:
    before = 0
    for report in reports:
        if report.rejected:
            for reject in rejects_of(report):
                text = reject.row_group is None
                yield reject._replace(place=reject.place + before) if text else reject
        before += report.lines


def judge(reports: Sequence[ReadReport], limit: int | float, where: str, rejects_of: RejectsOf) -> None:
    """Fail where there is nothing, or where more was rejected than may be.

    Args:
        reports: of all chunks, in order.
        limit: rows that may be rejected: a number, or a share. Where none may, the first one is the error.
        where: the input.
        rejects_of: gives those of a chunk.

    Raises:
        UserError: there are no rows, none of them is any good, or too many are not.
    """
    read, rejected = sum(report.read for report in reports), sum(report.rejected for report in reports)
    if not read:
        raise UserError("there are no histories", where=where, fix="name a file that has rows")
    may = limit if isinstance(limit, int) else limit * read
    if rejected <= may and rejected < read:
        return
    if not limit:
        raise _first(reports)
    some: list[str] = []
    for _, rejects in placed(reports, rejects_of):
        for reject in rejects:
            some.append(f"{reject.where}: {reject.reason}")
            if len(some) == _EXAMPLES:
                break
        if len(some) == _EXAMPLES:
            break
    share = f"more than --max-rejects {limit:g} allows" if rejected > may else "which are all"
    raise UserError(
        f"{rejected:,} of {number_of(read, 'row was', 'rows were')} rejected, {share}",
        where="; ".join(some),
        fix="correct the files, or set a larger --max-rejects" if rejected > may else "correct the files",
    )


def _first(reports: Sequence[ReadReport]) -> UserError:
    before: Counter[int] = Counter()
    for report in reports:
        if report.first is not None:
            first = report.first
            line = first.place + before[report.chunk.file]
            where = f"{report.name} line {line}"
            if first.row_group is not None:
                where = f"{report.name} row {first.place} of row group {first.row_group}"
            return UserError(first.what, where=where, fix=first.fix)
        before[report.chunk.file] += report.lines
    raise AssertionError("nothing was rejected")


def write_rejects(folder: Folder, reports: Sequence[ReadReport], rejects_of: RejectsOf) -> list[FileEntry]:
    """Write the dead letters, a file of JSON lines for each input file that has any."""
    return [
        write_lines((reject.to_json() for reject in rejects), folder, rejects_file(number))
        for number, (_, rejects) in enumerate(placed(reports, rejects_of))
    ]

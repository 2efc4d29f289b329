"""Planning: files are looked at once, then cut into chunks that can be read side by side."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

from behavior.errors import UserError
from behavior.sources.blocks import compression_of
from behavior.sources.damage import UnreadableFileError
from behavior.sources.files import InputFile, expand
from behavior.sources.look import columns_of_parquet, integers_of_parquet, look_at_text
from behavior.sources.parquet import open_parquet, row_group_sizes
from behavior.sources.raw import Reject
from behavior.spec.dataset_spec import DatasetSpec, EventSource, FeatureTable

CHUNK_BYTES = 64 << 20
OPEN_BYTES = 16 << 10
"""What opening a file weighs beside its bytes when small files are put together."""
# Footers of remote files are waited for, not computed.
_LOOKS_AT_ONCE = 8

__all__ = ["BadFile", "Chunk", "FileParts", "InputFile", "Plan", "expand", "plan_input"]


@dataclass(frozen=True, order=True)
class Chunk:
    """A part of one input file; chunks in sorted order give the input's order.

    Attributes:
        source: index of the group of event files in the spec.
        file: index of the file within the group.
        number: index of the chunk within the file.
        path: the file.
        start, end: byte range of plain text files (whole lines that begin there), or row groups of Parquet.
            end is None for a file that is read as a whole: a compressed one, or one whose fields may hold
            line feeds.
        bytes: size in the file; of Parquet, unpacked.
    """

    source: int
    file: int
    number: int
    path: str
    start: int
    end: int | None
    bytes: int = 0


@dataclass(frozen=True)
class FileParts:
    """What is known of one good file before it is cut.

    Attributes:
        source, file, path: see `Chunk`.
        size: bytes of the file.
        whole: whether it must be read as a whole.
        groups: of Parquet, the bytes of each row group, unpacked.
    """

    source: int
    file: int
    path: str
    size: int
    whole: bool = False
    groups: tuple[int, ...] | None = None

    def cut(self, chunk_bytes: int) -> list[Chunk]:
        """Chunks of about `chunk_bytes`, in the order of the file."""
        if self.whole:
            return [Chunk(self.source, self.file, 0, self.path, 0, None, self.size)] if self.size else []
        bounds = [*range(0, self.size, chunk_bytes), self.size]
        if self.groups is not None:
            bounds = [0, *_group_bounds(self.groups, chunk_bytes), len(self.groups)]
        return [
            Chunk(
                self.source,
                self.file,
                number,
                self.path,
                start,
                end,
                end - start if self.groups is None else sum(self.groups[start:end]),
            )
            for number, (start, end) in enumerate(itertools.pairwise(bounds))
            if end > start
        ]


@dataclass(frozen=True)
class BadFile:
    """A file that was set aside before anything was read of it.

    Attributes:
        path: the file.
        name: how messages name it.
        source: index of the group of event files in the spec.
        file: index of the file within the group.
        reason: what is wrong with it.
    """

    path: str
    name: str
    source: int
    file: int
    reason: str

    @property
    def reject(self) -> Reject:
        """The one reject that stands for the file, at line 0."""
        return Reject(self.name, 0, self.reason, "")


@dataclass(frozen=True)
class Plan:
    """What there is to read."""

    parts: list[FileParts]
    """The good event files, in the input's order."""
    files: list[InputFile]
    """All input files, tables and bad ones included."""
    bytes: int
    """Size of all event files."""
    user_type: str
    """integer or string."""
    item_type: str
    digest: str
    """SHA-256 of the names, sizes and modification times of all input files, tables included."""
    chunk_bytes: int = CHUNK_BYTES
    """Rough size of chunks and of groups of chunks."""
    bad_files: list[BadFile] = field(default_factory=list)
    """Event files that are set aside; more may be found where files are read."""

    @cached_property
    def names(self) -> dict[str, str]:
        """Path -> how messages name the file."""
        return {file.path: file.name for file in self.files}

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All there is to read, in the input's order."""
        return [chunk for part in self.parts for chunk in part.cut(self.chunk_bytes)]

    @cached_property
    def chunk_groups(self) -> list[list[Chunk]]:
        """The chunks in their order, neighbors put together to about `chunk_bytes`."""
        return list(_put_together(self.chunks, self.chunk_bytes))

    def with_chunk_bytes(self, chunk_bytes: int) -> Plan:
        """The same input cut anew, without another look at it."""
        return replace(self, chunk_bytes=chunk_bytes)


def plan_input(
    spec: DatasetSpec, base: str, chunk_bytes: int = CHUNK_BYTES, *, skip_bad_files: bool = False
) -> Plan:
    """Find the input files of a spec, check that they look as the spec says, and cut them into chunks.

    No file is opened twice. Of each group of text files only the first is, since they are thousands at times;
    of Parquet all are, since row groups stand in the footer.

    Args:
        spec: the dataset spec.
        base: folder its paths are relative to.
        chunk_bytes: rough size of the chunks.
        skip_bad_files: set event files aside that cannot be read or do not look as the spec says, as long as
            some file of their group does.

    Raises:
        UserError: a file or column is missing, a separator does not split, or a log is empty.
    """
    groups = [_look_at_group(spec, base, number, skip_bad_files) for number in range(len(spec.events))]
    files = [file for group in groups for file in group.files]
    total = sum(file.size for file in files)
    for table in (*spec.items, *spec.users):
        files.extend(_look_at_table(table, base))
    if not total:
        raise UserError(
            "the log is empty: its files hold no bytes", where=", ".join(f.name for f in files[:3])
        )
    record = [[file.name, file.size, file.modified] for file in files]
    return Plan(
        parts=[part for group in groups for part in group.parts],
        files=files,
        bytes=total,
        user_type=_id_type(spec, groups, "user"),
        item_type=_id_type(spec, groups, "item"),
        digest=hashlib.sha256(json.dumps(record).encode()).hexdigest(),
        chunk_bytes=chunk_bytes,
        bad_files=[bad for group in groups for bad in group.bad],
    )


@dataclass
class _Group:
    """A group of event files after the look.

    `integers` are the columns that hold integers in every good Parquet file; none of other formats.
    """

    files: list[InputFile]
    parts: list[FileParts]
    integers: set[str]
    bad: list[BadFile]


def _look_at_group(spec: DatasetSpec, base: str, number: int, skip: bool) -> _Group:
    source = spec.events[number]
    # A group without files is of a data set that is added to, where other groups have new files.
    files = expand(source, base) if source.files else []
    looks = _look_at_parquet if source.kind == "parquet" else _look_at_first_texts
    group = _Group(files, [], set(source.needed_columns()) if source.kind == "parquet" else set(), [])
    problem: UnreadableFileError | None = None
    for index, (file, look) in enumerate(zip(files, looks(source, files), strict=True)):
        if isinstance(look, UnreadableFileError):
            problem = problem or look
            if not skip:
                raise look.with_hint() if len(files) > 1 else look
            reason = look.reject(file.path, file.name).reason
            group.bad.append(BadFile(file.path, file.name, number, index, reason))
            continue
        whole = source.multiline or compression_of(file.path, source.compression) is not None
        part = FileParts(number, index, file.path, file.size, whole)
        group.parts.append(part if look is None else replace(part, whole=False, groups=look.groups))
        if look is not None:
            group.integers &= look.integers
    if problem is not None and not any(part.size for part in group.parts):
        raise problem.without_hint()  # all of them: rather the spec is wrong
    return group


@dataclass(frozen=True)
class _Footer:
    groups: tuple[int, ...]
    integers: set[str]


def _look_at_parquet(source: EventSource, files: list[InputFile]) -> Iterator[_Footer | UnreadableFileError]:
    wanted = source.needed_columns()

    def look(file: InputFile) -> _Footer | UnreadableFileError:
        try:
            with open_parquet(file.path) as parquet:
                columns_of_parquet(parquet, source, wanted, file.path, set())
                return _Footer(row_group_sizes(parquet, file.path), integers_of_parquet(parquet, wanted))
        except UnreadableFileError as error:
            return error

    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        yield from pool.map(look, files)


def _look_at_first_texts(source: EventSource, files: list[InputFile]) -> Iterator[UnreadableFileError | None]:
    """Look at files until one is good and not empty; the others are looked at when they are read."""
    wanted, seen = source.needed_columns(), False
    for file in files:
        problem = None
        if not seen and file.size:
            try:
                look_at_text(source, wanted, file.path)
                seen = True
            except UnreadableFileError as error:
                problem = error
        yield problem


def _look_at_table(table: FeatureTable, base: str) -> list[InputFile]:
    """Check the first file of a table; a table cannot be set aside."""
    files = expand(table, base)
    wanted = [] if table.kind == "json_map" else [table.id, *(f.source_column for f in table.features)]
    columns = list(dict.fromkeys(name for name in wanted if name))
    lists = {feature.source_column for feature in table.features if feature.kind == "multi_categorical"}
    path = files[0].path
    try:
        if table.kind == "parquet":
            with open_parquet(path) as parquet:
                columns_of_parquet(parquet, table, columns, path, lists)
        elif files[0].size and table.kind != "json_map":
            look_at_text(table, columns, path)
    except UnreadableFileError as error:
        raise error.without_hint() from error
    return files


def _group_bounds(groups: tuple[int, ...], chunk_bytes: int) -> Iterator[int]:
    """Where chunks begin, the first left out."""
    size = 0
    for number, group_bytes in enumerate(groups):
        if size and size + group_bytes > chunk_bytes:
            yield number
            size = 0
        size += group_bytes


def _put_together(chunks: list[Chunk], group_bytes: int) -> Iterator[list[Chunk]]:
    group: list[Chunk] = []
    size = 0
    for chunk in chunks:
        weight = chunk.bytes + OPEN_BYTES
        if group and size + weight > group_bytes + OPEN_BYTES:
            yield group
            group, size = [], 0
        group.append(chunk)
        size += weight
    if group:
        yield group


def _id_type(spec: DatasetSpec, groups: list[_Group], role: str) -> str:
    setting = getattr(spec.id_types, role)
    if setting != "auto":
        return str(setting)
    columns = [getattr(source.columns, role) for source in spec.events]
    whole = all(column in group.integers for column, group in zip(columns, groups, strict=True))
    return "integer" if whole else "string"

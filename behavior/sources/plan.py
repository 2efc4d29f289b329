"""Planning: the files of a spec are found, and looked at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from behavior.errors import UserError
from behavior.sources.blocks import compression_of
from behavior.sources.chunks import CHUNK_BYTES, BadFile, FileParts, Plan
from behavior.sources.damage import UnreadableFileError
from behavior.sources.files import InputFile, expand
from behavior.sources.look import columns_of_parquet, integers_of_parquet, look_at_text
from behavior.sources.parquet import open_parquet, row_group_sizes
from behavior.spec.dataset_spec import DatasetSpec, EventSource, FeatureTable

# Footers of remote files are waited for, not computed.
_LOOKS_AT_ONCE = 8


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
                columns_of_parquet(parquet, source, wanted, file.path, set(source.list_columns))
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
    columns = table.needed_columns()
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


def _id_type(spec: DatasetSpec, groups: list[_Group], role: str) -> str:
    setting = getattr(spec.id_types, role)
    if setting != "auto":
        return str(setting)
    columns = [getattr(source.columns, role) for source in spec.events]
    whole = all(column in group.integers for column, group in zip(columns, groups, strict=True))
    return "integer" if whole else "string"

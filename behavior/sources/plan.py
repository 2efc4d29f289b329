"""Planning: globs become files, files become chunks that can be read side by side."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

import fsspec
import pyarrow as pa

from behavior.errors import UserError
from behavior.sources.blocks import compression_of, first_line, is_empty, iter_blocks
from behavior.sources.delimited import columns_of_header
from behavior.sources.parquet import open_parquet
from behavior.spec import DatasetSpec, EventSource, FileFormat

CHUNK_BYTES = 64 << 20


@dataclass(frozen=True, order=True)
class Chunk:
    """A part of one input file; chunks in sorted order give the input's order.

    Attributes:
        source: index of the group of event files in the spec.
        file: index of the file within the group.
        number: index of the chunk within the file.
        path: the file.
        start, end: byte range of plain text files (whole lines that begin there), or row groups of Parquet.
            end is None for a compressed file, which is read as a whole.
    """

    source: int
    file: int
    number: int
    path: str
    start: int
    end: int | None


@dataclass(frozen=True)
class InputFile:
    """One file of the input."""

    path: str
    name: str
    """Relative to the input folder, for messages and digests."""
    size: int
    modified: str


@dataclass(frozen=True)
class Plan:
    """What there is to read."""

    chunks: list[Chunk]
    files: list[InputFile]
    bytes: int
    """Size of all event files."""
    user_type: str
    """integer or string."""
    item_type: str
    digest: str
    """SHA-256 of the names, sizes and modification times of all input files, tables included."""

    @cached_property
    def names(self) -> dict[str, str]:
        """Path -> how messages name the file."""
        return {file.path: file.name for file in self.files}


def plan_input(spec: DatasetSpec, base: str, chunk_bytes: int = CHUNK_BYTES) -> Plan:
    """Find the input files of a spec, check that the first of each group looks as the spec says, cut chunks.

    Raises:
        UserError: a file or column is missing, a separator does not split, or a log is empty.
    """
    chunks: list[Chunk] = []
    files: list[InputFile] = []
    for number, source in enumerate(spec.events):
        found = expand(source, base)
        files.extend(found)
        check_columns(source, source.needed_columns(), found[0].path)
        _check_keys(source, found[0].path)
        for index, file in enumerate(found):
            chunks.extend(_cut(number, index, source, file, chunk_bytes))
    total = sum(file.size for file in files)
    for table in (*spec.items, *spec.users):
        found = expand(table, base)
        wanted = [] if table.kind == "json_map" else [table.id, *(f.source_column for f in table.features)]
        check_columns(table, [name for name in wanted if name], found[0].path)
        files.extend(found)
    if not total:
        raise UserError(
            "the log is empty: its files hold no bytes", where=", ".join(f.name for f in files[:3])
        )
    record = [[file.name, file.size, file.modified] for file in files]
    digest = hashlib.sha256(json.dumps(record).encode()).hexdigest()
    return Plan(chunks, files, total, _id_type(spec, base, "user"), _id_type(spec, base, "item"), digest)


def expand(form: FileFormat, base: str) -> list[InputFile]:
    """The files a list of paths and globs stands for: in the order of the list, globs sorted by name.

    Raises:
        UserError: a path or glob stands for nothing.
    """
    found: dict[str, InputFile] = {}
    for pattern in form.files:
        full = pattern if "://" in pattern or pattern.startswith("/") else f"{base.rstrip('/')}/{pattern}"
        try:
            filesystem, path = fsspec.core.url_to_fs(full)
        except (ImportError, ValueError) as error:
            raise UserError(f"'{full}' cannot be looked up: {error}", where="files of the spec") from None
        is_glob = any(mark in path for mark in "*?[") and not filesystem.exists(path)
        paths = sorted(filesystem.glob(path)) if is_glob else [path]
        paths = [p for p in paths if filesystem.isfile(p)]
        if not paths:
            what = f"no file matches '{pattern}'" if is_glob else f"there is no file '{full}'"
            raise UserError(
                what, where=f"files of the spec, looked up in {base}", fix=_near_files(filesystem, path)
            )
        for each in paths:
            info = filesystem.info(each)
            modified = info.get("mtime") or info.get("updated") or info.get("LastModified") or ""
            url = filesystem.unstrip_protocol(each) if "://" in full else each
            found.setdefault(url, InputFile(url, _relative(url, base), int(info["size"]), str(modified)))
    return list(found.values())


def _relative(path: str, base: str) -> str:
    try:
        return str(PurePosixPath(path).relative_to(fsspec.core.url_to_fs(base)[1]))
    except ValueError:
        return path


def _near_files(filesystem: fsspec.AbstractFileSystem, path: str) -> str:
    folder = path.rpartition("/")[0]
    try:
        there = [entry.rpartition("/")[2] for entry in filesystem.ls(folder, detail=False)]
    except (OSError, ValueError):
        return f"there is no folder '{folder}' either; check the paths, or --input"
    return f"the folder has: {', '.join(sorted(there)[:10])}" if there else f"the folder '{folder}' is empty"


def _cut(source: int, index: int, form: EventSource, file: InputFile, chunk_bytes: int) -> list[Chunk]:
    if form.kind == "parquet":
        with open_parquet(file.path) as parquet:
            groups = [parquet.metadata.row_group(n).total_byte_size for n in range(parquet.num_row_groups)]
        bounds, size = [0], 0
        for number, group_bytes in enumerate(groups):
            if size and size + group_bytes > chunk_bytes:
                bounds.append(number)
                size = 0
            size += group_bytes
        bounds.append(len(groups))
    elif compression_of(file.path, form.compression) is not None:
        return [Chunk(source, index, 0, file.path, 0, None)]
    else:
        bounds = [*range(0, file.size, chunk_bytes), file.size]
    return [
        Chunk(source, index, number, file.path, start, end)
        for number, (start, end) in enumerate(itertools.pairwise(bounds))
        if end > start
    ]


def file_columns(form: FileFormat, path: str) -> list[str] | None:
    """Columns of a file; None where the format has none (sequences, json_map, JSON lines).

    Raises:
        UserError: the file cannot be read.
    """
    if form.kind == "parquet":
        with open_parquet(path) as parquet:
            return list(parquet.schema_arrow.names)
    if form.kind != "csv":
        return None
    if form.names:
        return form.names
    line = first_line(path, compression_of(path, form.compression), form.encoding)
    return columns_of_header(line, form.field_separator, form.quote, path)


def check_columns(form: FileFormat, wanted: list[str], path: str) -> None:
    """Check that a file has the wanted columns and that its separator splits.

    Raises:
        UserError: naming the columns that are there.
    """
    columns = file_columns(form, path)
    if columns is None:
        return
    if form.kind == "csv":
        if not columns and is_empty(path, compression_of(path, form.compression)):
            return  # an empty file among others is no error; an empty log is found later
        _check_separator(form, columns, path)
    for name in wanted:
        if name not in columns:
            raise UserError(
                f"there is no column '{name}'; the file has: {', '.join(columns)}",
                where=path,
                fix=f"correct {_where_columns_stand(form)} in the spec",
            )


def _where_columns_stand(form: FileFormat) -> str:
    keys = ["'columns' or 'behavior'" if isinstance(form, EventSource) else "'id' or the features"]
    return " or ".join(keys if form.header else ["'names'", *keys])


def _check_keys(form: EventSource, path: str) -> None:
    """JSON lines need not all have the same keys; but a key that no line has is misspelt."""
    if form.kind != "jsonl":
        return
    found: set[str] = set()
    block = next(iter_blocks(path, compression_of(path, form.compression), block_bytes=1 << 18), b"")
    for line in block.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # bad lines are rejected where they are read
        found |= set(record) if isinstance(record, dict) else set()
    for name in form.needed_columns():
        if found and name not in found:
            raise UserError(
                f"no line has the key '{name}'; there are: {', '.join(sorted(found))}",
                where=path,
                fix="correct 'columns' in the spec",
            )


def _check_separator(form: FileFormat, columns: list[str], path: str) -> None:
    line = first_line(path, compression_of(path, form.compression), form.encoding)
    if not line:
        return
    if len(columns) > 1 and form.field_separator not in line:
        raise UserError(
            f"the separator {form.field_separator!r} does not split the first line: {line[:200]!r}",
            where=path,
            fix="set 'separator' in the spec" + _likely_separator(line),
        )
    if form.header and len(columns) == 1:
        raise UserError(
            f"the separator {form.field_separator!r} does not split the header: {line[:200]!r}",
            where=path,
            fix="set 'separator' in the spec" + _likely_separator(line),
        )


def _likely_separator(line: str) -> str:
    likely = max(("::", "\t", ";", ",", "|", " "), key=lambda mark: (line.count(mark), len(mark)))
    return f"; {likely!r} looks likely" if likely in line else ""


def _id_type(spec: DatasetSpec, base: str, role: str) -> str:
    setting = getattr(spec.id_types, role)
    if setting != "auto":
        return str(setting)
    for source in spec.events:
        if source.kind != "parquet":
            return "string"
        with open_parquet(expand(source, base)[0].path) as parquet:
            kind = parquet.schema_arrow.field(getattr(source.columns, role)).type
        value = kind.value_type if pa.types.is_dictionary(kind) else kind
        if not pa.types.is_integer(value):
            return "string"
    return "integer"

"""Files of histories: which there are, what columns they have, and their rows.

They are Parquet, JSON lines or delimited text, by their names; a row is an event, or a user with lists.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from behavior.arrow.values import parse_integers, parse_text
from behavior.config import nearest
from behavior.errors import UserError
from behavior.shards.remote import open_system, storage_errors
from behavior.sources.blocks import TextFile, compression_of, iter_blocks
from behavior.sources.chunks import Chunk, FileParts
from behavior.sources.damage import DamagedFileError, UnreadableFileError
from behavior.sources.delimited import NOT_CLOSED
from behavior.sources.jsonl import AN_EVENT_EACH
from behavior.sources.kinds import KINDS, kind_of
from behavior.sources.look import columns_of_text
from behavior.sources.parquet import open_parquet, row_group_sizes
from behavior.sources.raw import RawBatch
from behavior.sources.read import read_chunk
from behavior.spec.dataset_spec import FileFormat

USER, ITEM = "user", "item"
NO_USER = "a row has no user"
_LISTED = (ITEM, "behavior", "timestamp", "domain")
_LOOKS_AT_ONCE = 8
_FIRST_BYTES = 1 << 20


@dataclass(frozen=True)
class HistoryColumns:
    """Columns of histories."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    """Of the optional ones, features of events: lists, where rows are users with lists."""
    several: tuple[tuple[str, str | None], ...] = ()
    """Of the optional ones, those of which a user may have several values, and what separates these."""

    def check(self, names: Sequence[str], where: str) -> None:
        """
        Raises:
            UserError: one is missing; says which there are.
        """
        for name in self.needed:
            if name not in names:
                close = nearest(name, names)
                hint = f"did you mean '{close}'? " if close else ""
                raise UserError(
                    f"there is no column '{name}', only {', '.join(names) or 'none at all'}",
                    where=where,
                    fix=f"{hint}histories have the columns {', '.join(self.needed)}",
                )


@dataclass(frozen=True)
class HistoryFile:
    """One file of histories.

    Attributes:
        path: local, or a URL.
        name: how messages name it.
        size: in bytes.
        modified: when, as its file system says.
        groups: of Parquet, the bytes of each row group, uncompressed.
        integers: whether its users are integers, as of Parquet they may be.
    """

    path: str
    name: str
    size: int
    modified: str
    groups: tuple[int, ...] | None = None
    integers: bool = False

    @property
    def kind(self) -> str:
        """parquet, jsonl, csv or tsv."""
        return kind_of(self.path, self.name)

    @property
    def form(self) -> FileFormat:
        """How it is written."""
        kind = self.kind
        return FileFormat.model_validate(
            {"files": [self.path], "format": "csv", "separator": "\t" if kind == "tsv" else ","}
            if kind in ("csv", "tsv")
            else {"files": [self.path], "format": kind}
        )

    def chunks(self, number: int, chunk_bytes: int) -> list[Chunk]:
        """Parts that can be read on their own.

        Args:
            number: of the file among all.
            chunk_bytes: rough size of them.
        """
        compressed = self.kind != "parquet" and compression_of(self.path, "auto") is not None
        return FileParts(0, number, self.path, self.size, compressed, self.groups).cut(chunk_bytes)


def find_histories(given: str, columns: HistoryColumns, flag: str = "--histories") -> list[HistoryFile]:
    """The files of a path, a folder (with all that is in it), a glob or a URL, in order of their names.

    Hidden files (a dot or an underscore before the name) of folders and globs are passed over. All Parquet
    files are looked at, of the others the first that is not empty.

    Raises:
        UserError: there are none; one cannot be told what it is, or read, or lacks a column.
    """
    files = [HistoryFile(path, name, size, modified) for path, name, size, modified in _listed(given, flag)]
    for file in files:
        kind_of(file.path, flag)
    if len(files) == 1 and not files[0].size and files[0].kind != "jsonl":
        raise UserError("the file is empty", where=files[0].name, fix="name a file that has rows")
    for file in files:
        if file.kind != "parquet" and file.size:
            _columns_in(file, columns)
            break
    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        return list(pool.map(lambda file: _looked_at(file, columns), files))


def read_history_rows(file: HistoryFile, chunk: Chunk, columns: HistoryColumns) -> Iterator[RawBatch]:
    """The rows of a chunk, in the order of the file.

    Yields:
        batches with those columns that are there. Of text all values are text; lists are lists of text. What
        cannot be read is among `rejects`.

    Raises:
        UserError: the file cannot be read at all, or lacks a column.
    """
    if not file.size:
        return
    names, lists = _columns_in(file, columns)
    wanted = [name for name in (*columns.needed, *columns.optional) if name in names]
    listed: dict[str, str | None] = {name: mark for name, mark in columns.several if name in wanted}
    if lists:
        listed |= {name: AN_EVENT_EACH for name in (*_LISTED, *columns.features) if name in wanted}
    try:
        yield from read_chunk(file.form, chunk, wanted, listed)
    except UnreadableFileError as error:
        raise _unreadable(file, error.without_hint()) from error


def users_of(batch: RawBatch, *, integers: bool) -> tuple[pa.Array, pa.Array]:
    """[rows] the users of a batch, null where there is none; and whether there is one.

    Args:
        batch: of rows.
        integers: as int64, else as text.
    """
    column = batch.columns[USER]
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values, good = parse_integers(column) if integers else parse_text(column)
    return values, pa.array(good)


def refusal(kind: str, reason: str) -> tuple[str, str]:
    """What is said, and what is to be done, where a row cannot be read and none may be left out."""
    fix = "check the file"
    if reason == NOT_CLOSED:
        fix += "; where a value has a line break, give the histories as JSON lines or Parquet"
    return f"it cannot be read as {kind}: {reason}", fix


def has_lists(schema: pa.Schema) -> bool:
    """Whether rows of histories are users with lists, and not single events."""
    kind = schema.field(ITEM).type
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _unreadable(file: HistoryFile, error: UserError) -> UserError:
    what = error.what.replace(file.path, file.name)
    if what.startswith("there is no column"):
        return error
    said, fix = refusal(file.kind, what)
    return UserError(said, where=file.name, fix=fix)


def _listed(given: str, flag: str) -> list[tuple[str, str, int, str]]:
    """Path, name, size and time of each file."""
    system, path = open_system(given)
    remote = "://" in given and not given.startswith(("file://", "local://"))
    try:
        with storage_errors():
            is_glob = any(mark in path for mark in "*?[") and not system.exists(path)
            if is_glob:
                found = system.glob(path, detail=True)
                fixed = path[: min(path.find(mark) for mark in "*?[" if mark in path)].rpartition("/")[0]
            elif system.isdir(path):
                found, fixed = system.find(path, detail=True), path.rstrip("/")
            else:
                found, fixed = {path: system.info(path)}, ""
    except FileNotFoundError:
        raise UserError(f"there is no file '{given}'", where=flag, fix="check the path") from None
    except OSError as error:
        raise UserError(
            f"'{given}' cannot be read: {error.strerror or error}", where=flag, fix="check the permissions"
        ) from None
    files = []
    for each, info in sorted(found.items()):
        inner = each.removeprefix(fixed).lstrip("/") if fixed else given
        if info["type"] == "directory" or (fixed and _is_hidden(inner)):
            continue
        if info["type"] != "file":
            raise UserError(f"'{given}' cannot be read: it is not a file", where=flag, fix="name a file")
        modified = info.get("mtime") or info.get("updated") or info.get("LastModified") or ""
        url = system.unstrip_protocol(each) if remote else each
        files.append((url, inner, int(info["size"] or 0), str(modified)))
    if not files:
        what = f"no file matches '{given}'" if is_glob else f"the folder '{given}' has no files"
        raise UserError(what, where=flag, fix=f"name files that end in {', '.join(KINDS)}")
    return files


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)


def _looked_at(file: HistoryFile, columns: HistoryColumns) -> HistoryFile:
    if file.kind != "parquet":
        return file
    try:
        with open_parquet(file.path) as parquet:
            schema = parquet.schema_arrow
            columns.check(schema.names, file.name)
            kind = schema.field(USER).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            groups = row_group_sizes(parquet, file.path)
    except UnreadableFileError as error:
        raise _unreadable(file, error.without_hint()) from error
    return HistoryFile(
        file.path, file.name, file.size, file.modified, groups, integers=pa.types.is_integer(kind)
    )


def _columns_in(file: HistoryFile, columns: HistoryColumns) -> tuple[list[str], bool]:
    """The columns that a file has, and whether they hold lists."""
    try:
        if file.kind == "parquet":
            with open_parquet(file.path) as parquet:
                schema = parquet.schema_arrow
            names = list(schema.names)
            columns.check(names, file.name)
            return names, has_lists(schema)
        with TextFile(file.path, compression_of(file.path, "auto")) as text:
            if file.kind == "jsonl":
                names, lists = _keys(text)
                if names:
                    columns.check(names, file.name)
                # Lines need not have all keys.
                return [*columns.needed, *columns.optional], lists
            header = columns_of_text(text, file.form, [])
            columns.check(header, file.name)
            _refuse_lists(text, header, file)
            return header, False
    except UnreadableFileError as error:
        raise _unreadable(file, error.without_hint()) from error


def _refuse_lists(text: TextFile, header: Sequence[str], file: HistoryFile) -> None:
    """Lists written as text would be one unknown item each."""
    line = text.peek_line().decode(errors="replace")
    row = next(csv.reader([line], delimiter=file.form.field_separator), [])
    cell = dict(zip(header, row, strict=False)).get(ITEM, "").strip()
    if not cell.startswith("["):
        return
    try:
        found: Any = json.loads(cell.replace("'", '"'))
    except (ValueError, RecursionError):
        return
    if isinstance(found, list):
        raise UserError(
            f"the first row has a list of items, and a row of {file.kind} is one event",
            where=file.name,
            fix="give each event a row, or lists as JSON lines or Parquet",
        )


def _keys(text: TextFile) -> tuple[list[str], bool]:
    """Keys of the first JSON lines, and whether `item` has lists in them."""
    try:
        block = next(iter_blocks(text, None, block_bytes=_FIRST_BYTES), b"")
    except DamagedFileError:
        return [], False  # reading says so
    names: dict[str, None] = {}
    for line in block.split(b"\n"):
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            names |= dict.fromkeys(record)
            if record.get(ITEM) is not None:
                return list(names), isinstance(record[ITEM], list)
    return list(names), False

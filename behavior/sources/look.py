"""A look at files before they are read: whether they can be, and have what the spec says."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

from behavior.sources.blocks import UTF8_BOM, TextFile, compression_of, iter_blocks
from behavior.sources.damage import SKIP_HINT, DamagedFileError, UnreadableFileError
from behavior.sources.delimited import columns_of_header
from behavior.sources.files import expand
from behavior.sources.nested import keys_in
from behavior.sources.parquet import check_flat, check_instants
from behavior.sources.rows import quoted_rows
from behavior.spec.dataset_spec import EventSource, FileFormat

_KEYS_BYTES = 1 << 18
_HEADER_BYTES = 1 << 20
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def look_at_text(form: FileFormat, wanted: list[str], path: str) -> None:
    """Check that a text file has the wanted columns, and that its separator splits.

    Raises:
        UnreadableFileError: naming the columns that are there, or saying why the file cannot be read.
    """
    with TextFile(path, compression_of(path, form.compression)) as file:
        columns_of_text(file, form, wanted)
        if form.kind == "jsonl":
            _check_keys(file, wanted, isinstance(form, EventSource))


def columns_of_text(file: TextFile, form: FileFormat, wanted: list[str]) -> list[str]:
    """The columns of an open file, which is left behind its header; none of an empty file.

    Formats whose lines have no columns in order, such as JSON lines, give `wanted`.

    Raises:
        UnreadableFileError: the header does not decode or lacks a wanted column, or the separator does not
            split.
    """
    line = file.peek_line()
    if line[:2] in _UTF16_MARKS and form.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
        raise UnreadableFileError(
            f"'{file.path}' is UTF-16, which cannot be read", fix=f"convert it to UTF-8; {SKIP_HINT}"
        )
    if form.kind != "csv":
        return wanted
    if not line:
        return []
    if not form.header:
        assert form.names is not None
        columns = form.names
    else:
        columns = columns_of_header(_header(file, form), form.field_separator, form.quote, file.path)
    _check_separator(form, columns, line, file.path)
    check_columns(form, columns, wanted, file.path)
    return columns


def columns_of_parquet(
    file: pq.ParquetFile, form: FileFormat, wanted: list[str], path: str, lists: set[str]
) -> None:
    """Check that a Parquet file has the wanted columns, with single values, and instants for timestamps.

    Raises:
        UnreadableFileError: naming the columns that are there.
    """
    check_columns(form, list(file.schema_arrow.names), wanted, path)
    check_flat(file.schema_arrow, path, wanted, lists)
    if isinstance(form, EventSource):
        times = [name for name in form.columns.timestamp_columns if name in wanted]
        check_instants(file.schema_arrow, path, times)


def integers_of_parquet(file: pq.ParquetFile, wanted: list[str]) -> set[str]:
    """Those of the wanted columns that hold integers."""
    types = {name: file.schema_arrow.field(name).type for name in wanted}
    plain = {n: kind.value_type if pa.types.is_dictionary(kind) else kind for n, kind in types.items()}
    return {name for name, kind in plain.items() if pa.types.is_integer(kind)}


def check_columns(form: FileFormat, columns: list[str], wanted: list[str], path: str) -> None:
    """Check that the wanted columns are there.

    Raises:
        UnreadableFileError: naming those that are.
    """
    for name in wanted:
        if name not in columns:
            raise UnreadableFileError(
                f"there is no column '{name}'; the file has: {', '.join(columns)}",
                where=path,
                fix=f"correct {_where_columns_stand(form)} in the spec",
            )


def _header(file: TextFile, form: FileFormat) -> str:
    """Read the header: a line, or a row where quoted fields may hold line feeds."""
    header = file.readline()
    while form.multiline and len(header) < _HEADER_BYTES and not _ends_row(header, form):
        more = file.readline()
        if not more:
            break
        header += more
    if file.damage is not None and not header.endswith(b"\n"):
        raise UnreadableFileError(
            f"'{file.path}' cannot be read: its header is cut off: {file.damage}",
            fix=f"get the file again; {SKIP_HINT}",
        )
    try:
        return header.removeprefix(UTF8_BOM).decode(form.encoding).rstrip("\r\n")
    except UnicodeError as error:
        raise UnreadableFileError(
            f"'{file.path}' cannot be read: its header is not {form.encoding}: {error}",
            fix=f"correct 'encoding' in the spec; {SKIP_HINT}",
        ) from None


def _ends_row(header: bytes, form: FileFormat) -> bool:
    assert form.quote is not None
    rows = quoted_rows(header, form.field_separator.encode(), form.quote.encode(), last=False)
    return len(rows) > 0


def _where_columns_stand(form: FileFormat) -> str:
    keys = ["'columns' or 'behavior'" if isinstance(form, EventSource) else "'id' or the features"]
    return " or ".join(keys if form.header else ["'names'", *keys])


def _check_keys(file: TextFile, wanted: list[str], needed: bool) -> None:
    """JSON lines need not all have the same keys; but a key that no line has is misspelt."""
    if not needed:
        return
    found = _first_keys(file)
    for name in wanted:
        if found and name not in found:
            raise UnreadableFileError(
                f"no line has the key '{name}'; there are: {', '.join(sorted(found))}",
                where=file.path,
                fix="correct 'columns' in the spec",
            )


def _first_keys(file: TextFile) -> set[str]:
    """The keys of the first JSON lines of an open file."""
    try:
        block = next(iter_blocks(file, None, block_bytes=_KEYS_BYTES), b"")
    except DamagedFileError:
        return set()  # not one whole line: reading will say so
    found: set[str] = set()
    for line in block.split(b"\n"):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # bad lines are rejected where they are read
        found |= set(keys_in(record)) if isinstance(record, dict) else set()
    return found


def keys_hint(form: FileFormat, base: str) -> str | None:
    """The keys that JSON lines have, in words, for a message about one that none of them has."""
    if form.kind != "jsonl":
        return None
    path = expand(form, base)[0].path
    with TextFile(path, compression_of(path, form.compression)) as file:
        found = sorted(_first_keys(file))
    return f"its lines have the keys: {', '.join(found)}" if found else None


def _check_separator(form: FileFormat, columns: list[str], first: bytes, path: str) -> None:
    line = first.removeprefix(UTF8_BOM).decode(form.encoding, errors="replace").rstrip("\r\n")
    if not line:
        return
    splits = form.field_separator in line
    if (len(columns) > 1 and not splits and not form.multiline) or (form.header and len(columns) == 1):
        what = "header" if form.header and len(columns) == 1 else "first line"
        raise UnreadableFileError(
            f"the separator {form.field_separator!r} does not split the {what}: {line[:200]!r}",
            where=path,
            fix="set 'separator' in the spec" + _likely_separator(line),
        )


def _likely_separator(line: str) -> str:
    likely = max(("::", "\t", ";", ",", "|", " "), key=lambda mark: (line.count(mark), len(mark)))
    return f"; {likely!r} looks likely" if likely in line else ""

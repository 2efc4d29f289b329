"""Looking at a raw file: its format, what its columns hold, and a spec to start from."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from behavior.errors import UserError
from behavior.files import check_readable
from behavior.sources.blocks import compression_of, iter_blocks
from behavior.sources.guessed import Guess, GuessedColumn
from behavior.sources.parquet import open_parquet

SAMPLE_LINES = 1000
_SEPARATORS = ("::", "\t", ",", ";", "|", " ")
_NAMES = {
    "user": r"user|uid|visitor|customer|reviewer|member|household|client|session",
    "item": r"item|iid|movie|product|asin|article|video|song|track|book|game|business|goods|sku",
    "timestamp": r"time|date|^ts$|_ts$|^ts_|day",
    "behavior": r"behaviou?r|action|event|type|interaction",
    "value": r"rating|score|value|star|overall|weight|price|amount|hours",
}
_EPOCHS = {"s": (10**8, 4 * 10**9), "ms": (10**11, 4 * 10**12), "us": (10**14, 4 * 10**15)}
_MAX_BEHAVIORS = 30


def guess_file(path: str | Path) -> Guess:
    """Look at the first thousand rows of a raw file.

    Raises:
        UserError: the file is missing, empty or cannot be read.
    """
    path = Path(path)
    check_readable(path, "PATH")
    with path.open("rb") as file:
        if file.read(4) == b"PAR1":
            return _guess_parquet(path)
    return _guess_text(path)


def _guess_parquet(path: Path) -> Guess:
    with open_parquet(str(path)) as parquet:
        batch = next(parquet.iter_batches(SAMPLE_LINES), None)
        schema = parquet.schema_arrow
    rows = [] if batch is None else batch.to_pylist()
    columns = {name: [row[name] for row in rows] for name in schema.names}
    times = {field.name for field in schema if pa.types.is_temporal(field.type)}
    return _assemble(path, "parquet", None, None, "utf-8", columns, times)


def _guess_text(path: Path) -> Guess:
    compression = compression_of(str(path), "auto")
    block = next(iter_blocks(str(path), compression, block_bytes=1 << 20), b"")
    encoding = "utf-8"
    try:
        text = block.decode("utf-8")
    except UnicodeDecodeError:
        encoding, text = "latin-1", block.decode("latin-1")
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()][:SAMPLE_LINES]
    if not lines:
        raise UserError(f"'{path}' is empty", where="PATH")
    if lines[0].lstrip().startswith("{"):
        return _guess_json(path, lines, encoding)
    separator = _separator(lines)
    if separator == " " and _looks_like_sequences(lines):
        return _guess_sequences(path, lines, encoding)
    rows = _split(lines, separator)
    header = _has_header(rows)
    width = len(rows[0])
    names = rows[0] if header else [f"column_{number}" for number in range(1, width + 1)]
    body = [row for row in rows[1 if header else 0 :] if len(row) == width]
    columns = {name: [row[place] for row in body] for place, name in enumerate(names)}
    return _assemble(path, "csv", separator, header, encoding, columns, set())


def _guess_json(path: Path, lines: list[str], encoding: str) -> Guess:
    try:
        records = [json.loads(line) for line in lines]
        if not all(isinstance(record, dict) for record in records):
            raise ValueError("not every line is an object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"the lines look like JSON but are not: {error}", where=str(path)) from None
    if len(records) == 1 and records[0] and all(isinstance(value, list) for value in records[0].values()):
        raise UserError(
            "one JSON object of id to lists: this is a table of items (or users), not a log",
            where=str(path),
            fix="name it in a spec: items: {files: ..., format: json_map, features: [{name: ..., kind: "
            "multi_categorical}]}",
        )
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return _assemble(path, "jsonl", None, None, encoding, columns, set())


def _guess_sequences(path: Path, lines: list[str], encoding: str) -> Guess:
    users = [line.split()[0] for line in lines]
    items = [item for line in lines for item in line.split()[1:]]
    columns = [
        GuessedColumn("(first of a line)", "integer", "user", users[:3], len(set(users)), 0),
        GuessedColumn("(rest of a line)", "integer", "item", items[:3], len(set(items)), 0),
    ]
    spec = {
        "name": _spec_name(path),
        "events": {"files": path.name, "format": "sequences", "behavior": "interact"},
        "timestamp_unit": "none",
    }
    note = "lines of different lengths: read as one user a line, then the items in order"
    compression = compression_of(str(path), "auto")
    return Guess(
        str(path), "sequences", " ", False, encoding, compression, len(lines), columns, "none", spec, [note]
    )


def _separator(lines: list[str]) -> str:
    """The separator that gives most lines the same number of fields, two at least."""

    def quality(separator: str) -> tuple[float, int]:
        widths = [len(row) for row in _split(lines[:200], separator)]
        usual = max(set(widths), key=widths.count)
        return (widths.count(usual) / len(widths) if usual > 1 else 0.0, usual)

    # `::` before `:`-free ones: where it splits, a shorter separator would only split its parts.
    return max(_SEPARATORS, key=lambda mark: (quality(mark)[0] > 0.9, quality(mark)))


def _split(lines: list[str], separator: str) -> list[list[str]]:
    if len(separator) > 1:
        return [line.split(separator) for line in lines]
    try:
        return list(csv.reader(lines, delimiter=separator))
    except csv.Error:
        return [line.split(separator) for line in lines]


def _looks_like_sequences(lines: list[str]) -> bool:
    widths = {len(line.split()) for line in lines}
    return len(widths) > 1 and all(re.fullmatch(r"\S+( \S+)+", line.strip()) for line in lines)


def _has_header(rows: list[list[str]]) -> bool:
    if len(rows) < 2:
        return False
    first = [_kind_of([value]) for value in rows[0]]
    rest = [_kind_of([row[place] for row in rows[1:] if place < len(row)]) for place in range(len(rows[0]))]
    numbers = {"integer", "number", "time"}
    if any(kind in numbers for kind in first):
        return False
    named = any(_role_by_name(name) for name in rows[0])
    return named or any(kind in numbers for kind in rest)


def _kind_of(values: Sequence[Any]) -> str:
    present = [value for value in values if value not in (None, "")]
    if not present:
        return "text"
    if any(isinstance(value, list | dict) for value in present):
        return "list"
    text = [str(value).strip() for value in present]
    if all(re.fullmatch(r"[+-]?\d+", value) for value in text):
        return "integer"
    if all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value) for value in text):
        return "number"
    return "time" if all(re.match(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d|$)", value) for value in text) else "text"


def _role_by_name(name: str) -> str | None:
    return next((role for role, pattern in _NAMES.items() if re.search(pattern, name.lower())), None)


def _epoch_unit(values: Sequence[Any]) -> str | None:
    # By way of text, since float() of a huge int of JSON overflows.
    numbers = [float(str(value).strip()) for value in values if value not in (None, "")]
    for unit, (low, high) in _EPOCHS.items():
        if numbers and all(low <= number <= high for number in numbers):
            return unit
    return None


def _assemble(
    path: Path,
    form: str,
    separator: str | None,
    header: bool | None,
    encoding: str,
    columns: dict[str, list[Any]],
    times: set[str],
) -> Guess:
    kinds = {name: "time" if name in times else _kind_of(values) for name, values in columns.items()}
    roles, unit = _roles(columns, kinds)
    by_column = {name: role for role, name in roles.items()}
    guessed = [
        GuessedColumn(
            name,
            kinds[name],
            by_column.get(name),
            [str(value) for value in values[:3]],
            len({str(value) for value in values}),
            sum(value in (None, "") for value in values),
        )
        for name, values in columns.items()
    ]
    spec, notes = _propose(path, form, separator, header, encoding, columns, kinds, roles, unit)
    rows = len(next(iter(columns.values()), []))
    compression = compression_of(str(path), "auto")
    return Guess(str(path), form, separator, header, encoding, compression, rows, guessed, unit, spec, notes)


def _roles(columns: dict[str, list[Any]], kinds: dict[str, str]) -> tuple[dict[str, str], str]:
    """Which column plays which role, and the unit of the timestamps: by name first, then by content."""
    roles: dict[str, str] = {}
    unit = "none"
    for name, values in columns.items():
        found = "iso8601" if kinds[name] == "time" else None
        if kinds[name] in ("integer", "number"):
            found = _epoch_unit(values)
        named = _role_by_name(name)
        if found and "timestamp" not in roles and named in ("timestamp", None):
            roles["timestamp"], unit = name, found
    for role in ("user", "item", "behavior", "value"):
        for name, values in columns.items():
            if (
                name in roles.values()
                or _role_by_name(name) != role
                or not _plausible(role, kinds[name], values)
            ):
                continue
            roles.setdefault(role, name)
    free = [name for name in columns if name not in roles.values() and kinds[name] in ("integer", "text")]
    if not any(_role_by_name(name) for name in columns):
        # Nothing is named: logs say who first, then what.
        for role, name in zip(("user", "item"), free, strict=False):
            roles.setdefault(role, name)
        for name in free[2:]:
            role = "value" if kinds[name] == "integer" else "behavior"
            if role not in roles and _plausible(role, kinds[name], columns[name]):
                roles[role] = name
    return roles, unit


def _plausible(role: str, kind: str, values: list[Any]) -> bool:
    if role == "behavior":
        return kind in ("text", "integer") and 0 < len({str(value) for value in values}) <= _MAX_BEHAVIORS
    if role == "value":
        return kind in ("integer", "number")
    return kind in ("integer", "text")


def _propose(
    path: Path,
    form: str,
    separator: str | None,
    header: bool | None,
    encoding: str,
    columns: dict[str, list[Any]],
    kinds: dict[str, str],
    roles: dict[str, str],
    unit: str,
) -> tuple[dict[str, Any] | None, list[str]]:
    missing = [role for role in ("user", "item") if role not in roles]
    if missing:
        return None, [f"no column looks like the {' or the '.join(missing)}: no spec can be proposed"]
    notes = ["only the first rows were looked at: check the proposal"]
    source: dict[str, Any] = {"files": path.name, "format": form}
    if separator is not None and separator != ",":
        source["separator"] = separator
    if header is False:
        source |= {"header": False, "names": list(columns)}
    if encoding != "utf-8":
        source["encoding"] = encoding
    source["columns"] = {
        role: roles[role] for role in ("user", "item", "timestamp", "value") if role in roles
    }
    spec: dict[str, Any] = {"name": _spec_name(path), "events": source, "timestamp_unit": unit}
    if "behavior" in roles:
        source["behavior"] = {"column": roles["behavior"]}
        counts: dict[str, int] = {}
        for value in columns[roles["behavior"]]:
            counts[str(value)] = counts.get(str(value), 0) + 1
        spec["behaviors"] = sorted(counts, key=lambda name: (-counts[name], name))
        notes.append("'behaviors' lists those seen; a target to predict can be set with 'targets'")
    else:
        source["behavior"] = "interact"
    if form != "parquet":
        types = {role: "integer" for role in ("user", "item") if kinds[roles[role]] == "integer"}
        if types:
            spec["id_types"] = types
    if unit == "none":
        notes.append("no timestamps were found: the order of the file will count")
    return spec, notes


def _spec_name(path: Path) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]", "-", path.name.split(".")[0])
    return stem if re.match(r"[A-Za-z0-9]", stem) else f"log-{stem}"

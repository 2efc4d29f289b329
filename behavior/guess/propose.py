"""A spec to start from: what is known of the files, and ??? for what is not."""

from __future__ import annotations

import re
from typing import Any

from behavior.guess.roles import Roles, free_columns
from behavior.guess.sample import Sample
from behavior.spec.skeleton import OPEN


def propose(
    name: str, logs: list[tuple[Sample, Roles]], tables: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """The proposed spec of some logs and tables.

    Args:
        name: of the spec.
        logs: a group of event files each.
        tables: `items` and `users`, as the spec has them.
    """
    sources = [_source(sample, roles) for sample, roles in logs]
    unit = _units(logs, sources)
    spec: dict[str, Any] = {"name": name, "events": sources if len(sources) > 1 else sources[0]}
    spec["timestamp_unit"] = unit
    form = sources[0].pop("timestamp_format", None) if len(sources) == 1 else None
    if form is not None:
        spec["timestamp_format"] = form
    types = {role: "integer" for role in ("user", "item") if all(_is_integer(*log, role) for log in logs)}
    if types and any(sample.format != "parquet" for sample, _ in logs):
        spec["id_types"] = types
    return spec | {role: found for role, found in tables.items() if found}


def form_of(sample: Sample) -> dict[str, Any]:
    """How the files of a sample are written, as the spec has it."""
    source: dict[str, Any] = {"files": sample.path.name, "format": sample.format}
    if sample.set_compression:
        source["compression"] = sample.compression
    if sample.format == "csv" and sample.separator != ",":
        source["separator"] = sample.separator
    if sample.format == "csv" and sample.header is False:
        source |= {"header": False, "names": list(sample.columns)}
    if sample.encoding != "utf-8":
        source["encoding"] = sample.encoding
    return source


def spec_name(stem: str) -> str:
    """A name that a spec may have, made of that of a file."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", stem.split(".")[0])
    return plain if re.match(r"[A-Za-z0-9]", plain) else f"log-{plain}"


def _source(sample: Sample, roles: Roles) -> dict[str, Any]:
    source = form_of(sample)
    if sample.format == "sequences":
        return source | {"behavior": "interact"}
    columns: dict[str, Any] = {role: roles.columns.get(role, OPEN) for role in ("user", "item")}
    if roles.time is not None:
        names = roles.time.columns
        columns["timestamp"] = names[0] if len(names) == 1 else names
        written = roles.time.written
        if written is not None and written.formats != (None,):
            source["timestamp_format"] = written.formats[0] if written.sure else OPEN
    if "value" in roles.columns:
        columns["value"] = roles.columns["value"]
    source["columns"] = columns
    behavior = roles.columns.get("behavior")
    source["behavior"] = {"column": behavior} if behavior else "interact"
    return source


def _units(logs: list[tuple[Sample, Roles]], sources: list[dict[str, Any]]) -> str:
    """The unit of all logs, which say what theirs is where it is another."""
    times = [roles.time for _, roles in logs]
    if all(time is None for time in times):
        return "none"
    units = {None if time is None or time.written is None else time.written.unit for time in times}
    if len(units) == 1:
        return units.pop() or OPEN
    for time, source in zip(times, sources, strict=True):
        if time is None:
            source["columns"]["timestamp"] = OPEN
        elif time.written is not None and time.written.formats == (None,):
            unit = time.written.unit
            source["timestamp_format"] = unit if unit == "iso8601" else f"epoch_{unit}"
    return OPEN if None in units else "us"


def _is_integer(sample: Sample, roles: Roles, role: str) -> bool:
    if sample.format == "sequences":
        return False
    name = roles.columns.get(role)
    if name is None or sample.kind(name) != "integer":
        return False
    # 007 and 7 may be two users: then ids are text.
    return not any(re.match(r"[+-]?0\d", text) for text in sample.texts(name))


def open_notes(spec: dict[str, Any], logs: list[tuple[Sample, Roles]]) -> list[str]:
    """What is left to fill in, and where to look for it."""
    notes = []
    for sample, roles in logs:
        if sample.format == "sequences":
            continue
        missing = [role for role in ("user", "item") if role not in roles.columns]
        if missing:
            free = ", ".join(repr(name) for name in free_columns(sample, roles)) or "none"
            notes.append(
                f"no column looks like the {' or the '.join(missing)}: fill in the ???; it may be: {free}"
            )
    if spec["timestamp_unit"] == "none" and logs[0][0].format != "sequences":
        notes.append(
            "no column was recognised as a time, by its name or its values: with timestamp_unit: none the "
            "order of the file counts; if one is, set columns.timestamp, timestamp_unit and timestamp_format"
        )
    return notes

"""One look at one or several raw files: logs, tables of items and users, and a spec of them all."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from behavior.errors import UserError
from behavior.guess.guessed import Guess, GuessedColumn
from behavior.guess.names import role_of
from behavior.guess.propose import open_notes, propose, spec_name
from behavior.guess.roles import Roles, guess_roles
from behavior.guess.sample import SAMPLE_ROWS, Sample, take_sample
from behavior.guess.tables import id_of_table, table_of
from behavior.guess.trial import Trial, behaviors_of, mended
from behavior.spec.skeleton import open_settings
from behavior.wording import number_of

_RAW = re.compile(r"\.(csv|tsv|dat|inter|data|jsonl|ndjson|json|parquet|pq)(\.(gz|zst|zstd))?$")


def guess_file(path: str | Path) -> Guess:
    """Look at a raw file; see `guess_files`."""
    return guess_files([path])


def raw_files(folder: str | Path) -> list[Path]:
    """The files of a folder that may be raw ones, by their names; none of a shard folder."""
    folder = Path(folder)
    if any((folder / name).exists() for name in ("manifest.json", "sequences", ".lrm-job")):
        return []
    found = (path for path in folder.iterdir() if path.is_file() and _RAW.search(path.name.lower()))
    return sorted(path for path in found if path.name[0] not in "._")


def guess_files(paths: Sequence[str | Path]) -> Guess:
    """Look at the first rows of raw files, and propose a spec.

    Files that are written alike are one group of event files. What has items and no users, or users and no
    items, is taken for a table. Where it is complete, the spec was tried on the first rows.

    Raises:
        UserError: a file is missing, empty or cannot be read.
    """
    samples = [take_sample(path) for path in paths]
    groups = _alike(samples)
    judged = [(group, guess_roles(group[0])) for group in groups]
    logs = [(group, roles) for group, roles in judged if _is_log(group[0], roles)]
    # Beside a log that names its columns, what names none is none.
    logs = [log for log in logs if not {"user", "item"} <= log[1].unsure] or logs
    # What has times is a log sooner than what has none.
    logs = [log for log in logs if _has_times(log[1]) or log[0][0].header is not False] or logs
    if not logs and len(judged) == 1:
        if judged[0][0][0].format == "json_map":
            raise _only_a_table(judged[0][0][0].path)
        logs = judged
    if not logs:
        raise UserError(
            "no file looks like a log: none has both a user and an item column",
            where=", ".join(str(sample.path) for sample in samples),
            fix="inspect the log by itself",
        )
    heads = [(group[0], roles) for group, roles in logs]
    tables, notes = _tables([group[0] for group, _ in judged if (group, _) not in logs], heads)
    name = Path(heads[0][0].path).name if len(samples) == 1 else heads[0][0].path.resolve().parent.name
    spec = propose(spec_name(name), heads, tables)
    base = _set_paths(spec, [group for group, _ in logs], samples)
    notes = [note for _, roles in logs for note in roles.notes] + notes + open_notes(spec, heads)
    spec, notes = _tried(spec, base, heads, notes)
    first, roles = heads[0]
    unit = str(spec["timestamp_unit"])
    return Guess(
        path=str(first.path),
        format=first.format,
        separator=first.separator,
        header=first.header,
        encoding=first.encoding,
        compression=first.compression,
        rows_sampled=first.rows,
        columns=_columns(first, roles),
        timestamp_unit=unit,
        spec=spec,
        notes=notes,
        base=base,
        others={
            str(group[0].path): _columns(group[0], found) for group, found in judged if group[0] is not first
        },
    )


def _is_log(sample: Sample, roles: Roles) -> bool:
    return sample.format == "sequences" or {"user", "item"} <= set(roles.columns)


def _has_times(roles: Roles) -> bool:
    return roles.time is not None and roles.time.written is not None


def _only_a_table(path: Path) -> UserError:
    return UserError(
        "one JSON object of id to lists: this is a table of items (or users), not a log",
        where=str(path),
        fix="inspect it together with the log; or name it in a spec: items: {files: ..., format: json_map, "
        "features: [{name: ..., kind: multi_categorical}]}",
    )


def _alike(samples: list[Sample]) -> list[list[Sample]]:
    groups: dict[Any, list[Sample]] = {}
    for sample in samples:
        names = tuple(sorted(sample.columns))
        if sample.header is False:
            names = (str(role_of(sample.path.name.split(".")[0])), *map(sample.kind, sample.columns))
        form = (sample.format, sample.separator, sample.header, sample.encoding, names)
        groups.setdefault((*form, sample.set_compression), []).append(sample)
    return list(groups.values())


def _tables(
    samples: list[Sample], logs: list[tuple[Sample, Roles]]
) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    tables: dict[str, list[dict[str, Any]]] = {"items": [], "users": []}
    notes: list[str] = []
    for sample in samples:
        found = ("item", "id") if sample.format == "json_map" else id_of_table(sample, logs)
        if found is None:
            notes.append(f"{sample.path.name} is no log, and no table of the items or users of one: left out")
            continue
        entry, more = table_of(sample, *found)
        notes += more
        if entry is not None:
            entry["files"] = str(sample.path)
            tables[f"{found[0]}s"].append(entry)
    return tables, notes


def _set_paths(spec: dict[str, Any], logs: list[list[Sample]], samples: list[Sample]) -> str:
    """Make all paths relative to one folder, which is returned."""
    base = os.path.commonpath([str(sample.path.resolve().parent) for sample in samples])
    sources = spec["events"] if isinstance(spec["events"], list) else [spec["events"]]
    for source, group in zip(sources, logs, strict=True):
        names = [os.path.relpath(sample.path.resolve(), base) for sample in group]
        source["files"] = names[0] if len(names) == 1 else names
    for role in ("items", "users"):
        for table in spec.get(role, []):
            table["files"] = os.path.relpath(Path(table["files"]).resolve(), base)
    return base


def _tried(
    spec: dict[str, Any], base: str, logs: list[tuple[Sample, Roles]], notes: list[str]
) -> tuple[dict[str, Any], list[str]]:
    sources = spec["events"] if isinstance(spec["events"], list) else [spec["events"]]
    names: list[str] = []
    try:
        for source, (_, roles) in zip(sources, logs, strict=True):
            column = roles.columns.get("behavior")
            names += behaviors_of(source, base, column) if column else [str(source["behavior"])]
    except UserError as error:
        notes.append(f"the spec would not do: {error.what}")
    if any("behavior" in roles.columns for _, roles in logs):
        spec["behaviors"] = list(dict.fromkeys(names))
        notes.append("'behaviors' lists those seen; a target to predict can be set with 'targets'")
    spec, decided = _decided(spec, base, logs)
    if decided:
        notes = [note for note in notes if "say in timestamp_format" not in note] + [decided]
    if open_settings(spec):
        return spec, notes
    spec, trial = mended(spec, base)
    return spec, [*notes, _verdict(trial)]


def _decided(
    spec: dict[str, Any], base: str, logs: list[tuple[Sample, Roles]]
) -> tuple[dict[str, Any], str | None]:
    """The spec with the one form of its times that fits more rows too, where the first fit several."""
    written = logs[0][1].time.written if logs[0][1].time is not None else None
    if written is None or written.sure or open_settings(spec) != ["timestamp_format"]:
        return spec, None
    choices = [spec | {"timestamp_format": name} for name in written.formats]
    trials = [mended(choice, base)[1] for choice in choices]
    fewest = min(trial.share for trial in trials)
    fitting = [
        choice for choice, trial in zip(choices, trials, strict=True) if trial.good and trial.share == fewest
    ]
    if len(fitting) != 1:
        return spec, None
    return fitting[
        0
    ], "timestamp_format: several forms fit the first rows, and this one fits further rows best"


def _verdict(trial: Trial) -> str:
    if trial.problem is not None:
        return f"not sure: 'lrm prepare' would refuse this spec: {trial.problem}"
    rows = number_of(trial.read, "row") + (" at the beginning and end" if trial.read > SAMPLE_ROWS else "")
    if trial.good:
        return f"tried on {rows}: {trial.rejected:,} rejected; what the columns mean is a guess: check it"
    shown = "; ".join(trial.reasons)
    return f"not sure: of {rows}, {trial.rejected:,} would be rejected: {shown}"


def _columns(sample: Sample, roles: Roles) -> list[GuessedColumn]:
    columns = []
    for name in sample.columns:
        texts = sample.texts(name)
        role = "user" if sample.format == "sequences" else roles.role_of(name)
        if sample.format == "sequences" and name != next(iter(sample.columns)):
            role = "item"
        columns.append(
            GuessedColumn(
                name,
                sample.kind(name),
                role,
                texts[:3],
                len(set(texts)),
                texts.count(""),
                role is not None and role not in roles.unsure,
            )
        )
    return columns

"""Which event files `--append` names, and which of them a data set has not read yet."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from behavior.errors import UserError
from behavior.shards.manifest import InputRecord, Manifest
from behavior.sources.files import expand
from behavior.spec.dataset_spec import DatasetSpec
from behavior.wording import number_of

_NUMBERED = re.compile(r"^([1-9][0-9]*)=(.*)$")


def group_files(spec: DatasetSpec, files: Sequence[str]) -> dict[int, list[str]]:
    """Files by the number of their group in the spec, counted from 0; local paths become absolute.

    Raises:
        UserError: no file is named, or its group is not named or not in the spec.
    """
    groups: dict[int, list[str]] = {}
    if not files:
        raise UserError("no file is named", where="--append", fix="name the files to add")
    for file in files:
        match = _NUMBERED.match(file)
        number, path = (int(match.group(1)), match.group(2)) if match else (1, file)
        if not path:
            raise UserError("the path is empty", where="--append", fix="name a file, or a glob in quotes")
        if match is None and len(spec.events) > 1:
            raise UserError(
                f"the spec has {len(spec.events)} groups of events: which is '{file}' of?",
                where="--append",
                fix=f"write its number before it: --append 1={file}",
            )
        if number > len(spec.events):
            raise UserError(
                f"the spec has no group {number} of events", where="--append", fix=f"1 to {len(spec.events)}"
            )
        groups.setdefault(number - 1, []).append(path if "://" in path else str(Path(path).absolute()))
    return groups


def with_files(spec: DatasetSpec, groups: dict[int, list[str]]) -> DatasetSpec:
    """The spec with other event files; groups that are not named have none."""
    events = []
    for number, source in enumerate(spec.events):
        # What went by the name of the first file must stay as it was.
        fixed = {"format": source.kind, "separator": source.field_separator}
        events.append(source.model_copy(update={"files": groups.get(number, []), **fixed}))
    return spec.model_copy(update={"events": events})


def found_files(added: DatasetSpec, base: str) -> list[InputRecord]:
    """The event files that a spec stands for; none is opened."""
    return [
        InputRecord(group=number, path=file.name, size=file.size, modified=file.modified)
        for number, source in enumerate(added.events, 1)
        for file in (expand(source, base) if source.files else [])
    ]


def not_there_yet(found: list[InputRecord], old: Manifest, base: str, full: bool) -> list[InputRecord]:
    """The files that are to be added; none where all are in the data set as they are.

    Raises:
        UserError: some are there already, or have changed since; neither matters where all is redone.
    """
    known = {place(record, base): record for record in old.inputs}
    new: list[InputRecord] = []
    same: list[InputRecord] = []
    for record in found:
        before = known.get(place(record, base))
        there = before is not None and (before.size, before.modified) == (record.size, record.modified)
        (same if there else new).append(record)
    if full or not new:
        return new
    for record in new:
        if place(record, base) in known:
            raise UserError(
                "this file is in the data set already, and has another size or modification time now",
                where=record.path,
                fix="leave it out, or add --full, which prepares old and new files together from scratch",
            )
    if same:
        raise UserError(
            f"{len(same):,} of the {number_of(len(found), 'file')} to add "
            f"{'is' if len(same) == 1 else 'are'} in the data set already",
            where=", ".join(record.path for record in same[:3]),
            fix="leave them out, or add --full, which prepares old and new files together from scratch",
        )
    return new


def place(record: InputRecord, base: str) -> tuple[int, str]:
    """What tells a file from others: its group and where it lies."""
    path = record.path
    if "://" not in path and not path.startswith("/"):
        path = f"{base.rstrip('/')}/{path}"
    return record.group, path if "://" in path else os.path.normpath(path)


def all_groups(
    spec: DatasetSpec, old: Manifest, found: list[InputRecord], new: list[InputRecord], base: str
) -> dict[int, list[str]]:
    """All files of the data set, each once, those that it has first.

    What may be opened is asked of the spec and of the user: a manifest alone names no file.

    Args:
        spec: of the data set.
        old: its manifest.
        found: the files that the user names.
        new: those of them that it has not read as they are now.
        base: folder that paths are relative to.

    Raises:
        UserError: the data set has files that neither the spec nor the user names.
    """
    named = {place(record, base) for record in [*found_files(spec, base), *found]}
    there = old.inputs or _of_an_earlier_version(spec, old, base)
    lost = [record for record in there if place(record, base) not in named]
    if lost:
        shown, more = lost[:3], " ..." if len(lost) > 3 else ""
        flags = " ".join(f"--append '{_flag(spec, record)}'" for record in shown)
        raise UserError(
            f"the data set has {number_of(len(lost), 'file')} that neither its spec nor --append names",
            where=", ".join(record.path for record in shown),
            fix=f"name them as well ({flags}{more}), or prepare the data from scratch with --overwrite",
        )
    known = {place(record, base) for record in there}
    groups: dict[int, list[str]] = {number: [] for number in range(len(spec.events))}
    for record in [*there, *(record for record in new if place(record, base) not in known)]:
        groups[record.group - 1].append(record.path)
    return groups


def _flag(spec: DatasetSpec, record: InputRecord) -> str:
    return f"{record.group}={record.path}" if len(spec.events) > 1 else record.path


def _of_an_earlier_version(spec: DatasetSpec, old: Manifest, base: str) -> list[InputRecord]:
    """The files of a data set whose manifest has no list of them, but what the spec and the command named."""
    files = {number: list(source.files) for number, source in enumerate(spec.events)}
    for entry in old.history:
        for group, _, path in (file.partition("=") for file in entry.files):
            files.setdefault(int(group) - 1 if group.isdecimal() else -1, []).append(path)
    return found_files(with_files(spec, files), base)

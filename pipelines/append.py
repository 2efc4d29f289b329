"""`prepare --append`: new events of known and new users and items go into a finished data set."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from behavior.dataset import build_manifest
from behavior.errors import UserError
from behavior.manifest import Counts, FileEntry, HistoryEntry, Manifest
from behavior.previous import Previous, reasons_against
from behavior.shards import REJECTED, ShardFolder, logical, open_shards
from behavior.sources.plan import Plan
from behavior.spec import DatasetSpec
from behavior.storage import FolderLike
from pipelines.job import Job
from pipelines.launch import Progress
from pipelines.output import exclusive, mark
from pipelines.prepare import PrepareResult, count_buckets, execute, make_plan, output_folder
from pipelines.runner import RunnerOptions
from pipelines.tables import Summary

_NUMBERED = re.compile(r"^([1-9][0-9]*)=(.+)$")
_ADDED_UP = ("read", "accepted", "rejected", "filtered", "events")


def append(
    spec: DatasetSpec,
    base: str,
    out: FolderLike,
    files: Sequence[str],
    *,
    runner: RunnerOptions | None = None,
    full: bool = False,
    skip_bad_files: bool = False,
    progress: Progress | None = None,
) -> PrepareResult:
    """Add new event files to a data set that `prepare` made.

    Known users and items keep their indices and new ones follow; only sequence files of users with new events
    are written again, and the manifest moves to a new version at once. Item and user tables are read again.
    The result is what preparing old and new files together would give, up to the indices of new items and
    values; where times tie, old events stay before new ones.

    Args:
        spec: the spec that the data set was made by.
        base: folder its paths are relative to.
        out: the data set.
        files: paths or globs of the new files, written as the spec says; `2=PATH` for files of the second
            group of events where the spec has several.
        runner: where to run; default: in this process.
        full: prepare everything afresh from the old and new files, for specs under which old rows change.
        skip_bad_files: as for `prepare`.
        progress: told how far a local job is.

    Raises:
        UserError: no such data set, another spec, one that does not allow it, or files that cannot be read.
    """
    begin = time.time()
    runner = runner or RunnerOptions()
    folder = output_folder(out, runner)
    with exclusive(folder):
        shards = open_shards(folder)
        old = shards.manifest
        _check(spec, old, str(folder), full)
        groups = group_files(spec, files)
        added = _with_files(spec, groups)
        plan = make_plan(added, base, runner, skip_bad_files)
        plan = _with_stored_types(plan, added, shards)
        entry = HistoryEntry(
            version=old.version + 1,
            input_digest=plan.digest,
            counts=old.counts,  # replaced when they are known
            files=[f"{number + 1}={path}" for number, paths in groups.items() for path in paths],
        )
        if old.history and old.history[-1].input_digest == plan.digest:
            return PrepareResult(old, True, {}, {})
        digest = hashlib.sha256(f"{old.input_digest} {plan.digest}".encode()).hexdigest()
        mark(folder, {"spec_digest": spec.digest(), "input_digest": digest})
        if full:
            everything = _with_files(spec, _all_groups(spec, old, groups))
            plan = make_plan(everything, base, runner, skip_bad_files)
            buckets, previous = count_buckets(spec, plan), None
        else:
            assert old.buckets is not None
            buckets, previous = old.buckets, Previous(folder, old.input_digest, spec)
        job = Job(spec, base, plan, folder, folder, folder, buckets, entry.version, previous, skip_bad_files)

        def manifest_of(summary: Summary) -> Manifest:
            return _manifest(job, digest, old, entry, summary)

        return execute(job, runner, progress, begin, manifest_of)


def group_files(spec: DatasetSpec, files: Sequence[str]) -> dict[int, list[str]]:
    """Files by the number of their group in the spec, counted from 0; local paths become absolute.

    Raises:
        UserError: a group is not named, or is not in the spec.
    """
    groups: dict[int, list[str]] = {}
    for file in files:
        match = _NUMBERED.match(file)
        number, path = (int(match.group(1)), match.group(2)) if match else (1, file)
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


def _with_files(spec: DatasetSpec, groups: dict[int, list[str]]) -> DatasetSpec:
    """The spec with other event files; groups that are not named have none."""
    events = []
    for number, source in enumerate(spec.events):
        # What went by the name of the first file must stay as it was.
        fixed = {"format": source.kind, "separator": source.field_separator}
        events.append(source.model_copy(update={"files": groups.get(number, []), **fixed}))
    return spec.model_copy(update={"events": events})


def _all_groups(spec: DatasetSpec, old: Manifest, groups: dict[int, list[str]]) -> dict[int, list[str]]:
    """All files of the data set: the spec's, those added before, and the new ones."""
    everything = {number: list(source.files) for number, source in enumerate(spec.events)}
    for entry in old.history:
        for number, paths in group_files(spec, entry.files).items():
            everything[number] += paths
    for number, paths in groups.items():
        everything[number] += paths
    return everything


def _with_stored_types(plan: Plan, added: DatasetSpec, shards: ShardFolder) -> Plan:
    """The plan of the new files, with ids of the types that the data set has."""
    user_type = _stored_type(shards.users())
    # Where item ids are hashed the stored ids are the hashes.
    hashed = added.vocabulary.hash_size is not None
    item_type = plan.item_type if hashed else _stored_type(shards.items())
    return replace(plan, user_type=user_type, item_type=item_type)


def _stored_type(table: pa.Table) -> str:
    return "integer" if pa.types.is_integer(table.schema.field("id").type) else "string"


def _check(spec: DatasetSpec, old: Manifest, folder: str, full: bool) -> None:
    if old.spec_digest != spec.digest():
        raise UserError(
            f"'{folder}' was made by another spec",
            where="SPEC",
            fix="use the spec it was made by, or prepare everything afresh in another folder",
        )
    reasons = [] if full else reasons_against(spec)
    if reasons:
        raise UserError(
            "nothing can be added under this spec, since old rows would change: " + "; ".join(reasons),
            where="--append",
            fix="add --full, which prepares old and new files together afresh",
        )
    if old.buckets is None and not full:
        raise UserError(
            f"'{folder}' was made by an earlier version that did not keep what adding needs",
            where="--append",
            fix="add --full, which prepares old and new files together afresh",
        )


def _manifest(job: Job, digest: str, old: Manifest, entry: HistoryEntry, summary: Summary) -> Manifest:
    counts, files, damaged = summary.counts, summary.files, summary.damaged
    added = counts
    if job.previous is not None:
        totals = {name: getattr(old.counts, name) + getattr(counts, name) for name in _ADDED_UP}
        counts = Counts(**totals, users=added.users, items=added.items)
        files = _merged_files(old, summary.files)
        damaged = list(dict.fromkeys([*old.damaged_files, *damaged]))
    else:
        added = _difference(counts, old.counts)
    return build_manifest(
        job.spec,
        digest,
        counts,
        summary.features,
        files,
        buckets=job.buckets,
        version=job.version,
        damaged=damaged,
        history=[*old.history, entry.model_copy(update={"counts": added})],
    )


def _difference(counts: Counts, old: Counts) -> Counts:
    """What a full preparation has more than before."""
    more = {name: getattr(counts, name) - getattr(old, name) for name in _ADDED_UP}
    return Counts(**more, users=counts.users, items=counts.items)


def _merged_files(old: Manifest, new: list[FileEntry]) -> list[FileEntry]:
    """New files, and the old ones that none of them replaces."""
    replaced = {logical(entry.path) for entry in new} | {f"{REJECTED}/tables.jsonl"}
    return [entry for entry in old.files if logical(entry.path) not in replaced] + new

"""A whole data set: prepared in memory, judged, and described by its manifest.

Every step is a plain function of Arrow tables; `prepare_tables` runs them all in one process, the Beam job
(`pipelines.prepare`) runs them bucket by bucket.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa

from behavior.errors import UserError
from behavior.features import Encoder
from behavior.shards.manifest import (
    FORMAT_VERSION,
    Counts,
    FeatureEntry,
    FileEntry,
    HistoryEntry,
    InputRecord,
    Manifest,
)
from behavior.sources.damage import UnreadableFileError
from behavior.sources.plan import Plan, plan_input
from behavior.sources.raw import Reject
from behavior.spec.dataset_spec import DatasetSpec, load_spec
from behavior.steps.bucket import count_bucket, cut_sequences, finish_sequences
from behavior.steps.event_features import finish_features
from behavior.steps.events import read_events
from behavior.steps.filters import core_items
from behavior.steps.sequences import build_sequences
from behavior.steps.stats import SequenceStats, to_record
from behavior.steps.tables import Tables, build_tables, fit_vocabulary


@dataclass(frozen=True)
class PreparedTables:
    """A data set in memory.

    Attributes:
        sequences: the rows of the sequence files; see `finish_sequences`.
        tables: items, users and feature vocabularies.
        event_features: encoders of the event features, by name.
        counts: read, accepted, rejected, filtered, events, users, items.
        stats: contents of stats.json.
        rejects: rows that could not be read.
        damaged_files: names of files that could not be read to their end.
    """

    sequences: pa.Table
    tables: Tables
    event_features: dict[str, Encoder]
    counts: Counts
    stats: dict[str, Any]
    rejects: list[Reject]
    damaged_files: list[str]


def prepare_tables(
    spec: str | Path | DatasetSpec, input_folder: str | Path | None = None, *, skip_bad_files: bool = False
) -> PreparedTables:
    """Prepare a data set in this process and keep it in memory: a spec in, Arrow tables out.

    Args:
        spec: a spec, the path of its YAML file, or the name of a ready one.
        input_folder: folder that the spec's paths are relative to; default: the spec file's own.
        skip_bad_files: set event files aside that cannot be read at all.

    Raises:
        UserError: whatever is wrong with the spec or the input.
    """
    if isinstance(spec, DatasetSpec):
        base = str(input_folder or ".")
    else:
        spec, base = load_spec(spec, input_folder=input_folder)
    plan = plan_input(spec, base, skip_bad_files=skip_bad_files)
    reading = _read_all(spec, plan, skip_bad_files)
    read, rejects = reading.read, reading.rejects
    check_rejects(spec, read, len(rejects), rejects[:3])
    if not reading.batches:
        raise nothing_left(read, reading.filtered)
    sequences = build_sequences(reading.batches, spec)
    items = None
    if spec.filters.minimum_counts != (1, 1):
        items = core_items([sequences], *spec.filters.minimum_counts)
    cut = cut_sequences(sequences, spec, items)
    counted = count_bucket(cut, spec)
    if not counted.stats.events:
        raise nothing_left(read, read - len(rejects))
    vocabulary = fit_vocabulary(spec, "item", counted.items)
    encoders = finish_features(spec, [counted.features])
    counts = Counts(
        read=read,
        accepted=counted.stats.events,
        rejected=len(rejects),
        filtered=read - len(rejects) - counted.stats.events,
        events=counted.stats.events,
        users=counted.stats.users,
        items=len(vocabulary),
    )
    return PreparedTables(
        finish_sequences(cut, vocabulary, spec, encoders),
        build_tables(spec, base, vocabulary, fit_vocabulary(spec, "user", counted.users)),
        encoders,
        counts,
        stats_record(spec, counted.stats, vocabulary.table),
        rejects,
        reading.damaged,
    )


@dataclass
class _Reading:
    """All events of the input in memory, and what became of the rows."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    read: int = 0
    filtered: int = 0
    damaged: list[str] = field(default_factory=list)

    def set_aside(self, reject: Reject) -> None:
        """Count a file that cannot be read at all as one bad row."""
        if reject.file not in self.damaged:
            self.rejects.append(reject)
            self.damaged.append(reject.file)
            self.read += 1


def _read_all(spec: DatasetSpec, plan: Plan, skip_bad_files: bool) -> _Reading:
    lines: dict[tuple[int, int], int] = defaultdict(int)  # a file may stand in two groups of the spec
    reading = _Reading()
    for bad in plan.bad_files:
        reading.set_aside(bad.reject)
    for chunk in plan.chunks:
        file, name = (chunk.source, chunk.file), plan.names[chunk.path]
        before = lines[file]
        try:
            for batch in read_events(spec, plan, chunk, name):
                lines[file] = before + batch.lines
                reading.rejects += [replace(r, place=r.place and r.place + before) for r in batch.rejects]
                reading.read += batch.read
                reading.filtered += batch.filtered
                if batch.damaged is not None and name not in reading.damaged:
                    reading.damaged.append(name)
                if batch.events.num_rows:
                    reading.batches.append(batch.events)
        except UnreadableFileError as error:
            if not skip_bad_files:
                raise
            reading.set_aside(error.reject(chunk.path, name))
    return reading


def stats_record(spec: DatasetSpec, stats: SequenceStats, items: pa.Table) -> dict[str, Any]:
    """Contents of stats.json."""
    return to_record(stats, items.column("count").to_numpy(), spec.behavior_names, spec.stored_unit)


def check_rejects(spec: DatasetSpec, read: int, rejected: int, examples: list[Reject]) -> None:
    """Fail where too many rows are bad.

    Raises:
        UserError: every row, or more than the share `max_rejects` of the spec, was rejected.
    """
    if read == 0:
        raise UserError("the log is empty: its files hold no events", fix="check 'files' in the spec")
    limit = spec.max_rejects if isinstance(spec.max_rejects, int) else spec.max_rejects * read
    if rejected <= limit and rejected < read:
        return
    shown = "; ".join(f"{reject.where}: {reject.reason}" for reject in examples)
    if rejected == read:
        raise UserError(
            f"every one of the {read:,} rows was rejected",
            where=shown,
            fix="correct the spec: it does not fit the files",
        )
    raise UserError(
        f"{rejected:,} of {read:,} rows were rejected, more than max_rejects = {spec.max_rejects:g} allows",
        where=shown,
        fix="correct the spec or the files, or set a larger max_rejects in the spec",
    )


def nothing_left(read: int, filtered: int) -> UserError:
    """The error for a log of which the filters leave nothing."""
    return UserError(
        f"no event is left: of {read:,} read, {filtered:,} were filtered out",
        fix="loosen 'filters' in the spec",
    )


def build_manifest(
    spec: DatasetSpec,
    input_digest: str,
    counts: Counts,
    features: Mapping[str, list[FeatureEntry]],
    files: Iterable[FileEntry],
    *,
    buckets: int,
    version: int = 1,
    damaged: Sequence[str] = (),
    history: Sequence[HistoryEntry] = (),
    plan: Plan | None = None,
    inputs: Sequence[InputRecord] = (),
) -> Manifest:
    """The manifest of a data set; it depends on the spec and the input alone.

    Args:
        spec: the dataset spec.
        input_digest: of its plan.
        counts: of all its events.
        features: item_features, user_features and event_features.
        files: all its files.
        buckets: number of hash buckets of users.
        version: of the data set.
        damaged: names of input files that could not be read to their end.
        history: what was added to it.
        plan: of the input; its event files and types of ids are kept for later additions.
        inputs: event files that were read before those of the plan.
    """
    read = list(inputs) + (input_records(plan) if plan is not None else [])
    return Manifest(
        format_version=FORMAT_VERSION,
        name=spec.name,
        spec=json.loads(spec.model_dump_json()),
        spec_digest=spec.digest(),
        input_digest=input_digest,
        counts=counts,
        behaviors=spec.behavior_names,
        targets=spec.target_names,
        domains=spec.domain_names,
        domain_ids=spec.domain_ids.model_dump() if spec.domain_names else {},
        timestamp_unit=spec.stored_unit,
        split=spec.split.model_dump(exclude_none=True),
        oov=spec.vocabulary.oov,
        packing=spec.packing.model_dump(),
        files=sorted(files, key=lambda entry: entry.path),
        buckets=buckets,
        version=version,
        damaged_files=list(damaged),
        inputs=read,
        id_types={} if plan is None else {"user": plan.user_type, "item": plan.item_type},
        history=list(history),
        **features,
    )


def input_records(plan: Plan) -> list[InputRecord]:
    """The event files of a plan, in the input's order."""
    files = {file.path: file for file in plan.files}
    places = [(part.source, part.file, part.path) for part in plan.parts]
    places = sorted(places + [(bad.source, bad.file, bad.path) for bad in plan.bad_files])
    return [
        InputRecord(group=group + 1, path=files[p].name, size=files[p].size, modified=files[p].modified)
        for group, _, p in places
    ]


def merge_stats(stats: list[SequenceStats]) -> SequenceStats:
    """Statistics of all buckets."""
    return reduce(SequenceStats.merge, stats, SequenceStats())

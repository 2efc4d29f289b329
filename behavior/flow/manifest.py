"""The manifest of a data set, from its spec, its plan and what became of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from behavior.flow.preparation import Preparation
from behavior.flow.totals import Summary
from behavior.shards.manifest import (
    FORMAT_VERSION,
    Counts,
    Coverage,
    FeatureEntry,
    FileEntry,
    HistoryEntry,
    InputRecord,
    Manifest,
)
from behavior.sources.chunks import Plan
from behavior.spec.dataset_spec import DatasetSpec


def build_manifest(
    spec: DatasetSpec,
    input_digest: str,
    counts: Counts,
    features: Mapping[str, list[FeatureEntry]],
    files: Iterable[FileEntry],
    *,
    partitions: int,
    version: int = 1,
    damaged: Sequence[str] = (),
    history: Sequence[HistoryEntry] = (),
    plan: Plan | None = None,
    inputs: Sequence[InputRecord] = (),
    coverage: Sequence[Coverage] = (),
) -> Manifest:
    """The manifest of a data set; it depends on the spec and the input alone.

    Args:
        spec: the dataset spec.
        input_digest: of its plan.
        counts: of all its events.
        features: item_features, user_features and event_features.
        files: all its files.
        partitions: number of hash partitions of users.
        version: of the data set.
        damaged: names of input files that could not be read to their end.
        history: what was added to it.
        plan: of the input; its event files and types of ids are kept for later additions.
        inputs: event files that were read before those of the plan.
        coverage: of its groups of events and feature tables.
    """
    read = list(inputs) + (input_records(plan) if plan is not None else [])
    return Manifest(
        format_version=FORMAT_VERSION,
        name=spec.name,
        spec=spec.record(),
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
        buckets=partitions,
        version=version,
        damaged_files=list(damaged),
        inputs=read,
        id_types={} if plan is None else {"user": plan.user_type, "item": plan.item_type},
        coverage=list(coverage),
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


def manifest_of(preparation: Preparation, summary: Summary) -> Manifest:
    """The manifest of a new data set."""
    return build_manifest(
        preparation.spec,
        preparation.plan.digest,
        summary.counts,
        summary.features,
        summary.files,
        partitions=preparation.partitions,
        version=preparation.version,
        damaged=summary.damaged,
        plan=preparation.plan,
        coverage=summary.coverage,
    )

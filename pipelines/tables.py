"""Last pass: item and user tables, and the summary that the commit works from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from behavior.features.vocabulary import IdCounts
from behavior.shards.folder import (
    BUCKETS,
    ITEMS,
    REJECTED,
    STATS,
    USERS,
    VOCABULARY,
    write_lines,
    write_table,
)
from behavior.shards.manifest import Counts, FeatureEntry, FileEntry
from behavior.steps.dataset import merge_stats, nothing_left, stats_record
from behavior.steps.keys import key_type
from behavior.steps.stats import SequenceStats
from behavior.steps.tables import build_tables, fit_vocabulary
from pipelines.buckets import BucketReport, in_bucket_order, load_encoders, load_vocabulary
from pipelines.job import Job, read_arrow
from pipelines.reading import Reading

SUMMARY = "summary.json"


@dataclass(frozen=True)
class TablesReport:
    """Files and features of the tables."""

    files: list[FileEntry]
    features: dict[str, list[FeatureEntry]]
    """item_features, user_features and event_features."""


class WriteTables(beam.DoFn):
    """One element, the vocabulary, all bucket reports -> one `TablesReport`."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, vocabulary: str, reports: list[BucketReport]) -> Iterator[TablesReport]:
        job = self.job
        with job.stage("tables"):
            spec, previous = job.spec, job.previous
            items = load_vocabulary(job.work, vocabulary, spec.vocabulary.oov)
            # An addition may leave every bucket as it was.
            none = IdCounts(key_type(spec, job.plan, "user")).create()
            tables_of_users = [read_arrow(job.work, report.users) for report in in_bucket_order(reports)]
            counts = pa.concat_tables(tables_of_users or [none])
            known = encoded = None
            if previous is not None:
                known, encoded = previous.vocabulary("user"), previous.encoders("table")
                counts = previous.user_counts(counts)
            users = fit_vocabulary(spec, "user", counts, known)
            tables = build_tables(spec, job.base, items, users, encoded)
            encoders = load_encoders(job.work, vocabulary)
            files = [
                write_table(tables.items, job.out, job.file(ITEMS)),
                write_table(tables.users, job.out, job.file(USERS)),
            ]
            words = dict(tables.vocabularies)
            words |= {f"event.{n}": e.vocabulary for n, e in encoders.items() if e.vocabulary is not None}
            for name, table in words.items():
                files.append(write_table(table, job.out, job.file(f"{VOCABULARY}/{name}.parquet")))
            if tables.rejects:
                lines = (reject.to_json() for reject in tables.rejects)
                files.append(write_lines(lines, job.out, job.file(f"{REJECTED}/tables.jsonl")))
            features = {
                "item_features": tables.item_features,
                "user_features": tables.user_features,
                "event_features": [encoder.entry for encoder in encoders.values()],
            }
        yield TablesReport(files, features)


def _write_text(job: Job, name: str, text: str) -> FileEntry:
    path = job.file(name)
    with job.out.create(path) as file:
        file.write(text.encode())
    return FileEntry(path=path, rows=0, events=0, bytes=file.bytes, sha256=file.sha256)


@dataclass(frozen=True)
class Summary:
    """What the pipeline hands to the commit.

    Attributes:
        counts: of the events that this job read; users and items are all that the data set then has.
        features: item_features, user_features and event_features.
        files: all that this job wrote.
        damaged: names of input files that could not be read to their end.
    """

    counts: Counts
    features: dict[str, list[FeatureEntry]]
    files: list[FileEntry]
    damaged: list[str]

    def to_json(self) -> str:
        features = {name: [e.model_dump() for e in entries] for name, entries in self.features.items()}
        record = {
            "counts": self.counts.model_dump(),
            "features": features,
            "files": [entry.model_dump() for entry in self.files],
            "damaged": self.damaged,
        }
        return json.dumps(record)

    @classmethod
    def from_json(cls, text: str) -> Summary:
        data = json.loads(text)
        features = {name: [FeatureEntry(**e) for e in entries] for name, entries in data["features"].items()}
        files = [FileEntry(**entry) for entry in data["files"]]
        return cls(Counts(**data["counts"]), features, files, data["damaged"])


class WriteSummary(beam.DoFn):
    """One element and the results of all stages -> name of the summary."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(
        self,
        _: None,
        reading: Reading,
        reports: list[BucketReport],
        vocabulary: str,
        tables: TablesReport,
        sequences: list[FileEntry],
    ) -> Iterator[str]:
        job = self.job
        with job.stage("summary"):
            own = {str(report.bucket): report.stats for report in reports}
            buckets = (job.previous.bucket_stats() if job.previous else {}) | own
            stats = merge_stats([buckets[bucket] for bucket in sorted(buckets, key=int)])
            filtered = reading.filtered + sum(report.dropped for report in reports)
            if not stats.events:
                raise nothing_left(reading.read, filtered)
            items = load_vocabulary(job.work, vocabulary, job.spec.vocabulary.oov)
            added = sum(report.added for report in reports)
            counts = Counts(
                read=reading.read,
                accepted=added,
                rejected=reading.rejected,
                filtered=filtered,
                events=added,
                users=stats.users,
                items=len(items),
            )
            record = stats_record(job.spec, stats, items.table)
            files = [
                *sequences,
                *tables.files,
                *reading.files,
                _write_text(job, STATS, json.dumps(record, indent=2) + "\n"),
                _write_text(job, BUCKETS, _stats_text(buckets)),
            ]
            job.work.write_text(SUMMARY, Summary(counts, tables.features, files, reading.damaged).to_json())
        yield SUMMARY


def _stats_text(buckets: dict[str, SequenceStats]) -> str:
    """One bucket a line."""
    lines = [f'"{bucket}": {json.dumps(buckets[bucket].to_json())}' for bucket in sorted(buckets, key=int)]
    return "{\n" + ",\n".join(lines) + "\n}\n"

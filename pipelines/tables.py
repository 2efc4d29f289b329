"""Last pass: vocabulary, item and user tables, and the summary that the commit works from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from behavior.dataset import build_tables, item_vocabulary, merge_stats, nothing_left, stats_record
from behavior.manifest import Counts, FeatureEntry, FileEntry
from behavior.shards import ITEMS, REJECTED, STATS, USERS, VOCABULARY, file_entry, write_table
from pipelines.buckets import BucketReport, load_vocabulary
from pipelines.job import Job, read_arrow, write_arrow, write_text
from pipelines.reading import Reading


class FitVocabulary(beam.DoFn):
    """One element, the item counts -> path of the item vocabulary."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, counts: pa.Table) -> Iterator[str]:
        with self.job.errors_kept():
            path = self.job.path("vocabulary", "items.arrow")
            write_arrow(path, item_vocabulary(self.job.spec, counts).table)
        yield str(path)


@dataclass(frozen=True)
class TablesReport:
    """Files and features of the tables."""

    files: list[FileEntry]
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]


class WriteTables(beam.DoFn):
    """One element, the vocabulary, all bucket reports -> one `TablesReport`."""

    def __init__(self, job: Job) -> None:
        self.job = job

    def process(self, _: None, vocabulary: str, reports: list[BucketReport]) -> Iterator[TablesReport]:
        with self.job.errors_kept():
            spec, staging = self.job.spec, self.job.staging
            items = load_vocabulary(vocabulary, spec.vocabulary.oov)
            users = pa.concat_tables(
                [read_arrow(self.job.path("users", f"{r.bucket:05d}.arrow")) for r in _sorted(reports)]
            )
            tables = build_tables(spec, self.job.base, items, users)
            files = [write_table(tables.items, staging, ITEMS), write_table(tables.users, staging, USERS)]
            for name, words in tables.vocabularies.items():
                files.append(write_table(words, staging, f"{VOCABULARY}/{name}.parquet"))
            if tables.rejects:
                name = f"{REJECTED}/tables.jsonl"
                (staging / REJECTED).mkdir(parents=True, exist_ok=True)
                write_text(staging / name, "".join(reject.to_json() + "\n" for reject in tables.rejects))
                files.append(file_entry(staging, name, rows=len(tables.rejects)))
        yield TablesReport(files, tables.item_features, tables.user_features)


@dataclass(frozen=True)
class Summary:
    """What the pipeline hands to the commit."""

    counts: Counts
    item_features: list[FeatureEntry]
    user_features: list[FeatureEntry]
    files: list[FileEntry]

    def to_json(self) -> str:
        return json.dumps(
            {
                "counts": self.counts.model_dump(),
                "item_features": [entry.model_dump() for entry in self.item_features],
                "user_features": [entry.model_dump() for entry in self.user_features],
                "files": [entry.model_dump() for entry in self.files],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Summary:
        data = json.loads(text)
        return cls(
            Counts(**data["counts"]),
            [FeatureEntry(**entry) for entry in data["item_features"]],
            [FeatureEntry(**entry) for entry in data["user_features"]],
            [FileEntry(**entry) for entry in data["files"]],
        )


class WriteSummary(beam.DoFn):
    """One element and the results of all stages -> the path of summary.json."""

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
        with self.job.errors_kept():
            spec, staging = self.job.spec, self.job.staging
            stats = merge_stats([report.stats for report in _sorted(reports)])
            filtered = reading.filtered + sum(report.dropped for report in reports)
            if not stats.events:
                raise nothing_left(reading.read, filtered)
            items = load_vocabulary(vocabulary, spec.vocabulary.oov)
            counts = Counts(
                read=reading.read,
                accepted=stats.events,
                rejected=reading.rejected,
                filtered=filtered,
                events=stats.events,
                users=stats.users,
                items=len(items),
            )
            write_text(staging / STATS, json.dumps(stats_record(spec, stats, items.table), indent=2) + "\n")
            files = [*sequences, *tables.files, *reading.files, file_entry(staging, STATS, rows=0)]
            summary = Summary(counts, tables.item_features, tables.user_features, files)
            write_text(self.job.summary, summary.to_json())
        yield str(self.job.summary)


def _sorted(reports: list[BucketReport]) -> list[BucketReport]:
    """Side inputs come in any order; floating point sums and files must not depend on it."""
    return sorted(reports, key=lambda report: report.bucket)

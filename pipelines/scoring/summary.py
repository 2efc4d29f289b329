"""The end of a scoring job: what became of all rows and users, as the manifest tells it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from behavior.printable import printable_json
from pipelines.job import SUMMARY, left, unless_given_up
from pipelines.scoring.reports import PartReport, Totals
from pipelines.scoring.scorer import ScoringJob


class WriteSummary(beam.DoFn):
    """One element; side inputs: files of `Totals`, if any, and of all parts -> name of the summary."""

    def __init__(self, job: ScoringJob) -> None:
        self.job = job

    @unless_given_up
    def process(self, _: None, totals: str | None, parts: list[str]) -> Iterator[str]:
        work = self.job.work
        with self.job.stage("summary"):
            found = Totals() if totals is None else left(work, [totals])[0]
            work.write_text(SUMMARY, printable_json(summary_of(found, left(work, parts))))
        yield SUMMARY


def read_summary(job: ScoringJob) -> dict[str, Any]:
    """What `WriteSummary` wrote."""
    found: dict[str, Any] = json.loads(job.work.read_text(SUMMARY))
    return found


def summary_of(totals: Totals, parts: list[PartReport]) -> dict[str, Any]:
    """Counts and files.

    Raises:
        RuntimeError: the counts do not add up.
    """
    ordered = sorted(parts, key=lambda report: report.part)
    more: Counter[str] = Counter()
    for report in ordered:
        more.update(report.counts)
    users = {
        "in": sum(report.users for report in ordered),
        "answered": sum(report.answered for report in ordered),
        "empty": sum(report.empty for report in ordered),
        "rejected": sum(report.rejected for report in ordered),
    }
    if users["in"] != users["answered"] + users["empty"] + users["rejected"]:
        raise RuntimeError(f"users do not add up: {users}")
    entries = [report.entry for report in ordered if report.entry is not None]
    return {
        "rows": {
            "read": totals.read,
            "accepted": totals.read - totals.rejected,
            "rejected": totals.rejected,
            "written": sum(entry.rows for entry in entries),
        },
        "users": users,
        "counts": dict(sorted(more.items())),
        "files": [
            {"path": entry.path, "rows": entry.rows, "bytes": entry.bytes, "sha256": entry.sha256}
            for entry in [*entries, *totals.files]
        ],
    }

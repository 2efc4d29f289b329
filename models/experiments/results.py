"""Results of runs: one line each in a CSV file; means and standard deviations over seeds."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from behavior.errors import UserError
from models.evaluation.targets import Split
from models.runs.files import has_file, read_file, told

METRICS = ("ndcg@10", "hr@10")
"""Metrics that are shown by default."""

MISSES = ("oov_targets", "excluded_targets")
"""Targets that count as not found, whatever the model."""


@dataclass(frozen=True)
class RunRecord:
    """One finished run: a line of the CSV file."""

    table: str
    line: str
    seed: int
    settings: dict[str, Any]
    """Where the run differs from its recipe."""
    recipe: str
    digest: str
    """Of the whole configuration and the data set: the run's identity, whatever table asked."""
    data: str
    """Name of the data set."""
    time: str
    """Whether queries knew the time of what they predict."""
    test: dict[str, float]
    """Metrics and `MISSES`; empty where runs were compared on the validation split."""
    valid: dict[str, float]
    best_epoch: int
    """From 1; of the checkpoint that was judged."""
    epochs: int
    steps: int
    parameters: int
    minutes: float
    """Of training, validation included."""
    device: str
    version: str
    """Of lrm-kit."""

    def metrics(self, split: Split) -> dict[str, float]:
        """On one of the splits."""
        return self.test if split == "test" else self.valid


_JSON = ("settings", "test", "valid")
_NAMES = [field.name for field in fields(RunRecord)]
_RECORD = TypeAdapter(RunRecord)


def append_record(path: Path, record: RunRecord) -> None:
    """Add a line to a CSV file, which is begun where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    has_file(path)
    values = asdict(record)
    text = StringIO(newline="")
    writer = csv.DictWriter(text, _NAMES, lineterminator="\n")
    writer.writeheader()
    header = text.tell()
    writer.writerow(values | {name: json.dumps(values[name], sort_keys=True) for name in _JSON})
    with told(path, "cannot write"), path.open("ab") as file:
        with suppress(OSError):  # ablations in several folders may share a file; not all mounts know locks
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(text.getvalue()[header if file.seek(0, os.SEEK_END) else 0 :].encode())


def read_records(path: Path) -> list[RunRecord]:
    """The lines of such a file; none where there is no file.

    Raises:
        UserError: it is not such a file.
    """
    content = read_file(path)
    if content is None:
        return []
    records: list[RunRecord] = []
    try:
        for row in csv.DictReader(StringIO(content.decode("utf-8"), newline="")):
            values: dict[str, Any] = {name: row[name] for name in _NAMES}
            values |= {name: json.loads(values[name]) for name in _JSON}
            records.append(_RECORD.validate_python(values))
    except (KeyError, TypeError, ValueError, RecursionError, csv.Error):
        raise UserError(
            "this is not a line of ablation results",
            where=f"{path}, line {1 + len(records) + 1}",
            fix="name another file, or remove the line",
        ) from None
    return records


def summarize(
    records: Sequence[RunRecord], metrics: Sequence[str], split: Split = "test"
) -> list[dict[str, Any]]:
    """One entry a line, in the order of the records.

    Returns:
        `line`, `seeds`, the mean of each metric on the split and, with several seeds, its standard
        deviation as `metric sd`; `MISSES` (mean) where the records tell; `parameters`, `minutes` (mean).
    """
    lines: dict[str, list[RunRecord]] = {}
    for record in records:
        lines.setdefault(record.line, []).append(record)
    summary = []
    for line, runs in lines.items():
        entry: dict[str, Any] = {"line": line, "seeds": len(runs)}
        for metric in metrics:
            values = [run.metrics(split)[metric] for run in runs]
            entry[metric] = statistics.fmean(values)
            entry[f"{metric} sd"] = statistics.stdev(values) if len(values) > 1 else None
        for name in MISSES:
            if all(name in run.metrics(split) for run in runs):
                entry[name] = statistics.fmean(run.metrics(split)[name] for run in runs)
        entry["parameters"] = runs[0].parameters
        entry["minutes"] = statistics.fmean(run.minutes for run in runs)
        summary.append(entry)
    return summary

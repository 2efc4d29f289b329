"""An ablation: some tables on one data set, what of them was run before, and the comparison of all lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from behavior.config import did_you_mean
from behavior.errors import UsageError
from behavior.shards.lock import exclusive
from behavior.shards.storage import Folder, FolderLike, as_folder
from models.config import RunConfig
from models.evaluation.targets import Split
from models.experiments.results import METRICS, RunRecord, append_record, read_records, summarize
from models.experiments.runs import PlannedRun, known_record, plan_runs, run_all
from models.experiments.table import load_table

RESULTS = "results.csv"
"""The file with a line for every run, in the folder of the runs."""


@dataclass(frozen=True)
class Comparison:
    """One table, every run of it done."""

    title: str
    lines: list[dict[str, Any]]
    """As `models.experiments.results.summarize` makes them: mean and deviation over seeds."""
    records: list[RunRecord]

    @property
    def times(self) -> str:
        """Whether queries knew the time: `known`, `unknown`, `none`, or several of them."""
        return ", ".join(sorted({record.time for record in self.records}))

    @property
    def devices(self) -> str:
        """What the runs were trained on."""
        return ", ".join(sorted({record.device for record in self.records}))


class Ablation:
    """Tables of settings on one data set; nothing is trained before `run`.

    Args:
        tables: names of tables that ship with the package, or paths of YAML files.
        data: the shard folder.
        out: folder of the runs.
        csv: file of results, which are appended; None for results.csv in `out`. Runs in it are not run again.
        seeds: instead of the tables'.
        split: what lines are compared on; `valid` leaves the test split unread.
        metrics: what is compared; None for `models.experiments.results.METRICS`, of other tasks than
            retrieval for what chooses checkpoints and the metrics that every evaluation has.
        overrides: settings of all lines, such as `train.epochs=2`.
        refit: refit every run as well, whatever the tables say; a line of its own.

    Raises:
        UserError: a table, a setting or a metric is not known, or the data cannot be used; or refits are to
            be compared on the validation split, which they were trained on.
    """

    def __init__(
        self,
        tables: Sequence[str],
        data: FolderLike,
        out: Path,
        *,
        csv: Path | None = None,
        seeds: Sequence[int] | None = None,
        split: Split = "test",
        metrics: Sequence[str] | None = None,
        overrides: Sequence[str] = (),
        refit: bool = False,
    ) -> None:
        self.data, self.split, self.out = as_folder(data).url, split, Path(out)
        self.results = csv or out / RESULTS
        self.tables = [load_table(name) for name in tables]
        if split == "valid" and (refit or any(table.refit for table in self.tables)):
            raise UsageError(
                "refitted runs have learned the validation events: nothing can be compared on them",
                where="--split valid, refit",
                fix="compare on test, or leave refits out",
            )
        self.planned: list[list[PlannedRun]] = [
            plan_runs(_name(name), table, data, out, seeds=seeds, overrides=overrides, refit=refit)
            for name, table in zip(tables, self.tables, strict=True)
        ]
        for run in chain(*self.planned):
            _check_metrics(metrics or (), run.config)
        self.metrics = list(metrics or _usual(self.planned[0][0].config))
        self._asked = {run.digest: run for run in chain(*self.planned)}
        self.num_runs = len(self._asked)
        """Different runs; lines that agree in all settings are one."""
        self._read()

    def _read(self) -> None:
        records = read_records(self.results)
        self.known = {record.digest: record for record in records if record.metrics(self.split)}
        found = {digest: known_record(run, self.known) for digest, run in self._asked.items()}
        self.known |= {digest: record for digest, record in found.items() if record is not None}
        self.todo = [run for digest, run in self._asked.items() if found[digest] is None]
        """Runs without a result."""

    def run(self, jobs: int = 1) -> Iterator[RunRecord]:
        """Train and evaluate what is left to do, several at once; gives each result once it is written.

        The folder of the runs is held meanwhile.

        Raises:
            UserError: another ablation is running in the folder, or a run fails.
        """
        if not self.todo:
            return
        with exclusive(Folder(str(self.out))):
            self._read()  # another one may have ended there since
            for record in run_all(self.todo, self.data, jobs, self.split):
                append_record(self.results, record)
                self.known[record.digest] = record
                yield record

    def comparisons(self) -> list[Comparison]:
        """Every table; all runs must be done."""
        found = []
        for table, runs in zip(self.tables, self.planned, strict=True):
            # A run may have been made for a line of another name.
            records = [replace(self.known[run.digest], table=run.table, line=run.line) for run in runs]
            lines = summarize(records, self.metrics, self.split)
            found.append(Comparison(table.title or runs[0].table, lines, records))
        return found


def _name(table: str) -> str:
    return Path(table).stem if table.endswith((".yaml", ".yml")) else table


def _usual(config: RunConfig) -> list[str]:
    metrics = config.metrics()
    if all(name in [metric.name for metric in metrics] for name in METRICS):
        return list(METRICS)
    return list(dict.fromkeys([config.train.select_by, *(m.name for m in metrics if m.always)]))


def _check_metrics(metrics: Sequence[str], config: RunConfig) -> None:
    known = [metric.name for metric in config.metrics()]
    for name in metrics:
        if name not in known:
            raise UsageError(f"there is no metric '{name}'", where="--metric", fix=did_you_mean(name, known))

"""Points: what a run had seen, spent and reached at each of its validations. Laws are fitted to them."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

from behavior.errors import UserError
from behavior.wording import number_of
from models.runs.files import has_file
from models.runs.metrics_log import read_metrics
from models.runs.run_folder import RunFolder
from models.scaling.grid import Size, load_grid
from models.scaling.rates import resolve
from models.scaling.records import Result, Summary, ValidationLine, as_record, read_record
from models.scaling.store import Store, data_digest

Point = dict[str, Any]

_OF_SUMMARY = {
    *("backbone", "blocks", "width", "length", "seed", "learning_rate"),
    *("data_fraction", "data_by", "unique_events", "device"),
}
_FIX = "bring it back from a copy, or remove it: the report then leaves the run out"


def read_points(folder: Path) -> list[Point]:
    """The points of all finished runs below a folder, of a grid or of runs of any kind.

    Each is a row of plain values: `run` (the digest; without a grid the folder), `final` (whether it is the
    validation that chose the checkpoint), `backbone`, `dataset`, `blocks`, `width`, `length`, `seed`,
    `learning_rate`, `rate_chosen` (whether that is the rate of this size, and not one that was tried),
    `data_fraction`, `data_by`, `parameters_backbone`, `parameters_embedding`, `parameters`, `step`, `epoch`,
    `tokens` and `flops` up to here, `unique_events`, `loss` (`log_loss` of the validation), every validation
    metric by its name, `test NAME` at the final point, `seconds`, `gpu_seconds`, `joules`. What is not known
    is left out. Where runs are of several versions of one data set, `dataset` has the version's digest, too.

    Raises:
        UserError: a file of a run is damaged, or all runs of a grid are gone.
    """
    store = Store(folder)
    found = store.read_results()
    if not found:  # plain runs; or a grid whose results were not carried along, or are not written yet
        runs = sorted(path.parent for path in folder.rglob("summary.json"))
        return _of_versions(
            (data_digest(run), list(_points(RunFolder(run), run=run.name, rate_chosen=True))) for run in runs
        )
    if len(gone_runs(folder, found)) == len(found):
        raise UserError(
            f"the folder has {number_of(len(found), 'result')}, and no run that points could be read from",
            where=str(store.runs),
            fix=f"bring '{store.runs.name}' back from a copy, or remove '{store.results.name}' and run "
            "lrm scale again",
        )
    chosen = _chosen_runs(store, found)
    return _of_versions(
        (
            result.dataset or data_digest(folder / result.run),
            list(
                _points(
                    RunFolder(folder / result.run),
                    run=digest,
                    backbone=result.size.backbone,
                    rate_chosen=digest in chosen,
                    test=result.record.test,
                )
            ),
        )
        for digest, result in found.items()
    )


def gone_runs(folder: Path, results: Mapping[str, Result]) -> list[str]:
    """Runs of a grid's results whose summary or metrics are no longer there, by their folders."""
    runs = [RunFolder(folder / result.run) for result in results.values()]
    return [run.path.name for run in runs if not (has_file(run.summary) and has_file(run.metrics))]


def _of_versions(runs: Iterable[tuple[str | None, list[Point]]]) -> list[Point]:
    """The points of runs, data sets of one name told apart by their digests."""
    known = list(runs)
    digests: dict[str | None, set[str]] = defaultdict(set)
    for digest, points in known:
        for point in points[:1]:
            digests[point["dataset"]] |= set() if digest is None else {digest}
    for digest, points in known:
        for point in points:
            if len(digests[point["dataset"]]) > 1:
                point["dataset"] = f"{point['dataset']} ({(digest or 'unknown')[:8]})"
    return [point for _, points in known for point in points]


def _chosen_runs(store: Store, results: dict[str, Result]) -> set[str]:
    """Runs with the rate of their size, by the grid and the results alone.

    Where that rate was not run, since the folder's runs are of other grids as well, the best by validation of
    those that were.
    """
    grid = load_grid(store.grid_file)
    metric = grid.config(grid.sizes()[0]).selection_metric
    values = {(result.size, result.rate): result.record.valid for result in results.values()}

    def outcome(size: Size, rate: float | None) -> float:
        return metric.goodness(values.get((size, rate), {}))

    rates = resolve(grid, outcome).rates
    runs: dict[Size, dict[float | None, set[str]]] = defaultdict(lambda: defaultdict(set))
    for digest, result in results.items():
        runs[result.size][result.rate].add(digest)
    chosen: set[str] = set()
    for size, own in runs.items():
        rate = rates.get(size.shape)
        best = rate if rate in own else max(own, key=partial(outcome, size))
        chosen |= own[best] | own.get(None, set())
    return chosen


def _points(folder: RunFolder, *, test: dict[str, float] | None = None, **about: Any) -> Iterator[Point]:
    summary = read_summary(folder)
    if summary is None:
        return
    shared = {
        **summary.model_dump(include=_OF_SUMMARY),
        "dataset": summary.data,
        **{f"parameters_{part}": value for part, value in summary.parameters if part != "total"},
        "parameters": summary.parameters.total,
        **about,
    }
    for line in read_metrics(folder.metrics):
        if line["kind"] != "valid":
            continue
        found = as_record(ValidationLine, line, "the record of the run", str(folder.metrics), _FIX)
        seconds = math.nan if found.minutes is None else 60.0 * found.minutes
        share = seconds / summary.seconds if summary.seconds else math.nan
        final = found.epoch == summary.best_epoch
        yield {
            **shared,
            "final": final,
            "step": found.step,
            "epoch": found.epoch,
            **found.model_dump(include={"tokens", "flops"}, exclude_none=True),
            **({} if found.log_loss is None else {"loss": found.log_loss}),
            **{k: v for k, v in (found.model_extra or {}).items() if isinstance(v, float)},
            **({f"test {name}": value for name, value in (test or {}).items()} if final else {}),
            "seconds": seconds,
            "gpu_seconds": share * summary.gpu_seconds,
            **({} if summary.gpu_joules is None else {"joules": share * summary.gpu_joules}),
        }


def read_summary(run: RunFolder) -> Summary | None:
    """What a run says of itself; None where it has not ended.

    Raises:
        UserError: it is damaged.
    """
    return read_record(Summary, run.summary, "the summary of a run", _FIX)


def points_csv(points: Sequence[Point]) -> str:
    """The points as CSV: a column for every name that any of them has."""
    names = list(dict.fromkeys(name for point in points for name in point))
    text = StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: int(value) if isinstance(value, bool) else value for name, value in point.items()}
        for point in points
    )
    return text.getvalue()

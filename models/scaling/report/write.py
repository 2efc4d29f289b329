"""`lrm report`: what a folder of runs shows, in sections."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import yaml

from behavior.errors import UsageError, UserError
from behavior.files import check_local
from behavior.wording import number_of
from models.evaluation.targets import Split
from models.experiments.results import METRICS, RunRecord, read_records, summarize
from models.runs.files import write_atomically
from models.scaling.grid import ScaleGrid, load_grid
from models.scaling.laws.study import check_replicates
from models.scaling.lines import crowded_lines
from models.scaling.points import Point, gone_runs, points_csv, read_points
from models.scaling.report.figures import (
    at_an_end,
    draw_bars,
    draw_blocks,
    draw_compute,
    draw_rates,
    draw_speed,
    late_starts,
)
from models.scaling.report.laws_section import add_laws
from models.scaling.report.page import Page, Table
from models.scaling.store import Store

_RESULTS = "results.csv"
_FEW = 5
"""Runs that are named of more."""
_FACTS = ("backbone", "blocks", "width", "length", "data_fraction", "seed", "learning_rate")
_COSTS = ("parameters_backbone", "parameters_embedding", "tokens", "unique_events", "flops", "gpu_seconds")


_ABOUT = """\
Each run is judged on the validation split by the checkpoint that this split chose; numbers of the test split
stand beside where it was read. Parameters of the backbone and of embedding tables are counted apart. FLOPs
are those of forward and backward passes over the real lengths of all sequences, with causal pairs alone and
nothing counted that is computed twice to save memory. Tokens are counted each time they are seen, unique
events once."""


def write_report(folder: Path, file: Path, *, metric: str | None = None, replicates: int = 200) -> list[Path]:
    """Write the report of a grid, an ablation or any folder of runs, and its tables beside it.

    Args:
        folder: it and what it holds are only read.
        file: the page; tables are written into the folder `tables_beside` it.
        metric: of validations; None: the first of NDCG@10, AUC and what there is.
        replicates: of the laws' bootstrap, at least 2.

    Returns:
        All that was written, the page first.

    Raises:
        UsageError: the page's name is that of something else.
        UserError: there is nothing to report on, a file of the folder is damaged, or there are less than 2
            replicates.
    """
    check_replicates(replicates)
    check_local(file, "--html")
    if file.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"'{file}' is no name of a page", where="--html", fix="let it end in .html")
    if not folder.is_dir():
        raise UserError(f"there is no folder '{folder}'", fix="name the folder of a grid or of runs")
    points, records = read_points(folder), _ablations(folder)
    store = Store(folder)
    grid = load_grid(store.grid_file) if store.grid_file.exists() else None
    if not points and not records and grid is None:
        raise UserError(
            f"'{folder}' has no finished run: there is nothing to report on",
            fix="name the folder of a grid (lrm scale), of an ablation or of runs (lrm train)",
        )
    page = Page((grid.title if grid else "") or f"Runs in {folder.resolve().name}")
    shown = metric or _metric(points)
    _summary(page, points, grid, store, shown)
    if points:
        _curves(page, points, shown)
        add_laws(page, points, shown, replicates)
        _speed(page, points)
    _compare(page, records)
    if points:
        _every_run(page, points, shown)
    _failures(page, store)
    _how(page, store, grid, points)
    return _write(page, file, points)


def _write(page: Page, file: Path, points: Sequence[Point]) -> list[Path]:
    tables = tables_beside(file)
    contents = {file: page.html()} | {tables / f"{table.name}.csv": table.csv() for table in page.tables}
    if points:
        contents[tables / "points.csv"] = points_csv(points)
    for path, content in contents.items():
        write_atomically(path, content.encode())
    return list(contents)


def tables_beside(file: Path) -> Path:
    """The folder of a page's tables."""
    return file.with_name(f"{file.stem}-tables")


def _metric(points: Sequence[Point]) -> str:
    names = dict.fromkeys(name for point in points for name in point)
    wanted = ["ndcg@10", "auc", *(name for name in names if name.startswith("ndcg@"))]
    return next((name for name in wanted if name in names), "ndcg@10")


def _summary(page: Page, points: Sequence[Point], grid: ScaleGrid | None, store: Store, metric: str) -> None:
    page.section("In short")
    final = [point for point in points if point["final"]]
    data = ", ".join(sorted({str(point["dataset"]) for point in points})) or "none yet"
    devices = ", ".join(sorted({point["device"] for point in points})) or "none yet"
    minutes = sum(point["gpu_seconds"] for point in final) / 60.0
    page.say(
        f"{len(final)} finished runs with {len(points)} validations. Data: {data}. Trained on: {devices}. "
        f"Up to the chosen checkpoints {minutes:,.1f} GPU minutes, summed over runs that may have shared one."
    )
    if grid is not None:
        failed = len(store.read_failures())
        sizes = {result.size for result in store.read_results().values()}
        others = len(sizes - set(grid.sizes()))
        more = f" Runs of {number_of(others, 'other size')} are of other grids." if others else ""
        page.say(f"The grid has {number_of(len(grid.sizes()), 'size')}; {failed} of its runs failed.{more}")
        if points and not sizes:
            page.say(
                "There are no results in results/, which say what runs reached on test and which learning "
                "rate is that of a size: runs are shown as each tells of itself, at all the rates tried."
            )
    gone = gone_runs(store.path, store.read_results())
    if gone:
        some = ", ".join(gone[:_FEW]) + (" and others" if len(gone) > _FEW else "")
        page.say(
            f"Left out: {number_of(len(gone), 'finished run')} without summary.json or metrics.jsonl in "
            f"runs/ ({some}). Bring them back from a copy, or remove their files in results/ and run "
            "lrm scale again."
        )
    page.say(_ABOUT)
    best = _best_of_each(final, metric)
    if best:
        test = f"test {metric}"
        names = [*_FACTS, metric, test, *_COSTS]
        rows = [[point.get(name) for name in names] for point in best]
        page.say(f"The best run of each backbone, by {metric.upper()} on validation:")
        page.table(Table("best", names, rows))


def _best_of_each(final: Sequence[Point], metric: str) -> list[Point]:
    groups: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for point in final:
        if metric in point:
            groups[str(point["dataset"]), point["backbone"]].append(point)
    best = [max(own, key=lambda point: point[metric]) for own in groups.values()]
    return sorted(best, key=lambda point: -point[metric])


def _curves(page: Page, points: Sequence[Point], metric: str) -> None:
    page.section("Size and compute")
    page.plot(
        draw_blocks(points, metric),
        f"{metric.upper()} against the number of blocks",
        "there is one number of blocks only",
    )
    page.plot(
        draw_compute(points, "loss", "validation loss, nats a target", lower=True),
        "Loss against training compute: every run, and the frontier of what was reached",
        "no run has a validation loss (evaluation.log_loss)",
    )
    page.plot(
        draw_compute(points, metric, f"{metric.upper()}, validation", lower=False),
        f"{metric.upper()} against training compute",
        "there are too few validations",
    )
    page.plot(draw_rates(points, metric), "Learning rates that were tried", "no size tried several")
    edges = at_an_end(points, metric)
    if edges:
        page.note(
            "Best at the lowest or the highest rate tried, so that a better one may lie beyond: " + edges
        )
    late = late_starts(points)
    if late:
        page.note(
            "The loss at the first validation was above that of the smallest model: the learning rate may be "
            f"too high, and laws of size do not describe what had hardly begun to learn: {late}"
        )


def _speed(page: Page, points: Sequence[Point]) -> None:
    page.section("Speed")
    page.plot(draw_speed(points), "Tokens a second against size", "nothing was timed")
    page.note("Runs may have shared a device with others, which the summary of a run does not know.")


def _ablations(folder: Path) -> dict[str, list[RunRecord]]:
    """By table, and where one was run on several data sets, by them."""
    found: dict[tuple[str, str], list[RunRecord]] = defaultdict(list)
    for path in sorted(folder.rglob(_RESULTS)):
        for record in read_records(path):
            found[record.table, record.data].append(record)
    data: dict[str, set[str]] = defaultdict(set)
    for table, name in found:
        data[table].add(name)
    return {
        table if len(data[table]) == 1 else f"{table}, {name}": own for (table, name), own in found.items()
    }


def _compare(page: Page, records: dict[str, list[RunRecord]]) -> None:
    if not records:
        return
    page.section("Ablations")
    for number, (table, own) in enumerate(records.items(), 1):
        split: Split = "test" if all(record.test for record in own) else "valid"
        metrics = [name for name in METRICS if all(name in record.metrics(split) for record in own)]
        if not metrics:
            page.note(f"{table}: its runs have none of {', '.join(METRICS)} in common")
            continue
        lines = summarize(own, metrics, split)
        page.plot(draw_bars(f"{table}, {split} split", lines, metrics[0]), table, "")
        names = list(dict.fromkeys(name for line in lines for name in line))
        page.table(Table(f"ablation-{number}", names, [[line.get(name) for name in names] for line in lines]))


def _every_run(page: Page, points: Sequence[Point], metric: str) -> None:
    page.section("Every run")
    final = sorted((p for p in points if p["final"]), key=lambda p: tuple(str(p[name]) for name in _FACTS))
    names = [*_FACTS, "rate_chosen", "epoch", "loss", metric, f"test {metric}", *_COSTS, "joules", "run"]
    page.table(Table("runs", names, [[point.get(name) for name in names] for point in final]), most=300)
    page.note("all validations: points.csv")


def _failures(page: Page, store: Store) -> None:
    failures = store.read_failures()
    if failures:
        page.section("Failures")
        rows = [[each.size.label, each.rate, each.error, each.when] for each in failures.values()]
        page.table(Table("failures", ["run", "rate", "error", "when"], rows))


def _how(page: Page, store: Store, grid: ScaleGrid | None, points: Sequence[Point]) -> None:
    page.section("How it was made")
    if grid is not None:
        page.say("The grid:")
        page.plain(yaml.safe_dump(grid.model_dump(mode="json", exclude_defaults=True), sort_keys=False))
    for call in store.read_calls():
        cards = ", ".join(call.gpus) or "no GPU"
        page.say(
            f"{call.when}, {call.host}: {call.processor}, {call.cores} cores, {cards}; {call.system}, "
            f"Python {call.python}, torch {call.torch}, lrm-kit {call.version}"
        )
        page.plain(" ".join(call.command))
    for line in crowded_lines(store.read_crowded()):
        page.note(line)
    seconds = [result.wall_seconds for result in store.read_results().values() if result.wall_seconds]
    if seconds:
        page.note(f"A run took {statistics.median(seconds):,.1f} s in the median, evaluations included.")
    runs = len({point["run"] for point in points})
    drawn = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    page.note(f"Drawn {drawn} from {number_of(runs, 'run')}, by lrm report.")

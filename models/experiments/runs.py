"""The runs of an ablation table: planned, and trained and evaluated, several in parallel."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from behavior.errors import UserError
from behavior.runtime.versions import NOT_INSTALLED, installed_version
from behavior.shards.folder import open_shards
from behavior.shards.storage import FolderLike
from models.build import dataset_of
from models.config import RunConfig
from models.data.loading.part import Part
from models.evaluate_run import evaluate
from models.evaluation.targets import Split
from models.experiments.identity import earlier_digest, names_precision, run_digest
from models.experiments.pool import as_done, gpus_of
from models.experiments.results import MISSES, RunRecord
from models.experiments.table import AblationTable
from models.gpu.memory import free_memory
from models.training import refit, train
from models.training.observer import Silent, TrainStart

REFITTED_ON: Part = "train+valid"
"""What a refitted run of a table was trained on."""


@dataclass(frozen=True)
class PlannedRun:
    """One line of a table with one seed."""

    table: str
    line: str
    seed: int
    recipe: str
    settings: dict[str, Any]
    config: RunConfig
    data: str
    """Name of the data set."""
    digest: str
    """Of the whole configuration and the data set: runs of several lines or tables that agree are one."""
    folder: Path
    refits: PlannedRun | None = None
    """The run that this one trains anew, on validation events, too; see `models.training.refit`."""
    earlier: str | None = None
    """The digest that earlier versions recorded it by, where that is another."""


def plan_runs(
    name: str,
    table: AblationTable,
    data: FolderLike,
    out: Path,
    *,
    seeds: Sequence[int] | None = None,
    overrides: Sequence[str] = (),
    refit: bool = False,
) -> list[PlannedRun]:
    """Every run of a table, all seeds of a line one after the other; a refit follows the run that it refits.

    Args:
        name: of the table.
        table: the lines.
        data: the shard folder.
        out: folder of the runs.
        seeds: instead of the table's.
        overrides: settings of all lines, such as `train.epochs=2`.
        refit: refit every run, whatever the table says.

    Raises:
        UserError: the settings of a line are wrong, or the data cannot be used.
    """
    dataset = dataset_of(open_shards(data))
    runs = []
    for line, settings in table.lines().items():
        for seed in seeds or table.seeds:
            config = table.config(settings, seed, list(overrides))
            identity = run_digest(config, dataset["digest"])
            folder = out / f"{slug(line)}-seed-{seed}-{identity[:6]}"
            recipe = settings.get("recipe", table.recipe)
            own = {key: value for key, value in settings.items() if key != "recipe"}
            own |= {"--set": list(overrides)} if overrides else {}
            planned = PlannedRun(name, line, seed, recipe, own, config, dataset["name"], identity, folder)
            runs.append(replace(planned, earlier=earlier_digest(config, dataset["digest"])))
            if refit or table.refit:
                runs.append(_refit_of(runs[-1], dataset["digest"]))
    return runs


def _refit_of(run: PlannedRun, dataset: str) -> PlannedRun:
    changed = {"loader": run.config.loader.model_copy(update={"part": REFITTED_ON})}
    config = run.config.model_copy(update=changed)
    return replace(
        run,
        line=f"{run.line}, refitted",
        settings=run.settings | {"loader.part": REFITTED_ON},
        config=config,
        digest=run_digest(config, dataset),
        earlier=earlier_digest(config, dataset),
        folder=run.folder.with_name(f"{run.folder.name}-refitted"),
        refits=run,
    )


def known_record(run: PlannedRun, records: Mapping[str, RunRecord]) -> RunRecord | None:
    """The record of a run, by its digest or by the one that earlier versions knew it by; None: not done.

    By the earlier digest, one that was asked for in float32 is not that of a run of precision `auto`.

    Args:
        run: it.
        records: what is done, by digest.
    """
    found = records.get(run.digest)
    if found is not None or run.earlier is None:
        return found
    found = records.get(run.earlier)
    return None if found is None or names_precision(found.settings) else replace(found, digest=run.digest)


def sliced(breakdown: dict[str, Any], metrics: Sequence[str]) -> dict[str, float]:
    """What an evaluation says of slices (`evaluation.by`), as metrics of their own.

    >>> sliced({"popularity": {"tail": {"targets": 5, "hr@10": 0.2}}}, ["hr@10"])
    {'targets [popularity=tail]': 5.0, 'hr@10 [popularity=tail]': 0.2}
    """
    return {
        f"{name} [{attribute}={part}]": float(record[name])
        for attribute, parts in breakdown.items()
        for part, record in parts.items()
        for name in ("targets", *metrics)
        if name in record
    }


def _jobs(runs: Sequence[PlannedRun]) -> list[list[PlannedRun]]:
    """Runs by what they have to wait for: a refit stands in one job with the run that it refits."""
    jobs: dict[str, list[PlannedRun]] = {}
    for run in runs:
        jobs.setdefault(run.digest if run.refits is None else run.refits.digest, []).append(run)
    return list(jobs.values())


def run_all(runs: Sequence[PlannedRun], data: str, jobs: int, split: Split = "test") -> Iterator[RunRecord]:
    """Train and evaluate; yields each record as soon as its run is done.

    An interrupted run resumes from its last checkpoint. With several jobs, each is a process of its own that
    takes one run after the other: small models leave most of a GPU idle. Where there are several GPUs,
    jobs are spread over them. Where one fails, those beside it are still finished and given, no other begins,
    and its error is raised.

    Args:
        runs: what to run.
        data: the shard folder, or its url.
        jobs: how many in parallel.
        split: what runs are to be compared on; the test split is read for `test` only.
    """
    together = _jobs(runs)
    if jobs <= 1 or len(together) <= 1:
        yield from (run_one(run, data, split) for job in together for run in job)
        return
    failure: BaseException | None = None
    unless_one_failed = takewhile(lambda _: failure is None, together)
    work = partial(_run_job, data=data, split=split)
    for done in as_done(work, unless_one_failed, gpus_of(min(jobs, len(together)))):
        error = done.exception()
        if error is None:
            yield from done.result()
        failure = failure or error
    if failure is not None:
        raise failure


def _run_job(job: Sequence[PlannedRun], data: str, split: Split) -> list[RunRecord]:
    return [run_one(run, data, split) for run in job]


def run_one(run: PlannedRun, data: str, split: Split) -> RunRecord:
    """Train one run; evaluate the checkpoint of its best validation on test, if test is asked for."""
    start, names = _Start(), [metric.name for metric in run.config.metrics()]
    if run.refits is None:
        result = train(run.config, data, run.folder, resume="auto", observer=start)
    else:
        # Where it is done already, this finds it so.
        train(run.refits.config, data, run.refits.folder, resume="auto")
        result = refit(run.refits.folder, run.folder, data=data, resume="auto", observer=start)
    noted = (*names, *MISSES)
    valid = {name: result.best_metrics[name] for name in noted if name in result.best_metrics}
    if split == "valid" and not set(names) & set(valid):
        raise UserError(
            "runs cannot be compared on the validation split: nobody is validated",
            where=data,
            fix="compare on test, or prepare the data with another split",
        )
    free_memory()
    test = evaluate(run.folder, "test", device=run.config.train.device) if split == "test" else {}
    return RunRecord(
        table=run.table,
        line=run.line,
        seed=run.seed,
        settings=run.settings,
        recipe=run.recipe,
        digest=run.digest,
        data=run.data,
        time=result.best_metrics.get("time") or test.get("time", "none"),
        test={name: test[name] for name in noted if name in test} | sliced(test.get("breakdown", {}), names),
        valid=valid,
        best_epoch=result.best_epoch or 1,
        epochs=result.epochs,
        steps=result.step,
        parameters=start.parameters,
        minutes=round(result.minutes, 3),
        device=start.device,
        version=installed_version() or NOT_INSTALLED,
    )


class _Start(Silent):
    """Keeps what is told at the start."""

    parameters = 0
    device = ""

    def started(self, start: TrainStart) -> None:
        self.parameters = start.parameters
        self.device = _device_name(start.device)


def _device_name(device: str) -> str:
    several, cuda, _ = device.partition("cuda")
    return several + torch.cuda.get_device_name() if cuda else device


def slug(line: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", line.lower()).strip("-") or "line"

"""What the runs of a grid will cost, before any of them begins: parameters, operations, memory, time."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from behavior.errors import UserError
from behavior.shards.folder import open_shards
from models.build import build_task, make_loader, sequences_of
from models.config import RunConfig
from models.data.loading import TrainLoader
from models.gpu.device import pick_device
from models.gpu.precision import pick_precision
from models.scaling.grid import Size
from models.scaling.progress import Progress, State
from models.tasks.flops import StepWork
from models.tasks.sizes import Parameters, parameters_of
from models.tasks.task import Task

_SAMPLE = 12
"""Batches that the lengths of an epoch are estimated by; a run itself counts all of them."""
_GAIN = 3.0
"""Runs that a device does in the time of one, where many share it: a guess, until some are done."""
_CONTEXT = 0.7 * 2**30
"""Bytes that a process has on a GPU before its first tensor: the driver's context and libraries."""
_ADAM = 4
"""Numbers kept for each parameter: itself, its gradient and two moments."""
_START = 2.0
"""Seconds of a run besides its steps, however small: data are opened, a model is built, files are written."""


@dataclass(frozen=True)
class Pace:
    """How fast a device is taken to be, until runs in the folder tell."""

    step: float
    """Seconds of a step besides its blocks."""
    block: float
    """Seconds of a block, forward and backward, however small: the launches of its kernels."""
    flops: float
    """Operations a second."""


# As measured on one H200 with recorded steps (docs/results.md), and on one core of a server's CPU.
GPU, CPU = Pace(1.4e-3, 0.52e-3, 2e13), Pace(10e-3, 3e-3, 2e10)


@dataclass(frozen=True)
class Estimate:
    """Of one run."""

    parameters: Parameters
    flops: float
    """Of all epochs, forward and backward."""
    memory: float
    """Bytes, about."""
    seconds: float
    """Alone on its device."""
    steps: int


class Planner:
    """Estimates runs of a grid; what many have in common is looked at once.

    Args:
        progress: of the grid.
        data: the shard folder.
    """

    def __init__(self, progress: Progress, data: str) -> None:
        self.progress, self.shards = progress, open_shards(data)
        self._epochs: dict[str, tuple[StepWork, int]] = {}
        self._known: dict[tuple[Any, ...], Estimate] = {}

    def estimate(self, size: Size) -> Estimate:
        """What a run of a size takes, whatever its learning rate and seed."""
        key = (*size.shape, size.length, size.data)
        if key not in self._known:
            self._known[key] = self._estimate(self.progress.grid.config(size))
        return self._known[key]

    def _estimate(self, config: RunConfig) -> Estimate:
        with torch.random.fork_rng(devices=[]):
            task = build_task(config, self.shards)
        work, steps = self._epoch(config, task)
        epochs = config.train.epochs_to_train
        flops = epochs * task.flops().exact(work)
        parameters = parameters_of(task.model)
        pace = CPU if config.train.device == "cpu" or not torch.cuda.is_available() else GPU
        launches = epochs * steps * (pace.step + pace.block * config.model.blocks)
        return Estimate(
            parameters=parameters,
            flops=flops,
            memory=(0.0 if pace is CPU else _CONTEXT)
            + 4.0 * _ADAM * parameters.total
            + _activations(task.model, work.tokens / steps, config),
            seconds=_START + launches + flops / pace.flops,
            steps=epochs * steps,
        )

    def _epoch(self, config: RunConfig, task: Task) -> tuple[StepWork, int]:
        """The work of an epoch and its steps, from its first batches."""
        parts = (config.loader, config.data, config.model.max_length, config.model.input_behaviors)
        layout = (config.embedding.layout, config.train.batch_sequences, config.train.batch_tokens)
        key = repr((*parts, *layout, config.model.attention_window, config.model.attention_global))
        if key not in self._epochs:
            source = sequences_of(self.shards, config, task.columns)
            loader = make_loader(config, source, self.shards.manifest.behaviors)
            try:
                self._epochs[key] = _look(loader, task), -(-len(loader) // config.train.accumulate)
            finally:
                loader.close()
        return self._epochs[key]


def _look(loader: TrainLoader, task: Task) -> StepWork:
    totals, samples = [0.0, 0.0, 0.0], 0
    for number, batch in enumerate(loader, start=1):
        lengths = task.token_lengths(batch)
        found = (sum(lengths), task.squared_lengths(lengths), len(task.prepare(batch).positions))
        totals = [total + value for total, value in zip(totals, found, strict=True)]
        samples += batch.num_sequences
        if number == _SAMPLE:
            break
    scale = loader.samples / max(1, samples)
    return StepWork(*(scale * total for total in totals))


def _activations(model: nn.Module, tokens: float, config: RunConfig) -> float:
    """Bytes that a step keeps for its backward pass: what linear layers take and give."""
    width = sum(
        part.in_features + part.out_features for part in model.modules() if isinstance(part, nn.Linear)
    )
    precision = pick_precision(config.train.precision, pick_device(config.train.device))
    each = 2.0 if precision == "bf16-mixed" else 4.0
    return 1.5 * each * tokens * width


def plan_of(progress: Progress, state: State, planner: Planner) -> list[dict[str, Any]]:
    """Every run of a grid, also those whose rate is not known yet, and what each is expected to take.

    A run that cannot be built has no numbers, and `error` says why: it will fail, and others go on. Seconds
    are corrected by what finished runs of the folder took, where there are any, and are those of a run alone.
    """
    rows = [
        _row(planner, asked.size, asked.rate, asked.searches, _status(state, run.digest))
        for asked, run in state.runs
    ]
    rows += [_row(planner, size, None, False, "waits for a rate") for size in state.waiting]
    took = {key: result.wall_seconds / _slower(result.sharing) for key, result in state.results.items()}
    ratios = [
        took[run.digest] / planner.estimate(asked.size).seconds
        for asked, run in state.runs
        if took.get(run.digest)
    ]
    factor = statistics.median(ratios) if ratios else 1.0
    for row in rows:
        if row["seconds"] is not None:
            row["seconds"] = round(row["seconds"] * factor, 1)
    return rows


def _status(state: State, digest: str) -> str:
    return "done" if digest in state.results else "failed" if digest in state.failures else "left"


def _row(planner: Planner, size: Size, rate: float | None, searches: bool, status: str) -> dict[str, Any]:
    about = {
        **asdict(size),
        "label": size.label,
        "learning_rate": rate,
        "searches": searches,
        "status": status,
    }
    try:
        found = planner.estimate(size)
    except UserError as error:
        return {**about, **dict.fromkeys(_NUMBERS), "error": str(error)}
    return {
        **about,
        "parameters_backbone": found.parameters.backbone,
        "parameters_embedding": found.parameters.embedding,
        "parameters": found.parameters.total,
        "flops": found.flops,
        "memory_bytes": found.memory,
        "seconds": found.seconds,
        "steps": found.steps,
    }


_NUMBERS = (
    *("parameters_backbone", "parameters_embedding", "parameters"),
    *("flops", "memory_bytes", "seconds", "steps"),
)


def expected_seconds(rows: list[dict[str, Any]], sharing: int) -> dict[str, float]:
    """Seconds a run of each size by its label, several beside it on its device."""
    known = [row for row in rows if row["seconds"] is not None]
    return {row["label"]: row["seconds"] * _slower(sharing) for row in known}


def _slower(sharing: int) -> float:
    """How many times as long a run is taken to need with others on its device, so many together."""
    return max(1.0, sharing / _GAIN)


def as_json(rows: list[dict[str, Any]]) -> str:
    """For plan.json."""
    return json.dumps(rows, indent=1) + "\n"

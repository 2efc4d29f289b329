"""Small training runs, and what is left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from models.config import RunConfig, load_config
from models.runs.checkpoint import load_checkpoint
from models.runs.metrics_log import read_metrics
from models.training.observer import Silent, StepProgress, TrainResult, TrainStart, Validation
from tests.models.shards import World, leave_one_out, write_shards

ITEMS = 9
SETTINGS = [
    "model.dim=8",
    "model.blocks=1",
    "model.max_length=8",
    "train.device=cpu",
    "train.precision=32-true",
    "train.cuda_graphs=false",  # on a GPU too
    "train.epochs=3",
    "train.batch_sequences=8",
    "train.log_every_steps=2",
    "train.checkpoint_every_steps=3",
    "evaluation.cutoffs=[1, 10]",
    "evaluation.exclude_seen=true",
]
STEPS_A_EPOCH = 4
TIMINGS = ("minutes", "minutes_left", "tokens_per_second", "flops_per_second", "mfu", "waiting")


class Killed(BaseException):
    """What a signal would do: nothing catches it."""


class Watcher(Silent):
    """Notes everything down; may kill the training at a given moment."""

    def __init__(self, *, at_report: int | None = None, at_validation: int | None = None) -> None:
        self.at_report, self.at_validation = at_report, at_validation
        self.start: TrainStart | None = None
        self.reports: list[StepProgress] = []
        self.validations: list[Validation] = []
        self.result: TrainResult | None = None

    def started(self, start: TrainStart) -> None:
        self.start = start

    def stepped(self, progress: StepProgress) -> None:
        self.reports.append(progress)
        if len(self.reports) == self.at_report:
            raise Killed

    def validated(self, validation: Validation) -> None:
        self.validations.append(validation)
        if len(self.validations) == self.at_validation:
            raise Killed

    def finished(self, result: TrainResult) -> None:
        self.result = result


def circle(folder: Path, behaviors: Sequence[str] = ("view",)) -> Path:
    """Shards of items in a circle: each is followed by the next one. 31 sequences, and one too short.

    Args:
        folder: of the shards.
        behaviors: all of them targets; which an event has follows from its place and the first item.
    """
    rows = [[2 + (start + step) % ITEMS for step in range(8 + start % 3)] for start in range(31)]
    users = [
        replace(user, behavior=[1 + user.item[0] * step % len(behaviors) for step in range(len(user.item))])
        for user in leave_one_out([2, 3], *rows)
    ]
    return write_shards(folder, users, World(num_items=ITEMS, behaviors=behaviors, targets=behaviors))


def settings(*overrides: str) -> RunConfig:
    return load_config("default", [*SETTINGS, *overrides])


def records(run: Path) -> list[dict[str, Any]]:
    """What was logged, without how long it took."""
    return [
        {k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(run / "metrics.jsonl")
    ]


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / f"{name}.safetensors").model


def same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

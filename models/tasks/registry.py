"""Which tasks there are, by the name that `task.kind` gives. Nothing is imported by name: others register."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from behavior.errors import UserError
from models.evaluation.actions.labels import VALUE
from models.evaluation.actions.names import BINARY, LOWER_IS_BETTER, REGRESSION
from models.evaluation.metrics import metric_names
from models.registered import unknown_name

if TYPE_CHECKING:  # settings are read without torch
    from behavior.shards.folder import ShardFolder
    from models.distributed.tables import MakeItemTable
    from models.evaluation.config import EvaluationConfig
    from models.tasks.config import TaskConfig, TaskSettings
    from models.tasks.task import Task

    Build = Callable[[TaskSettings, ShardFolder, MakeItemTable], Task]
    """Makes a task with fresh weights, on the CPU, drawn from torch's global generator."""


@dataclass(frozen=True)
class Metric:
    """A number that an evaluation gives, which `train.select_by` may name."""

    name: str
    higher_is_better: bool = True
    in_curves: bool = True
    """Whether it is drawn in the run's curves."""
    always: bool = True
    """Whether every evaluation of anybody has it: an AUC of users with one row each does not exist."""

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value is better than the best one so far."""
        if best is None:
            return True
        return value > best if self.higher_is_better else value < best

    def goodness(self, found: Mapping[str, float]) -> float:
        """How good an evaluation is by it, higher is better; minus infinity where it is not there or NaN."""
        value = found.get(self.name, math.nan)
        return -math.inf if math.isnan(value) else value if self.higher_is_better else -value


@dataclass(frozen=True)
class TaskKind:
    """A task before it has settings and data."""

    name: str
    metrics: Callable[[EvaluationConfig], list[Metric]]
    """All metrics of its evaluations."""
    build: Build
    metrics_of: Callable[[TaskConfig], list[Metric]] | None = None
    """Instead, where they depend on what the task is about."""
    select_by: Callable[[Any], str] | None = None
    """The default of `train.select_by`, of the `task.label` as it was given; None: that of retrieval."""
    captured: bool = False
    """Whether `train.cuda_graphs=auto` captures its steps as CUDA graphs: nothing in its objective waits for
    the device, or depends on lengths that only the device knows."""


def register_task(kind: TaskKind) -> TaskKind:
    """Make a kind known to `task.kind`, in place of one of the same name.

    Every process that reads its settings must do so first, those of `lrm evaluate` and of serving included.
    """
    _KINDS[kind.name] = kind
    return kind


def task_kind(name: str) -> TaskKind:
    """The kind of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in _KINDS:
        raise unknown_name("task", name, _KINDS, "call models.tasks.register_task", where="task.kind")
    return _KINDS[name]


def check_known_elsewhere(name: str) -> None:
    """Check that a process which is started with the settings alone has the task.

    Raises:
        UserError: it is one that this program registered.
    """
    if name not in (RETRIEVAL.name, RANKING.name):
        raise UserError(
            f"processes started by a training do not know task '{name}', which this program registered",
            where="train.devices",
            fix="use one device, or start the program itself once a device, with torchrun",
        )


def _retrieval_metrics(config: EvaluationConfig) -> list[Metric]:
    return [Metric(name, in_curves=not name.startswith("mrr@")) for name in metric_names(config.cutoffs)]


def _build_retrieval(settings: TaskSettings, shards: ShardFolder, make_items: MakeItemTable) -> Task:
    from models.tasks.retrieval import build_retrieval

    return build_retrieval(settings, shards, make_items)


_KINDS: dict[str, TaskKind] = {}

RETRIEVAL = register_task(TaskKind("retrieval", _retrieval_metrics, _build_retrieval, captured=True))


def _ranking_metrics(config: TaskConfig) -> list[Metric]:
    labels = [config.label] if isinstance(config.label, str) else config.label or []
    numbers = [label for label in labels if label.strip() == VALUE]
    names = [*(BINARY if len(numbers) < len(labels) or not labels else ()), *(REGRESSION if numbers else ())]
    return [
        Metric(
            name,
            higher_is_better=name not in LOWER_IS_BETTER,
            in_curves=name in ("auc", "gauc", "log_loss", "rmse"),
            always=name in ("log_loss", "rmse"),
        )
        for name in names
    ]


def _build_ranking(settings: TaskSettings, shards: ShardFolder, make_items: MakeItemTable) -> Task:
    from models.tasks.ranking import build_ranking

    return build_ranking(settings, shards, make_items)


RANKING = register_task(
    TaskKind(
        "ranking",
        lambda config: [],
        _build_ranking,
        metrics_of=_ranking_metrics,
        select_by=lambda label: "rmse" if label in (VALUE, [VALUE]) else "auc",
        captured=True,
    )
)

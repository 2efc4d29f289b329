"""Tasks: what a backbone is trained for, with its model, its loss and its evaluator.

In come settings and a data set (`build` of a `TaskKind`), out comes a `Task`, through which training,
checkpoints, evaluation and serving work without naming one. May import data, inputs, backbones, losses,
evaluation and distributed; neither training nor runs.
"""

from models.tasks.registry import Metric, TaskKind, register_task, task_kind

__all__ = ["Metric", "TaskKind", "register_task", "task_kind"]

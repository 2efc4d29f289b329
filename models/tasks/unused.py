"""Settings of a run that change nothing as its task stands: imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from behavior.config import Config, Unused
from models.tasks.config import TaskSettings

_OF_RETRIEVAL = (
    *("evaluation.cutoffs", "evaluation.exclude_seen", "evaluation.candidates", "evaluation.new_items"),
    "evaluation.log_loss",
)
_NEVER = (
    *("loss.loss_on", "loss.history", "loss.jumps", "loss.trends", "loss.next_behavior_weight"),
    *("loss.behavior_weights", "loss.attributes_weight", "loss.views"),
)
"""What ranking refuses whatever is trained beside it: `models.tasks.ranking.checks` says why."""


def unused_of_task(settings: TaskSettings) -> Iterator[Unused]:
    """Settings of the loss and of evaluation that are another task's. One from Python may use any of them."""
    task = settings.task
    if task.kind == "retrieval":
        yield Unused(["evaluation.known_only"], "task.kind is retrieval", "set task.kind to ranking")
    if task.kind == "ranking" and not task.retrieval_weight:
        names = [name for name in _names(settings.loss, "loss.") if not name.startswith(_NEVER)]
        why = "task.retrieval_weight is 0, so that ranking is all that is trained"
        yield Unused([*names, *_OF_RETRIEVAL], why, "set task.retrieval_weight")


def _names(config: Config, prefix: str) -> Iterator[str]:
    for name in type(config).model_fields:
        inner = getattr(config, name)
        if isinstance(inner, Config):
            yield from _names(inner, f"{prefix}{name}.")
        else:
            yield prefix + name

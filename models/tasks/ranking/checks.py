"""Which settings of the input and of the loss make sense where actions are ranked."""

from __future__ import annotations

from typing import Any

from behavior.errors import UserError
from models.tasks.config import TaskSettings

_OWN_ORDER = "ranking has an order of tokens of its own, in which actions stand: task.actions"
_LABEL = "what is done with the candidate is what is predicted"


def check_ranking(settings: TaskSettings) -> None:
    """Check that no setting asks for what ranking has not.

    Raises:
        UserError: one does; says why and what to do.
    """
    embedding, loss = settings.embedding, settings.loss
    checked: list[tuple[str, Any, Any, str]] = [
        ("embedding.layout", embedding.layout, "event", _OWN_ORDER),
        ("embedding.behaviors", embedding.behaviors, "none", _OWN_ORDER),
        ("embedding.query_behavior", embedding.query_behavior, "none", _LABEL),
        ("embedding.domains", embedding.domains, "none", "domains are not embedded"),
        ("embedding.query_domain", embedding.query_domain, "none", "domains are not embedded"),
        ("model.input_behaviors", settings.model.input_behaviors, "all", "every event is a row"),
        ("data.domain", settings.data.domain, None, "one domain alone is not ranked"),
        ("loss.loss_on", loss.loss_on, "all", "every event is a row"),
        ("loss.history", loss.history, "none", _SOFTMAX),
        ("loss.jumps", loss.jumps, "none", _SOFTMAX),
        ("loss.trends", loss.trends, "none", _SOFTMAX),
        ("loss.next_behavior_weight", loss.next_behavior_weight, 0.0, _SOFTMAX),
        ("loss.behavior_weights", loss.behavior_weights, {}, "labels have weights: task.weights"),
        ("loss.attributes_weight", loss.attributes_weight, 0.0, _SOFTMAX),
        ("loss.views.weight", loss.views.weight, 0.0, _SOFTMAX),
        ("evaluation.target_behavior", settings.evaluation.target_behavior, None, "every event is a row"),
    ]
    for name, value, usual, why in checked:
        if value != usual:
            raise _refused(name, value, usual, why)
    if embedding.features == "attention_only":
        raise _refused("embedding.features", "attention_only", "add", "candidates have values, too")
    repeat = settings.loader.sampling.repeat
    if repeat is not None:
        raise _refused("loader.sampling.repeat", repeat, None, "a copy would show the answer")
    if len(set(settings.task.counters)) < len(settings.task.counters):
        raise UserError(
            "a counter stands there twice",
            where=f"task.counters = {settings.task.counters}",
            fix="name each once",
        )


_SOFTMAX = "that is of a softmax over items, and here one item is asked about"


def _refused(name: str, value: Any, usual: Any, why: str) -> UserError:
    shown = {None: "null"}.get(usual, usual) if not isinstance(usual, dict) else "{}"
    return UserError(
        f"ranking does without {name}: {why}", where=f"{name} = {value}", fix=f"--set {name}={shown}"
    )

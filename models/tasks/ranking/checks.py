"""Which settings of the input and of the loss make sense where actions are ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from behavior.errors import UserError
from models.data.about import About
from models.evaluation.actions.labels import Label
from models.tasks.config import TaskSettings

FloatArray = npt.NDArray[np.float64]

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
    if settings.task.collaboration and not settings.task.members:
        raise UserError(
            "one model has nobody to agree with",
            where=f"task.collaboration = {settings.task.collaboration}",
            fix="name members: --set 'task.members=[hstu, hstu]'",
        )
    _check_negatives(settings)


def check_counters(settings: TaskSettings, about: About) -> None:
    """Check that counters can be made of the data set.

    Raises:
        UserError: one stands there twice, rates are to be those of users, or one needs timestamps.
    """
    task = settings.task
    for name in ("counters", "counter_facts", "rates"):
        listed = getattr(task, name)
        if len(set(listed)) < len(listed):
            where = f"task.{name} = {listed}"
            raise UserError("a counter stands there twice", where=where, fix="name each once")
    if "user" in task.rates:
        raise UserError(
            "users are told of by their own counters",
            where=f"task.rates = {task.rates}",
            fix="name user in task.counters instead",
        )
    if about.has_time:
        return
    if task.rates:
        raise UserError(
            "what everybody did before a moment needs timestamps, and this data set has none",
            where=f"task.rates = {task.rates}",
            fix="--set 'task.rates=[]'",
        )
    if "since" in task.counter_facts:
        raise UserError(
            "how long ago something was needs timestamps, and this data set has none",
            where=f"task.counter_facts = {task.counter_facts}",
            fix="leave since out",
        )


def _check_negatives(settings: TaskSettings) -> None:
    """Raise UserError where negatives are asked for beside what nobody knows of them."""
    task = settings.task
    if not task.negatives.ratio:
        return
    where = f"task.negatives.ratio = {task.negatives.ratio}"
    sampling = settings.loader.sampling
    if (task.rates or task.counters) and (sampling.stochastic_length or sampling.quotas):
        raise UserError(
            "what is counted for a drawn item is counted up to the next event of the log, and samples that "
            "leave events out go on with another",
            where=f"{where}, task.counters = {task.counters}, task.rates = {task.rates}",
            fix="leave out loader.sampling.stochastic_length and loader.sampling.quotas, or the counters",
        )
    if task.retrieval_weight:
        raise UserError(
            "retrieval draws negatives of its own, and learns no sampled row",
            where=where,
            fix="--set task.retrieval_weight=0",
        )


def check_learnable(
    labels: Sequence[Label], rows: FloatArray, total: FloatArray, *, drawn: bool = False
) -> None:
    """Check that the training part says something of each label.

    Args:
        labels: what is learned.
        rows: [labels] events of the training part that have it.
        total: [labels] its sum over them: of an action, how many are 1.
        drawn: whether sampled negatives, which are 0, are added.

    Raises:
        UserError: no event has a label, or all have the same: of an action, 1 or 0.
    """
    for label, count, ones in zip(labels, rows, total, strict=True):
        where = f"label {label.name}, {int(count):,} training events"
        if count == 0:
            raise UserError("no training event has the label", where=where, fix=_OTHER_LABEL)
        if label.is_binary and (ones == 0 or (ones == count and not drawn)):
            raise UserError(
                f"the label is {int(ones > 0)} for every training event that has it",
                where=where,
                fix=_OTHER_LABEL
                if ones == 0
                else f"{_OTHER_LABEL}, or draw negatives: task.negatives.ratio=1",
            )


_OTHER_LABEL = "name another label in task.label or task.auxiliary, or train on more data"


def check_ensemble(settings: TaskSettings, labels: Sequence[Label]) -> None:
    """Check that members make sense together.

    Raises:
        UserError: there is one, a label is a number, or retrieval is to be trained, too.
    """
    task, where = settings.task, f"task.members = {settings.task.members}"
    if len(task.members) < 2:
        fix = f"--set model.kind={task.members[0]}, and leave task.members out"
        raise UserError("an ensemble of one member is that member", where=where, fix=fix)
    if not all(label.is_binary for label in labels):
        raise UserError(
            "members are fused by how sure they are of an action, and a number is predicted",
            where=where,
            fix="predict actions, or one model: --set task.members=[]",
        )
    if task.retrieval_weight:
        raise UserError(
            "retrieval is trained with one model alone", where=where, fix="--set task.retrieval_weight=0"
        )


_SOFTMAX = "that is of a softmax over items, and here one item is asked about"


def _refused(name: str, value: Any, usual: Any, why: str) -> UserError:
    shown = {None: "null"}.get(usual, usual) if not isinstance(usual, dict) else "{}"
    return UserError(
        f"ranking does without {name}: {why}", where=f"{name} = {value}", fix=f"--set {name}={shown}"
    )

"""Whether settings about behaviors fit the data set and each other, before anything is built."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from behavior.config import did_you_mean
from behavior.errors import UserError
from models.data.about import About
from models.data.kept import kept_behaviors
from models.inputs.layouts.registry import BY_BEHAVIOR
from models.tasks.config import TaskSettings


def check_behaviors(settings: TaskSettings, about: About) -> None:
    """Check that behaviors which settings name are there, and that what they ask for makes sense.

    Raises:
        UserError: what does not, and what to do.
    """
    kept = kept_behaviors(settings.model.input_behaviors, about)
    loss_weights(settings, about)
    _check_next_behavior(settings, about.num_behaviors if kept is None else int(kept.sum()))
    if kept is None:
        return
    inputs = [name for number, name in enumerate(about.behaviors, 1) if kept[number]]
    if len(inputs) < 2 and settings.embedding.layout in BY_BEHAVIOR:
        raise UserError(
            f"only '{inputs[0]}' is an input: tokens that name the behavior would tell nothing",
            where=f"embedding.layout = {settings.embedding.layout}",
            fix="--set embedding.layout=event, or more of model.input_behaviors",
        )
    for name in settings.loader.sampling.quotas:
        if name in about.behaviors and name not in inputs:
            raise UserError(
                f"there is a quota for '{name}', of which no event is an input",
                where="loader.sampling.quotas",
                fix=f"leave it out, or add '{name}' to model.input_behaviors",
            )


def loss_weights(settings: TaskSettings, about: About) -> Tensor | None:
    """[behavior ids] float32 weight of what is predicted, by its behavior; None: all weigh the same.

    Raises:
        UserError: a behavior is not known, or none of its events carries loss anyway; or all weigh nothing.
    """
    weights, where = settings.loss.behavior_weights, "loss.behavior_weights"
    if not weights:
        return None
    kept = kept_behaviors(settings.model.input_behaviors, about)
    learned = np.ones(about.num_behaviors + 1, bool) if kept is None else kept
    learned = learned & about.is_target() if settings.loss.loss_on != "all" else learned
    table = torch.ones(about.num_behaviors + 1)
    for name, weight in weights.items():
        if name not in about.behaviors:
            fix = did_you_mean(name, about.behaviors)
            raise UserError(f"the data set has no behavior '{name}'", where=where, fix=fix)
        number = about.behaviors.index(name) + 1
        if not learned[number]:
            why = "is no input" if kept is not None and not kept[number] else "is no target (loss.loss_on)"
            raise UserError(
                f"'{name}' has a weight, and {why}: none of its events is predicted in training",
                where=where,
                fix=f"leave '{name}' out",
            )
        table[number] = weight
    if not table.numpy()[1:][learned[1:]].any():
        raise UserError(
            "all behaviors weigh 0: nothing is learned", where=where, fix="give one a weight above 0"
        )
    return table


def _check_next_behavior(settings: TaskSettings, inputs: int) -> None:
    if not settings.loss.next_behavior_weight:
        return
    where = f"loss.next_behavior_weight = {settings.loss.next_behavior_weight}"
    if inputs < 2:
        raise UserError("there is one behavior: which comes next is known", where=where, fix="set it to 0")
    if settings.embedding.query_behavior == "add":
        raise UserError(
            "the query is told the behavior of the next event, and would predict what it was told",
            where=where,
            fix="--set embedding.query_behavior=none, or --set embedding.layout=behavior_first, where the "
            "item's token is not told yet",
        )

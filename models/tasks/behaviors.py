"""Whether settings about behaviors fit the data set and each other, before anything is built."""

from __future__ import annotations

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

"""The position of a loader as checkpoints keep it: plain values, which are checked when they come back."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any

import pydantic
from pydantic import Field

from behavior.errors import UserError
from behavior.problems import first_problem
from models.data.loading.planner import EpochPosition

_Count = Annotated[int, Field(strict=True, ge=0, lt=1 << 53)]


class _Saved(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    epoch: _Count
    taken: _Count
    waiting: list[_Count]
    order: str


def saved_position(position: EpochPosition, order: str) -> dict[str, Any]:
    """A position in plain values, with the fingerprint of the order that it is in."""
    waiting = list(position.waiting)
    return {"epoch": position.epoch, "taken": position.taken, "waiting": waiting, "order": order}


def position_of(state: dict[str, Any], samples: int, where: str | None) -> tuple[EpochPosition, str]:
    """The position of a state, and the fingerprint of its order.

    Args:
        state: as `saved_position` gives it.
        samples: of an epoch.
        where: the file it comes from, for errors.

    Raises:
        UserError: it is damaged: a key is missing or of another type, or it names samples not taken yet.
    """
    try:
        saved = _Saved.model_validate(state)
    except pydantic.ValidationError as error:
        raise _damaged(first_problem(error), where) from None
    waiting = saved.waiting
    rising = all(one < other for one, other in pairwise(waiting))
    if not rising or saved.taken > samples or (waiting and waiting[-1] >= saved.taken):
        raise _damaged("it names samples that were not taken", where)
    return EpochPosition(saved.epoch, saved.taken, tuple(waiting)), saved.order


def _damaged(how: str, where: str | None) -> UserError:
    return UserError(f"the state of the loader is damaged: {how}", where=where, fix="train again")

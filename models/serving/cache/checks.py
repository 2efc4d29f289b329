"""Which models' histories can be cached, and which calls make sense."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from behavior.errors import UserError
from models.backbones.backbone import Backbone
from models.inputs.layouts.ranked import Ranked
from models.inputs.layouts.user_context import WithUserContext
from models.serving.cache.ragged import Ints
from models.serving.cache.tokens import TokenCounts
from models.tasks.ranking.model import RankingModel
from models.tasks.retrieval.model import RetrievalModel

_SHOWN = 3
INSTEAD = "compute its histories anew: `score`, or `model(batch)`"


def check_model(model: RetrievalModel | RankingModel) -> tuple[Backbone, TokenCounts]:
    """The model's backbone, and the tokens of its events.

    Raises:
        UserError: its histories cannot be cached; says why.
    """
    if not isinstance(model, RetrievalModel | RankingModel):
        raise UserError(
            f"a {type(model).__name__} is several models, each with histories of its own",
            fix="make a cache of each of them, or compute its histories anew: `model(batch)`",
        )
    tokens = TokenCounts.of_layout(model.embedding.layout)
    if tokens is None or tokens.asks_item != isinstance(model, RankingModel):
        raise UserError(
            f"a cache has to know where the tokens of events are, and {why_unknown(model)}",
            where="embedding.layout",
            fix=INSTEAD,
        )
    if not isinstance(model.backbone, Backbone):
        name = type(model.backbone).__name__
        raise UserError(f"what the keys and values of a {name} are is not known", fix=INSTEAD)
    if model.embedding.item.is_divided:
        raise UserError("a cache needs the whole item table on its device", where="train.item_table")
    return model.backbone, tokens


def why_unknown(model: RetrievalModel | RankingModel) -> str:
    """Why nobody knows where the tokens of a model's events are."""
    layout = model.embedding.layout
    name = f"layout '{model.embedding.config.layout}'"
    if isinstance(layout, WithUserContext) and TokenCounts.of_layout(layout.inner) is not None:
        return f"in {name} features of users stand in front of each behavior's events anew"
    if isinstance(layout, Ranked):
        return "retrieval beside ranking asks at actions"
    return f"{name} is of another program"


def checked_users(users: Sequence[int] | Ints, rows: int | None = None) -> Ints:
    """[users] int64, all different.

    Raises:
        ValueError: a user twice, or not as many as there are `rows`.
    """
    found = np.asarray(users, np.int64)
    if len(np.unique(found)) < len(found):
        raise ValueError("a user stands in a call once: put the user's events together")
    if rows is not None and rows != len(found):
        raise ValueError(f"there are {len(found)} users, and {rows} sequences")
    return found


def told_before(told: Ints, before: Ints, held: Ints, users: Ints) -> None:
    """Raise ValueError where events are missing, or told twice.

    Args:
        told: [users] events that the cache has been told.
        before: [users] events before those that come now.
        held: [users] bool, who is in the cache.
        users: their ids.
    """
    wrong = np.flatnonzero(held & (told != before))
    if len(wrong):
        first = wrong[0]
        raise ValueError(
            f"user {users[first]} has told {told[first]} events, and those of now come after "
            f"{before[first]}: `seen` says what to append, and `forget` begins anew"
        )


def check_counts(counts: Ints, items: int, users: int) -> None:
    """Raise ValueError where candidates are not as many as there are items.

    Args:
        counts: [users] of each.
        items: of all together.
        users: how many there ought to be.
    """
    if len(counts) != users or counts.sum() != items or (counts < 0).any():
        raise ValueError(f"{items} items, and counts of {len(counts)} users that add up to others")


def not_here(users: Ints) -> UserError:
    """What to say where users are asked for that are not in the cache."""
    shown = ", ".join(map(str, users[:_SHOWN].tolist())) + (", .." if len(users) > _SHOWN else "")
    return UserError(
        f"{len(users)} users are not in the cache: {shown}",
        fix="append their histories first; `seen` says whose are missing",
    )

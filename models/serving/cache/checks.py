"""Which models' histories can be cached, and which calls make sense."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from behavior.errors import UserError
from models.backbones.backbone import Backbone
from models.serving.cache.ragged import Ints
from models.serving.cache.tokens import TokenCounts
from models.tasks.retrieval.model import RetrievalModel

_SHOWN = 3
INSTEAD = "compute its histories anew: `score`, or `model(batch)`"


def check_model(model: RetrievalModel) -> Backbone:
    """The model's backbone.

    Raises:
        UserError: its histories cannot be cached; says why.
    """
    if TokenCounts.of_layout(model.embedding.layout) is None:
        raise UserError(
            "a cache holds the tokens of events in their order, and layout "
            f"'{model.embedding.config.layout}' makes others",
            where="embedding.layout",
            fix=INSTEAD,
        )
    if not isinstance(model.backbone, Backbone):
        name = type(model.backbone).__name__
        raise UserError(f"what the keys and values of a {name} are is not known", fix=INSTEAD)
    if model.held_items.is_divided:
        raise UserError("a cache needs the whole item table on its device", where="train.item_table")
    return model.backbone


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


def not_here(users: Ints) -> UserError:
    """What to say where users are asked for that are not in the cache."""
    shown = ", ".join(map(str, users[:_SHOWN].tolist())) + (", .." if len(users) > _SHOWN else "")
    return UserError(
        f"{len(users)} users are not in the cache: {shown}",
        fix="append their histories first; `seen` says whose are missing",
    )


def check_candidates(tokens: TokenCounts, model: RetrievalModel) -> None:
    """Raise UserError where candidates would be several tokens each."""
    if tokens.each > 1:
        raise UserError(
            "a candidate sees the history and itself, and in layout "
            f"'{model.embedding.config.layout}' it is {tokens.each} tokens, of which one sees the other",
            where="embedding.layout",
            fix="append each to a history of its own",
        )

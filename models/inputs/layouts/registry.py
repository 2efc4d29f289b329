"""Layouts by name."""

from __future__ import annotations

from behavior.errors import UserError
from models.inputs.layout import Layout, MakeLayout, Sizes
from models.inputs.layouts.behavior_first import BehaviorFirst
from models.inputs.layouts.channels import Channels
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.layouts.interleaved import Interleaved
from models.registered import unknown_name

LAYOUTS: dict[str, MakeLayout] = {
    "event": lambda sizes: OneTokenPerEvent(),
    "interleaved": lambda sizes: Interleaved(),
    "behavior_first": lambda sizes: BehaviorFirst(),
    "channels": Channels,
}
"""Makes a layout, by its name in `embedding.layout`."""

BY_BEHAVIOR = frozenset({"interleaved", "behavior_first", "channels"})
"""Layouts that make no sense with a single behavior."""


def make_layout(name: str, sizes: Sizes) -> Layout:
    """A layout with fresh weights, if it has any.

    Args:
        name: one of `LAYOUTS`.
        sizes: what it is made for.

    Raises:
        UserError: there is no such layout (names the nearest), or the data set has too few behaviors for it.
    """
    if name not in LAYOUTS:
        register = "add it to models.inputs.layouts.LAYOUTS"
        raise unknown_name("layout", name, LAYOUTS, register, where="embedding.layout")
    if name in BY_BEHAVIOR and sizes.num_behaviors < 2:
        raise UserError(
            "the data set has one behavior: tokens that name it would tell nothing",
            where=f"embedding.layout = {name}",
            fix="--set embedding.layout=event, or prepare the data with the column of behaviors",
        )
    return LAYOUTS[name](sizes)

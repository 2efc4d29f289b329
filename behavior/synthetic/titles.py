"""Titles of the planted items: what a person sees of their interests."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa

from behavior.synthetic.world import World

_THINGS = (
    *("camping tent", "sailing jacket", "baking tin", "garden trowel", "chess clock", "running shoe"),
    *("fishing rod", "piano stool", "painting easel", "knitting needle", "cycling helmet", "coffee grinder"),
    *("tea pot", "climbing rope", "surfing wetsuit", "hiking boot", "cooking pan", "photo tripod"),
    *("yoga mat", "tennis racket", "skiing pole", "travel suitcase", "office chair", "nursery blanket"),
    *("canine collar", "feline basket", "radio antenna", "robot kit", "railway engine", "pottery wheel"),
    *("guitar capo", "library lamp", "sewing machine", "carpentry plane", "diving mask", "darts board"),
    *("picnic hamper", "astronomy chart", "birding feeder", "wine decanter"),
)
"""An interest is called by the first word, its products by the second."""


def item_titles(world: World) -> pa.Array:
    """Titles such as `Sailing tent no. 3`: a thing of the item's main interest, for those of its next one.

    No two are equal, and nothing is drawn for them. Where there are more interests than words, some share
    theirs.

    Args:
        world: the planted parameters.

    Returns:
        [items] strings.
    """
    words = [thing.split() for thing in _THINGS]
    titles, used = [], Counter[str]()
    for interests in np.split(world.item_interests, world.item_offsets[1:-1]):
        chosen = [words[interest % len(words)] for interest in interests[:2].tolist()]
        title = f"{chosen[-1][0].capitalize()} {chosen[0][1]}"
        used[title] += 1
        titles.append(title if used[title] == 1 else f"{title} no. {used[title]}")
    return pa.array(titles, pa.string())

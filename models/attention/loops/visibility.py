"""Which keys a query sees: logical positions, and what a tile hides (models.attention.masks.Mask)."""

from __future__ import annotations

from models.attention.loops.call import QUERIES, inlined, inner


@inlined
def logical_position(call, history, place):  # type: ignore[no-untyped-def]
    """Of a token (models.attention.masks.Mask)."""
    return max(min(place, history) - max(call.context - 1, 0), 0)


@inner
def keeps_distance(call, at):  # type: ignore[no-untyped-def]
    """Whether logical positions of all of a tile are token indices less one number: no context, no
    candidates."""
    return min(at.key, at.query) >= call.context - 1 and at.query + at.queries - 1 <= at.history


@inner
def meet(call, at):  # type: ignore[no-untyped-def]
    """Whether any query of the tile may see any of its keys."""
    if at.key + at.keys > at.query:
        return True
    if at.key >= at.history:
        return False
    last = logical_position(call, at.history, at.key + at.keys - 1)
    return at.key < call.front or logical_position(call, at.history, at.query) - last < call.window


@inner
def hide(call, at, tile, value):  # type: ignore[no-untyped-def]
    """tile[j, i] = value where query i does not see key j."""
    distance = at.query - at.key
    if keeps_distance(call, at) and at.key >= call.front:
        if distance >= at.keys - 1 and distance + QUERIES <= call.window:
            return
        for j in range(at.keys):
            for i in range(QUERIES):
                apart = distance + i - j
                if apart < 0 or apart >= call.window:
                    tile[j, i] = value
        return
    for j in range(at.keys):
        key = at.key + j
        key_position = logical_position(call, at.history, key)
        for i in range(QUERIES):
            query = at.query + i
            apart = logical_position(call, at.history, query) - key_position
            near = apart > 0 and (apart < call.window or key < call.front)
            if not (near or query == key or (query < call.context and key < call.context)):
                tile[j, i] = value

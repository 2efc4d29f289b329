"""How many iterations ahead of its use a tile is loaded: more of keys than of values, which are used later.

Triton reads all tiles of a loop equally far ahead, and asks for the next ones at an iteration's end. Two
buffers of each are then as good as one: keys are waited for at once. Three of both do not fit, for heads 256
wide; three of keys and two of values do, and the wait for these is behind the product with keys.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from models.gpu.interpreter import INTERPRETED


@tl.core.builtin
def _annotated(tile: Any, iterations: Any, _semantic: Any = None) -> Any:
    """A tile that was just loaded, with `tt.latency`: Triton's pipeliner takes it in place of its own choice,
    in a loop of all tiles or of none."""
    count = tl.core._unwrap_if_constexpr(iterations)
    if count:
        tile.handle.set_attr("tt.latency", _semantic.builder.get_int32_attr(count))
    return tile


@triton.jit
def _as_it_is(tile, iterations: tl.constexpr):
    return tile


ahead = _as_it_is if INTERPRETED else _annotated
"""A tile that was just loaded, in the same function, is loaded so many iterations ahead; 0: as the compiler
likes."""

"""From half the scores to weights, and to their derivatives: SiLU by one tanh, or the identity."""
# mypy: allow-untyped-defs
# ruff: noqa: N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def tanh(x, FAST: tl.constexpr):
    """FAST: one operation of the special-function unit, wrong by 2^-11 at most; otherwise two, exact."""
    if FAST:
        return tl.inline_asm_elementwise(
            "tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x))


@triton.jit
def activate(half, IDENTITY: tl.constexpr, FAST: tl.constexpr):
    """`silu(x)` for `half = x / 2`: `x / 2 * (1 + tanh(x / 2))`; or x itself."""
    if IDENTITY:
        return 2.0 * half
    elif FAST:
        return half * tanh(half, FAST) + half
    else:
        # Exact far below zero too, where 1 + tanh has no digits left.
        return 2.0 * half / (1.0 + tl.exp(-2.0 * half))


@triton.jit
def activate_with_slope(half, IDENTITY: tl.constexpr, FAST: tl.constexpr):
    """`silu(x)` and its derivative `s + silu(x) (1 - s)`, s the sigmoid, for `half = x / 2`; or x and 1."""
    if IDENTITY:
        return 2.0 * half, half * 0.0 + 1.0
    elif FAST:
        t = tanh(half, FAST)
        weight = half * t + half
        sigmoid = 0.5 * t + 0.5
        return weight, sigmoid + weight * (0.5 - 0.5 * t)
    else:
        sigmoid = 1.0 / (1.0 + tl.exp(-2.0 * half))
        weight = 2.0 * half * sigmoid
        return weight, sigmoid + weight * (1.0 - sigmoid)

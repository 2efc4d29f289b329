"""Choices for the parts of a block, as settings name them; imported without torch."""

from __future__ import annotations

import math
from typing import Literal

BiasSetting = Literal["both", "time", "position", "decay", "rope", "none"]
"""`both`, `time`, `position`: tables. `decay`: a function of time. `rope`: rotary embedding instead."""

FeedForwardKind = Literal["none", "relu", "gelu", "swiglu", "multi_stage"]

NormKind = Literal["layer", "layer_without_affine", "rms", "rms_without_affine", "none"]

ResidualKind = Literal["hstu", "pre_norm", "post_norm", "gated", "sasrec"]

RecomputeMode = Literal["none", "pointwise", "block"]
"""`pointwise`: norms, activations, rotations, gates and dropout. `block`: whole blocks, attention too."""

_WIDTH_MULTIPLE = 8


def published_width(kind: FeedForwardKind, dim: int) -> int:
    """The hidden width of a kind: `dim` for relu (SASRec) and multi_stage (FuXi), 4 `dim` for gelu (GPT).

    SwiGLU has three matrices instead of two, so that 8/3 `dim` costs what 4 `dim` does (Llama); rounded up
    to a multiple of 8.
    """
    if kind == "swiglu":
        return math.ceil(8 * dim / 3 / _WIDTH_MULTIPLE) * _WIDTH_MULTIPLE
    return 4 * dim if kind == "gelu" else dim


def uses_time(setting: BiasSetting) -> bool:
    """Whether a bias setting looks at timestamps."""
    return setting in ("both", "time", "decay")

"""Choices for the parts of a block, as settings name them; imported without torch."""

from __future__ import annotations

import math
from collections.abc import Set
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

BiasSetting = Literal["both", "time", "position", "decay", "rope", "none"]
"""`both`, `time`, `position`: tables. `decay`: a function of time. `rope`: rotary embedding instead."""

FeedForwardKind = Literal["none", "relu", "gelu", "swiglu", "multi_stage"]

NormKind = Literal["layer", "layer_without_affine", "rms", "rms_without_affine", "none"]

ResidualKind = Literal["hstu", "pre_norm", "post_norm", "gated", "sasrec"]

RecomputeMode = Literal["none", "pointwise", "block"]
"""`pointwise`: norms, activations, rotations, gates and dropout. `block`: whole blocks, attention too."""

_WIDTH_MULTIPLE = 8


def check_choice(name: str, value: object, choices: Any) -> None:
    """Check that a value is one of a `Literal`.

    Raises:
        ValueError: it is not; lists those that there are.
    """
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{name} is {value!r}, and must be one of {', '.join(map(str, known))}")


def check_choices(settings: object) -> None:
    """Check the fields of a dataclass that are a `Literal`, or a set of one: a misspelt choice is no choice.

    Raises:
        ValueError: see `check_choice`.
    """
    for name, choices, several in _choices_of(type(settings)):  # type: ignore[arg-type]
        value, name = getattr(settings, name), f"{type(settings).__name__}.{name}"
        if several and not isinstance(value, Set):
            raise ValueError(f"{name} is {value!r}, and must be a set")
        for one in value if several else (value,):
            check_choice(name, one, choices)


@cache
def _choices_of(kind: type) -> tuple[tuple[str, Any, bool], ...]:
    """Name, `Literal`, and whether it is a set of them, of each field that is one."""
    found = []
    for name, annotation in get_type_hints(kind).items():
        several = get_origin(annotation) is frozenset
        choices = get_args(annotation)[0] if several else annotation
        if get_origin(choices) is Literal:
            found.append((name, choices, several))
    return tuple(found)


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

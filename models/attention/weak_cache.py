"""A cache of what follows from objects that are made once a batch, kept as long as these objects live."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar
from weakref import ReferenceType, ref

import torch

_P = ParamSpec("_P")
_T = TypeVar("_T")


def weakly_cached(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Call `function` once for the same arguments, and drop the result with the first of them that dies.

    Objects that can be weakly referenced (`Sequences`, `RelativeTime`) are compared by identity, all others
    (numbers, None) by value. Every argument is part of the key, and a function sees nothing of a batch but
    its arguments: a result is never returned for another batch than its own.

    Arguments are passed by position, must not change after the call, and must not be held by the result.
    A graph of torch.compile computes the result anew: it must not hold the tensors of one batch.
    """
    # Plain references are keys: of a dead object too, they are equal to themselves and to nothing else.
    found: dict[tuple[object, ...], tuple[_T, list[ReferenceType[object]]]] = {}

    @wraps(function)
    def cached(*arguments: _P.args, **named: _P.kwargs) -> _T:
        if torch.compiler.is_compiling():
            return function(*arguments, **named)
        key = tuple([ref(one) if type(one).__weakrefoffset__ else one for one in arguments])
        entry = found.get(key)
        if entry is None:

            def forget(_: ReferenceType[object]) -> None:
                found.pop(key, None)

            result = function(*arguments, **named)
            entry = found[key] = (
                result,
                [ref(one, forget) for one in arguments if type(one).__weakrefoffset__],
            )
        return entry[0]

    return cached

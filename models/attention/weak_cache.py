"""A cache of what follows from objects that are made once a batch, kept as long as these objects live."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from weakref import ReferenceType, ref

import torch

_P = ParamSpec("_P")
_T = TypeVar("_T")


def weakly_cached(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Call `function` once for the same arguments, and drop the result with the first of them that dies.

    The first argument is an object that can be weakly referenced; such objects (`Sequences`, `RelativeTime`)
    are compared by identity, all others (numbers, None) by value. Every argument is part of the key, and a
    function sees nothing of a batch but its arguments: a result is never returned for another batch than its
    own.

    Arguments are passed by position, must not change after the call, and must not be held by the result.
    A graph of torch.compile computes the result anew: it must not hold the tensors of one batch.
    """
    # Plain references are keys: of a dead object too, they are equal to themselves and to nothing else.
    found: dict[object, tuple[_T, list[ReferenceType[Any]]]] = {}

    @wraps(function)
    def cached(first: Any, *others: Any) -> _T:
        if torch.compiler.is_compiling():
            return function(first, *others)  # type: ignore[call-arg]
        # Looked up by each layer: the usual numbers of arguments want no list in between.
        key: object = ref(first)
        if len(others) == 1:
            key = key, _key(others[0])
        elif others:
            key = key, *map(_key, others)
        entry = found.get(key)
        if entry is None:
            entry = found[key] = function(first, *others), _watch(found, key, first, *others)  # type: ignore[call-arg]
        return entry[0]

    return cached  # type: ignore[return-value]


def _key(one: Any) -> object:
    return ref(one) if type(one).__weakrefoffset__ else one


def _watch(found: dict[object, Any], key: object, *arguments: Any) -> list[ReferenceType[Any]]:
    """References that, while they are held, take an entry out when the first of the arguments dies."""

    def forget(_: ReferenceType[Any]) -> None:
        found.pop(key, None)

    return [ref(one, forget) for one in arguments if type(one).__weakrefoffset__]

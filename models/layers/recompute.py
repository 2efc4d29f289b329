"""Activation checkpointing: what the backward pass recomputes instead of saving it (arXiv 1604.06174)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def keep_inputs_only(function: Callable[..., Result], *inputs: Tensor | None) -> Result:
    """`function(*inputs)`, of which only the inputs are saved.

    The function runs again in the backward pass, up to the last operation that needs a saved tensor: if it
    ends with a linear layer, that layer's product is not computed twice. It must draw no random numbers.

    Args:
        function: deterministic.
        inputs: tensors, saved as they are.

    Returns:
        What the function returns. While compiling just that: the compiler decides what it saves.
    """
    # No state of random generators, which a CUDA graph could not read.
    result: Result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return result


class _Recipe(NamedTuple):
    function: Callable[..., Tensor]
    inputs: tuple[Any, ...]


class _Rebuilt(NamedTuple):
    """A saved tensor that is not there: how to make the tensor it is a view of, and the view."""

    recipe: _Recipe
    size: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt


class Ingredients:
    """Makes tensors of which, when a kernel saves them, only what they were made from is saved.

    For kernels that run once, whatever they save: inside `saving()`, a saved tensor that is a view of one
    made here is replaced by its recipe. Others, such as copies with another layout, are saved as ever.
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[_Recipe, Tensor]] = {}

    def make(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """`function(*inputs)`, differentiable; deterministic, and kept nowhere else."""
        made = function(*inputs)
        views = (given for given in inputs if isinstance(given, Tensor))
        if made.numel() and all(_address(made) != _address(given) for given in views):
            # With the tensor, so that its address stays its own.
            self._made[_address(made)] = _Recipe(function, inputs), made
        return made

    @contextmanager
    def saving(self) -> Iterator[None]:
        """A context for the kernel's call; what was made here is let go at its end."""
        with saved_tensors_hooks(self._pack, _unpack):
            yield
        # What was saved holds on to these hooks, and they to this.
        self._made.clear()

    def _pack(self, tensor: Tensor) -> Tensor | _Rebuilt:
        recipe, _ = self._made.get(_address(tensor), (None, None))
        if recipe is None:
            return tensor
        return _Rebuilt(recipe, tensor.size(), tensor.stride(), tensor.storage_offset())


def _unpack(saved: Tensor | _Rebuilt) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    with torch.no_grad():
        made = saved.recipe.function(*saved.recipe.inputs)
    return made.as_strided(saved.size, saved.stride, saved.offset)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()

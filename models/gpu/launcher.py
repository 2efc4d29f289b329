"""Launch Triton kernels with little Python.

Of a kernel's arguments, what stays the same from call to call is put in order once. Of a tensor that is no
more than its place among the arguments: its type is part of what stays the same, and its address is asked for
at each call. The launch itself is `fast_launch`'s; where that is not to be had, Triton's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.gpu import fast_launch
from models.gpu.fast_launch import CompiledKernel
from models.gpu.interpreter import INTERPRETED
from models.gpu.tile_shape import TileShape

Tensors = dict[str, Tensor | None]
Numbers = dict[str, int | float]


class DeferredLaunch(NamedTuple):
    """A launch that was listed instead."""

    launcher: Launcher
    grid: tuple[int, int]
    tensors: Tensors
    numbers: Numbers

    def compile(self) -> None:
        """Compile the kernel and load it."""
        self.launcher.compile(self.grid, self.tensors, self.numbers)


_launchers: dict[tuple[object, ...], Launcher] = {}
_deferred: ContextVar[list[DeferredLaunch] | None] = ContextVar("deferred", default=None)


@contextmanager
def deferred_launches() -> Iterator[list[DeferredLaunch]]:
    """Kernels are not launched in here, but listed."""
    launches: list[DeferredLaunch] = []
    token = _deferred.set(launches)
    try:
        yield launches
    finally:
        _deferred.reset(token)


def is_deferring() -> bool:
    """Whether kernels are listed, not launched."""
    return _deferred.get() is not None


class Launcher:
    """A kernel, and those of its arguments that never change.

    Args:
        kernel: a kernel of Triton.
        shape: its warps, stages and registers; None for Triton's own choice.
        device: where it runs.
        fixed: arguments by name, in any order, more than the kernel has if need be. Calls give the others,
            and may give these: always the same ones, of the same types.
        own_shared: whether the kernel has shared memory that Triton does not know of.
    """

    def __init__(
        self,
        kernel: Any,
        shape: TileShape | None,
        device: torch.device,
        fixed: Mapping[str, object],
        own_shared: bool = False,
    ) -> None:
        self.kernel = kernel
        self._options = {} if shape is None else shape.options()
        self._device = device
        self._own_shared = own_shared
        self._places = {name: place for place, name in enumerate(kernel.arg_names)}
        self._row = [fixed.get(name) for name in kernel.arg_names]
        self._missing = set(kernel.arg_names) - set(fixed)
        self._aligned: CompiledKernel | None = None
        self._others: dict[tuple[bool, ...], CompiledKernel | None] = {}

    def __call__(self, grid: tuple[int, int], tensors: Tensors, numbers: Numbers) -> None:
        """Run the kernel on a grid.

        Raises:
            KeyError: an argument is not the kernel's; where it is not compiled yet, also: one is missing.
        """
        deferred = _deferred.get()
        if deferred is not None:
            deferred.append(DeferredLaunch(self, grid, tensors, numbers))
            return
        if INTERPRETED:
            self._launch_publicly(grid, tensors, numbers)
            return
        device = self._device.index
        if device != torch.cuda.current_device():
            with torch.cuda.device(self._device):
                return self(grid, tensors, numbers)
        row, places, bits = self._row.copy(), self._places, 0
        for name, tensor in tensors.items():
            if tensor is not None:
                # Triton takes addresses as well, and then asks the driver about none of them.
                row[places[name]] = address = tensor.data_ptr()
                bits |= address
        for name, number in numbers.items():
            row[places[name]] = number
        compiled = self._others.get(_alignment(tensors)) if bits & 15 else self._aligned
        if compiled is None or fast_launch.is_watched():
            self._keep(self._launch_publicly(grid, tensors, numbers), tensors)
        else:
            compiled.launch(grid, device, row)

    def compile(self, grid: tuple[int, int], tensors: Tensors, numbers: Numbers) -> None:
        """Compile and load what a call launches whose tensors have the types of these, and all are
        aligned."""
        if self._aligned is None:
            # Triton takes a type for an aligned tensor.
            types = {name: None if tensor is None else tensor.dtype for name, tensor in tensors.items()}
            with torch.cuda.device(self._device):
                kernel = self._compiled(types, numbers, grid)
                self._aligned = fast_launch.load(kernel, len(self._row))

    def _launch_publicly(self, grid: tuple[int, int], tensors: Tensors, numbers: Numbers) -> Any:
        """Let Triton inspect all arguments, compile where it has not yet, and tell who watches launches.

        Returns:
            The compiled kernel.
        """
        if self._own_shared and not INTERPRETED:
            self._compiled(tensors, numbers, grid)
        return self.kernel[grid](*self._ordered(tensors, numbers), **self._options)

    def _compiled(self, tensors: Mapping[str, object], numbers: Numbers, grid: tuple[int, int]) -> Any:
        """The kernel for such arguments, ready to be launched, or None where a hook of Triton's kept it."""
        kernel = self.kernel.warmup(*self._ordered(tensors, numbers), grid=grid, **self._options)
        if self._own_shared and kernel is not None:
            fast_launch.allow_shared_memory(kernel)
        return kernel

    def _keep(self, kernel: Any, tensors: Tensors) -> None:
        """For launches with addresses that are as aligned as these."""
        alignment = _alignment(tensors)
        loaded = fast_launch.load(kernel, len(self._row))
        if all(alignment):
            self._aligned = loaded
        else:
            self._others[alignment] = loaded

    def _ordered(self, tensors: Mapping[str, object], numbers: Numbers) -> list[object]:
        row = self._row.copy()
        missing = self._missing.copy()
        for name, value in (*tensors.items(), *numbers.items()):
            row[self._places[name]] = value
            missing.discard(name)
        if missing:
            raise KeyError(f"{', '.join(sorted(missing))} of {self.kernel.__name__}")
        return row


def launch(
    kernel: Any, grid: tuple[int, int], shape: TileShape | None, arguments: Mapping[str, object]
) -> None:
    """Run a kernel for whose arguments nobody keeps a launcher.

    Args:
        kernel: a kernel of Triton.
        grid: programs along both axes.
        shape: its warps, stages and registers; None for Triton's own choice.
        arguments: all of them by name, in any order.

    Raises:
        ValueError: tensors are on several devices.
    """
    constants, unspecialized = _declared(kernel)
    tensors: Tensors = {}
    numbers: Numbers = {}
    fixed: dict[str, object] = {}
    key: list[object] = [kernel, shape]
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            tensors[name] = value
            key += name, value.dtype, value.device
        elif isinstance(value, (int, float)) and name not in constants:
            numbers[name] = value
            key += name, None if name in unspecialized else _specialization(value)
        else:
            fixed[name] = value
            key += name, value
    launcher = _launchers.get(tuple(key))
    if launcher is None:
        device, *others = {tensor.device for tensor in tensors.values() if tensor is not None}
        if others:
            raise ValueError(f"the tensors of {kernel.__name__} must be on one device")
        launcher = _launchers[tuple(key)] = Launcher(kernel, shape, device, fixed)
    launcher(grid, tensors, numbers)


@lru_cache(maxsize=64)
def _declared(kernel: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Arguments that are constants of a kernel's code, and those at whose values the compiler does not
    look."""
    names = [parameter.name for parameter in getattr(kernel, "params", ()) if parameter.is_constexpr]
    return frozenset(names), frozenset(getattr(kernel, "do_not_specialize", None) or ())


def _specialization(number: float) -> object:
    """What of a number the compiler looks at."""
    if isinstance(number, float):
        return float
    return number == 1, number % 16 == 0, number.bit_length() > 31


def with_contiguous_rows(tensor: Tensor) -> Tensor:
    """With the numbers of the last axis next to each other, as they mostly are; copied where not."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _alignment(tensors: Tensors) -> tuple[bool, ...]:
    """What of their addresses the compiler looks at."""
    return tuple(tensor is None or tensor.data_ptr() % 16 == 0 for tensor in tensors.values())

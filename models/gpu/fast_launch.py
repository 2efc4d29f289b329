"""Triton's private interface, as far as launches take it: everything here may differ in the next version.

A launch by the public interface, `kernel[grid](*arguments)`, binds and inspects every argument, which for
small batches takes longer than the kernel. A compiled kernel can be launched without that. How is no part of
what Triton promises, so it is done with the versions only that it was tested with, and where all that is used
is there; with any other, `launcher` goes by the public interface.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import warnings
from typing import Any, NamedTuple

import triton
from triton import runtime

TESTED_VERSIONS = ("3.6", "3.7")
"""Minor versions of Triton."""
_USUAL_SHARED = 49_152
"""Bytes of shared memory that a kernel may have without asking."""
_MAX_DYNAMIC_SHARED = 8
"""CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"""
_BEFORE_ARGUMENTS = 9
"""Grid (3), stream, function, metadata, metadata of the launch, and the hooks before and after it."""


class CompiledKernel(NamedTuple):
    """What a launch of a compiled kernel takes."""

    run: Any
    function: Any
    metadata: Any
    stream: Any
    """Gives the current stream of a device's index."""

    def launch(self, grid: tuple[int, int], device: int | None, arguments: list[object]) -> None:
        """On the current stream of a device; addresses in place of tensors. Nobody is told of the launch."""
        run, function, metadata, stream = self
        run(*grid, 1, stream(device), function, metadata, None, None, None, *arguments)


@functools.cache
def _is_tested(version: str) -> bool:
    tested = ".".join(version.split(".")[:2]) in TESTED_VERSIONS
    if not tested:
        warnings.warn(
            f"Triton {version} is not one of the versions that kernels are launched fast with "
            f"({', '.join(TESTED_VERSIONS)}): each launch takes the host longer",
            stacklevel=2,
        )
    return tested


def is_tested() -> bool:
    """Whether private launches were tested with the installed version of Triton; warns once where not."""
    return _is_tested(triton.__version__)


def load(kernel: Any, num_arguments: int) -> CompiledKernel | None:
    """Load a compiled kernel onto the current device.

    Args:
        kernel: what `kernel[grid](...)` or `kernel.warmup(...)` returned.
        num_arguments: of the kernel.

    Returns:
        None where there is nothing to launch (a hook of Triton's kept it from being compiled), or where the
        private interface is not the one that is known.
    """
    if kernel is None or not is_tested():
        return None
    try:
        # To ask for `run` loads the kernel: only then there is a function.
        found = CompiledKernel(
            kernel.run, kernel.function, kernel.packed_metadata, runtime.driver.active.get_current_stream
        )
        inspect.signature(found.run).bind(*range(_BEFORE_ARGUMENTS + num_arguments))
    except (AttributeError, TypeError, ValueError) as error:
        _warn_of(f"{type(error).__name__}: {error}")
        return None
    return found


def allow_shared_memory(kernel: Any) -> None:
    """Let a compiled kernel that has shared memory of its own (by inline assembly) be launched: Triton knows
    only of what it gives it, and allows more than 48 KB only where that is more.

    Raises:
        RuntimeError: the driver does not allow it.
    """
    _ = kernel.run  # loads it
    most = kernel.metadata.shared
    if most > _USUAL_SHARED:  # Triton has allowed it
        return
    failed = ctypes.CDLL("libcuda.so.1").cuFuncSetAttribute(
        ctypes.c_void_p(kernel.function), ctypes.c_int(_MAX_DYNAMIC_SHARED), ctypes.c_int(most)
    )
    if failed:
        raise RuntimeError(f"CUDA's driver allows a kernel no {most} bytes of shared memory (error {failed})")


@functools.cache
def _warn_of(difference: str) -> None:
    warnings.warn(f"Triton's private interface has changed, launches are slower: {difference}", stacklevel=3)


def is_watched() -> bool:
    """Whether somebody, a profiler say, wants to be told of each launch, which only public ones do."""
    hooks = triton.knobs.runtime
    before, after = hooks.launch_enter_hook, hooks.launch_exit_hook
    return bool(getattr(before, "calls", before) or getattr(after, "calls", after))


def prepare_threads(kernels: list[Any]) -> None:
    """Before kernels are compiled in threads: what these would otherwise each make or find anew."""
    _ = runtime.driver.active
    for kernel in kernels:
        # A kernel's name in Triton's cache depends on which others were named before it: always the same.
        _ = kernel.cache_key

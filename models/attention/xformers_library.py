"""Loading xformers, whose PyPI build is linked to CUDA 12's runtime where torch may bring CUDA 13's."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
from pathlib import Path
from types import ModuleType

INSTALL = "pip install 'lrm-kit[gpu]'"
_RUNTIME = "libcudart.so.12"
_RUNTIME_PACKAGE = "nvidia-cuda-runtime-cu12"


def is_installed() -> bool:
    return importlib.util.find_spec("xformers") is not None


@functools.cache
def load() -> ModuleType:
    """`xformers.ops.fmha`, with its compiled extension.

    Raises:
        ImportError: xformers, its extension or a library that this needs cannot be loaded; with the reason.
    """
    # First of all: an xformers once imported without its extension stays so, and only logs a warning.
    for extension in _extensions():
        _provide_runtime(extension)
    from xformers import _cpp_lib

    failure = _cpp_lib._cpp_library_load_exception
    if failure is not None:
        raise ImportError(_root_cause(failure)) from failure
    from xformers.ops import fmha

    return fmha


def _extensions() -> list[Path]:
    spec = importlib.util.find_spec("xformers")
    folders = spec.submodule_search_locations if spec is not None else None
    return [path for folder in folders or () for path in Path(folder).glob("_C*.so")]


def _provide_runtime(extension: Path) -> None:
    """Load CUDA 12's runtime if `extension` cannot be loaded for want of it."""
    try:
        ctypes.CDLL(str(extension))
    except OSError as error:
        # Other errors are for xformers to report.
        if _RUNTIME in str(error):
            ctypes.CDLL(str(_find_runtime()), mode=ctypes.RTLD_GLOBAL)


def _find_runtime() -> Path:
    """The runtime in NVIDIA's package, which no linker searches."""
    try:
        files = importlib.metadata.distribution(_RUNTIME_PACKAGE).files
    except importlib.metadata.PackageNotFoundError:
        files = None
    for file in files or ():
        if file.name == _RUNTIME:
            return Path(str(file.locate()))
    raise ImportError(f"it needs CUDA 12's runtime, {_RUNTIME} ({INSTALL})")


def _root_cause(error: BaseException) -> str:
    """In one line what lies at the bottom of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())

"""Loading xformers: what keeps it from loading is mended or named."""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.attention import xformers, xformers_library

RUNTIME_MISSING = "libcudart.so.12: cannot open shared object file: No such file or directory"


class Machine:
    """Where an xformers is installed whose extension wants CUDA 12's runtime."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.loaded: list[str] = []
        self.errors = {"_C.so": RUNTIME_MISSING}
        self.runtime = folder / "nvidia" / "cuda_runtime" / "lib" / "libcudart.so.12"
        package = folder / "xformers"
        (package / "ops").mkdir(parents=True)
        (package / "_C.so").touch()
        (package / "__init__.py").touch()
        (package / "_cpp_lib.py").write_text("_cpp_library_load_exception = None")
        (package / "ops" / "__init__.py").touch()
        (package / "ops" / "fmha.py").touch()
        for name in [name for name in sys.modules if name.split(".")[0] == "xformers"]:
            patch.delitem(sys.modules, name)
        patch.syspath_prepend(str(folder))
        patch.setattr(ctypes, "CDLL", self._load)
        patch.setattr(importlib.metadata, "distribution", self._distribution)
        self.package = package

    def _load(self, path: str, mode: int = ctypes.DEFAULT_MODE) -> None:
        name = Path(path).name
        if name in self.errors:
            raise OSError(self.errors[name])
        self.loaded.append(path)
        if mode == ctypes.RTLD_GLOBAL:
            self.errors.pop("_C.so", None)

    def _distribution(self, name: str) -> Any:
        if not self.runtime.exists():
            raise importlib.metadata.PackageNotFoundError(name)
        assert name == "nvidia-cuda-runtime-cu12"
        other, runtime = self.runtime.with_name("libcudart.txt"), self.runtime
        return SimpleNamespace(
            files=[
                SimpleNamespace(name=path.name, locate=lambda path=path: path) for path in (other, runtime)
            ]
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    xformers_library.load.cache_clear()
    yield Machine(tmp_path, monkeypatch)
    xformers_library.load.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "xformers"]:
        del sys.modules[name]


def test_the_runtime_is_loaded_where_it_is_missing(machine: Machine) -> None:
    machine.runtime.parent.mkdir(parents=True)
    machine.runtime.touch()
    assert xformers_library.is_installed()
    assert xformers_library.load().__name__ == "xformers.ops.fmha"
    assert machine.loaded == [str(machine.runtime)]


def test_no_runtime_is_loaded_where_nothing_is_missing(machine: Machine) -> None:
    machine.errors.clear()
    assert xformers_library.load().__name__ == "xformers.ops.fmha"
    assert machine.loaded == [str(machine.package / "_C.so")]


def test_a_missing_runtime_says_what_to_install(machine: Machine) -> None:
    with pytest.raises(ImportError, match=r"libcudart\.so\.12 \(pip install 'lrm-kit\[gpu\]'\)"):
        xformers_library.load()
    # A later try in the same process must not find what a failed import left behind.
    assert "xformers" not in sys.modules


def test_what_xformers_only_warns_of_is_an_error(machine: Machine) -> None:
    machine.errors["_C.so"] = "libtorch_cuda.so: cannot open shared object file"
    (machine.package / "_cpp_lib.py").write_text(
        "_cpp_library_load_exception = RuntimeError('many\\nlines')\n"
        "_cpp_library_load_exception.__cause__ = OSError('libtorch_cuda.so: cannot open')\n"
    )
    with pytest.raises(ImportError, match=r"^libtorch_cuda\.so: cannot open$"):
        xformers_library.load()


def test_the_reason_names_what_failed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (reason,) = xformers.unavailable.__wrapped__()
    assert reason.startswith("xformers cannot be loaded: it needs CUDA 12's runtime")

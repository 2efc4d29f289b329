"""Triton kernels where there is no GPU: interpreted, statement by statement, on the CPU."""

from __future__ import annotations

import importlib
import math
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

on_gpu = torch.cuda.is_available()
DEVICE = "cuda" if on_gpu else "cpu"

KERNELS = (
    "models.gpu.fast_launch",
    "models.gpu.interpreter",
    "models.gpu.launch_rows",
    "models.gpu.launcher",
    "models.gpu.precompile",
    "models.attention.paged.",
    "models.attention.silu.",
    "models.gpu.row_sums.",
    "models.history.kernels.",
    "models.layers.kernels.",
    "models.losses.kernels.",
    "models.optim.kernels.",
    "tests.models.attention.table_kernels",
    "tests.models.attention.bucket_kernels",
)


def import_interpreted() -> None:
    """Import Triton and the kernels anew, interpreted: which of the two they are is decided at import."""
    if on_gpu:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        forget(KERNELS)
        _hurry(importlib.import_module("triton.runtime.interpreter"))
        importlib.import_module("models.attention.silu.attention_function")
        importlib.import_module("models.attention.paged.launching")
        importlib.import_module("models.history.kernels.masses_function")
        importlib.import_module("models.layers.kernels.bias_function")
        importlib.import_module("models.layers.kernels.norm_function")
        importlib.import_module("models.layers.kernels.token_function")
        importlib.import_module("models.layers.kernels.unit_function")
        importlib.import_module("models.losses.kernels.scores_function")
        importlib.import_module("models.losses.kernels.shared_function")
        importlib.import_module("models.losses.kernels.softmax_function")
        importlib.import_module("models.gpu.row_sums.launch")
        importlib.import_module("models.optim.kernels.launch")


def forget(kernels: tuple[str, ...]) -> dict[str, ModuleType]:
    """Take Triton and the modules whose names begin so out of the list of modules, and out of the packages
    that they are in: these would give them to whoever imports from a package."""
    taken = {
        name: module
        for name, module in sys.modules.items()
        if (name.split(".")[0] == "triton" and not name.startswith("triton._C")) or name.startswith(kernels)
    }
    for name in taken:
        del sys.modules[name]
        package, _, child = name.rpartition(".")
        if package in sys.modules and hasattr(sys.modules[package], child):
            delattr(sys.modules[package], child)
    return taken


def _hurry(interpreter: Any) -> None:
    """Spare Triton's interpreter what it does over and over, four fifths of its time; results are the same.

    With each call of a function it replaces all of the language by its own: here, once for each file and for
    good. It looks whether sums of integers overflow, and then, not debugging, tells nobody. It lists all
    types to find NumPy's name of one. And every result has a type and a shape of its own, made and compared
    number by number: here, equal shapes are one.
    """
    replace, name_type = interpreter._patch_lang, interpreter._get_np_dtype
    replaced: set[str] = set()
    names: dict[str, Any] = {}

    def replace_once(function: Any) -> Any:
        if function.__module__ not in replaced:
            replaced.add(function.__module__)
            replace(function)
        return interpreter._LangPatchScope()

    def name_type_once(kind: Any) -> Any:
        if kind.scalar.name not in names:
            names[kind.scalar.name] = name_type(kind)
        return names[kind.scalar.name]

    interpreter._patch_lang, interpreter._get_np_dtype = replace_once, name_type_once
    object.__setattr__(interpreter.interpreter_builder.options, "sanitize_overflow", False)
    _share_shapes(interpreter.tl.core, interpreter.TritonSemantic)


def _share_shapes(core: Any, semantic: Any) -> None:
    """Make each shape once; see `_hurry`."""
    make_type, make_compatible = core.block_type.__init__, semantic.broadcast_impl_value
    shapes: dict[Any, Any] = {}
    types: dict[Any, dict[str, Any]] = {}
    keys: dict[int, tuple[int, ...]] = {}
    nothing = (core.constexpr(1), core.tuple([]))

    def key_of(shape: Any) -> tuple[int, ...]:
        if id(shape) in keys:  # one of ours, which stays
            return keys[id(shape)]
        return tuple(getattr(size, "value", size) for size in shape)

    def make_type_once(self: Any, element_ty: Any, shape: Any) -> None:
        key = key_of(shape)
        made = types.get((element_ty.name, key))
        if made is None:
            make_type(self, element_ty, shape)
            made = types[element_ty.name, key] = dict(self.__dict__)
            made["shape"] = shapes.setdefault(key, made["shape"])
            keys[id(made["shape"])] = key
            made["of_tensor"] = core.constexpr(math.prod(key)), core.tuple([core.constexpr(n) for n in key])
        self.__dict__.update(made)
        self.element_ty = element_ty

    def make_tensor(self: Any, handle: Any, type: Any) -> None:
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.numel, self.shape = type.of_tensor if type.is_block() else nothing

    def make_compatible_at_once(self: Any, lhs: Any, rhs: Any) -> Any:
        one, other = lhs.type, rhs.type
        if one.is_block() and other.is_block() and one.shape is other.shape:
            return lhs, rhs
        return make_compatible(self, lhs, rhs)

    core.block_type.__init__ = make_type_once
    core.tensor.__init__ = make_tensor
    semantic.broadcast_impl_value = make_compatible_at_once


def interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, let the kernels take tensors of the CPU."""
    if not on_gpu:
        monkeypatch.setenv("TRITON_INTERPRET", "1")

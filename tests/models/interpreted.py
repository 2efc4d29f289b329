"""Triton kernels where there is no GPU: interpreted, statement by statement, on the CPU."""

from __future__ import annotations

import importlib
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
    "models.gpu.launcher",
    "models.gpu.precompile",
    "models.attention.silu.",
    "models.layers.kernels.",
    "models.losses.kernels.",
    "tests.models.attention.table_kernels",
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
        importlib.import_module("models.layers.kernels.norm_function")
        importlib.import_module("models.losses.kernels.scores_function")
        importlib.import_module("models.losses.kernels.softmax_function")


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
    good. It looks whether sums of integers overflow, and then, not debugging, tells nobody. And it lists all
    types to find NumPy's name of one.
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


def interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, let the kernels take tensors of the CPU."""
    if not on_gpu:
        monkeypatch.setenv("TRITON_INTERPRET", "1")

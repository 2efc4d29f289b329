"""Triton kernels where there is no GPU: interpreted, statement by statement, on the CPU."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

on_gpu = torch.cuda.is_available()
DEVICE = "cuda" if on_gpu else "cpu"

_KERNELS = ("models.attention.triton.", "models.layers.kernels.", "models.losses.triton.")


def import_interpreted() -> None:
    """Import Triton and the kernels anew, interpreted: which of the two they are is decided at import."""
    if on_gpu:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for name in list(sys.modules):
            compiled = name.startswith("triton._C")
            if (name.split(".")[0] == "triton" and not compiled) or name.startswith(_KERNELS):
                del sys.modules[name]
        importlib.import_module("models.attention.triton.operator")
        importlib.import_module("models.layers.kernels.operator")
        importlib.import_module("models.losses.triton.operator")
        importlib.import_module("models.losses.triton.softmax")


def interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, let the kernels take tensors of the CPU."""
    if not on_gpu:
        monkeypatch.setenv("TRITON_INTERPRET", "1")

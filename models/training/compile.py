"""torch.compile for the blocks of a backbone."""

from __future__ import annotations

import os
import shutil

import torch
from torch import nn

from behavior.errors import UserError


def compile_blocks(backbone: nn.Module, device: torch.device, backend: str = "inductor") -> None:
    """Compile each block of a backbone, in place, with a dynamic number of tokens.

    Attention kernels stay as they are; norms, activations, gates and dropout between them are fused. Blocks
    of the same kind share the compiled code.

    Args:
        backbone: has `blocks`.
        device: what is trained on.
        backend: of torch.compile.

    Raises:
        UserError: the compiler that `inductor` needs is not there.
    """
    if backend == "inductor":
        _check_compiler(device)
    blocks = backbone.blocks
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        block.compile(dynamic=True, backend=backend)


def _check_compiler(device: torch.device) -> None:
    if device.type == "cuda":
        from torch.utils._triton import has_triton

        missing = None if has_triton() else "triton, which does not work here"
    else:
        names = [os.environ["CXX"]] if "CXX" in os.environ else ["g++", "clang++"]
        missing = (
            None if any(shutil.which(name) for name in names) else f"a C++ compiler ({' or '.join(names)})"
        )
    if missing:
        raise UserError(
            f"torch.compile needs {missing}",
            where="train.compile",
            fix="install it, or set train.compile=false",
        )

"""The Triton kernels read no number of a table that is not there, not even one that nothing is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.attention import Causal, LocalWindow, Mask, RelativeBias, Sequences, attention

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = [
    pytest.mark.usefixtures("interpreted"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="only the interpreter tells addresses"),
]


def read_around(table: Tensor, whole: Tensor, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Filled as kernels run: which numbers of `whole` beside those of `table`, a slice of it, they read."""
    from triton.runtime.interpreter import InterpreterBuilder

    found: set[int] = set()
    loads = InterpreterBuilder.create_masked_load

    def load(self: Any, pointers: Any, mask: Any, *others: Any) -> Any:
        places = np.broadcast_to(pointers.data, np.shape(mask.data))[mask.data].astype(np.int64)
        inside = (places >= whole.data_ptr()) & (places < whole.data_ptr() + 4 * whole.numel())
        first, last = table.data_ptr(), table.data_ptr() + 4 * table.numel()
        beside = places[inside & ((places < first) | (places >= last))]
        found.update(((beside - first) // 4).tolist())
        return loads(self, pointers, mask, *others)

    monkeypatch.setattr(InterpreterBuilder, "create_masked_load", load)
    return found


@pytest.mark.parametrize("mask", [Causal(), LocalWindow(5), LocalWindow(100), Mask(context=3)])
def test_no_position_beside_the_table(monkeypatch: pytest.MonkeyPatch, mask: Mask) -> None:
    """First tiles of sequences have no tile that needs no mask, and short ones have none at all."""
    lengths = [3, 300, 40]
    whole = torch.randn(300 + 2 * 512)
    table = whole[512:-512].requires_grad_()
    beside = read_around(table, whole, monkeypatch)
    q, k, v = torch.randn(3, sum(lengths), 1, 16, requires_grad=True)
    out = attention(
        q, k, v, Sequences.from_lengths(lengths), activation="silu", mask=mask, bias=RelativeBias(table),
        kernel="triton",
    )  # fmt: skip
    out.sum().backward()
    assert table.grad is not None
    assert sorted(beside) == []

"""The Triton kernels with queries that are last tokens, of sequences whose lengths only the device knows."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from models.attention import Causal, Mask, RelativeBias, RelativeTime, SemiLocal, Sequences, attention
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")

LENGTHS, LAST, SPARE = (70, 0, 9, 140), (7, 0, 9, 66), 20
TOLERANCE = 1e-5 if DEVICE == "cpu" else 1e-4
COUNTS = torch.tensor([3, 0, 2, 0])


@pytest.mark.parametrize(("parts", "biased"), [(1, True), (3, True), (4, False)])
@pytest.mark.parametrize(
    "mask", [Causal(), SemiLocal(40, 2, context=2, candidates=COUNTS.to(DEVICE))], ids=["causal", "rich"]
)
def test_last_tokens_without_their_lengths(
    mask: Mask, biased: bool, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several programs share the keys, of which some have none."""
    launch = importlib.import_module("models.attention.silu.launch")
    monkeypatch.setattr(launch, "parts_of_keys", lambda *_: parts)
    known, kept = Sequences.from_lengths(LENGTHS, DEVICE), Sequences.from_lengths(LAST, DEVICE)
    unread = Sequences.unread(known.offsets, tokens=known.num_tokens + SPARE, longest=200)
    asking = Sequences.unread(kept.offsets, tokens=kept.num_tokens + SPARE, longest=100)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    q, given = (draw(asking.num_tokens, 2, 16) for _ in range(2))
    k, v, tables = draw(unread.num_tokens, 2, 16), draw(unread.num_tokens, 2, 16), [draw(210), draw(129)]
    seconds = torch.randint(10**6, (unread.num_tokens,), generator=generator).to(DEVICE)

    def solve(sequences: Sequences, queries: Sequences, kernel: str) -> list[Tensor]:
        n, m, bias = sequences.num_tokens, queries.num_tokens, None
        leaves = [each.clone().requires_grad_() for each in (q[:m], k[:n], v[:n], *tables)]
        if biased:
            times = RelativeTime(torch.full_like(seconds[:m], 10**6), seconds[:n], sequences, queries)
            bias = RelativeBias(leaves[3], leaves[4], times)
        out = attention(
            *leaves[:3], sequences, activation="silu", mask=mask, bias=bias, qk_scale=0.25, queries=queries,
            kernel=kernel,
        )  # type: ignore[misc]  # fmt: skip
        if parts > 1:
            return [out]
        return [out, *torch.autograd.grad(out, leaves, given[:m])]

    for ours, truth in zip(solve(unread, asking, "triton"), solve(known, kept, "reference"), strict=True):
        count = len(truth)
        scale = max(1.0, float(truth.detach().abs().max()))
        torch.testing.assert_close(ours[:count], truth, rtol=0, atol=TOLERANCE * scale)
        assert not ours[count:].any()

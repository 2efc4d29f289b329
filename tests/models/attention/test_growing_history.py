"""The same queries asked again over a history that has grown: nothing kept of one call serves another."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import Tensor

from models.attention import Causal, LocalWindow, Mask, RelativeBias, RelativeTime, Sequences, attention
from models.attention.inputs import AttentionInputs
from models.attention.weak_cache import weakly_cached
from models.attention.xformers import unavailable as xformers_unavailable
from tests.models.interpreted import DEVICE

HISTORIES = ([70, 5], [200, 5], [70, 150], [64, 64], [70, 5])
"""Lengths of the same two sequences in one call after the other."""
QUERIES = (3, 5)


def solve(kernel: str, activation: str, mask: Mask, biased: bool) -> list[Tensor]:
    """Results and gradients of all calls, which share `queries` and q."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(DEVICE)

    queries = Sequences.from_lengths(QUERIES, DEVICE)
    q, given = draw(sum(QUERIES), 2, 16), draw(sum(QUERIES), 2, 16)
    tables = [draw(210).requires_grad_(), draw(129).requires_grad_()]
    found = []
    for lengths in HISTORIES:
        sequences = Sequences.from_lengths(lengths, DEVICE)
        tokens = sum(lengths)
        leaves = [q.clone().requires_grad_(), *(draw(tokens, 2, 16).requires_grad_() for _ in range(2))]
        bias = None
        if biased:
            timestamp = torch.randint(10**6, (tokens,), generator=generator).to(DEVICE)
            query_time = torch.full((sum(QUERIES),), 10**6, device=DEVICE)
            bias = RelativeBias(*tables, RelativeTime(query_time, timestamp, sequences, queries))
            leaves += tables
        out = attention(
            *leaves[:3], sequences, activation=activation, mask=mask, bias=bias, qk_scale=0.25,
            queries=queries, kernel=kernel,
        )  # type: ignore[arg-type]  # fmt: skip
        found += [out, *torch.autograd.grad(out, leaves, given)]
    return found


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("mask", [Causal(), LocalWindow(40)], ids=["causal", "window"])
@pytest.mark.parametrize(
    ("kernel", "activation"),
    [
        ("triton", "silu"),
        ("blocked", "silu"),
        ("blocked", "softmax"),
        ("sdpa", "softmax"),
        ("xformers", "softmax"),
    ],
)
@pytest.mark.usefixtures("interpreted")
def test_queries_used_again_with_other_histories(
    kernel: str, activation: str, mask: Mask, biased: bool
) -> None:
    if kernel == "triton":
        pytest.importorskip("triton", reason="triton is not installed")
    if kernel == "xformers" and xformers_unavailable():
        pytest.skip("xformers cannot run here")
    if kernel == "blocked" and DEVICE != "cpu":
        pytest.skip("a kernel for the CPU")
    found, expected = (solve(name, activation, mask, biased) for name in (kernel, "reference"))
    for ours, truth in zip(found, expected, strict=True):
        scale = max(1.0, float(truth.detach().abs().max()))
        torch.testing.assert_close(ours, truth, rtol=0, atol=1e-5 * scale)


def test_a_result_is_kept_for_its_own_arguments_and_no_longer() -> None:
    calls = []

    @weakly_cached
    def double(sequences: Sequences, queries: Sequences | None, factor: int) -> list[int]:
        calls.append(factor)
        return [factor * length for length in (queries or sequences).lengths]

    first, second = Sequences.from_lengths([1, 2]), Sequences.from_lengths([1, 2])
    assert double(first, None, 2) is double(first, None, 2)
    assert double(first, second, 2) is double(first, second, 2)
    assert double(first, second, 3) == [3, 6]
    assert double(second, None, 2) is not double(first, None, 2)
    assert calls == [2, 2, 3, 2]
    kept = double.__closure__ or ()
    (entries,) = [cell.cell_contents for cell in kept if isinstance(cell.cell_contents, dict)]
    assert len(entries) == 4
    del first
    gc.collect()
    assert len(entries) == 1, "what depends on an object goes with it"
    del second
    gc.collect()
    assert not entries


def test_a_compiled_graph_keeps_nothing_of_a_batch() -> None:
    def layer(q: Tensor, sequences: Sequences) -> Tensor:
        return attention(q, q, q, sequences, activation="softmax", mask=Causal(), kernel="sdpa")

    compiled = torch.compile(layer, backend="eager", dynamic=True)
    for lengths in ((3, 4), (5, 2, 9), (1, 7)):
        q, sequences = torch.randn(sum(lengths), 2, 8), Sequences.from_lengths(lengths)
        torch.testing.assert_close(compiled(q, sequences), layer(q, sequences))


def test_times_of_other_sequences_whose_lengths_only_the_device_knows_are_an_error() -> None:
    """Offsets are not compared, which would wait for the device: they have to be the same tensor."""
    own, other = (
        Sequences.unread(torch.tensor(offsets), tokens=9, longest=9) for offsets in ([0, 4, 9], [0, 5, 9])
    )
    x, seconds = torch.zeros(9, 1, 8), torch.zeros(9, dtype=torch.int64)

    def check(sequences: Sequences) -> None:
        bias = RelativeBias(time=torch.zeros(129), relative_time=RelativeTime(seconds, seconds, sequences))
        AttentionInputs(x, x, x, own, "silu", Causal(), bias, 1.0, 1.0)

    check(own)
    check(Sequences.unread(own.offsets, tokens=9, longest=9))
    with pytest.raises(ValueError, match="belong to other sequences"):
        check(other)

"""The xformers adapter: on the CPU over a stand-in that computes the obvious way, on a GPU over xformers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from models.attention import Sequences, reference, xformers, xformers_library
from models.attention.inputs import AttentionInputs
from tests.models.attention.softmax_cases import (
    BIASES,
    MASKS,
    SoftmaxCase,
    assert_agrees,
    relaxed,
    softmax_cases,
)


@dataclass(frozen=True)
class StandInMask:
    """What xformers' block-diagonal masks are documented to mean."""

    query_lengths: list[int]
    key_lengths: list[int]
    kind: str = "any"
    window: int | None = None

    @classmethod
    def from_seqlens(cls, q: list[int], kv: list[int], *, device: torch.device) -> StandInMask:
        assert isinstance(device, torch.device)
        return cls(q, kv)

    def make_causal(self) -> StandInMask:
        return replace(self, kind="top left")

    def make_causal_from_bottomright(self) -> StandInMask:
        return replace(self, kind="bottom right")

    def make_local_attention(self, window_size: int) -> StandInMask:
        return replace(self, kind="top left", window=window_size)

    def make_local_attention_from_bottomright(self, window_size: int) -> StandInMask:
        return replace(self, kind="bottom right", window=window_size)

    def materialize(self) -> Tensor:
        """[queries, keys] of zeros and minus infinity."""
        mask = torch.full((sum(self.query_lengths), sum(self.key_lengths)), -torch.inf, dtype=torch.float64)
        first_query = first_key = 0
        for queries, keys in zip(self.query_lengths, self.key_lengths, strict=True):
            assert 0 <= queries <= keys > 0
            shift = keys - queries if self.kind == "bottom right" else 0
            for i in range(queries):
                for j in range(keys):
                    distance = i + shift - j
                    if self.kind == "any" or 0 <= distance < (self.window or keys):
                        mask[first_query + i, first_key + j] = 0
            first_query, first_key = first_query + queries, first_key + keys
        return mask


class StandIn:
    """xformers.ops.fmha: checks what xformers demands of its arguments, and computes the obvious way."""

    cutlass = SimpleNamespace(FwOp="cutlass forward", BwOp="cutlass backward")
    attn_bias = SimpleNamespace(BlockDiagonalMask=StandInMask)

    def __init__(self) -> None:
        self.calls: list[tuple[StandInMask | Tensor, Any]] = []

    def memory_efficient_attention(
        self, q: Tensor, k: Tensor, v: Tensor, *, attn_bias: StandInMask | Tensor, scale: float, op: Any
    ) -> Tensor:
        self.calls.append((attn_bias, op))
        for tensor in (q, k, v):
            assert tensor.shape[3] % 8 == 0
            assert tensor.stride(3) == 1
            assert all(stride % 8 == 0 for stride in tensor.stride()[:3])
        if isinstance(attn_bias, StandInMask):
            assert len(q) == 1
            added = attn_bias.materialize()
        else:
            assert op == ("cutlass forward", "cutlass backward")
            assert attn_bias.shape == (len(q), q.shape[2], q.shape[1], k.shape[1])
            assert attn_bias.dtype == q.dtype
            assert all(stride % 8 == 0 for stride in attn_bias.stride()[:3])
            # xformers takes its way without gradients if none of these needs one.
            differentiable = any(tensor.requires_grad for tensor in (q, k, v))
            added = attn_bias if differentiable else attn_bias.detach()
        scores = torch.einsum("bihd,bjhd->bhij", q.double(), k.double()) * scale + added
        return torch.einsum("bhij,bjhd->bihd", scores.softmax(dim=-1), v.double()).to(q)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return install(monkeypatch)


def install(patch: pytest.MonkeyPatch, capability: tuple[int, int] = (9, 0)) -> StandIn:
    fmha = StandIn()
    patch.setattr(xformers_library, "load", lambda: fmha)
    patch.setattr(xformers, "_capability", lambda device: capability)
    return fmha


@relaxed
@given(softmax_cases)
def test_the_adapter_agrees_with_the_reference(case: SoftmaxCase) -> None:
    with pytest.MonkeyPatch.context() as patch:
        install(patch)
        assert_agrees(case.solve(xformers.run), case.solve(reference.run), 1e-12)


@pytest.mark.parametrize("last_queries", [None, 2])
@pytest.mark.parametrize("mask", ["causal", "window"])
def test_plain_masks_stay_packed_and_go_to_flash(
    stand_in: StandIn, mask: str, last_queries: int | None
) -> None:
    case = SoftmaxCase((9, 0, 4), mask=mask, last_queries=last_queries)
    case.solve(xformers.run)
    ((made, operators),) = stand_in.calls
    assert isinstance(made, StandInMask)
    assert made.kind == ("top left" if case.last_queries is None else "bottom right")
    assert made.window == (3 if case.mask == "window" else None)
    assert operators is None


@pytest.mark.parametrize("mask", ["semi-local", "context", "candidates"])
def test_other_masks_become_a_tensor(stand_in: StandIn, mask: str) -> None:
    SoftmaxCase((9, 0, 4), mask=mask).solve(xformers.run)
    assert isinstance(stand_in.calls[0][0], Tensor)


def test_what_flash_does_not_take_goes_to_cutlass(stand_in: StandIn) -> None:
    def packed(case: SoftmaxCase) -> bool:
        xformers.run(case.inputs()[1])
        mask, operators = stand_in.calls.pop()
        assert operators == ("cutlass forward", "cutlass backward")
        return isinstance(mask, StandInMask)

    single = SoftmaxCase((9, 4), dtype=torch.float32)
    wide = SoftmaxCase((9, 4), qk_dim=8, v_dim=264)
    for case in (single, wide):
        assert packed(case)
        assert packed(replace(case, mask="window"))
        assert packed(replace(case, last_queries=2))
        # No backward pass for this one.
        assert not packed(replace(case, mask="window", last_queries=2))


def test_deterministic_results_do_not_come_from_flash(stand_in: StandIn) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        xformers.run(SoftmaxCase((9, 4)).inputs()[1])
    finally:
        torch.use_deterministic_algorithms(False)
    assert stand_in.calls[0][1] == ("cutlass forward", "cutlass backward")


def test_layers_of_a_batch_share_the_mask(stand_in: StandIn) -> None:
    _, inputs = SoftmaxCase((9, 4)).inputs()
    xformers.run(inputs)
    xformers.run(inputs)
    xformers.run(replace(inputs, sequences=Sequences.from_lengths([9, 4])))
    first, second, third = (mask for mask, _ in stand_in.calls)
    assert first is second
    assert first is not third


def test_the_bias_alone_has_gradients_too(stand_in: StandIn) -> None:
    case = SoftmaxCase((9, 4), bias="position")
    leaves, inputs = case.inputs()
    for name in ("q", "k", "v"):
        leaves[name].requires_grad_(False)
    (found,) = torch.autograd.grad(xformers.run(inputs).square().sum(), [leaves["position"]])
    (truth,) = torch.autograd.grad(reference.run(inputs).square().sum(), [leaves["position"]])
    torch.testing.assert_close(found, truth)


def on_cuda(case: SoftmaxCase, dtype: torch.dtype = torch.bfloat16) -> AttentionInputs:
    """Inputs that are on a CUDA device as far as one can tell without having one."""
    _, inputs = case.inputs()
    with FakeTensorMode():
        q, k, v = (torch.empty(t.shape, dtype=dtype, device="cuda:0") for t in (inputs.q, inputs.k, inputs.v))
    return replace(inputs, q=q, k=k, v=v)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("bias", BIASES)
def test_softmax_on_a_cuda_device_fits(stand_in: StandIn, mask: str, bias: str) -> None:
    assert xformers.reasons_against(on_cuda(SoftmaxCase((9, 0, 4), mask=mask, bias=bias))) == []


def test_the_adapter_says_what_it_cannot_do() -> None:
    cuda = on_cuda(SoftmaxCase((9, 4)))
    assert xformers.reasons_against(replace(cuda, activation="silu")) == ["softmax only, not silu"]
    assert xformers.reasons_against(replace(cuda, activation="identity")) == ["softmax only, not identity"]
    double = xformers.reasons_against(on_cuda(SoftmaxCase((9, 4)), torch.float64))
    assert double == ["q, k and v must all be float32, float16 or bfloat16, not float64"]
    assert xformers.reasons_against(on_cuda(SoftmaxCase((0, 0)))) == ["there are no queries"]
    _, inputs = SoftmaxCase((9, 4), dtype=torch.float32).inputs()
    assert xformers.reasons_against(inputs) == ["CUDA only, not cpu"]


@pytest.mark.parametrize(
    ("capability", "dtype", "dim", "expected"),
    [
        ((9, 0), torch.bfloat16, 264, None),
        ((10, 0), torch.bfloat16, 256, None),
        ((7, 5), torch.bfloat16, 8, "bfloat16 needs compute capability 8.0, and the device has 7.5"),
        ((7, 5), torch.float16, 8, None),
        ((10, 0), torch.float32, 8, "a compute capability up to 9.0, and the device has 10.0"),
        ((10, 0), torch.bfloat16, 264, "a compute capability up to 9.0, and the device has 10.0"),
    ],
)
def test_kernels_are_made_for_some_devices(
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    dtype: torch.dtype,
    dim: int,
    expected: str | None,
) -> None:
    install(monkeypatch, capability)
    reasons = xformers.reasons_against(on_cuda(SoftmaxCase((9, 4), v_dim=dim), dtype))
    assert [reason for reason in reasons if expected is None or expected not in reason] == []
    assert len(reasons) == (expected is not None)


def test_a_bias_tensor_has_a_largest_size(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    # 3 sequences, 2 heads, 9 queries, 9 keys
    monkeypatch.setattr(xformers, "MAX_BIAS_ELEMENTS", 3 * 2 * 9 * 9)
    biased = SoftmaxCase((9, 0, 4), bias="position")
    assert xformers.reasons_against(on_cuda(biased)) == []
    monkeypatch.setattr(xformers, "MAX_BIAS_ELEMENTS", 3 * 2 * 9 * 9 - 1)
    (reason,) = xformers.reasons_against(on_cuda(biased))
    assert "a tensor over all pairs, of 486 numbers, more than 485" in reason
    assert xformers.reasons_against(on_cuda(replace(biased, bias="none"))) == []
    assert xformers.reasons_against(on_cuda(replace(biased, last_queries=8))) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnTheDevice:
    """xformers itself against the reference in float64."""

    @pytest.fixture(autouse=True)
    def _xformers(self) -> None:
        if xformers.unavailable():
            pytest.skip("; ".join(xformers.unavailable()))

    def check(self, case: SoftmaxCase) -> None:
        tolerance = {torch.float32: 1e-3, torch.float16: 1e-2, torch.bfloat16: 8e-2}[case.dtype]
        case = replace(case, rounded=case.dtype)
        found = replace(case, device="cuda")
        assert xformers.reasons_against(found.inputs()[1]) == []
        truth = replace(case, dtype=torch.float64).solve(reference.run)
        assert_agrees(found.solve(xformers.run), truth, tolerance)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("dim", [16, 25, 50, 64, 128, 256])
    @pytest.mark.parametrize("last_queries", [None, 5])
    @pytest.mark.parametrize("mask", ["causal", "window"])
    def test_packed(self, mask: str, last_queries: int | None, dim: int, dtype: torch.dtype) -> None:
        self.check(SoftmaxCase((70, 0, 1, 133), 2, dim, dim, mask, last_queries=last_queries, dtype=dtype))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    @pytest.mark.parametrize("dim", [25, 64, 256])
    @pytest.mark.parametrize("bias", BIASES)
    def test_bias_on_padded_batches(self, bias: str, dim: int, dtype: torch.dtype) -> None:
        self.check(SoftmaxCase((70, 0, 1, 133), 2, dim, dim, bias=bias, dtype=dtype))

    @pytest.mark.parametrize("bias", ["none", "all a head"])
    @pytest.mark.parametrize("last_queries", [None, 5])
    @pytest.mark.parametrize("mask", MASKS)
    def test_masks_with_and_without_a_bias(self, mask: str, last_queries: int | None, bias: str) -> None:
        self.check(SoftmaxCase((70, 0, 1, 133), 3, 32, 48, mask, bias, last_queries, dtype=torch.bfloat16))

    @pytest.mark.parametrize("mask", ["causal", "window"])
    def test_deterministic_results(self, mask: str) -> None:
        torch.use_deterministic_algorithms(True)
        try:
            self.check(SoftmaxCase((70, 0, 1, 133), mask=mask, dtype=torch.bfloat16))
        finally:
            torch.use_deterministic_algorithms(False)

    def test_views_of_one_projection(self) -> None:
        joined = torch.randn(40, 3 * 2 * 25, device="cuda", dtype=torch.bfloat16)
        q, k, v = (part.unflatten(-1, (2, 25)) for part in joined.split(50, dim=-1))
        _, inputs = SoftmaxCase((40,), qk_dim=25, v_dim=25, device="cuda").inputs()
        inputs = replace(inputs, q=q, k=k, v=v)
        found, truth = xformers.run(inputs), reference.run(inputs)
        torch.testing.assert_close(found, truth, rtol=0.05, atol=0.05)

    def test_nothing_waits_for_the_device(self) -> None:
        kinds = [("causal", "none"), ("window", "all"), ("candidates", "none")]
        shape = SoftmaxCase((70, 0, 133), dtype=torch.bfloat16, device="cuda")
        cases = [replace(shape, mask=mask, bias=bias) for mask, bias in kinds]
        for case in cases:
            case.solve(xformers.run)
        for case in cases:
            leaves, inputs = case.inputs()
            torch.cuda.set_sync_debug_mode("error")
            try:
                xformers.run(inputs).sum().backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
            assert all(leaf.grad is not None for leaf in leaves.values())

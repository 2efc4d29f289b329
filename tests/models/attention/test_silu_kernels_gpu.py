"""The Triton kernels compiled, on a GPU: types, large sizes, devices, CUDA graphs, no synchronization."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.attention import Causal, LocalWindow, RelativeBias, RelativeTime, Sequences, attention
from tests.models.attention.attention_problems import Problem, assert_same
from tests.models.attention.test_silu_kernels import check
from tests.models.interpreted import on_gpu

pytest.importorskip("triton", reason="triton is not installed")

GPU_CASES = [
    Problem((700, 0, 1, 64, 129), heads=2, qk_dim=64, v_dim=64, sorted_times=True, time_span=10**7),
    Problem((700, 300), heads=2, qk_dim=25, v_dim=50, window=100, sorted_times=True),
    Problem((500, 700), heads=4, qk_dim=128, v_dim=128, time_span=10**15),
    Problem((500, 300), qk_dim=256, v_dim=256, sorted_times=True),
    Problem((200, 150), heads=2, qk_dim=50, v_dim=50, bias="none"),
    Problem((1000, 150), qk_dim=200, v_dim=16, bias="position"),
    Problem((3000,), heads=2, qk_dim=128, v_dim=128, sorted_times=True, time_span=10**9),
    Problem((900, 150), heads=2, qk_dim=64, v_dim=64, window=64, prefix=20, context=7, candidates=300),
    Problem((900, 150), heads=2, qk_dim=64, v_dim=64, last=99, per_head=("position", "time"), decay="power"),
    Problem((900, 150), heads=2, qk_dim=1, v_dim=50, activation="identity", per_head=("position",)),
    Problem((500, 150), heads=2, bias="none", decay="exponential", per_head=("decay",)),
    # Gradients of scores are kept, and of tables summed by eight warps.
    Problem((700, 0, 1, 129), heads=2, qk_dim=256, v_dim=256, sorted_times=True, time_span=10**7, skew=9),
    Problem((500, 130), heads=2, qk_dim=200, v_dim=256, time_span=10**7, per_head=("position", "time")),
    Problem((1500, 700), heads=2, qk_dim=64, v_dim=64, sorted_times=True, time_span=10**7, skew=20),
    Problem((1500, 70), qk_dim=64, v_dim=64, context=4, candidates=100, sorted_times=True, skew=20),
]


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3), (torch.float32, 1e-4)]
)
@pytest.mark.parametrize("problem", GPU_CASES)
def test_on_the_gpu(problem: Problem, dtype: torch.dtype, tolerance: float) -> None:
    check(problem, tolerance, dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
def test_offsets_past_two_to_the_31() -> None:
    """The last of many sequences lies past 2^31 elements; alone it gives the same numbers."""
    heads, dim, length = 16, 128, 1024
    count = 2**31 // (heads * dim * length) + 2
    torch.manual_seed(0)
    q = torch.randn(count * length, heads, dim, device="cuda", dtype=torch.bfloat16).requires_grad_()
    sequences = Sequences.from_lengths([length] * count, "cuda")
    out = attention(q, q, q, sequences, activation="silu", mask=LocalWindow(64), qk_scale=0.1)
    (gradient,) = torch.autograd.grad(out, q, out.detach())
    alone = q[-length:].detach().clone().requires_grad_()
    one = Sequences.from_lengths([length], "cuda")
    out_alone = attention(alone, alone, alone, one, activation="silu", mask=LocalWindow(64), qk_scale=0.1)
    (gradient_alone,) = torch.autograd.grad(out_alone, alone, out_alone.detach())
    assert torch.equal(out[-length:], out_alone)
    assert torch.equal(gradient[-length:], gradient_alone)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device at most")
def test_kernels_run_on_the_device_of_their_tensors() -> None:
    problem = Problem((130, 20), heads=2, sorted_times=True, dtype=torch.float32)
    expected = replace(problem, device="cuda:0").solve("triton")
    found = replace(problem, device="cuda:1").solve("triton")
    assert torch.cuda.current_device() == 0
    assert all(tensor.get_device() == 1 for tensor in found.values())
    assert_same({name: tensor.cpu() for name, tensor in found.items()},
                {name: tensor.cpu() for name, tensor in expected.items()}, 1e-6)  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
def test_sequences_left_on_the_cpu_are_an_error() -> None:
    q = torch.zeros(5, 1, 16, device="cuda")
    with pytest.raises(ValueError, match="on one device"):
        attention(q, q, q, Sequences.from_lengths([5]), activation="silu", mask=Causal(), kernel="triton")


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
def test_a_recorded_call_does_what_the_call_did() -> None:
    q, k, v, given = torch.randn(4, 150, 2, 16, device="cuda").unbind()
    leaves = [tensor.requires_grad_() for tensor in (q, k, v)]
    sequences = Sequences.from_lengths([130, 20], "cuda")

    def both() -> list[torch.Tensor]:
        out = attention(*leaves, sequences, activation="silu", mask=Causal(), kernel="triton")
        return [out.detach(), *torch.autograd.grad(out, leaves, given)]

    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        expected = both()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = both()
    for tensor in found:
        tensor.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(ours, truth) for ours, truth in zip(found, expected, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
def test_nothing_waits_for_the_gpu() -> None:
    problem = Problem((130, 20), heads=2, dtype=torch.float32, device="cuda")
    problem.solve("triton")
    tensors = problem.tensors()
    sequences = Sequences.from_lengths((130, 20), "cuda")
    times = RelativeTime(*problem.times(), sequences)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = attention(
            tensors["q"], tensors["k"], tensors["v"], sequences, activation="silu", mask=Causal(),
            bias=RelativeBias(tensors["position"], tensors["time"], times), kernel="triton",
        )  # fmt: skip
        out.backward(tensors["gradient"])
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""The Triton kernels against the dense reference: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.attention import Causal, LocalWindow, RelativeBias, RelativeTime, Sequences, attention
from models.attention import silu as kernel
from models.attention.bias import BUCKET_STARTS, time_bucket
from models.attention.inputs import AttentionInputs
from tests.models.attention.attention_problems import Problem, assert_same, biases, maybe, problems, relaxed
from tests.models.interpreted import DEVICE

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


def check(problem: Problem, tolerance: float, dtype: torch.dtype = torch.float32) -> None:
    found = replace(problem, dtype=dtype, device=DEVICE).solve("triton")
    # The truth of the rounded inputs, not of those before rounding.
    expected = replace(problem, rounded=dtype, device=DEVICE).solve("reference")
    assert_same(found, expected, tolerance)


# All events at once, within minutes, years, a lifetime, and far beyond what a log holds.
spans = st.sampled_from([0, 300, 10**8, 10**9, 10**15])


@relaxed(6)
@given(
    st.builds(
        Problem,
        lengths=st.lists(st.integers(0, 150), min_size=1, max_size=2).map(tuple),
        heads=st.integers(1, 2),
        qk_dim=st.sampled_from([1, 16, 25, 50]),
        v_dim=st.sampled_from([3, 16, 25, 50]),
        window=maybe(st.integers(1, 160)),
        bias=biases,
        time_span=spans,
        sorted_times=st.booleans(),
        seed=st.integers(0, 1000),
    )
)
def test_any_batch(problem: Problem) -> None:
    check(problem, 1e-5)


@relaxed(6)
@given(
    problems(
        lengths=st.tuples(st.integers(0, 200), st.integers(0, 30)),
        heads=st.sampled_from([1, 2]),
        activation=st.sampled_from(["silu", "identity"]),
        window=maybe(st.integers(1, 100)),
        context=st.sampled_from([0, 1, 5, 32]),
        time_span=spans,
        sorted_times=st.booleans(),
    )
)
def test_any_mask_and_any_bias(problem: Problem) -> None:
    check(problem, 1e-5)


RICH = [
    Problem((150, 40, 0, 1), window=20, prefix=70, sorted_times=True),
    Problem((200, 40, 0, 1), window=20, prefix=3, context=5, candidates=110),
    Problem((150, 40, 0, 1), heads=2, last=70, candidates=3, per_head=("position", "time")),
    Problem((150, 40), heads=2, per_head=("position",), decay="power", activation="identity"),
    Problem((150, 40), heads=2, per_head=("decay",), decay="exponential", bias="none"),
]


@pytest.mark.parametrize("problem", RICH)
def test_masks_and_biases_of_every_kind(problem: Problem) -> None:
    check(problem, 1e-5)


@pytest.mark.parametrize("length", [1, 31, 33, 64, 65, 129])
def test_the_edges_of_tiles(length: int) -> None:
    check(Problem((length, 1, 0, length), sorted_times=True, time_span=10**7), 1e-5)


@pytest.mark.parametrize("bias", ["both", "none"])
def test_one_long_among_many_short(bias: str) -> None:
    check(Problem((3, 1, 0, 300, 2, 7), heads=2, bias=bias, sorted_times=True, time_span=10**8), 1e-5)


def test_float16() -> None:
    check(Problem((90, 20), qk_dim=25, v_dim=16, sorted_times=True), 3e-3, torch.float16)


@pytest.mark.parametrize("window", [1, 33, 64, 200])
def test_local_windows(window: int) -> None:
    check(Problem((150, 40), window=window, sorted_times=True), 1e-5)


@pytest.mark.parametrize(
    ("copies", "limit", "sign"), [(5, 2**29, 1), (1, 2**31, 1), (1, 2**31, -1), (1, 2**62, 1)]
)
def test_differences_at_the_borders_of_buckets(copies: int, limit: int, sign: int) -> None:
    """A second before each border, on it and a second after: in tiles of few borders, in others, and in tiles
    whose seconds need 64 bits."""
    boundaries = [start for start in BUCKET_STARTS if start < limit]
    difference = torch.tensor([start + step for start in boundaries for step in (-1, 0, 1)] * copies)
    difference = difference.sort().values
    length = difference.numel()
    sequences = Sequences.from_lengths([length], DEVICE)
    query_time = torch.full((length,), 10**9)
    times = RelativeTime(query_time.to(DEVICE), (query_time - sign * difference).to(DEVICE), sequences)
    torch.manual_seed(0)
    # Weights are the biases themselves: whole numbers, whose sums are exact.
    bias = RelativeBias(time=torch.randperm(129, device=DEVICE).float(), relative_time=times)
    q = torch.zeros(length, 1, 16, device=DEVICE)
    v = torch.randint(0, 2, (length, 1, 16), device=DEVICE).float()
    found = attention(q, q, v, sequences, activation="identity", mask=Causal(), bias=bias, kernel="triton")
    weights = bias.time[time_bucket(sign * difference.to(DEVICE))]
    torch.testing.assert_close(found, (weights[:, None, None] * v).cumsum(0), rtol=0, atol=0)


def test_views_of_one_projection_need_no_copy() -> None:
    torch.manual_seed(0)
    projection = torch.randn(70, 2 * (8 + 8 + 5), device=DEVICE)
    q, k, v = (part.unflatten(1, (2, -1)) for part in projection.split([16, 16, 10], dim=1))
    assert not q.is_contiguous()
    sequences = Sequences.from_lengths([30, 40], DEVICE)
    results = [
        attention(q, k, v, sequences, activation="silu", mask=Causal(), kernel=name)
        for name in ("triton", "reference")
    ]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


IN_TURN = [
    Problem((40, 9), bias="none"),
    Problem((70,), bias="none"),
    Problem((40, 9), bias="none", window=8),
    Problem((40, 9), bias="both"),
    Problem((40, 9), bias="position"),
    Problem((40, 9), bias="time", heads=2, per_head=("time",)),
    Problem((40, 9), bias="none", qk_dim=16),
    Problem((40, 9), bias="none", decay="power"),
    Problem((40, 9), bias="none", context=3),
]


def test_kinds_of_calls_in_turn() -> None:
    """What is kept of one kind of calls is not used for another, nor of one batch for the next."""
    for problem in IN_TURN * 2:
        check(problem, 1e-5)


@pytest.mark.parametrize("layout", [(0, 8), (3, 8), (0, 11), (1, 24)])
def test_rows_may_lie_anywhere(layout: tuple[int, int]) -> None:
    """From addresses that are no multiples of 16 bytes on, with gaps, heads inside or outside."""
    offset, columns = layout
    torch.manual_seed(0)
    sequences = Sequences.from_lengths([30, 40], DEVICE)
    tensors = [torch.randn(70 * 2 * columns + offset, device=DEVICE)[offset:] for _ in range(4)]
    for heads_outside in (False, True):
        shape = (2, 70, columns) if heads_outside else (70, 2, columns)
        views = [tensor.view(shape)[:, :, :8] for tensor in tensors]
        views = [view.transpose(0, 1) if heads_outside else view for view in views]
        q, k, v = (view.detach().requires_grad_() for view in views[:3])
        results = []
        for name in ("triton", "reference"):
            out = attention(q, k, v, sequences, activation="silu", mask=Causal(), kernel=name)
            results.append([out, *torch.autograd.grad(out, [q, k, v], views[3])])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "problem",
    [
        Problem((130, 20), heads=2, sorted_times=True),
        Problem((130, 20), heads=2, window=20, prefix=3, context=5, candidates=40, time_span=10**15),
    ],
)
def test_gradients_are_the_same_bit_for_bit_in_every_run(problem: Problem) -> None:
    problem = replace(problem, dtype=torch.float32, device=DEVICE)
    torch.use_deterministic_algorithms(True)  # Has nothing against any mask, and fills new memory with NaN.
    try:
        first, second = problem.solve("triton"), problem.solve("triton")
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_of_tables_do_not_depend_on_the_order_of_sequences() -> None:
    lengths = (70, 5, 130, 64)
    torch.manual_seed(0)
    parts = [torch.randn(4, length, 1, 16, device=DEVICE) for length in lengths]
    seconds = [torch.randint(0, 10**7, (length,), device=DEVICE).sort().values for length in lengths]
    tables = [torch.randn(size, device=DEVICE).requires_grad_() for size in (130, 129)]
    found = []
    for order in ([0, 1, 2, 3], [2, 3, 1, 0]):
        q, k, v, gradient = torch.cat([parts[number] for number in order], dim=1)
        timestamp = torch.cat([seconds[number] for number in order])
        sequences = Sequences.from_lengths([lengths[number] for number in order], DEVICE)
        bias = RelativeBias(*tables, RelativeTime(timestamp, timestamp, sequences))
        mask = Causal(context=3)
        out = attention(q, k, v, sequences, activation="silu", mask=mask, bias=bias, kernel="triton")
        found.append(torch.autograd.grad(out, tables, gradient))
    for first, second in zip(*found, strict=True):
        assert torch.equal(first, second)


def test_tables_without_gradients_are_not_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.attention.silu import launch

    passes: list[launch.Backward] = []
    prepare = launch.backward
    monkeypatch.setattr(launch, "backward", lambda *given: passes.append(prepare(*given)) or passes[-1])
    for wanted in (False, True):
        q, k, v = torch.randn(3, 20, 1, 4, device=DEVICE).unbind()
        q.requires_grad_()
        sequences = Sequences.from_lengths([20], DEVICE)
        bias = RelativeBias(position=torch.randn(20, device=DEVICE).requires_grad_(wanted))
        out = attention(q, k, v, sequences, activation="silu", mask=Causal(), bias=bias, kernel="triton")
        out.sum().backward()
        assert q.grad is not None
    assert [shared.sums is not None for shared in passes] == [False, True]


def test_one_compiled_graph_serves_batches_of_any_lengths() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> object:
        graphs.append(graph)
        return graph

    def layer(*tensors: torch.Tensor, sequences: Sequences, bias: RelativeBias) -> torch.Tensor:
        q, k, v = tensors
        arguments = {"activation": "silu", "mask": LocalWindow(50), "bias": bias, "qk_scale": 0.4}
        return attention(2 * q, k, v, sequences, output_scale=0.7, kernel="triton", **arguments)  # type: ignore[arg-type]

    compiled = torch.compile(layer, backend=backend, fullgraph=True, dynamic=True)
    for lengths in ((60, 10), (30, 33, 3), (7, 0, 20, 90)):
        problem = Problem(lengths, qk_dim=8, v_dim=8, dtype=torch.float32, device=DEVICE)
        tensors = problem.tensors()
        leaves = [tensors[name] for name in ("q", "k", "v", "position", "time")]
        tensors["position"].data = torch.linspace(0, 1, 100, device=DEVICE)
        sequences = Sequences.from_lengths(lengths, DEVICE)
        bias = RelativeBias(leaves[3], leaves[4], RelativeTime(*problem.times(), sequences))
        results = []
        for call in (compiled, layer):
            out = call(*leaves[:3], sequences=sequences, bias=bias)
            results.append([out, *torch.autograd.grad(out, leaves, tensors["gradient"])])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected)
    assert len(graphs) == 1


def test_the_operator_has_a_shape_without_running() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from models.attention.silu.attention_function import silu_attention

    with FakeTensorMode():
        q, v, offsets = torch.empty(9, 2, 4), torch.empty(9, 2, 6), torch.empty(3, dtype=torch.int64)
        nothing = (None,) * 6
        numbers = (None, 0, 0, False, False, 1.0, 1.0)
        out = silu_attention(q, q, v, *nothing, offsets, None, *numbers)
    assert out.shape == (9, 2, 6)


def test_lengths_that_only_the_device_knows() -> None:
    """Tokens past the last sequence get zeros, whatever stands there, and all else is as usual."""
    lengths, tokens = (60, 0, 75), 160
    torch.manual_seed(0)
    q, k, v, given = torch.randn(4, tokens, 2, 16, device=DEVICE).unbind()
    for tensor in (q, k, v):
        tensor[135:] = float("nan")
        tensor.requires_grad_()
    tables = (
        torch.randn(100, device=DEVICE).requires_grad_(),
        torch.randn(129, device=DEVICE).requires_grad_(),
    )
    timestamp = torch.randint(0, 10**6, (tokens,), device=DEVICE)
    found = []
    for size in (tokens, 135):
        sequences = Sequences.from_lengths(lengths, DEVICE)
        if size == tokens:
            offsets = torch.cat([sequences.offsets, sequences.offsets[-1:].expand(3)])
            sequences = Sequences.unread(offsets, tokens=tokens, longest=90)
        times = RelativeTime(timestamp[:size], timestamp[:size], sequences)
        leaves = [tensor[:size].detach().requires_grad_() for tensor in (q, k, v)]
        out = attention(
            *leaves, sequences, activation="silu", mask=LocalWindow(50), bias=RelativeBias(*tables, times),
            kernel="triton",
        )  # fmt: skip
        found.append([out, *torch.autograd.grad(out, [*leaves, *tables], given[:size])])
    for padded, plain in zip(*found, strict=True):
        if padded.shape != plain.shape:
            assert (padded[135:] == 0).all()
            padded = padded[:135]
        torch.testing.assert_close(padded, plain)


def test_reasons_against() -> None:
    q = torch.zeros(5, 1, 300, dtype=torch.float64, device="meta")
    inputs = AttentionInputs(
        q, q, q, Sequences.from_lengths([5]), "softmax", Causal(), RelativeBias(position=q[0, 0]), 1.0, 1.0
    )
    reasons = " ".join(kernel.reasons_against(inputs))
    for part in ("not softmax", "CUDA only, not meta", "not torch.float64", "up to 256", "tables of a bias"):
        assert part in reasons

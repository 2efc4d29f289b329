"""The Triton kernels of history masses: interpreted on the CPU, compiled where there is a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
from torch import Tensor

from models.attention.sequences import Sequences
from models.gpu.availability import without_kernels
from models.history import HistoryBias, HistoryColumns, HistoryInputs, kernels, reference
from models.history.dispatch import choose_kernel
from tests.models.history import history_oracle as oracle
from tests.models.history.history_problems import ALL, TABLES, parameters, problem
from tests.models.interpreted import DEVICE, on_gpu

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")
needs_gpu = pytest.mark.skipif(not on_gpu, reason="no CUDA device")
Run = Callable[[HistoryInputs], tuple[Tensor, Tensor]]
JAGGED = (70, 0, 1, 130, 64)
NONE = float("-inf")


def small_problem(lengths: Sequence[int], terms: Sequence[str] = ALL, **settings: Any) -> HistoryInputs:
    """`problem`, with queries and keys whose logits are not far apart, on the device."""
    dtype = settings.pop("dtype", torch.float32)
    inputs = problem(lengths, terms, dtype=torch.float32, **settings)
    size = settings.get("dim", 4) ** -0.25
    return moved(inputs, lambda rows: (rows * size).to(dtype), lambda table: table)


def moved(
    inputs: HistoryInputs, rows: Callable[[Tensor], Tensor], table: Callable[[Tensor], Tensor]
) -> HistoryInputs:
    """The same on the device, with new leaves: functions of queries and keys, and of tables."""

    def leaf(tensor: Tensor | None, change: Callable[[Tensor], Tensor]) -> Any:
        return None if tensor is None else change(tensor.detach()).to(DEVICE).requires_grad_()

    tables = {name: leaf(getattr(inputs.bias, name), table) for name in TABLES}
    columns = {name: column.to(DEVICE) for name, column in of_events(inputs.columns).items()}
    return HistoryInputs(
        leaf(inputs.query, rows),
        leaf(inputs.key, rows),
        HistoryBias(leaf(inputs.bias.constant, table), **tables),
        HistoryColumns(**columns),
        inputs.sequences.to(DEVICE),
    )


def of_events(columns: HistoryColumns) -> dict[str, Tensor]:
    """Those that are there, by name."""
    return {name: column for name, column in vars(columns).items() if column is not None}


def solve(run: Run, inputs: HistoryInputs) -> dict[str, Tensor]:
    """Masses and gradients, for given gradients that are no numbers where masses are minus infinity."""
    masses = run(inputs)
    names = ("on target", "on rest")
    found = {name: mass.detach() for name, mass in zip(names, masses, strict=True)}
    place = torch.arange(inputs.sequences.num_tokens, device=DEVICE, dtype=masses[0].dtype)
    wrong = float("nan") if run is not reference.run else 0.0
    given = [
        (place * step).sin().masked_fill(mass == NONE, wrong)
        for step, mass in zip((1.0, 2.0), masses, strict=True)
    ]
    leaves = parameters(inputs)
    gradients = torch.autograd.grad(masses, list(leaves.values()), given)
    return found | dict(zip(leaves, gradients, strict=True))


def check(inputs: HistoryInputs, tolerance: float = 1e-5) -> dict[str, Tensor]:
    """Against the dense reference in float64; and two runs give the same bits."""
    found = solve(kernels.run, inputs)
    truth = solve(reference.run, moved(inputs, Tensor.double, Tensor.double))
    for name, ours in found.items():
        theirs = truth[name]
        finite = theirs.isfinite()
        assert torch.equal(finite, ours.isfinite()), name
        difference = (ours.double() - theirs)[finite].norm()
        assert difference <= tolerance * theirs[finite].norm() + 1e-12, name
    for name, again in solve(kernels.run, inputs).items():
        assert torch.equal(again, found[name]), name
    return found


@pytest.mark.parametrize(
    "terms",
    [ALL, (), ("time",), ("latest",), ("product", "closed"), ("behavior", "recency"), ("product",)],
    ids=lambda terms: "+".join(terms) or "constant",
)
def test_masses_are_their_formula(terms: tuple[str, ...]) -> None:
    inputs = small_problem((5, 1, 0, 12, 3), terms)
    found = kernels.run(inputs)
    exact = moved(inputs, Tensor.double, Tensor.double)
    wanted = oracle.masses(exact.query, exact.key, exact.bias, exact.columns, exact.sequences)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs.to(DEVICE), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dim", [16, 50, 200])
def test_several_tiles_with_all_terms(dim: int) -> None:
    check(small_problem(JAGGED, dim=dim, items=30))


@pytest.mark.parametrize("terms", [("product",), ("behavior", "latest", "closed", "time", "recency")])
def test_several_tiles_with_some_terms(terms: tuple[str, ...]) -> None:
    check(small_problem(JAGGED, terms, dim=32, items=30))


def test_float16() -> None:
    check(small_problem(JAGGED, dim=32, dtype=torch.float16), 1e-3)


def test_small_given_gradients_do_not_vanish_in_float16() -> None:
    inputs = small_problem((70,), dim=16, dtype=torch.float16)
    factor = 2.0**-30
    leaves = list(parameters(inputs).values())
    scaled, whole = (
        torch.autograd.grad([mass[mass != NONE].sum() * size for mass in kernels.run(inputs)], leaves)
        for size in (factor, 1.0)
    )
    for name, ours, theirs in zip(parameters(inputs), scaled, whole, strict=True):
        if name not in ("query", "key"):  # these are float16 themselves
            torch.testing.assert_close(ours / factor, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("times", ["a lifetime", "in no order", "all at once", "farther than 32 bits"])
def test_times(times: str) -> None:
    inputs = small_problem(JAGGED, ("time",), items=30)
    events = inputs.sequences.num_tokens
    random = torch.Generator().manual_seed(0)
    drawn = torch.rand(events, generator=random, dtype=torch.float64)
    timestamp = {
        "a lifetime": (drawn * 1.5e9).long().sort().values,
        "in no order": (drawn * 10**8).long(),
        "all at once": torch.zeros(events, dtype=torch.int64),
        "farther than 32 bits": (drawn * 1e16).long().sort().values,
    }[times].to(DEVICE)
    columns = replace(inputs.columns, timestamp=timestamp, query_time=timestamp + 1)
    check(replace(inputs, columns=columns))


@pytest.mark.parametrize("case", ["no match", "only matches", "unknown items", "nothing asked"])
def test_extremes_of_matching(case: str) -> None:
    inputs = small_problem((70, 3), dim=16)
    columns = inputs.columns
    if case == "no match":
        columns.target.fill_(9)
    elif case == "only matches":
        columns.item.fill_(2)
        columns.target.fill_(2)
    else:
        (columns.item if case == "unknown items" else columns.target).zero_()
    found = check(inputs)
    finite = {"no match": (False, True), "only matches": (True, False)}.get(case, (False, False))
    for name, expected in zip(("on target", "on rest"), finite, strict=True):
        assert found[name].isfinite().all() if expected else (found[name] == NONE).all()


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_logits_far_apart_overflow_nowhere(size: float) -> None:
    inputs = small_problem(JAGGED, ("product", "behavior"), dim=16, items=30)
    inputs = moved(inputs, lambda rows: rows * size**0.5, lambda table: table * size)
    found = solve(kernels.run, inputs)
    truth = solve(reference.run, moved(inputs, Tensor.double, Tensor.double))
    for name in ("on target", "on rest"):
        finite = truth[name].isfinite()
        assert torch.equal(finite, found[name].isfinite())
        torch.testing.assert_close(
            found[name][finite].double(), truth[name][finite], rtol=1e-5, atol=1e-5 * size
        )
    assert all(tensor.isfinite().all() for name, tensor in found.items() if not name.startswith("on "))


def test_lengths_that_only_the_device_knows() -> None:
    """Events of no sequence have neither masses nor gradients, whatever stands there."""
    events = sum(JAGGED)
    inputs = small_problem(JAGGED, dim=16, room=(events + 9, len(JAGGED) + 3, 200))
    for name in ("query", "key"):
        getattr(inputs, name).data[events:] = float("nan")
    found = solve(kernels.run, inputs)
    assert (found["on target"][events:] == NONE).all()
    assert (found["on rest"][events:] == NONE).all()
    assert not found["query"][events:].any()
    assert not found["key"][events:].any()
    for name in ("query", "key"):
        getattr(inputs, name).data[events:] = 0.0
    inputs.columns.target[events:] = 0
    known = replace(inputs, sequences=Sequences.from_lengths([*JAGGED, 9], DEVICE))
    for name, tensor in solve(kernels.run, known).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lengths", [(), (0, 0), (1,)])
def test_nothing_and_next_to_nothing(lengths: tuple[int, ...]) -> None:
    inputs = small_problem(lengths, dim=16)
    found = solve(kernels.run, inputs)
    assert all(tensor.isfinite().all() for name, tensor in found.items() if not name.startswith("on "))
    assert found["on target"].shape == (sum(lengths),)


def test_only_what_is_asked_for_has_gradients() -> None:
    inputs = small_problem((70, 3), dim=16)
    wanted = solve(kernels.run, inputs)
    for names in (("query",), ("key",), ("time",), ("closed", "constant")):
        for name, leaf in parameters(inputs).items():
            leaf.requires_grad_(name in names)
        masses = kernels.run(inputs)
        place = torch.arange(73.0, device=DEVICE)
        given = [(place * step).sin() for step in (1.0, 2.0)]
        leaves = [parameters(inputs)[name] for name in names]
        for name, gradient in zip(names, torch.autograd.grad(masses, leaves, given), strict=True):
            torch.testing.assert_close(gradient, wanted[name])


def test_rows_and_columns_need_not_lie_next_to_each_other() -> None:
    inputs = small_problem((70, 3), dim=16)
    assert inputs.query is not None
    assert inputs.key is not None
    wide = torch.cat([inputs.query, inputs.key], 1).detach().requires_grad_()
    columns = {
        name: torch.stack([column, column], 1)[:, 0] for name, column in of_events(inputs.columns).items()
    }
    strided = replace(inputs, query=wide[:, :16], key=wide[:, 16:], columns=HistoryColumns(**columns))
    for ours, theirs in zip(kernels.run(strided), kernels.run(inputs), strict=True):
        assert torch.equal(ours, theirs)
    (gradient,) = torch.autograd.grad(kernels.run(strided), wide, [torch.ones(73, device=DEVICE)] * 2)
    of_rows = torch.autograd.grad(
        kernels.run(inputs), [inputs.query, inputs.key], [torch.ones(73, device=DEVICE)] * 2
    )
    assert torch.equal(gradient, torch.cat(of_rows, 1))


def test_they_are_the_first_choice_and_say_why_they_do_not_fit() -> None:
    inputs = small_problem((5,), dim=16)
    assert choose_kernel(inputs).name == "triton"
    with without_kernels():
        assert choose_kernel(inputs).name == "blocked"
    assert inputs.query is not None
    cases = {
        "not torch.float64": moved(inputs, Tensor.double, lambda table: table),
        "up to 256 numbers": small_problem((5,), dim=257),
        "tables must be float32": moved(inputs, lambda rows: rows, Tensor.double),
        "not torch.float32, torch.float16": replace(inputs, key=inputs.query.half()),
        "up to 63 behaviors": replace(
            inputs, bias=replace(inputs.bias, behavior=torch.zeros(65, 65), latest=None, closed=None)
        ),
    }
    for reason, case in cases.items():
        (found,) = kernels.reasons_against(case)
        assert reason in found
        assert choose_kernel(case).name == "blocked"


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3), (torch.float32, 1e-5)]
)
@pytest.mark.parametrize("dim", [16, 50, 64, 128, 256])
def test_on_the_gpu(dim: int, dtype: torch.dtype, tolerance: float) -> None:
    check(small_problem((700, 1, 0, 300, 64, 129), dim=dim, dtype=dtype, items=100), tolerance)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("terms", [terms for size in range(6) for terms in combinations(TABLES, size)])
def test_every_set_of_terms_compiles(terms: tuple[str, ...], dtype: torch.dtype) -> None:
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    check(small_problem((130, 64, 1), ("product", *terms), dim=64, dtype=dtype, items=50), tolerance)


@pytest.mark.gpu
@needs_gpu
def test_a_recording_follows_its_input() -> None:
    """Lengths, events and tables are those of the replay."""
    lengths, others = (300, 20, 0, 64), (10, 70, 257, 40)
    inputs, later = (
        small_problem(each, dim=64, dtype=torch.bfloat16, room=(400, 5, 300), seed=seed, items=40)
        for seed, each in enumerate((lengths, others))
    )
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        solve(kernels.run, inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # Tiles are listed once for each Sequences: those listed above would not be part of the recording.
        found = solve(kernels.run, replace(inputs, sequences=replace(inputs.sequences)))
    with torch.no_grad():
        inputs.sequences.offsets.copy_(later.sequences.offsets)
        for name, column in of_events(inputs.columns).items():
            column.copy_(getattr(later.columns, name))
        for name, leaf in parameters(inputs).items():
            leaf.copy_(parameters(later)[name])
    graph.replay()
    for name, tensor in solve(kernels.run, later).items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.gpu
@needs_gpu
def test_nothing_waits_for_the_gpu() -> None:
    inputs = small_problem((300, 20), dim=64, dtype=torch.bfloat16)
    solve(kernels.run, inputs)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        solve(kernels.run, inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@needs_gpu
def test_long_sequences_need_no_memory_of_their_square() -> None:
    few = small_problem((100,), dim=64, dtype=torch.bfloat16)
    assert few.query is not None
    assert few.key is not None
    columns = {name: column.repeat(200) for name, column in of_events(few.columns).items()}
    inputs = replace(
        few,
        query=few.query.detach().repeat(200, 1).requires_grad_(),
        key=few.key.detach().repeat(200, 1).requires_grad_(),
        columns=HistoryColumns(**columns),
        sequences=Sequences.from_lengths([20_000], DEVICE),
    )
    solve(kernels.run, inputs)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    solve(kernels.run, inputs)
    assert torch.cuda.max_memory_allocated() - before < 20_000 * 4_000

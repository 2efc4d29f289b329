"""How the Triton kernels are started: by a launcher of the right kind, with what Triton itself would pass.

Without a GPU: Triton inspects arguments as ever, but what it would compile and run is only noted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from models.attention import Causal, LocalWindow, Sequences
from tests.models.gpu.noted_gpu import (
    ALL_KERNELS,
    Case,
    Gpu,
    case,
    compiled_modules,
    launches_of,
    noted,
    watched,
)

pytest.importorskip("triton", reason="triton is not installed")

# What a call allocates itself; addresses differ from call to call.
OWN = {
    "out",
    "dq",
    "dk",
    "dv",
    "decay_rows",
    "position_sums",
    "time_sums",
    "max_norms",
    "dposition",
    "dtime",
    "rules",
}


@pytest.fixture(scope="module", autouse=True)
def _compiled_modules() -> Iterator[None]:
    with compiled_modules():
        yield


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    return noted(monkeypatch)


CASES = {
    "plain": {},
    "other lengths": {"lengths": (5, 130, 1)},
    "long": {"lengths": (300,)},
    "float32": {"dtype": torch.float32},
    "strides": {"columns": 24},
    "odd strides": {"columns": 17},
    "unaligned": {"offset": 3},
    "window": {"mask": LocalWindow(9)},
    "other window": {"mask": LocalWindow(1)},
    "whole scales": {"scales": (1, 1)},
    "other scales": {"scales": (0.25, 0.125)},
    "position": {"bias": "position"},
    "time": {"bias": "time"},
    "both": {"bias": "position time"},
    "tables of heads": {"bias": "position time heads"},
    "decay": {"bias": "decay position"},
    "context": {"mask": Causal(context=3), "bias": "position"},
    "candidates": {"mask": LocalWindow(9, candidates=torch.tensor([3, 1]))},
    "last tokens": {"queries": Sequences.from_lengths([4, 2]), "bias": "time"},
}


def test_kernels_get_what_triton_would_give_them(gpu: Gpu) -> None:
    """One kind after the other, and all once more: no call takes another's kernel or arguments."""
    for _ in range(2):
        for name, settings in CASES.items():
            one = case(**settings)  # type: ignore[arg-type]
            one.both()  # what is found once a batch, and what has to be compiled
            fast = launches_of(gpu, one)
            with watched():
                slow = launches_of(gpu, one)
            assert len(fast) == len(slow) >= 3, name
            for ours, truth in zip(fast, slow, strict=True):
                assert (ours.kernel.name, ours.grid, ours.stream) == (truth.kernel.name, truth.grid, 7), name
                assert ours.kernel.seen == truth.kernel.seen, name
                for argument, value in truth.arguments.items():
                    if argument not in OWN:
                        assert ours.arguments[argument] == value, (name, argument)
                    assert (ours.arguments[argument] is None) == (value is None), (name, argument)
            assert all(launch.private for launch in fast), name


def test_all_kernels_are_compiled_before_the_first_starts(gpu: Gpu) -> None:
    one = case(bias="position time")
    out = run_forward(one)
    found = [name for name in gpu.compiled if name in ALL_KERNELS]
    assert sorted(found) == ALL_KERNELS
    assert [launch.kernel.name for launch in gpu.launches if launch.kernel.name in ALL_KERNELS] == [
        "forward_kernel"
    ]
    before = len(gpu.compiled)
    torch.autograd.grad(out, one.leaves, one.given)
    one.both()
    with watched():
        one.both()
    assert len(gpu.compiled) == before


@pytest.mark.parametrize(
    ("bias", "found"),
    [
        ("position time", ["_find_times", "_bucket_table_kernel"]),
        ("decay", ["_find_times"]),
        ("position", []),
    ],
)
def test_what_a_batch_has_in_common_is_found_once_and_first(gpu: Gpu, bias: str, found: list[str]) -> None:
    """And not put off when kernels are compiled before they start."""
    one = case(bias=bias)
    one.both()
    one.both()
    names = [launch.kernel.name for launch in gpu.launches]
    assert names[: len(found) + 1] == [*found, "forward_kernel"]
    assert not any(name.startswith("_find") for name in names[len(found) :])


def test_what_lies_beyond_borders_is_counted_once_a_batch(gpu: Gpu) -> None:
    """Of queries before forward, of keys before their gradients; compiled with the other kernels."""
    one = case(lengths=(300, 70), bias="time")
    out = run_forward(one)
    assert sorted(gpu.compiled) == ["_boundary_count_kernel"] * 2 + [
        "_bucket_table_kernel",
        "_find_times",
        *ALL_KERNELS,
    ]
    torch.autograd.grad(out, one.leaves, one.given)
    one.both()
    counted, *others = (launch for launch in gpu.launches if launch.kernel.name == "_boundary_count_kernel")
    names = [launch.kernel.name for launch in gpu.launches]
    assert names[2:6] == [
        "_boundary_count_kernel",
        "forward_kernel",
        "_boundary_count_kernel",
        "key_gradient_kernel",
    ]
    assert len(others) == 1
    forward, keys, queries = (
        next(launch.arguments for launch in gpu.launches if launch.kernel.name == name)
        for name in ("forward_kernel", "key_gradient_kernel", "query_gradient_kernel")
    )
    assert forward["keys_beyond"] == queries["keys_beyond"] == counted.arguments["counts"]
    assert keys["queries_before"] == others[0].arguments["counts"] != counted.arguments["counts"]


def run_forward(one: Case) -> Tensor:
    from models.attention.silu.attention_function import run

    return run(one.inputs)


def test_kernels_are_named_in_a_fixed_order(gpu: Gpu) -> None:
    """Named in threads, they would have other names in the next process, and be compiled again."""
    run_forward(case(bias="position"))
    assert len(gpu.kernels) == len(ALL_KERNELS)
    assert gpu.unnamed.isdisjoint(gpu.compiled)


def test_without_gradients_only_forward_is_compiled(gpu: Gpu) -> None:
    with torch.no_grad():
        run_forward(case())
    assert gpu.compiled == ["forward_kernel"]


@pytest.mark.parametrize(
    ("bias", "once_a_batch"), [("position", []), ("position time", ["_bucket_table_kernel", "_find_times"])]
)
def test_tables_without_gradients_are_not_summed(gpu: Gpu, bias: str, once_a_batch: list[str]) -> None:
    one = case(bias=bias)
    while len(one.leaves) > 3:
        one.leaves.pop().requires_grad_(False)
    one.both()
    assert sorted(gpu.compiled) == [
        *once_a_batch,
        "forward_kernel",
        "key_gradient_kernel",
        "query_gradient_kernel",
    ]
    keys, queries = (launch.arguments for launch in gpu.launches[-2:])
    assert (
        keys["max_norms"] is queries["max_norms"] is queries["position_sums"] is queries["time_sums"] is None
    )


@pytest.mark.parametrize("captured", [False, True])
def test_kernels_with_shared_memory_of_their_own_are_allowed_it(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, captured: bool
) -> None:
    """Before they are launched, precompiled or not; those that sum no gradients of tables have none."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: captured)
    case().both()
    assert gpu.allowed == []
    case(bias="position time", dtype=torch.bfloat16).both()
    assert gpu.allowed == ["query_gradient_kernel"]


def test_kernels_of_padded_batches_are_precompiled(gpu: Gpu) -> None:
    """Nothing is written for tokens that belong to no sequence while kernels have no memory to write to."""
    one = case(lengths=(70, 3), room=True)
    one.both()
    assert {"forward_kernel", "key_gradient_kernel", "query_gradient_kernel"} <= set(gpu.compiled)
    assert "tail_kernel" in [launch.kernel.name for launch in gpu.launches]


def test_nothing_is_precompiled_while_a_graph_is_captured(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    run_forward(case())
    assert gpu.compiled == ["forward_kernel"]


def test_what_does_not_compile_fails_where_it_starts(gpu: Gpu) -> None:
    gpu.broken.add("key_gradient_kernel")
    one = case()
    out = run_forward(one)
    with pytest.raises(RuntimeError, match="key_gradient_kernel does not compile"):
        torch.autograd.grad(out, one.leaves, one.given)


def test_saved_tensors_may_come_back_with_other_strides(gpu: Gpu) -> None:
    def unpack(tensor: Tensor) -> Tensor:
        return tensor.contiguous()

    one = case(columns=24)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        one.both()
    strides = {launch.kernel.name: launch.arguments for launch in gpu.launches}
    assert strides["forward_kernel"]["q_stride"] == 48
    assert strides["query_gradient_kernel"]["q_stride"] == 32
    # Of q, through which this one streams.
    assert strides["key_gradient_kernel"]["C"].FIRST_STRIDE == 32


def test_kernels_start_on_their_own_device(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    one = case()
    one.both()
    current = [1]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[0])

    @contextlib.contextmanager
    def device(wanted: torch.device) -> Iterator[None]:
        current[0] = wanted.index
        yield
        current[0] = 1

    monkeypatch.setattr(torch.cuda, "device", device)
    launches = launches_of(gpu, one)
    assert len(launches) == 3
    assert current == [1]


def test_tensors_on_several_devices_are_an_error(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a kernel would read from an address that is another device's."""
    from models.attention.silu import attention_call, specialization

    seen: list[Any] = []
    monkeypatch.setattr(
        attention_call,
        "kernel_set",
        lambda kind, strides: seen.append((kind, strides)) or specialization.kernel_set(kind, strides),
    )
    run_forward(case())
    kind, strides = seen[0]
    assert kind.devices == (-1, -1, -1, -1)
    with pytest.raises(ValueError, match="on one device"):
        specialization.kernel_set(kind._replace(devices=(0, 0, 0, -1)), strides)


def test_a_missing_or_unknown_argument_is_an_error(gpu: Gpu) -> None:
    from models.attention.silu.table_gradient import finalize_kernel
    from models.gpu.launcher import Launcher

    tables = dict.fromkeys(("position_sums", "time_sums", "dposition", "dtime"))
    launcher = Launcher(finalize_kernel, None, torch.device("cpu"), {"BLOCK": 16} | tables)
    with pytest.raises(KeyError, match="POSITION_ROWS, limit, output_scale, position_row"):
        launcher((1, 1), {"max_norms": torch.zeros(1)}, {"position_size": 1})
    with pytest.raises(KeyError, match="mots"):
        launcher((1, 1), {"mots": torch.zeros(1)}, {})


def test_differentiating_twice_is_an_error(gpu: Gpu) -> None:
    one = case()
    out = run_forward(one)
    found = torch.autograd.grad(out, one.leaves, one.given.requires_grad_(), create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        found[0].sum().backward()

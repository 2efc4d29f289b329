"""A device that compiles and runs nothing and notes what it was to do, and calls of attention for it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from models.attention import Causal, RelativeBias, RelativeTime, Sequences, TimeDecay
from models.attention.inputs import AttentionInputs
from tests.models.interpreted import KERNELS, forget

ALL_KERNELS = [
    "finalize_kernel",
    "forward_kernel",
    "key_gradient_kernel",
    "query_gradient_kernel",
]


class Launch(NamedTuple):
    """One launch of a kernel."""

    kernel: Kernel
    grid: tuple[int, ...]
    stream: int
    arguments: dict[str, object]
    private: bool
    """Without Triton's own way of launching, which passes on the hooks of those who watch."""


class Kernel:
    """In place of a compiled kernel."""

    function, packed_metadata = "function", "metadata"

    def __init__(self, gpu: Gpu, source: Any, options: Any) -> None:
        self.name = source.fn.__name__
        # What it was compiled for: types, constants, and what is known of addresses and numbers.
        self.seen = (source.signature, source.constants, source.attrs, options["num_warps"])
        self._gpu, self._names = gpu, source.fn.arg_names

    def launch_metadata(self, *_: object) -> None:
        return None

    def run(self, x: int, y: int, z: int, stream: int, function: str, metadata: str, *rest: Any) -> None:
        assert (function, metadata) == ("function", "metadata")
        values = [a.data_ptr() if isinstance(a, Tensor) else a for a in rest[3:]]
        named = dict(zip(self._names, values, strict=True))
        self._gpu.launches.append(Launch(self, (x, y, z), stream, named, rest[:3] == (None,) * 3))


class Gpu:
    """A device that compiles and runs nothing, and notes what it was to do."""

    def __init__(self, target: Any) -> None:
        self.compiled: list[str] = []
        self.allowed: list[str] = []
        self.launches: list[Launch] = []
        self.entered: list[object] = []
        self.broken: set[str] = set()
        self.kernels: list[Any] = []
        self.unnamed: set[str] = set()
        self.target = target

    def compile(self, source: Any, target: Any = None, options: Any = None, **_: Any) -> Kernel:
        name = source.fn.__name__
        self.compiled.append(name)
        self.unnamed |= {kernel.__name__ for kernel in self.kernels if kernel.hash is None}
        if name in self.broken:
            raise RuntimeError(f"{name} does not compile")
        return Kernel(self, source, options)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: object) -> int:
        return 7

    def get_current_target(self) -> Any:
        return self.target

    @contextlib.contextmanager
    def device(self, device: object) -> Iterator[None]:
        self.entered.append(device)
        yield


@contextlib.contextmanager
def compiled_modules() -> Iterator[None]:
    """Import Triton and the kernels anew, not interpreted, and put back afterwards what was there."""
    before = forget(KERNELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TRITON_INTERPRET", raising=False)
        importlib.import_module("models.attention.silu.attention_function")
        yield
    forget(KERNELS)
    sys.modules.update(before)
    for name, module in before.items():
        package, _, child = name.rpartition(".")
        if package in sys.modules:
            setattr(sys.modules[package], child, module)


def noted(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """A device in Triton's and torch's place, on which nothing was compiled or launched before."""
    from triton import compiler
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from models.attention.silu import specialization
    from models.gpu import launcher

    gpu = Gpu(GPUTarget("cuda", 90, 32))
    monkeypatch.setattr(compiler, "compile", gpu.compile)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: None)  # the index of the CPU
    monkeypatch.setattr(torch.cuda, "device", gpu.device)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    modules = [module for name, module in sys.modules.items() if name.startswith("models.attention.silu.")]
    # One of them may have another's kernel, too.
    found = {id(kernel): kernel for module in modules for kernel in vars(module).values()}
    for kernel in found.values():
        if hasattr(kernel, "device_caches"):
            kernel.device_caches.clear()
            kernel.hash = None
            if kernel.__name__ in ALL_KERNELS:
                gpu.kernels.append(kernel)
    specialization.kernel_set.cache_clear()
    monkeypatch.setattr(launcher, "_launchers", {})
    monkeypatch.setattr(
        launcher.fast_launch, "allow_shared_memory", lambda kernel: gpu.allowed.append(kernel.name)
    )
    monkeypatch.setattr(driver, "_active", gpu)
    return gpu


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """A hook of Triton's, for which all launches go through Triton."""
    from triton import knobs

    knobs.runtime.launch_enter_hook.add(print)
    try:
        yield
    finally:
        knobs.runtime.launch_enter_hook.remove(print)


class Case(NamedTuple):
    """A call of attention, and its tensors with gradients."""

    inputs: AttentionInputs
    leaves: list[Tensor]
    given: Tensor

    def both(self) -> None:
        """Forward and backward."""
        from models.attention.silu.attention_function import run

        torch.autograd.grad(run(self.inputs), self.leaves, self.given)


def rows(tokens: int, dtype: torch.dtype, columns: int = 16, offset: int = 0) -> Tensor:
    """[tokens, 2, 16], 2 * columns numbers from row to row, `offset` numbers past a multiple of 16 bytes."""
    flat = torch.zeros(tokens * 2 * columns + offset, dtype=dtype)
    assert flat.data_ptr() % 16 == 0
    return flat[offset:].view(tokens, 2, columns)[:, :, :16].detach().requires_grad_()


def case(
    lengths: tuple[int, ...] = (70, 3),
    dtype: torch.dtype = torch.bfloat16,
    columns: int = 16,
    offset: int = 0,
    bias: str = "",
    **more: Any,
) -> Case:
    """A call; `bias` names its parts, and with `room` only the device knows lengths."""
    tokens = sum(lengths)
    sequences = Sequences.from_lengths(lengths)
    if more.pop("room", False):
        sequences = Sequences.unread(sequences.offsets, tokens=tokens, longest=max(lengths))
    queries = more.pop("queries", None)
    asking = tokens if queries is None else queries.num_tokens
    q, k, v = rows(asking, dtype, columns, offset), rows(tokens, dtype), rows(tokens, dtype)
    leaves, relative, table = [q, k, v], None, {}
    if bias:
        stamps = torch.arange(tokens)
        asked = stamps[:asking]
        times = RelativeTime(asked, stamps, sequences, queries)
        heads = (2,) if "heads" in bias else ()
        table = {
            "position": torch.zeros(*heads, 80, requires_grad=True) if "position" in bias else None,
            "time": torch.zeros(*heads, 129, requires_grad=True) if "time" in bias else None,
        }
        amount, rate = torch.zeros(1, requires_grad=True), torch.ones(1, requires_grad=True)
        decay = TimeDecay(amount, rate) if "decay" in bias else None
        relative = RelativeBias(table["position"], table["time"], times, decay)
        leaves += [tensor for tensor in relative.tensors() if tensor is not None]
    mask = more.pop("mask", Causal())
    scales = more.pop("scales", (0.5, 1.0))
    inputs = AttentionInputs(q, k, v, sequences, "silu", mask, relative, *scales, queries)
    return Case(inputs, leaves, torch.zeros(asking, 2, 16, dtype=dtype))


def launches_of(gpu: Gpu, one: Case) -> list[Launch]:
    gpu.launches.clear()
    one.both()
    return list(gpu.launches)

"""What is computed again for the backward pass: the same numbers, and less kept."""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from models.backbones import BACKBONES, BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.inputs.tokens import Tokens
from models.layers.dropout import Dropout
from models.layers.recompute import Ingredients, keep_inputs_only
from models.training.compile import compile_blocks
from tests.models.tokens import tokens_of

N = 12
MODES = ["pointwise", "block"]
ROOT = Path(__file__).parents[3]


def make_tokens(lengths: list[int]) -> Tokens:
    """Events ever longer apart."""
    batch = PackedBatch.from_lists(
        [[1] * length for length in lengths],
        timestamps=[[60 * 4**at for at in range(length)] for length in lengths],
    )
    return tokens_of(batch)


def make_backbone(recompute: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    config = BackboneConfig(**{"dim": 8, "heads": 2, "blocks": 2, **settings}, recompute=recompute)
    return build_backbone(config, max_length=N).train()


def step(backbone: nn.Module, tokens: Tokens, autocast: bool = False) -> dict[str, Tensor]:
    """Result, gradients of the input and of every parameter, and the random numbers drawn next."""
    torch.manual_seed(1)
    x = torch.randn(len(tokens.position), 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = backbone(x, tokens)
    named = {"x": x, **dict(backbone.named_parameters())}
    gradients = torch.autograd.grad((out * torch.randn(out.shape)).sum(), list(named.values()))
    return {"out": out.detach(), **dict(zip(named, gradients, strict=True)), "next": torch.rand(3)}


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1e-3, float(value.abs().max()))
        assert float((found[name] - value).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", BACKBONES)
def test_recomputing_changes_no_result_and_no_gradient(kind: str, mode: str) -> None:
    tokens = make_tokens([7, 3])
    plain = step(make_backbone("none", kind=kind, dropout=0.3), tokens)
    found = step(make_backbone(mode, kind=kind, dropout=0.3), tokens)
    assert torch.equal(found["next"], plain["next"])
    # SiLU of a part of a row may round otherwise than SiLU of the row.
    assert_close(found, plain, 0.0 if mode == "block" else 2e-6)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", ["gpt", "llama", "sasrec", "ligr"])
def test_recomputing_changes_nothing_in_mixed_precision(kind: str, mode: str) -> None:
    tokens = make_tokens([7, 3])
    plain = step(make_backbone("none", kind=kind, dropout=0.0), tokens, autocast=True)
    found = step(make_backbone(mode, kind=kind, dropout=0.0), tokens, autocast=True)
    assert_close(found, plain, 1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_recomputing_takes_a_batch_without_events(mode: str) -> None:
    out = make_backbone(mode, kind="hstu")(torch.zeros(0, 8, requires_grad=True), make_tokens([0, 0]))
    out.sum().backward()
    assert out.shape == (0, 8)


@pytest.fixture
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_compiled_blocks_recompute_the_same_and_compile_once(kind: str) -> None:
    plain = make_backbone("none", kind=kind, dropout=0.0)
    compiled = make_backbone("pointwise", kind=kind, dropout=0.0)
    compile_blocks(compiled, torch.device("cpu"), backend="aot_eager")
    graphs = []
    for lengths in ([8, 3], [7, 2, 4], [9]):
        tokens = make_tokens(lengths)
        assert_close(step(compiled, tokens), step(plain, tokens), 1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert set(graphs) == {graphs[0]}


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["hstu", "gpt", "llama", "ligr", "fuxi"])
def test_pointwise_recomputes_no_matrix_product(kind: str) -> None:
    counts = {}
    for mode in ("none", *MODES):
        with Products() as products:
            step(make_backbone(mode, kind=kind), make_tokens([5]))
        counts[mode] = products.count
    assert counts["pointwise"] == counts["none"] < counts["block"]


def test_only_inputs_are_kept_of_a_function() -> None:
    weight = torch.randn(4, 4, requires_grad=True)
    x = torch.randn(3, 4, requires_grad=True)
    calls: list[int] = []

    def function(x: Tensor) -> Tensor:
        calls.append(1)
        return F.silu(x.cos()) @ weight

    expected = torch.autograd.grad(function(x).square().sum(), [x, weight])
    calls.clear()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = keep_inputs_only(function, x)
    assert [tensor.data_ptr() for tensor in kept] == [x.data_ptr()]
    found = torch.autograd.grad(out.square().sum(), [x, weight])
    assert len(calls) == 2
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_what_a_kernel_saves_is_made_again_from_its_ingredients() -> None:
    x, other = torch.randn(3, 4, requires_grad=True), torch.randn(3, 2, requires_grad=True)
    calls: list[int] = []

    def double(x: Tensor) -> Tensor:
        calls.append(1)
        return 2 * x

    ingredients = Ingredients()
    made = ingredients.make(double, x)
    with ingredients.saving():
        out = (made[:, 1:3] * other).sum()  # saves a view of `made`, and `other` as it is
    del made
    assert len(calls) == 1
    found = torch.autograd.grad(out, [x, other])
    assert len(calls) == 2
    expected = torch.zeros(3, 4)
    expected[:, 1:3] = 2 * other.detach()
    assert torch.equal(found[0], expected)
    assert torch.equal(found[1], 2 * x.detach()[:, 1:3])


def test_dropout_repeats_what_was_drawn_and_draws_as_torch_does() -> None:
    dropout = Dropout(0.3)
    x = torch.randn(50, 7)
    results = []
    for drop in (
        lambda: F.dropout(x, 0.3),
        lambda: dropout(x),
        lambda: dropout(x, dropout.draw(50, 7, device=x.device)),
    ):
        torch.manual_seed(0)
        results.append(drop())
    assert all(torch.equal(result, results[0]) for result in results[1:])
    keep = torch.tensor([[True, False]])
    torch.testing.assert_close(dropout(torch.ones(1, 2), keep), torch.tensor([[1 / 0.7, 0.0]]))


def test_nothing_is_dropped_or_drawn_in_evaluation_or_without_a_probability() -> None:
    for dropout in (Dropout(0.3).eval(), Dropout(0.0).train()):
        x = torch.ones(5)
        assert dropout.draw(5, device=x.device) is None
        assert dropout(x) is x


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc counts the bytes"
)
def test_a_block_keeps_the_bytes_of_the_formula() -> None:
    """Bytes a token and unit of width, without dropout. The residual path is fp32, the rest bf16.

    HSTU: x 4, f1's result 8, attention's result 2; without recomputing also f1's input 2, SiLU's result of V,
    Q and K 6 and f2's input 2. GPT: x 4, Q K V 6, attention 2; x 4, hidden layer 4 * 2.
    Llama: the same with a hidden layer of 2 * 1368 / 512 * 2. A softmax keeps a normalizer a head too.
    """
    script = (
        "import json; from benchmarks import activation_memory; activation_memory.SEQUENCES = 1; "
        "kept = activation_memory.kept_by_a_block; "
        "kinds = {'hstu': 'none', 'gpt': 'none', 'llama': 'rope'}; "
        "settings = {k: {'kind': k, 'bias': b, 'dropout': 0.0} for k, b in kinds.items()}; "
        "found = {k: kept({**s, 'recompute': 'pointwise'}) for k, s in settings.items()}; "
        "print(json.dumps({**found, 'hstu, none': kept(settings['hstu'])}))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    kept = json.loads(found.stdout.splitlines()[-1])
    assert kept["hstu"] == pytest.approx(14, abs=0.2)
    assert kept["hstu, none"] == pytest.approx(24, abs=0.2)
    assert kept["gpt"] == pytest.approx(24, abs=0.2)
    assert kept["llama"] == pytest.approx(16 + 4 * 1368 / 512, abs=0.2)

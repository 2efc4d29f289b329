"""Norm, gate and dropout in one kernel, against their formulas in float64."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.layers.dropout import Dropout
from models.layers.kernels import fits, norm_gate_dropout
from models.layers.norm import add_and_norm, make_norm, norm_for_product, norm_gate_drop
from tests.models.interpreted import DEVICE, on_gpu
from tests.models.tokens import tokens_of

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")

WIDTHS = [1, 25, 50, 64, 100, 512, 1000]


@dataclass(frozen=True)
class Case:
    """Random tensors; with `strided`, x and the gate are columns of wider tensors."""

    tokens: int
    dim: int
    centered: bool = True
    weight: bool = False
    bias: bool = False
    gate: bool = False
    keep: bool = False
    strided: bool = False
    dtype: torch.dtype = torch.float32
    eps: float = 1e-3
    scale: float = 1 / 0.7
    silu: bool = False

    def tensors(self) -> dict[str, Tensor]:
        """Those that gradients are of, and `keep` and `given`, the gradient of the result."""
        torch.manual_seed(0)
        tokens, dim = self.tokens, self.dim
        made = {
            "x": torch.randn(tokens, 3 * dim + 1)[:, 1 : dim + 1]
            if self.strided
            else torch.randn(tokens, dim),
            "weight": torch.randn(dim) if self.weight else None,
            "bias": torch.randn(dim) if self.bias else None,
            "gate": torch.randn(tokens, 4 * dim)[:, dim : 2 * dim] if self.gate else None,
            "given": torch.randn(tokens, dim),
        }
        found = {name: _placed(value, self.dtype) for name, value in made.items() if value is not None}
        if self.keep:
            found["keep"] = torch.rand(tokens, dim, device=DEVICE) < 0.7
        return found

    def kernel(self, given: dict[str, Tensor]) -> Tensor:
        parts = {name: value for name, value in given.items() if name != "given"}
        return norm_gate_dropout(
            **parts, keep_scale=self.scale, centered=self.centered, eps=self.eps, silu=self.silu
        )

    def formula(self, given: dict[str, Tensor]) -> Tensor:
        x = given["x"]
        if self.centered:
            x = x - x.sum(-1, keepdim=True) / self.dim
        x = x / torch.sqrt((x * x).sum(-1, keepdim=True) / self.dim + self.eps)
        x = x * given.get("weight", 1.0) + given.get("bias", 0.0)
        gate = given.get("gate", 1.0)
        x = x * (gate * torch.sigmoid(gate) if self.silu else gate)
        return x * given["keep"] * self.scale if self.keep else x


def _placed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """On the device, with the strides it has."""
    made = torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device=DEVICE)
    return made.copy_(tensor)


def solve(function: Any, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Result, and gradients by name."""
    leaves = {name: given[name].detach().requires_grad_() for name in given if name not in ("given", "keep")}
    out = function({**given, **leaves})
    gradients = torch.autograd.grad(out, list(leaves.values()), given["given"])
    return {"out": out.detach(), **dict(zip(leaves, gradients, strict=True))}


def check(case: Case, tolerance: float) -> None:
    given = case.tensors()
    found = solve(case.kernel, given)
    exact = {name: value if name == "keep" else value.double() for name, value in given.items()}
    for name, expected in solve(case.formula, exact).items():
        assert found[name].dtype == case.dtype
        scale = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
        assert ((found[name].double() - expected).abs() <= tolerance * scale).all(), name


@pytest.mark.parametrize("dim", WIDTHS)
@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"centered": False, "weight": True},
        {"weight": True, "bias": True, "gate": True, "keep": True},
        {"gate": True, "keep": True, "strided": True},
    ],
    ids=lambda parts: " ".join(parts) or "plain",
)
def test_it_is_the_formula(dim: int, parts: dict[str, bool]) -> None:
    check(Case(70, dim, **parts), 1e-5)


@pytest.mark.parametrize(
    "parts",
    [
        {"centered": False},
        {"weight": True, "bias": True},
        {"centered": False, "weight": True, "gate": True},
        {"centered": False, "keep": True},
        {"gate": True},
        {"gate": True, "silu": True, "weight": True, "keep": True},
        {"strided": True},
    ],
    ids=" ".join,
)
def test_parts_can_be_left_out(parts: dict[str, bool]) -> None:
    check(Case(5, 50, **parts), 1e-5)


@pytest.mark.parametrize("kind", ["layer", "rms_without_affine"])
def test_a_sum_and_its_norm(kind: Any) -> None:
    torch.manual_seed(0)
    norm = make_norm(kind, 50, 1e-3).to(DEVICE)
    x, added = (torch.randn(70, 50, device=DEVICE) for _ in range(2))
    with torch.no_grad():
        total, normed = add_and_norm(norm, x, added)
    exact = x.double() + added.double()
    torch.testing.assert_close(total.double(), exact, rtol=0, atol=1e-6)
    centered = exact - exact.mean(-1, keepdim=True) if kind == "layer" else exact
    expected = centered / torch.sqrt((centered * centered).mean(-1, keepdim=True) + 1e-3)
    torch.testing.assert_close(normed.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["layer", "rms_without_affine"])
def test_gradients_of_a_sum_and_its_norm(kind: Any) -> None:
    torch.manual_seed(0)
    norm = make_norm(kind, 50, 1e-3).to(DEVICE)
    x, added = torch.randn(70, 50, device=DEVICE), torch.randn(70, 50, device=DEVICE).half()
    of_total, of_normed = (torch.randn(70, 50, device=DEVICE) for _ in range(2))
    leaves = [x.requires_grad_(), added.requires_grad_(), *norm.parameters()]
    total, normed = add_and_norm(norm, x, added)
    assert type(normed.grad_fn).__name__ == "AddAndNormBackward"
    found = torch.autograd.grad([total, normed], leaves, [of_total, of_normed])
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    total = exact[0] + exact[1]
    centered = total - total.mean(-1, keepdim=True) if kind == "layer" else total
    normed = centered / torch.sqrt((centered * centered).mean(-1, keepdim=True) + 1e-3)
    if len(exact) > 2:
        normed = normed * exact[2] + exact[3]
    expected = torch.autograd.grad([total, normed], exact, [of_total.double(), of_normed.double()])
    for one, truth in zip(found, expected, strict=True):
        tolerance = 1e-3 if one.dtype == torch.float16 else 1e-5
        torch.testing.assert_close(one.double(), truth, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("tokens", [0, 1, 63, 64, 65, 300])
def test_any_number_of_rows(tokens: int) -> None:
    check(Case(tokens, 50, weight=True, bias=True, gate=True, keep=True), 1e-5)


def test_float16_is_rounded_once() -> None:
    check(Case(20, 50, weight=True, bias=True, gate=True, keep=True, dtype=torch.float16), 1e-3)


def test_number_formats_can_differ() -> None:
    """As under autocast: float32 weights, half-precision rows; each gradient is of its tensor's type."""
    case = Case(20, 50, weight=True, bias=True, gate=True)
    given = case.tensors()
    given |= {name: given[name].half() for name in ("x", "given")}
    found = solve(case.kernel, given)
    expected = solve(case.formula, {name: value.double() for name, value in given.items()})
    types = {name: value.dtype for name, value in found.items()}
    half, full = torch.float16, torch.float32
    assert types == {"out": half, "x": half, "weight": full, "bias": full, "gate": full}
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-3, atol=2e-3)


def test_what_enters_a_linear_layer_has_its_type() -> None:
    """The numbers and gradients are those of a cast behind the norm."""
    norm = make_norm("layer", 50, 1e-6).to(DEVICE)
    x = torch.randn(9, 50, device=DEVICE, requires_grad=True)
    given = torch.randn(9, 50, device=DEVICE).half()
    assert norm_for_product(norm, x).dtype == torch.float32
    with torch.autocast(DEVICE, torch.float16):
        found, cast = norm_for_product(norm, x), norm(x).half()
    assert torch.equal(found, cast)
    gradients = (torch.autograd.grad(out, [x, *norm.parameters()], given) for out in (found, cast))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_a_constant_row_has_no_deviation() -> None:
    case = replace(Case(3, 50, weight=True), eps=1e-6)
    given = case.tensors()
    given["x"].fill_(3.0)
    found = solve(case.kernel, given)
    assert torch.equal(found["out"], torch.zeros_like(found["out"]))
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinity times zero, which is not used
def test_rows_past_the_end_add_nothing_without_eps() -> None:
    check(replace(Case(3, 50, weight=True, bias=True), eps=0.0), 1e-4)


@pytest.mark.parametrize("shape", [(50,), (2, 3, 50)])
def test_any_number_of_axes(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, device=DEVICE)
    keep = torch.rand(shape, device=DEVICE) < 0.7
    found = norm_gate_dropout(x, gate=x, keep=keep, keep_scale=2.0, centered=False, eps=0.1)
    expected = x * x / torch.sqrt(x.square().mean(-1, keepdim=True) + 0.1) * keep * 2
    torch.testing.assert_close(found, expected)


def test_only_what_is_given_is_kept() -> None:
    case = Case(9, 50, weight=True, bias=True, gate=True, keep=True, strided=True)
    given = {name: value.requires_grad_(name != "keep") for name, value in case.tensors().items()}
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        case.kernel(given)
    assert sorted(kept) == sorted(value.data_ptr() for name, value in given.items() if name != "given")


def test_sums_over_rows_are_the_same_bits_every_time() -> None:
    case = Case(3000 if on_gpu else 300, 50, weight=True, bias=True)
    given = case.tensors()
    first = solve(case.kernel, given)
    for _ in range(5):
        assert all(torch.equal(value, first[name]) for name, value in solve(case.kernel, given).items())


def test_what_does_not_fit_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 50, device=DEVICE)
    assert fits(x)
    assert fits(x.half(), x, None)
    assert fits(torch.zeros(1, 4096, device=DEVICE))
    wide = torch.randn(3, 4097, device=DEVICE)
    for other in (x.double(), wide):
        norm = make_norm("layer_without_affine", other.shape[1], 1e-6)
        assert not fits(other)
        torch.testing.assert_close(norm(other), nn.LayerNorm(other.shape[1], 1e-6, False)(other))
    assert not fits(x, x.double())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not fits(x.cpu())


@pytest.mark.parametrize("kind", ["layer", "rms", "layer_without_affine", "rms_without_affine"])
def test_norms_are_torch_s_own_to_whoever_saves_or_prints_them(kind: Any) -> None:
    make = nn.LayerNorm if kind.startswith("layer") else nn.RMSNorm
    theirs = make(50, eps=1e-3, elementwise_affine="without" not in kind).to(DEVICE)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter)
    ours = make_norm(kind, 50, 1e-3).to(DEVICE)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    x = torch.randn(7, 50, device=DEVICE)
    torch.testing.assert_close(ours(x), theirs(x))


def test_dropout_is_drawn_in_training_only() -> None:
    norm, dropout = make_norm("rms_without_affine", 50, 1e-6), Dropout(0.5)
    x = torch.randn(200, 50, device=DEVICE)
    gate = torch.randn(200, 50, device=DEVICE)
    plain = norm(x) * gate
    found = norm_gate_drop(norm, dropout, x, gate)
    dropped = found == 0
    assert 0.4 < float(dropped.float().mean()) < 0.6
    torch.testing.assert_close(found, torch.where(dropped, 0.0, 2 * plain))
    keep = torch.rand(200, 50, device=DEVICE) < 0.5
    torch.testing.assert_close(norm_gate_drop(norm, dropout, x, gate, keep), 2 * plain * keep)
    torch.testing.assert_close(norm_gate_drop(norm, dropout.eval(), x, gate), plain)


def backbone_step(settings: dict[str, Any]) -> dict[str, Tensor]:
    """Result, and gradients of input and parameters."""
    torch.manual_seed(0)
    config = BackboneConfig(dim=8, heads=2, blocks=2, attention="reference", **settings)
    backbone = build_backbone(config, max_length=12).train()
    batch = PackedBatch.from_lists(
        [[1] * 7, [1] * 3], timestamps=[[60 * at for at in range(n)] for n in (7, 3)]
    )
    x = torch.randn(10, 8, requires_grad=True)
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, std=0.5)
    out = backbone(x, tokens_of(batch))
    named = {"x": x, **dict(backbone.named_parameters())}
    gradients = torch.autograd.grad(out.square().sum(), list(named.values()))
    return {"out": out.detach(), **dict(zip(named, gradients, strict=True))}


@pytest.mark.skipif(on_gpu, reason="draws of the CPU are the same with the kernel and without")
@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "hstu"},
        {"kind": "hstu", "recompute": "pointwise"},
        {"kind": "hstu", "attention_norm": "rms", "norm": "layer"},
        {"kind": "fuxi"},
        {"kind": "gpt", "residual": "post_norm"},
        {"kind": "llama", "recompute": "pointwise"},
    ],
    ids=lambda settings: " ".join(settings.values()),
)
def test_blocks_are_the_same_with_the_kernel_and_without(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = backbone_step({**settings, "dropout": 0.3})
    monkeypatch.delenv("TRITON_INTERPRET")
    for name, expected in backbone_step({**settings, "dropout": 0.3}).items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-5 * scale)


def test_a_compiler_is_given_torch_s_operations() -> None:
    """In one graph, and with the same result."""
    norm = make_norm("layer", 50, 1e-6).to(DEVICE)
    x, gate = (torch.randn(9, 50, device=DEVICE) for _ in range(2))
    compiled = torch.compile(norm_gate_drop, fullgraph=True, backend="inductor" if on_gpu else "aot_eager")
    expected = norm_gate_drop(norm, Dropout(0.0), x, gate)
    torch.testing.assert_close(compiled(norm, Dropout(0.0), x, gate), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 1e-3)]
)
@pytest.mark.parametrize("dim", [50, 64, 256, 512, 1024, 4096])
@pytest.mark.parametrize("affine", [True, False])
def test_on_the_gpu(dim: int, dtype: torch.dtype, tolerance: float, affine: bool) -> None:
    tokens = 5000 if dim <= 512 else 1500
    case = Case(tokens, dim, weight=affine, bias=affine, gate=True, keep=True, strided=True, dtype=dtype)
    check(case, tolerance)
    check(replace(case, gate=False, keep=False, strided=False, centered=False, bias=False), tolerance)


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
def test_it_waits_for_nothing_and_can_be_recorded() -> None:
    case = Case(3000, 50, weight=True, bias=True, gate=True, keep=True)
    given = case.tensors()
    solve(case.kernel, given)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        solve(case.kernel, given)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        recorded = solve(case.kernel, given)
    for tensor in (given["x"], given["gate"], given["given"]):
        tensor.normal_()
    graph.replay()
    for name, expected in solve(case.kernel, given).items():
        assert torch.equal(recorded[name], expected)


@pytest.mark.gpu
@pytest.mark.skipif(not on_gpu, reason="no CUDA device")
def test_offsets_past_two_to_the_31() -> None:
    """The last rows of a tensor of more elements than that; alone they give the same numbers."""
    dim = 4096
    x = torch.randn(2**31 // dim + 9, dim, device="cuda", dtype=torch.bfloat16)
    out = norm_gate_dropout(x, gate=x, centered=True, eps=1e-6)
    alone = norm_gate_dropout(x[-5:], gate=x[-5:], centered=True, eps=1e-6)
    assert torch.equal(out[-5:], alone)

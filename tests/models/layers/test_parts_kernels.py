"""SiLU of the parts of a projection, and blocks that are computed in one go, against torch in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.backbones import BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.gpu.availability import without_kernels
from models.layers import chained
from models.layers.kernels import activated_parts, fits_parts
from tests.models.interpreted import DEVICE
from tests.models.tokens import tokens_of

pytest.importorskip("triton", reason="triton is not installed")
pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.mark.parametrize(
    "widths", [(64, 32, 32, 32), (6, 9, 4, 4), (1500, 1100, 20, 20), (50, 25, 25), (8, 3, 3)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_parts_and_the_gradient_of_all(widths: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    wide = torch.randn(70, sum(widths) + 8, device=DEVICE).to(dtype)
    projected = wide[:, : sum(widths)].detach().requires_grad_()
    assert fits_parts(projected)
    found = activated_parts(projected, widths)
    # Gradients of which one has rows with gaps.
    given = [torch.randn(70, width + 3, device=DEVICE).to(dtype)[:, :width] for width in widths]
    given = [one if number == 1 else one.contiguous() for number, one in enumerate(given)]
    (gradient,) = torch.autograd.grad(found, [projected], given)
    exact = projected.detach().double().requires_grad_()
    expected = list(exact.split(widths, dim=1))
    first = len(widths) - 3
    expected[first:] = [F.silu(part) for part in expected[first:]]
    (truth,) = torch.autograd.grad(expected, [exact], [one.double() for one in given])
    tolerance = 2e-3 if dtype == torch.float16 else 1e-5
    for one, other in zip([*found, gradient], [*expected, truth], strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), other.detach(), rtol=tolerance, atol=tolerance)


def test_no_rows_at_all() -> None:
    projected = torch.randn(0, 12, device=DEVICE).requires_grad_()
    found = activated_parts(projected, (3, 3, 3, 3))
    (gradient,) = torch.autograd.grad(found, [projected], [torch.zeros(0, 3, device=DEVICE)] * 4)
    assert gradient.shape == (0, 12)


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "hstu", "dropout": 0.0},
        {"kind": "hstu", "dropout": 0.0, "gate": False, "bias": "none"},
        {"kind": "hstu", "dropout": 0.0, "bias": "rope", "norm": "rms"},
    ],
)
def test_blocks_in_one_go(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same result and gradients as by torch's own operations, in float64."""
    chains: list[int] = []
    chain = chained.chain
    monkeypatch.setattr("models.backbones.backbone.chain", lambda *given: chains.append(1) or chain(*given))
    torch.manual_seed(0)
    config = BackboneConfig.model_validate(settings | {"blocks": 3, "dim": 24, "heads": 2})
    backbone = build_backbone(config, max_length=20).to(DEVICE)
    tokens = tokens_of(PackedBatch.from_lists([[1] * 20, [2] * 7, [3] * 13]).to(DEVICE))
    x, given = (torch.randn(40, 24, device=DEVICE) for _ in range(2))
    found = _gradients(backbone, x, tokens, given)
    assert chains == [1]
    with without_kernels():
        expected = _gradients(backbone.double(), x.double(), tokens, given.double())
    assert chains == [1]
    for name, one in found.items():
        truth = expected[name]
        scale = max(float(truth.abs().max()), 1e-6)
        assert float((one.double() - truth).abs().max()) <= 2e-4 * scale, name


def _gradients(backbone: Any, x: torch.Tensor, tokens: Any, given: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    out = backbone(x, tokens)
    names, leaves = zip(*backbone.named_parameters(), strict=True)
    gradients = torch.autograd.grad(out, [x, *leaves], given)
    return {"out": out.detach(), "x": gradients[0], **dict(zip(names, gradients[1:], strict=True))}


def test_blocks_that_are_more_than_a_sum_are_called_one_by_one() -> None:
    ways: list[dict[str, Any]] = [
        {}, {"hidden_dropout": 0.2}, {"recompute": "pointwise"}, {"residual": "gated"}, {"kind": "gpt"},
    ]  # fmt: skip
    found = []
    for way in ways:
        config = BackboneConfig.model_validate({"kind": "hstu", "blocks": 2, "dim": 8, "heads": 2} | way)
        found.append(chained.can_chain(build_backbone(config, max_length=4).to(DEVICE).blocks))
    assert found == [True, False, False, False, False]
    backbone = build_backbone(BackboneConfig(kind="hstu", dim=8, heads=2), max_length=4).to(DEVICE)
    watched = backbone.blocks[0].register_forward_hook(lambda *given: None)
    assert not chained.can_chain(backbone.blocks)
    watched.remove()
    assert chained.can_chain(backbone.blocks)
    backbone.blocks[1].compile(backend="eager")
    assert not chained.can_chain(backbone.blocks)

"""No parameter does nothing: its gradient would be rounding, of which Adam makes steps of full length."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from models.backbones import BACKBONES, BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from models.inputs.layouts.event import OneTokenPerEvent
from models.inputs.tokens import Tokens
from tests.models.backbones.test_backbone_settings import VARIATIONS, named, varied

N = 9
# Far above what float64 rounds, far below what anything that matters has.
ROUNDING = 1e-13


def make_tokens() -> Tokens:
    """From an event to the next goes half a minute, a minute or ten.

    So the time that a first event sees, alone, others see among several: what is added to the only score of a
    softmax does nothing.
    """
    lengths = [9, 8, 7, 3, 1]
    steps = torch.tensor([30, 60, 600]).repeat(4)
    times = [steps[start : start + length].cumsum(0).tolist() for start, length in enumerate(lengths)]
    batch = PackedBatch.from_lists([[1] * length for length in lengths], timestamps=times)
    return OneTokenPerEvent().tokens(batch)


def gradients(config: BackboneConfig) -> dict[str, Tensor]:
    """Of every parameter, in float64; biases and scales are not at what they start with."""
    torch.manual_seed(0)
    backbone = build_backbone(config, max_length=N).double().eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    tokens = make_tokens()
    x, weight = torch.randn(2, len(tokens.position), config.dim, dtype=torch.float64)
    parameters = dict(backbone.named_parameters())
    loss = (backbone(x, tokens) * weight).sum()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


@pytest.mark.parametrize("variation", VARIATIONS, ids=named)
@pytest.mark.parametrize("kind", BACKBONES)
def test_every_number_of_every_parameter_has_a_gradient(kind: Any, variation: dict[str, Any]) -> None:
    """Zero it may be, of what the batch does not use: a bucket of time, a unit that ReLU has switched off."""
    found = gradients(varied(kind, variation))
    largest = max(float(gradient.abs().max()) for gradient in found.values())
    for name, gradient in found.items():
        assert gradient.any(), name
        used = gradient[gradient != 0].abs()
        assert used.min() > ROUNDING * largest, f"{name}: {used.min():.1e} of {largest:.1e}"


def test_a_bias_on_keys_stays_where_it_matters() -> None:
    """RoPE turns it by a key's position; SiLU, of scores or keys, is no sum."""

    def has_it(**settings: Any) -> bool:
        f1 = build_backbone(BackboneConfig(dim=8, **settings), max_length=N).blocks[0].attention.f1
        separate = "key.bias" in dict(f1.named_parameters())
        return separate or (hasattr(f1, "out_features") and len(f1.bias) == f1.out_features)

    for kind in ("sasrec", "gpt", "ligr"):
        assert not has_it(kind=kind)
        assert not has_it(kind=kind, bias="both")
        assert has_it(kind=kind, bias="rope")
        assert has_it(kind=kind, activation="silu")
        assert has_it(kind=kind, pointwise=True)

"""Features in queries and keys alone (DIF-SR): scores of each computed apart and added, in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.attention import dispatch
from models.backbones import BACKBONES, BackboneConfig, build_backbone
from models.inputs.tokens import Tokens
from tests.models.backbones.backbone_oracle import N, Story, of_one_sequence
from tests.models.backbones.test_backbones import ragged_batch
from tests.models.tokens import tokens_of

LENGTHS = [5, 1, 0, 8]
ATTRIBUTES, WIDTH = 2, 3


def problem(**settings: Any) -> tuple[BackboneConfig, Tensor, tuple[nn.Module, Tokens]]:
    torch.manual_seed(0)
    config = BackboneConfig(dim=8, heads=2, blocks=2, dropout=0.0, **settings)
    backbone = (
        build_backbone(config, max_length=N, attributes=ATTRIBUTES, attribute_dim=WIDTH).double().eval()
    )
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(0.0, 0.4)
    x, *attributes = torch.randn(1 + ATTRIBUTES, sum(LENGTHS), 8, dtype=torch.float64).unbind()
    tokens = replace(
        tokens_of(ragged_batch(LENGTHS)), attributes=tuple(each.requires_grad_() for each in attributes)
    )
    return config, x.requires_grad_(), (backbone, tokens)


def literal(config: BackboneConfig, x: Tensor, tokens: Tokens, parameters: dict[str, Tensor]) -> Tensor:
    out, start = [], 0
    for length in LENGTHS:
        part = slice(start, start + length)
        story = Story(tokens.query_time[part].tolist(), tokens.timestamp[part].tolist(), list(range(length)))
        story.attributes = [list(vectors[part]) for vectors in tokens.attributes]
        out += of_one_sequence(list(x[part]), parameters, config, story)
        start += length
    return torch.stack(out)


@pytest.mark.parametrize("recompute", ["none", "pointwise", "block"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_scores_of_features_are_added_to_those_of_items(kind: str, recompute: str) -> None:
    """Values, and gradients of all parameters, the input and the features."""
    config, x, (backbone, tokens) = problem(kind=kind, recompute=recompute, attention="reference")
    parameters = dict(backbone.named_parameters())
    found, expected = backbone(x, tokens), literal(config, x, tokens, parameters)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    wanted = [*parameters.values(), x, *tokens.attributes]
    gradient = torch.randn_like(expected)
    mine, theirs = (torch.autograd.grad(out, wanted, gradient) for out in (found, expected))
    for name, one, other in zip([*parameters, "x", "first", "second"], mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9, msg=name)
        assert one.any(), name


@pytest.mark.parametrize("settings", [{"bias": "rope"}, {"activation": "softmax", "pointwise": False}])
def test_positions_turn_items_alone(settings: dict[str, Any]) -> None:
    config, x, (backbone, tokens) = problem(kind="hstu", attention="reference", **settings)
    expected = literal(config, x, tokens, dict(backbone.named_parameters()))
    torch.testing.assert_close(backbone(x, tokens), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["hstu", "sasrec"])
def test_the_usual_kernels_take_wider_queries(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SiLU's and softmax's: queries and keys are wider than values there."""
    config, x, (backbone, tokens) = problem(kind=kind)
    expected = literal(config, x, tokens, dict(backbone.named_parameters())).float()
    backbone, x = backbone.float(), x.detach().float()
    tokens = replace(tokens, attributes=tuple(each.detach().float() for each in tokens.attributes))
    used, choose = [], dispatch.choose_kernel
    monkeypatch.setattr(dispatch, "choose_kernel", lambda *given: used.append(choose(*given)) or used[-1])
    torch.testing.assert_close(backbone(x, tokens), expected, rtol=1e-4, atol=1e-4)
    assert {kernel.name for kernel in used} == {"blocked"}


def test_values_hold_nothing_of_features() -> None:
    """With one token to see, whatever its weight, softmax gives its value."""
    _, x, (backbone, tokens) = problem(kind="llama", attention="reference")
    other = replace(tokens, attributes=tuple(torch.randn_like(each) for each in tokens.attributes))
    first, second = backbone(x, tokens), backbone(x, other)
    alone = [0, 5, 6]  # the first tokens of their sequences
    assert torch.equal(first[alone], second[alone])
    assert (first[[3, 10]] != second[[3, 10]]).all()

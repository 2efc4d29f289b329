"""Learning rates that hold at other widths and depths: the published rules, and what they are for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from behavior.config import parse_config
from behavior.errors import UserError
from models.backbones import BACKBONES, BackboneConfig, build_backbone
from models.config import load_config
from models.data.catalog import ItemCatalog
from models.layers.roles import Role, roles_of
from models.layers.transfer import Factors
from models.layers.transferred import factors_of
from models.optim import OptimizerConfig, build_optimizer
from models.tasks.retrieval.build import build_model
from models.tasks.retrieval.model import RetrievalModel
from tests.models.backbones.test_backbone_settings import N, make_tokens

RATE = 0.01


def build(kind: str, rule: str = "none", *, dim: int = 16, blocks: int = 2, **settings: Any) -> nn.Module:
    transfer = {"rule": rule} | ({} if rule == "none" else {"base_dim": 16})
    if rule in ("depth_mup", "completep"):
        transfer["base_blocks"] = 2
    torch.manual_seed(0)
    config = BackboneConfig(kind=kind, dim=dim, blocks=blocks, dropout=0.0, transfer=transfer, **settings)
    return build_backbone(config, max_length=N)


def train(backbone: nn.Module, dim: int, steps: int = 3) -> tuple[Tensor, Tensor]:
    """Outputs before and after some steps of Adam at one rate; the readout fits what muP says of one."""
    optimizer = build_optimizer(OptimizerConfig(learning_rate=RATE), backbone)
    generator = torch.Generator().manual_seed(1)
    x, target = torch.randn(10, dim, generator=generator), torch.randn(10, 4, generator=generator)
    readout = torch.randn(dim, 4, generator=generator) / dim
    found = []
    for number in range(steps + 1):
        out = backbone(x, make_tokens())
        found.append(out.detach())
        if number < steps:
            optimizer.zero_grad()
            (out @ readout - target).square().mean().backward()
            optimizer.step()
    return found[0], found[-1]


def change(kind: str, rule: str, **size: int) -> float:
    before, after = train(build(kind, rule, **size), size.get("dim", 16))
    return float((after - before).square().mean().sqrt())


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("rule", ["mup", "depth_mup", "completep"])
def test_at_the_base_size_all_is_as_without(kind: str, rule: str) -> None:
    plain, transferred = (train(build(kind, each), 16) for each in ("none", rule))
    for expected, found in zip(plain, transferred, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


# Of a model of four times the width and eight times the blocks, by the tables of the papers.
@pytest.mark.parametrize(
    ("rule", "residual", "matrix", "vector"),
    [
        ("mup", 1.0, Factors(1 / 4, 4.0, 1 / 4), Factors()),
        (
            "depth_mup",
            8**-0.5,
            Factors(8**-0.5 / 4, 4 * 8**0.5, 8**-0.5 / 4),
            Factors(8**-0.5, 8**0.5, 8**-0.5),
        ),
        ("completep", 1 / 8, Factors(1 / 4, 4.0, 1 / 32), Factors(1.0, 1.0, 1 / 8)),
    ],
)
def test_factors_are_the_published_ones(rule: str, residual: float, matrix: Factors, vector: Factors) -> None:
    backbone = build("gpt", rule, dim=64, blocks=16, heads=2)
    roles = roles_of(backbone)
    found = factors_of(backbone, roles)
    for parameter, role in roles.items():
        assert found.get(parameter, Factors()) == pytest.approx(matrix if role is Role.MATRIX else vector)
    assert backbone.transfer.residual == pytest.approx(residual)
    layer = backbone.attention_layers[0]
    # sqrt(base's width of a head, 8) / width of a head, 32.
    assert layer.settings.scales[0] == pytest.approx(8**0.5 / 32)
    assert layer.residual.scale == pytest.approx(residual)
    weights = torch.cat([each.f1.weight.flatten() for each in backbone.attention_layers])
    assert float(weights.detach().std()) == pytest.approx(0.02 / 2, rel=0.02)
    out = torch.cat([each.f2.weight.flatten() for each in backbone.attention_layers])
    blocks = 2 if rule != "mup" else 16
    assert float(out.detach().std()) == pytest.approx(0.02 / 2 / (2 * blocks) ** 0.5, rel=0.02)


def test_the_optimizer_multiplies_rates_decay_and_epsilon() -> None:
    backbone = build("hstu", "completep", dim=64, blocks=8)
    config = OptimizerConfig(learning_rate=0.002, weight_decay=0.1, schedule="cosine")
    optimizer = build_optimizer(config, backbone)
    roles = roles_of(backbone)
    seen = set()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            matrix = roles[parameter] is Role.MATRIX
            seen.add(matrix)
            assert group["lr"] == pytest.approx(0.002 / 4 if matrix else 0.002)
            assert group["weight_decay"] == pytest.approx(0.4 if matrix else 0.1)
            assert group["eps"] == pytest.approx(1e-8 / 16 if matrix else 1e-8 / 4)
    assert seen == {True, False}
    optimizer.scale_learning_rates(0.5)
    rates = sorted({group["lr"] for group in optimizer.param_groups})
    assert rates == pytest.approx([0.00025, 0.001])
    fresh = build_optimizer(config, backbone)
    fresh.load_state_dict(optimizer.state_dict())
    assert fresh.rates == optimizer.rates


@pytest.mark.parametrize("kind", ["hstu", "llama", "gpt", "sasrec"])
def test_outputs_move_as_far_at_every_width(kind: str) -> None:
    """The coordinate check of arXiv 2203.03466, figure 5: without muP, changes grow with the width."""
    narrow, wide = (change(kind, "mup", dim=dim) for dim in (16, 256))
    assert 0.5 < wide / narrow < 2.0
    plain = change(kind, "none", dim=256)
    assert plain / wide > 2.0


@pytest.mark.parametrize("kind", ["hstu", "llama"])
def test_outputs_move_as_far_at_every_depth(kind: str) -> None:
    shallow, deep = (change(kind, "completep", blocks=blocks) for blocks in (2, 32))
    assert 0.4 < deep / shallow < 2.5
    assert change(kind, "none", blocks=32) / deep > 2.0


def made(*settings: str) -> RetrievalModel:
    torch.manual_seed(0)
    catalog = ItemCatalog(300, 2, torch.ones(300, dtype=torch.int64))
    config = load_config("ml-1m/sasrec", ["model.dim=200", *settings])
    return build_model(config, catalog, num_behaviors=1, has_time=True)


def test_inputs_and_dot_products_are_those_of_the_base() -> None:
    rule = ["model.transfer.rule=mup", "model.transfer.base_dim=50"]
    plain, wide = made(), made(*rule)
    # sqrt(dim) times vectors, sqrt(1 / dim) as the deviation of positions: both of the base.
    assert (plain.embedding.scale, wide.embedding.scale) == (200**0.5, 50**0.5)
    ratio = wide.embedding.position.std() / plain.embedding.position.std()
    assert float(ratio.detach()) == pytest.approx(2.0)
    outputs = torch.randn(3, 200)
    torch.testing.assert_close(made(*rule, "loss.normalize=false").queries(outputs), outputs / 4)
    torch.testing.assert_close(wide.queries(outputs), plain.queries(outputs))


def test_widths_of_heads() -> None:
    with_heads = load_config("ml-1m/hstu", ["model.transfer.rule=mup", "model.dim=128", "model.heads=2"])
    assert with_heads.model.relative_size.query == 2.0
    same_heads = [
        *("model.transfer.rule=mup", "model.dim=128"),
        "model.heads=2",
        "model.transfer.base_heads=1",
    ]
    assert load_config("ml-1m/hstu", same_heads).model.relative_size.query == 1.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"base_dim": 32}, "base_dim is 32, and rule is none"),
        ({"rule": "mup", "base_blocks": 4}, "base_blocks is 4, and rule is mup"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, Any], words: str) -> None:
    given = [f"model.transfer.{name}={value}" for name, value in settings.items()]
    with pytest.raises(UserError, match=words):
        load_config("ml-1m/hstu", given)


def test_a_rule_that_there_is_not() -> None:
    with pytest.raises(UserError, match="transfer"):
        parse_config(BackboneConfig, {"transfer": {"rule": "sp"}}, where="here")

"""Backbones against float64 loops over one sequence, written from the papers' formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.backbones import BACKBONES, BackboneConfig, build_backbone
from models.data.batch import PackedBatch
from tests.models.backbones.backbone_oracle import N, oracle
from tests.models.tokens import tokens_of

RAGGED = [5, 1, 0, 8]

CONFIGS: list[dict[str, Any]] = [
    *({"kind": kind, "blocks": 1, "dim": 8, "heads": 2, "recompute": "pointwise"} for kind in BACKBONES),
    {"kind": "hstu", "blocks": 1, "dim": 50, "heads": 1},
    {"kind": "hstu", "blocks": 2, "dim": 50, "heads": 2},  # two heads of 25
    {"kind": "hstu", "blocks": 1, "dim": 10, "heads": 3, "qk_dim": 4, "v_dim": 7},
    {"kind": "hstu", "blocks": 1, "dim": 8, "bias": "time"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "bias": "position"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "bias": "none"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "heads": 2, "bias": "rope"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "heads": 2, "bias_tables": "per_head"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "heads": 2, "bias": "decay", "bias_tables": "per_head"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "heads": 2, "bias": "decay", "decay": "exponential"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "activation": "softmax"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "gate": False},
    {"kind": "hstu", "blocks": 1, "dim": 8, "pointwise": False},
    {"kind": "hstu", "blocks": 1, "dim": 8, "gate": False, "pointwise": False, "activation": "softmax"},
    {"kind": "sasrec", "blocks": 1, "dim": 50, "heads": 1},
    {"kind": "sasrec", "blocks": 2, "dim": 10, "heads": 2},
    {"kind": "sasrec", "blocks": 1, "dim": 8, "heads": 2, "bias": "both"},
    {"kind": "sasrec", "blocks": 1, "dim": 8, "heads": 2, "residual": "pre_norm"},
    {"kind": "sasrec", "blocks": 2, "dim": 8, "heads": 2, "residual": "pre_norm", "bias": "both"},
    {"kind": "gpt", "blocks": 2, "dim": 8, "heads": 2},
    {"kind": "gpt", "blocks": 2, "dim": 8, "heads": 2, "residual": "post_norm"},
    {"kind": "llama", "blocks": 2, "dim": 8, "heads": 2},
    {"kind": "llama", "blocks": 1, "dim": 6, "heads": 3, "qk_dim": 4, "v_dim": 5},
    {"kind": "fuxi", "blocks": 2, "dim": 8, "heads": 2},
    {"kind": "fuxi", "blocks": 1, "dim": 6, "heads": 2, "qk_dim": 2, "v_dim": 5},
    {"kind": "fuxi", "blocks": 1, "dim": 6, "bias": "time"},
    {"kind": "fuxi", "blocks": 1, "dim": 6, "bias": "none"},
    {"kind": "ligr", "blocks": 2, "dim": 8, "heads": 2},
    {"kind": "hstu", "blocks": 2, "dim": 8, "attention_window": 2},
    {"kind": "hstu", "blocks": 1, "dim": 8, "heads": 2, "attention_window": 2, "attention_global": 2},
    {"kind": "fuxi", "blocks": 1, "dim": 8, "attention_window": 1, "attention_global": 3},
    {"kind": "llama", "blocks": 2, "dim": 8, "heads": 2, "attention_window": 3, "attention_global": 1},
]


def ragged_batch(lengths: list[int], span: int = 10**6, seed: int = 0) -> PackedBatch:
    """Query times and timestamps in any order: differences are negative, zero and large."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> list[list[int]]:
        return [torch.randint(0, span + 1, (length,), generator=generator).tolist() for length in lengths]

    return PackedBatch.from_lists([[1] * length for length in lengths], timestamps=draw(), query_times=draw())


def randomized(config: BackboneConfig) -> nn.Module:
    """A backbone whose parameters are all far from their initial values, where terms would vanish."""
    backbone = build_backbone(config, max_length=N).eval()
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            # Rates of decay stay near a hundredth, or nothing would be left of it after a day.
            parameter.normal_(-4.0 if name.endswith("log_rate") else 0.0, 0.4)
    return backbone


def compare(config: BackboneConfig, batch: PackedBatch, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    backbone = randomized(config)
    x, gradient = torch.randn(2, batch.num_events, config.dim)
    exact = {name: tensor.detach().double().requires_grad_() for name, tensor in backbone.named_parameters()}
    exact_x = x.double().requires_grad_()
    expected = oracle(exact_x, exact, config, batch)
    expected_gradients = torch.autograd.grad(expected, [exact_x, *exact.values()], gradient.double())

    for parameter in backbone.parameters():  # not the sines of RoPE, which stay as exact as they were made
        parameter.data = parameter.data.to(dtype)
    x = x.to(dtype).requires_grad_()
    found = backbone(x, tokens_of(batch))
    found_gradients = torch.autograd.grad(found, [x, *backbone.parameters()], gradient.to(dtype))
    names = ["out", "x", *exact]
    for name, one, other in zip(
        names, [found, *found_gradients], [expected, *expected_gradients], strict=True
    ):
        scale = max(0.1, float(other.detach().abs().max()))
        difference = float((one.double() - other).detach().abs().max()) / scale
        assert difference < tolerance, f"{name} is off by {difference}"


@pytest.mark.parametrize(
    ("attention", "dtype", "tolerance"),
    [
        ("reference", torch.float64, 1e-11),
        ("blocked", torch.float32, 5e-5),
    ],
)
@pytest.mark.parametrize("settings_", CONFIGS, ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()))
def test_backbone_is_the_formula_on_ragged_batches(
    settings_: dict[str, Any], attention: str, dtype: torch.dtype, tolerance: float
) -> None:
    config = BackboneConfig(**settings_, attention=attention)
    compare(config, ragged_batch(RAGGED), dtype, tolerance)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3).filter(any),
    span=st.sampled_from([0, 300, 10**8, 10**15]),
    heads=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["hstu", "fuxi", "llama"]),
)
def test_backbone_is_the_formula_on_any_ragged_batch(
    lengths: list[int], span: int, heads: int, seed: int, kind: Any
) -> None:
    config = BackboneConfig(kind=kind, blocks=1, dim=4, heads=heads)
    compare(config, ragged_batch(lengths, span, seed), torch.float64, 1e-11)


@pytest.mark.parametrize("kind", BACKBONES)
def test_neighbors_in_the_batch_change_nothing(kind: Any) -> None:
    backbone = randomized(BackboneConfig(kind=kind, dim=8))
    together = ragged_batch([5, 1, 0, 8])
    x = torch.randn(14, 8)
    alone = PackedBatch.from_lists(
        [[1] * 8],
        timestamps=[together.timestamp[6:].tolist()],
        query_times=[together.query_time[6:].tolist()],
    )
    found, expected = backbone(x, tokens_of(together))[6:], backbone(x[6:], tokens_of(alone))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_later_event_changes_nothing_before_it(kind: Any) -> None:
    backbone = randomized(BackboneConfig(kind=kind, dim=8, blocks=3))
    tokens = tokens_of(ragged_batch([9]))
    x = torch.randn(9, 8)
    changed = x.clone()
    changed[5] += torch.randn(8)
    before, after = backbone(x, tokens), backbone(changed, tokens)
    assert torch.equal(before[:5], after[:5])
    assert not torch.isclose(before[5:], after[5:], rtol=1e-4).all(-1).any()


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_batch_may_have_no_events(kind: Any) -> None:
    out = build_backbone(BackboneConfig(kind=kind, dim=8), max_length=N)(
        torch.zeros(0, 8), tokens_of(ragged_batch([0, 0]))
    )
    assert out.shape == (0, 8)


def test_hstu_divides_by_max_length_not_by_the_length_of_the_batch() -> None:
    """Attention is linear in 1 / N, which the norm behind it hides but for its eps: so look at attention."""
    config = BackboneConfig(kind="hstu", blocks=1, dim=4, bias="none")
    small, large = (build_backbone(config, max_length=n).eval() for n in (10, 1000))
    large.load_state_dict(small.state_dict())
    seen: list[Tensor] = []
    for backbone in (small, large):
        backbone.blocks[0].attention_norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        backbone(torch.ones(3, 4).cumsum(1).cumsum(0), tokens_of(ragged_batch([3])))
    torch.testing.assert_close(seen[0], seen[1] * 100)


def test_hstu_starts_as_published() -> None:
    torch.manual_seed(0)
    block = build_backbone(BackboneConfig(kind="hstu", dim=64, heads=2), max_length=500).blocks[0]
    shapes = {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}
    assert shapes == {
        "f1.weight": (256, 64),
        "bias.position": (500,),
        "bias.time": (129,),
        "f2.weight": (64, 64),
        "f2.bias": (64,),
    }
    for table in (block.f1.weight.detach(), block.bias.position.detach(), block.bias.time.detach()):
        assert abs(float(table.mean())) < 0.006
        assert float(table.std()) == pytest.approx(0.02, rel=0.2)
    assert float(block.f2.weight.detach().abs().max()) <= (6 / 128) ** 0.5
    assert not block.f2.bias.any()


def test_a_seed_gives_the_weights_that_it_always_gave() -> None:
    """All parts of a layer take their random numbers first, then f1's weights are drawn, then f2's."""
    torch.manual_seed(0)
    block = build_backbone(BackboneConfig(kind="hstu", blocks=1, dim=8, heads=2), max_length=5).blocks[0]
    torch.manual_seed(0)
    f1 = nn.Linear(8, 32, bias=False).weight
    position, time = torch.empty(5).normal_(0.0, 0.02), torch.empty(129).normal_(0.0, 0.02)
    f2 = nn.Linear(8, 8).weight
    nn.init.normal_(f1, 0.0, 0.02)
    nn.init.xavier_uniform_(f2)
    expected = {"f1.weight": f1, "bias.position": position, "bias.time": time, "f2.weight": f2}
    for name, weight in expected.items():
        assert torch.equal(block.get_parameter(name), weight), name


def test_gpt_starts_what_writes_to_the_residual_path_smaller_the_deeper_it_is() -> None:
    torch.manual_seed(0)
    block = build_backbone(BackboneConfig(kind="gpt", dim=64, blocks=8), max_length=N).blocks[0]
    weights = {name: p.detach() for name, p in block.named_parameters() if p.ndim == 2}
    for name, weight in weights.items():
        expected = 0.02 / 4 if name.endswith("f2.weight") else 0.02
        assert float(weight.std()) == pytest.approx(expected, rel=0.05), name


def test_parts_of_one_layer_have_xavier_bounds_of_their_own() -> None:
    """W1 and W3 of SwiGLU stand in one matrix, and start as two of [width, dim] would."""
    torch.manual_seed(0)
    block = build_backbone(BackboneConfig(kind="ligr", dim=64), max_length=N).blocks[0]
    bound = (6 / (64 + 256)) ** 0.5
    assert bound * 0.99 < float(block.feed_forward.network.f1.weight.detach().abs().max()) <= bound
    bound = (6 / (64 + 64)) ** 0.5
    assert bound * 0.99 < float(block.attention.f1.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("kind", BACKBONES)
def test_dropout_falls_in_training_only(kind: Any) -> None:
    backbone = randomized(BackboneConfig(kind=kind, dim=8, dropout=0.5))
    tokens, x = tokens_of(ragged_batch([6])), torch.randn(6, 8)
    assert torch.equal(backbone(x, tokens), backbone(x, tokens))
    backbone.train()
    assert not torch.allclose(backbone(x, tokens), backbone(x, tokens))


@pytest.mark.parametrize("kind", BACKBONES)
def test_without_a_time_bias_times_may_be_missing(kind: Any) -> None:
    config = BackboneConfig(kind=kind, bias="position")
    tokens = tokens_of(PackedBatch.from_lists([[1, 2, 3]]))
    assert build_backbone(config, max_length=N)(torch.randn(3, 50), tokens).isfinite().all()

"""Backbones against float64 loops over one sequence, written from the papers' formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from behavior.config import parse_config
from behavior.errors import UserError
from models.backbones import BACKBONES, BackboneConfig, build_backbone, check_time_bias
from models.batch import PackedBatch
from tests.models.attention_oracle import norm, one_sequence

N = 9
RAGGED = [[11, 12, 13, 14, 15], [11], [], [16, 12, 12, 17, 18, 19, 11, 13]]

Parameters = dict[str, Tensor]
Oracle = Callable[[Tensor, Parameters, str, BackboneConfig, list[int], list[int]], Tensor]


def ragged_batch(lengths: list[int], span: int = 10**6, seed: int = 0) -> PackedBatch:
    """Query times and timestamps in any order: differences are negative, zero and large."""
    generator = torch.Generator().manual_seed(seed)

    def draw() -> list[list[int]]:
        return [torch.randint(0, span + 1, (length,), generator=generator).tolist() for length in lengths]

    return PackedBatch.from_lists([[1] * length for length in lengths], timestamps=draw(), query_times=draw())


def hstu_layer(
    x: Tensor, p: Parameters, block: str, config: BackboneConfig, query_time: list[int], timestamp: list[int]
) -> Tensor:
    """U, V, Q, K = split(SiLU(f1(norm(x)))); A = SiLU(Q K^T + rab) / N; f2(norm(A V) * U) + x."""
    heads, length = config.heads, len(x)
    widths = [heads * config.value_dim] * 2 + [heads * config.query_dim] * 2
    parts: list[list[Tensor]] = [[], [], [], []]
    for row in x:
        hidden = p[f"{block}.f1.weight"] @ norm(row, 1e-6)
        hidden = hidden / (1 + torch.exp(-hidden))
        for part, piece in zip(parts, hidden.split(widths), strict=True):
            part.append(piece)
    u, v, q, k = (torch.stack(part) for part in parts)
    attended = one_sequence(
        q.view(length, heads, -1),
        k.view(length, heads, -1),
        v.view(length, heads, -1),
        activation="silu",
        position=p.get(f"{block}.bias.position"),
        time=p.get(f"{block}.bias.time"),
        query_time=query_time,
        timestamp=timestamp,
        output_scale=1 / N,
    )
    rows = [
        p[f"{block}.f2.weight"] @ (norm(attended[i].flatten(), 1e-6) * u[i]) + p[f"{block}.f2.bias"] + x[i]
        for i in range(length)
    ]
    return torch.stack(rows)


def sasrec_layer(
    x: Tensor, p: Parameters, block: str, config: BackboneConfig, query_time: list[int], timestamp: list[int]
) -> Tensor:
    """q = norm(x); a = softmax(q Wq (x Wk)^T / sqrt(d)) x Wv + q; f = norm(a); relu(f W1) W2 + f."""
    heads, length = config.heads, len(x)

    def linear(name: str, row: Tensor) -> Tensor:
        return p[f"{block}.{name}.weight"] @ row + p[f"{block}.{name}.bias"]

    def affine_norm(name: str, row: Tensor) -> Tensor:
        return norm(row, 1e-8) * p[f"{block}.{name}.weight"] + p[f"{block}.{name}.bias"]

    queries = [affine_norm("query_norm", row) for row in x]
    attended = one_sequence(
        torch.stack([linear("query", row) for row in queries]).view(length, heads, -1),
        torch.stack([linear("key", row) for row in x]).view(length, heads, -1),
        torch.stack([linear("value", row) for row in x]).view(length, heads, -1),
        activation="softmax",
        position=p.get(f"{block}.bias.position"),
        time=p.get(f"{block}.bias.time"),
        query_time=query_time,
        timestamp=timestamp,
        qk_scale=config.query_dim**-0.5,
    )
    rows = []
    for i in range(length):
        normed = affine_norm("feed_forward_norm", attended[i].flatten() + queries[i])
        rows.append(linear("feed_forward.f2", torch.relu(linear("feed_forward.f1", normed))) + normed)
    return torch.stack(rows)


ORACLES: dict[str, Oracle] = {"hstu": hstu_layer, "sasrec": sasrec_layer}


def oracle(x: Tensor, parameters: Parameters, config: BackboneConfig, batch: PackedBatch) -> Tensor:
    """The whole backbone, sequence by sequence."""
    out = []
    for start, stop in zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True):
        rows = x[start:stop]
        times = batch.query_time[start:stop].tolist(), batch.timestamp[start:stop].tolist()
        for number in range(config.blocks if len(rows) else 0):
            rows = ORACLES[config.kind](rows, parameters, f"blocks.{number}", config, *times)
        if config.kind == "sasrec" and len(rows):
            final = [norm(row, 1e-8) * parameters["norm.weight"] + parameters["norm.bias"] for row in rows]
            rows = torch.stack(final)
        out.append(rows)
    return torch.cat(out)


def randomized(config: BackboneConfig) -> nn.Module:
    """A backbone whose parameters are all far from their initial values, where terms would vanish."""
    backbone = build_backbone(config, max_length=N).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.normal_(0.0, 0.4)
    return backbone


def compare(config: BackboneConfig, batch: PackedBatch, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    backbone = randomized(config)
    x, gradient = torch.randn(2, batch.num_tokens, config.dim)
    exact = {name: tensor.detach().double().requires_grad_() for name, tensor in backbone.named_parameters()}
    exact_x = x.double().requires_grad_()
    expected = oracle(exact_x, exact, config, batch)
    expected_gradients = torch.autograd.grad(expected, [exact_x, *exact.values()], gradient.double())

    backbone, x = backbone.to(dtype), x.to(dtype).requires_grad_()
    found = backbone(x, batch)
    found_gradients = torch.autograd.grad(found, [x, *backbone.parameters()], gradient.to(dtype))
    names = ["out", "x", *exact]
    for name, one, other in zip(
        names, [found, *found_gradients], [expected, *expected_gradients], strict=True
    ):
        scale = max(0.1, float(other.detach().abs().max()))
        difference = float((one.double() - other).detach().abs().max()) / scale
        assert difference < tolerance, f"{name} is off by {difference}"


CONFIGS: list[dict[str, Any]] = [
    {"kind": "hstu", "blocks": 1, "dim": 50, "heads": 1},
    {"kind": "hstu", "blocks": 2, "dim": 50, "heads": 2},  # two heads of 25
    {"kind": "hstu", "blocks": 1, "dim": 10, "heads": 3, "qk_dim": 4, "v_dim": 7},
    {"kind": "hstu", "blocks": 1, "dim": 8, "bias": "time"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "bias": "position"},
    {"kind": "hstu", "blocks": 1, "dim": 8, "bias": "none"},
    {"kind": "sasrec", "blocks": 1, "dim": 50, "heads": 1},
    {"kind": "sasrec", "blocks": 2, "dim": 10, "heads": 2},
    {"kind": "sasrec", "blocks": 1, "dim": 8, "heads": 2, "bias": "both"},
]


@pytest.mark.parametrize(
    ("attention", "dtype", "tolerance"),
    [
        ("reference", torch.float64, 1e-11),
        ("reference", torch.float32, 2e-5),
        ("blocked", torch.float32, 2e-5),
    ],
)
@pytest.mark.parametrize("settings_", CONFIGS, ids=lambda s: " ".join(f"{k}={v}" for k, v in s.items()))
def test_backbone_is_the_formula_on_ragged_batches(
    settings_: dict[str, Any], attention: str, dtype: torch.dtype, tolerance: float
) -> None:
    config = BackboneConfig(**settings_, attention=attention)
    compare(config, ragged_batch([len(row) for row in RAGGED]), dtype, tolerance)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=3).filter(any),
    span=st.sampled_from([0, 300, 10**8, 10**15]),
    heads=st.sampled_from([1, 2]),
    seed=st.integers(0, 1000),
)
def test_hstu_is_the_formula_on_any_ragged_batch(
    lengths: list[int], span: int, heads: int, seed: int
) -> None:
    config = BackboneConfig(kind="hstu", blocks=1, dim=6, heads=heads)
    compare(config, ragged_batch(lengths, span, seed), torch.float64, 1e-11)
    compare(config, ragged_batch(lengths, span, seed), torch.float32, 2e-4)


@pytest.mark.parametrize("kind", BACKBONES)
def test_neighbors_in_the_batch_change_nothing(kind: str) -> None:
    backbone = randomized(BackboneConfig(kind=kind, dim=8))
    together = ragged_batch([5, 1, 0, 8])
    x = torch.randn(14, 8)
    alone = PackedBatch.from_lists(
        [[1] * 8],
        timestamps=[together.timestamp[6:].tolist()],
        query_times=[together.query_time[6:].tolist()],
    )
    torch.testing.assert_close(backbone(x, together)[6:], backbone(x[6:], alone), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_later_event_changes_nothing_before_it(kind: str) -> None:
    backbone = randomized(BackboneConfig(kind=kind, dim=8, blocks=3))
    batch = ragged_batch([9])
    x = torch.randn(9, 8)
    changed = x.clone()
    changed[5] += torch.randn(8)
    before, after = backbone(x, batch), backbone(changed, batch)
    torch.testing.assert_close(before[:5], after[:5], rtol=1e-6, atol=1e-6)
    assert not torch.isclose(before[5:], after[5:], rtol=1e-4).all(-1).any()


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_batch_may_have_no_events(kind: str) -> None:
    out = build_backbone(BackboneConfig(kind=kind, dim=8), max_length=N)(
        torch.zeros(0, 8), ragged_batch([0, 0])
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
        backbone(torch.ones(3, 4).cumsum(1).cumsum(0), ragged_batch([3]))
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


@pytest.mark.parametrize("kind", BACKBONES)
def test_dropout_falls_in_training_only(kind: str) -> None:
    backbone = randomized(BackboneConfig(kind=kind, dim=8, dropout=0.5))
    batch, x = ragged_batch([6]), torch.randn(6, 8)
    assert torch.equal(backbone(x, batch), backbone(x, batch))
    backbone.train()
    assert not torch.allclose(backbone(x, batch), backbone(x, batch))


def test_bias_is_as_published_unless_set() -> None:
    assert BackboneConfig(kind="hstu").relative_bias == "both"
    assert BackboneConfig(kind="sasrec").relative_bias == "none"
    assert BackboneConfig(kind="sasrec", bias="time").relative_bias == "time"


@pytest.mark.parametrize(("bias", "instead"), [(None, "position"), ("both", "position"), ("time", "none")])
def test_a_time_bias_without_times_names_the_setting(bias: Any, instead: str) -> None:
    config = BackboneConfig(kind="hstu", bias=bias)
    with pytest.raises(UserError, match="needs timestamps") as caught:
        check_time_bias(config, has_time=False)
    assert caught.value.fix == f"--set model.bias={instead}"
    check_time_bias(config, has_time=True)


def test_without_a_time_bias_times_may_be_missing() -> None:
    for config in (BackboneConfig(kind="hstu", bias="position"), BackboneConfig(kind="sasrec")):
        check_time_bias(config, has_time=False)
        batch = PackedBatch.from_lists([[1, 2, 3]])
        assert build_backbone(config, max_length=N)(torch.randn(3, 50), batch).isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dim": 50, "heads": 4}, "not a multiple of heads"),
        ({"kind": "sasrec", "dim": 8, "heads": 2, "v_dim": 3}, "heads \\* v_dim must be dim"),
        ({"block": 3}, "unknown key 'block'"),
        ({"kind": "bert"}, "'kind'"),
    ],
)
def test_settings_that_do_not_fit_are_errors(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config(BackboneConfig, values, where="test")


def test_an_unknown_kernel_is_an_error_when_the_backbone_is_built() -> None:
    with pytest.raises(UserError, match="no attention kernel 'flash'") as caught:
        build_backbone(BackboneConfig(attention="flash"), max_length=N)
    assert caught.value.where == "model.attention"

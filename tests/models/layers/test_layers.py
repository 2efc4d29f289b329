"""The parts that backbones are assembled from, each against its formula."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from models.attention import RelativeTime, Sequences
from models.layers.feed_forward import SwiGLU
from models.layers.kinds import published_width
from models.layers.norm import make_norm
from models.layers.relative_bias import LearnedDecay, RelativeBiasTables
from models.layers.residual import Residual
from models.layers.rope import RotaryEmbedding, rotate


def times(seconds: list[int]) -> RelativeTime:
    stamps = torch.tensor(seconds)
    return RelativeTime(stamps, stamps, Sequences.from_lengths([len(seconds)]))


def test_rope_turns_pairs_as_complex_numbers() -> None:
    rope = RotaryEmbedding(6, positions=100)
    x = torch.randn(3, 2, 6, dtype=torch.float64)
    position = torch.tensor([0, 7, 99])
    found = rotate(x, rope(position, torch.float64))
    for token, place in enumerate(position.tolist()):
        for head in range(2):
            for i in range(3):
                number = complex(x[token, head, i], x[token, head, i + 3])
                turned = number * complex(math.cos(1), math.sin(1)) ** (place * 10000 ** (-2 * i / 6))
                assert float(found[token, head, i]) == pytest.approx(turned.real, abs=1e-9)
                assert float(found[token, head, i + 3]) == pytest.approx(turned.imag, abs=1e-9)


def test_rope_sees_differences_of_positions_only() -> None:
    rope = RotaryEmbedding(8, positions=1000)
    q, k = torch.randn(2, 1, 1, 8, dtype=torch.float64)

    def product(i: int, j: int) -> float:
        turn = [rope(torch.tensor([place]), torch.float64) for place in (i, j)]
        return float((rotate(q, turn[0]) * rotate(k, turn[1])).sum())

    assert product(5, 2) == pytest.approx(product(905, 902), abs=1e-9)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-3)


def test_rope_keeps_the_number_format_and_saves_nothing() -> None:
    rope = RotaryEmbedding(4, positions=8)
    x = torch.randn(2, 1, 4, dtype=torch.bfloat16)
    assert rotate(x, rope(torch.tensor([0, 1]), torch.bfloat16)).dtype == torch.bfloat16
    assert not rope.state_dict()
    with pytest.raises(ValueError, match="5 is odd"):
        RotaryEmbedding(5, positions=8)


@pytest.mark.parametrize("affine", [True, False])
def test_norms_are_their_formulas(affine: bool) -> None:
    row, eps = torch.tensor([3.0, -1.0, 2.0]), 0.5
    suffix: Any = "" if affine else "_without_affine"
    mean = float(row.mean())
    variance = sum((float(value) - mean) ** 2 for value in row) / 3
    layer = make_norm(f"layer{suffix}", 3, eps)
    expected = torch.tensor([(float(value) - mean) / math.sqrt(variance + eps) for value in row])
    torch.testing.assert_close(layer(row), expected)
    root = make_norm(f"rms{suffix}", 3, eps)
    torch.testing.assert_close(root(row), row / math.sqrt(14 / 3 + eps))
    assert [len(list(norm.parameters())) for norm in (layer, root)] == ([2, 1] if affine else [0, 0])
    assert torch.equal(make_norm("none", 3, eps)(row), row)


@pytest.mark.parametrize("kind", ["hstu", "pre_norm", "post_norm", "gated", "sasrec"])
def test_residual_patterns_are_their_formulas(kind: Any) -> None:
    torch.manual_seed(0)
    residual = Residual(kind, 4, "layer_without_affine", 1e-6, dropout=0.0)
    x = torch.randn(3, 4)

    def f(rows: Tensor) -> Tensor:
        return rows.cos() * 3

    def norm(rows: Tensor) -> Tensor:
        return (rows - rows.mean(-1, keepdim=True)) / torch.sqrt(rows.var(-1, False, keepdim=True) + 1e-6)

    expected = {
        "hstu": lambda: x + f(norm(x)),
        "pre_norm": lambda: x + f(norm(x)),
        "post_norm": lambda: norm(x + f(x)),
        "gated": lambda: (
            x + 1 / (1 + torch.exp(-(x @ residual.gate.weight.T + residual.gate.bias))) * f(norm(x))
        ),
        "sasrec": lambda: norm(x) + f(norm(x)),
    }[kind]()
    entered = residual.enter(x)
    torch.testing.assert_close(residual.leave(x, entered, f(entered)), expected)


def test_dropout_of_the_residual_falls_on_what_is_added() -> None:
    residual = Residual("pre_norm", 4, "none", 1e-6, dropout=0.5)
    x = torch.full((100, 4), 7.0)
    added = residual.leave(x, x, torch.ones(100, 4)) - x
    assert set(added.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("on_input", [True, False])
def test_swiglu_drops_its_input_or_its_product(on_input: bool) -> None:
    torch.manual_seed(0)
    network = SwiGLU(5, 7, 0.5, dropout_on_input=on_input, bias=False, std=0.5, output_std=0.5)
    seen: list[int] = []
    network.dropout.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    network(torch.randn(3, 5))
    assert seen == [5 if on_input else 7]


def test_swiglu_of_8_over_3_costs_as_much_as_two_layers_of_4() -> None:
    assert published_width("swiglu", 768) == 2048
    assert 3 * published_width("swiglu", 768) == 2 * published_width("gelu", 768)
    assert published_width("swiglu", 50) == 136


def test_tables_are_shared_or_one_a_head() -> None:
    shared, own = RelativeBiasTables("both", 20), RelativeBiasTables("both", 20, heads=3)
    assert [tuple(p.shape) for p in shared.parameters()] == [(20,), (129,)]
    assert [tuple(p.shape) for p in own.parameters()] == [(3, 20), (3, 129)]
    bias = own(times([0, 10, 500]))
    assert bias is not None
    assert bias.materialize(Sequences.from_lengths([3])).shape == (1, 3, 3, 3)


def test_parts_of_a_bias_add_up_to_it() -> None:
    relative_time, sequences = times([0, 100, 10**6]), Sequences.from_lengths([3])
    tables = RelativeBiasTables("both", 20, heads=2)
    whole = tables(relative_time)
    assert whole is not None
    parts = [part.materialize(sequences) for part in tables.separate(relative_time)]
    assert len(parts) == 2
    torch.testing.assert_close(sum(parts), whole.materialize(sequences))


@pytest.mark.parametrize("setting", ["none", "rope"])
def test_without_tables_there_is_no_bias(setting: Any) -> None:
    tables = RelativeBiasTables(setting, 20)
    assert tables(times([0])) is None
    assert tables.separate(times([0])) == []
    assert not list(tables.parameters())


@pytest.mark.parametrize("kind", ["power", "exponential"])
def test_decays_start_with_half_lives_from_a_minute_to_a_month(kind: Any) -> None:
    decay = LearnedDecay(4, kind)()
    assert (decay.rate > 0).all()
    for head, seconds in enumerate([60, 2106, 73_915, 2_592_000]):
        value = decay.materialize(torch.tensor([0, seconds]))[head].detach()
        assert float(value[1] / value[0]) == pytest.approx(0.5, abs=1e-3)


def test_one_decay_for_all_heads_starts_in_the_middle() -> None:
    value = LearnedDecay(1, "exponential")().materialize(torch.tensor([0, 12_471]))[0].detach()
    assert float(value[1] / value[0]) == pytest.approx(0.5, abs=1e-3)


def test_rates_of_decay_stay_positive_whatever_is_learned() -> None:
    decay = LearnedDecay(2, "power")
    with torch.no_grad():
        decay.log_rate.fill_(-50.0)
    assert (decay().rate > 0).all()

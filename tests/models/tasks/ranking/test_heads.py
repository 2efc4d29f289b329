"""Heads of ranking against their formulas, one row and one label at a time in plain Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from models.layers.roles import roles_of
from models.tasks.ranking.heads import HEADS, HeadSizes

Row = list[float]
DIM, CONTEXT = 3, 2
SIZES = HeadSizes(dim=DIM, context=CONTEXT, labels=3, hidden=(4, 5), experts=2, dropout=0.0)


def linear(layer: nn.Module, x: Sequence[float]) -> Row:
    weight, bias = layer.weight.tolist(), getattr(layer, "bias", None)
    offset = [0.0] * len(weight) if bias is None else bias.tolist()
    return [
        sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weight, offset, strict=True)
    ]


def perceptron(layers: nn.Module, x: Sequence[float]) -> Row:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            x = [max(value, 0.0) for value in linear(layer, x)]
    return list(x)


def mixture(gate: nn.Module, x: Row, made: list[Row]) -> Row:
    weights = [math.exp(value) for value in linear(gate, x)]
    total = sum(weights)
    return [
        sum(w / total * row[place] for w, row in zip(weights, made, strict=True))
        for place in range(len(made[0]))
    ]


def dot(head: nn.Module, h: Row, e: Row, c: Row) -> Row:
    query = linear(head.query, h)
    products = [sum(query[DIM * label + d] * e[d] for d in range(DIM)) / math.sqrt(DIM) for label in range(3)]
    return [p + b for p, b in zip(products, linear(head.bias, [*e, *c]), strict=True)]


def mlp(head: nn.Module, h: Row, e: Row, c: Row) -> Row:
    return linear(head.out, perceptron(head.layers, [*h, *e, *c]))


def ffn(head: nn.Module, h: Row, e: Row, c: Row) -> Row:
    both = linear(head.block.f1, h)
    gate, value = both[:4], both[4:]
    hidden = [g / (1.0 + math.exp(-g)) * v for g, v in zip(gate, value, strict=True)]
    block = linear(head.block.f2, hidden)
    return linear(head.out, [*(a + b for a, b in zip(h, block, strict=True)), *c])


def mmoe(head: nn.Module, h: Row, e: Row, c: Row) -> Row:
    x = [*h, *e, *c]
    made = [perceptron(expert, x) for expert in head.experts]
    return [linear(t, mixture(g, x, made))[0] for g, t in zip(head.gates, head.towers.each, strict=True)]


def ple(head: nn.Module, h: Row, e: Row, c: Row) -> Row:
    """Two levels of two experts for each of three labels, and two shared ones."""
    given = {group: [*h, *e, *c] for group in (0, 1, 2, "shared")}
    for experts, gates in zip(head.levels, head.gates, strict=True):
        made = {
            group: [perceptron(experts[2 * place + k], given[group]) for k in range(2)]
            for place, group in enumerate(given)
        }
        every = [row for rows in made.values() for row in rows]
        given = {
            group: mixture(
                gates[place], given[group], every if group == "shared" else made[group] + made["shared"]
            )
            for place, group in enumerate(given)
            if place < len(gates)
        }
    return [linear(tower, given[label])[0] for label, tower in enumerate(head.towers.each)]


ORACLES: dict[str, Callable[[nn.Module, Row, Row, Row], Row]] = {
    "dot": dot,
    "mlp": mlp,
    "ffn": ffn,
    "mmoe": mmoe,
    "ple": ple,
}


@pytest.mark.parametrize("name", HEADS)
def test_logits_are_those_of_the_formula(name: str) -> None:
    torch.manual_seed(0)
    head = HEADS[name](SIZES).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, 0.0, 0.5)
    h, e, c = (torch.randn(6, width, dtype=torch.float64) for width in (DIM, DIM, CONTEXT))
    expected = [ORACLES[name](head, *row) for row in zip(h.tolist(), e.tolist(), c.tolist(), strict=True)]
    torch.testing.assert_close(head(h, e, c), torch.tensor(expected, dtype=torch.float64))
    assert len(roles_of(head)) == len(list(head.parameters()))


@pytest.mark.parametrize("name", HEADS)
def test_every_parameter_counts(name: str) -> None:
    torch.manual_seed(0)
    head = HEADS[name](SIZES).double()
    for parameter in head.parameters():
        nn.init.normal_(parameter, 0.0, 0.5)
    head(
        *(torch.randn(50, width, dtype=torch.float64) for width in (DIM, DIM, CONTEXT))
    ).square().sum().backward()
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 1e-6 for parameter in head.parameters()
    )


def test_experts_of_one_label_do_not_hear_of_another_in_ple() -> None:
    """The paper's point: in the last level what is of one label alone gets no gradient of another."""
    head = HEADS["ple"](HeadSizes(dim=DIM, context=CONTEXT, labels=2, hidden=(4,), experts=2, dropout=0.0))
    out = head(torch.randn(5, DIM), torch.randn(5, DIM), torch.randn(5, CONTEXT))
    out[:, 0].sum().backward()
    experts = head.levels[0]
    heard = [
        any(p.grad is not None and p.grad.abs().sum() > 0 for p in expert.parameters()) for expert in experts
    ]
    assert heard == [True, True, False, False, True, True]

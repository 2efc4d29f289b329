"""Heads of ranking: from what the backbone says of a candidate to a logit an action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.dropout import Dropout
from models.layers.feed_forward import SwiGLU
from models.layers.initialization import INIT_STD, init_linear


@dataclass(frozen=True)
class HeadSizes:
    """What a head is made for."""

    dim: int
    """Width of outputs and of candidates' vectors."""
    context: int
    """Numbers beside the sequence."""
    labels: int
    hidden: tuple[int, ...]
    """Widths of hidden layers."""
    experts: int
    """Experts that all labels share; of `ple` each label has as many of its own."""
    dropout: float

    @property
    def all(self) -> int:
        """Width of output, candidate and context side by side."""
        return 2 * self.dim + self.context


class DotHead(nn.Module):
    """`q_l . e / sqrt(dim) + w_l . (e, c) + b_l`, with a query `q_l = W_l h` for each label.

    The product of what a user wants and the candidate's own vector e (two towers, but that h has seen the
    candidate as well); the second term is a bias of items, and of the context c.
    """

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.labels = sizes.labels
        self.query = nn.Linear(sizes.dim, sizes.labels * sizes.dim, bias=False)
        self.bias = nn.Linear(sizes.dim + sizes.context, sizes.labels)
        init_linear(self.query, None)
        init_linear(self.bias, INIT_STD)

    def forward(self, output: Tensor, item: Tensor, context: Tensor) -> Tensor:
        """[n, labels] logits of outputs [n, dim], candidates [n, dim] and context [n, numbers]."""
        query = self.query(output).unflatten(1, (self.labels, -1))
        product = (query * item[:, None]).sum(2) / item.shape[1] ** 0.5
        return product + self.bias(torch.cat([item, context], 1))


class MLPHead(nn.Module):
    """A multi-layer perceptron over output, candidate and context side by side, shared by all labels."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.layers = mlp(sizes.all, sizes.hidden, sizes.dropout)
        self.out = nn.Linear(sizes.hidden[-1], sizes.labels)
        init_linear(self.out, INIT_STD)

    def forward(self, output: Tensor, item: Tensor, context: Tensor) -> Tensor:
        """See `DotHead.forward`."""
        return self.out(self.layers(torch.cat([output, item, context], 1)))


class FFNHead(nn.Module):
    """`W (h + SwiGLU(h)) + V c + b`: a feed-forward block of a Transformer on the output alone.

    The candidate counts by what the backbone made of it. The block's width is the first of `hidden`.
    """

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.block = SwiGLU(
            sizes.dim,
            sizes.hidden[0],
            sizes.dropout,
            dropout_on_input=False,
            bias=False,
            std=None,
            output_std=None,
        )
        self.out = nn.Linear(sizes.dim + sizes.context, sizes.labels)
        init_linear(self.out, INIT_STD)

    def forward(self, output: Tensor, item: Tensor, context: Tensor) -> Tensor:
        """See `DotHead.forward`."""
        return self.out(torch.cat([output + self.block(output), context], 1))


class MMoEHead(nn.Module):
    """Multi-gate mixture of experts (Ma et al., KDD 2018): of experts that all labels share each label has a
    mixture of its own, by a softmax gate on the input."""

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            mlp(sizes.all, sizes.hidden, sizes.dropout) for _ in range(sizes.experts)
        )
        self.gates = gates(sizes.all, [sizes.experts] * sizes.labels)
        self.towers = Towers(sizes.hidden[-1], sizes.labels)

    def forward(self, output: Tensor, item: Tensor, context: Tensor) -> Tensor:
        """See `DotHead.forward`."""
        x = torch.cat([output, item, context], 1)
        made = torch.stack([expert(x) for expert in self.experts], 1)
        return self.towers([mixed(gate(x), made) for gate in self.gates])


class PLEHead(nn.Module):
    """Progressive layered extraction (Tang et al., RecSys 2020): experts of each label beside shared ones.

    Each hidden layer is a level. A label's gate mixes its own experts and the shared ones; the shared gate,
    of all levels but the last, mixes all there are. Gates look at what their level is given.
    """

    def __init__(self, sizes: HeadSizes) -> None:
        super().__init__()
        self.labels, self.each = sizes.labels, sizes.experts
        widths = [sizes.all, *sizes.hidden]
        groups = sizes.labels + 1  # the last one is shared
        self.levels = nn.ModuleList(
            nn.ModuleList(mlp(before, (after,), sizes.dropout) for _ in range(groups * sizes.experts))
            for before, after in pairwise(widths)
        )
        each = [2 * sizes.experts] * sizes.labels
        last = len(sizes.hidden) - 1
        self.gates = nn.ModuleList(
            gates(width, each if level == last else [*each, groups * sizes.experts])
            for level, width in enumerate(widths[:-1])
        )
        self.towers = Towers(sizes.hidden[-1], sizes.labels)

    def forward(self, output: Tensor, item: Tensor, context: Tensor) -> Tensor:
        """See `DotHead.forward`."""
        x = torch.cat([output, item, context], 1)
        told = [x] * (self.labels + 1)
        for experts, gate in zip(self.levels, self.gates, strict=True):
            assert isinstance(experts, nn.ModuleList)
            assert isinstance(gate, nn.ModuleList)
            made = [
                torch.stack([expert(inputs) for expert in experts[first : first + self.each]], 1)
                for first, inputs in zip(range(0, len(experts), self.each), told, strict=True)
            ]
            shared = made[-1]
            seen = [torch.cat([own, shared], 1) for own in made[:-1]]
            if len(gate) > self.labels:
                seen.append(torch.cat(made, 1))
            told = [mixed(g(inputs), some) for g, inputs, some in zip(gate, told, seen, strict=False)]
        return self.towers(told)


class Towers(nn.Module):
    """A linear map to one logit for each label.

    Args:
        dim: width of what each label is given.
        labels: how many.
    """

    def __init__(self, dim: int, labels: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(nn.Linear(dim, 1) for _ in range(labels))
        for tower in self.each:
            assert isinstance(tower, nn.Linear)
            init_linear(tower, INIT_STD)

    def forward(self, given: Sequence[Tensor]) -> Tensor:
        """[n, labels] logits of one [n, dim] a label."""
        return torch.cat([tower(x) for tower, x in zip(self.each, given, strict=True)], 1)


def mlp(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    """Linear layers of these widths, each with a ReLU and dropout behind it."""
    parts: list[nn.Module] = []
    for before, after in zip([width, *hidden], hidden, strict=False):
        layer = nn.Linear(before, after)
        init_linear(layer, None)
        parts += [layer, nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*parts)


def gates(width: int, choices: Sequence[int]) -> nn.ModuleList:
    """Linear maps to the logits of so many choices each, at first all alike."""
    made = nn.ModuleList(nn.Linear(width, count, bias=False) for count in choices)
    for gate in made:
        assert isinstance(gate, nn.Linear)
        nn.init.zeros_(gate.weight)
    return made


def mixed(gate: Tensor, made: Tensor) -> Tensor:
    """[n, dim] of [n, experts, dim], weighted by the softmax of [n, experts] logits."""
    return (F.softmax(gate, 1)[:, :, None] * made).sum(1)


HEADS: dict[str, Callable[[HeadSizes], nn.Module]] = {
    "dot": DotHead,
    "mlp": MLPHead,
    "ffn": FFNHead,
    "mmoe": MMoEHead,
    "ple": PLEHead,
}
"""By the name of `task.head`; called with outputs, candidates and context, [n, ...] each."""

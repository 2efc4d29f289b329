"""Networks over the fields of a row: logistic regression, FM, FFM, DCN-v2, DIN. Each gives [rows] logits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers.look_up import Embedding
from models.rankers.config import RankersConfig
from models.rankers.fields import Batch, Field, FieldVectors


class Logistic(nn.Module):
    """Logistic regression: a weight of each value of each field, and one more."""

    def __init__(self, fields: Sequence[Field], config: RankersConfig) -> None:
        super().__init__()
        self.weights = FieldVectors(fields, 1)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> Tensor:
        return self.weights(batch).sum((1, 2)) + self.bias


class FM(nn.Module):
    """Factorization machine (Rendle, 2010, eq. 1): linear terms, and `v_i . v_j` of each pair of fields."""

    def __init__(self, fields: Sequence[Field], config: RankersConfig) -> None:
        super().__init__()
        self.linear = Logistic(fields, config)
        self.vectors = FieldVectors(fields, config.dim)

    def forward(self, batch: Batch) -> Tensor:
        v = self.vectors(batch)
        return self.linear(batch) + 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(-1)


class FFM(nn.Module):
    """Field-aware factorization machine (Juan et al., 2016, eq. 4): `v_i` has a vector for each other
    field."""

    def __init__(self, fields: Sequence[Field], config: RankersConfig) -> None:
        super().__init__()
        self.linear = Logistic(fields, config)
        self.vectors = FieldVectors(fields, config.dim * len(fields))
        one, two = torch.triu_indices(len(fields), len(fields), offset=1)
        self.register_buffer("one", one, persistent=False)
        self.register_buffer("two", two, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        v = self.vectors(batch)
        v = v.unflatten(-1, (v.shape[1], -1))  # [rows, field, towards, dim]
        one, two = self.get_buffer("one"), self.get_buffer("two")
        return self.linear(batch) + (v[:, one, two] * v[:, two, one]).sum((1, 2))


class DCN(nn.Module):
    """DCN-v2 (Wang et al., 2021, 2008.13535), parallel: cross layers `x0 * (W x + b) + x` beside a
    perceptron."""

    def __init__(self, fields: Sequence[Field], config: RankersConfig) -> None:
        super().__init__()
        self.vectors = FieldVectors(fields, config.dim)
        width = len(fields) * config.dim
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(config.cross_layers))
        self.deep = perceptron(width, config)
        self.out = nn.Linear(width + config.hidden[-1], 1)

    def forward(self, batch: Batch) -> Tensor:
        x0 = self.vectors(batch).flatten(1)
        x = x0
        for cross in self.crosses:
            x = x0 * cross(x) + x
        return self.out(torch.cat([x, self.deep(x0)], dim=1)).squeeze(1)


class DIN(nn.Module):
    """Deep interest network (Zhou et al., 2018, 1706.06978): past events weighed by a small network of them
    and the candidate, without a softmax. A past event is its item's vector and one of its label, which is
    known.
    """

    def __init__(self, fields: Sequence[Field], config: RankersConfig) -> None:
        super().__init__()
        dim = config.dim
        self.vectors = FieldVectors(fields, dim)
        self.acts = Embedding(4, dim)
        nn.init.normal_(self.acts.weight, std=0.01)
        self.attention = nn.Sequential(nn.Linear(4 * dim, 36), nn.PReLU(), nn.Linear(36, 1))
        width = (len(fields) + 2) * dim
        self.deep = perceptron(width, config)
        self.out = nn.Linear(config.hidden[-1], 1)

    def forward(self, batch: Batch) -> Tensor:
        fields, candidate = self.vectors(batch), self.vectors.items(batch.item)
        past = self.vectors.items(batch.history) + self.acts(batch.acts)  # [rows, events, dim]
        weight = self.attend(past, candidate) * (batch.acts > 0).unsqueeze(-1)
        interest = (weight * past).sum(1) / (batch.acts > 0).sum(1, keepdim=True).clamp(min=1).sqrt()
        return self.out(self.deep(torch.cat([fields.flatten(1), interest, interest * candidate], 1))).squeeze(
            1
        )

    def attend(self, past: Tensor, candidate: Tensor) -> Tensor:
        """[rows, events, 1] of `attention` on (e, c, e - c, e * c), of past events e [rows, events, dim] and
        candidates c [rows, dim].

        The first layer is linear in e, given c: one small matrix a row in place of four times as wide an
        input of every event.
        """
        first = self.attention[0]
        assert isinstance(first, nn.Linear)
        own, other, less, times = first.weight.split(candidate.shape[1], dim=1)
        matrix = (own + less).T + candidate.unsqueeze(2) * times.T  # [rows, dim, hidden]
        offset = candidate @ (other - less).T + first.bias
        found: Tensor = self.attention[1:](torch.baddbmm(offset.unsqueeze(1), past, matrix))
        return found


def perceptron(width: int, config: RankersConfig) -> nn.Sequential:
    """Hidden layers with ReLU and dropout."""
    layers: list[nn.Module] = []
    for hidden in config.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = hidden
    return nn.Sequential(*layers)


NETWORKS: dict[str, type[nn.Module]] = {"logistic": Logistic, "fm": FM, "ffm": FFM, "dcn": DCN, "din": DIN}
